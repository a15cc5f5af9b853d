"""Benchmarks that need what most machines have not: their code runs here, small."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def gpu_epoch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_epoch", FOLDER / "gpu_epoch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_what_is_needed(gpu_epoch, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = CliRunner().invoke(gpu_epoch.main, ["--json"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "needs an NVIDIA GPU" in done.stderr
    assert "--device cpu" in done.stderr


def test_the_code_of_the_gpu_benchmark_runs_on_a_cpu(gpu_epoch):
    options = ["--device", "cpu", "--backbone", "tiny-clip", "--images", "64", "--epochs", "1", "--precision", "bf16"]
    done = CliRunner().invoke(gpu_epoch.main, [*options, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert row["precision"] == row["features"] == "bf16"
    assert row["arithmetic_limit_s"] > 0
    assert row["memory_limit_s"] > 0
    assert "sweep_hours_extrapolated" not in row, "only the published configuration on a GPU may be extrapolated"


def test_traffic_is_what_operations_read_and_write(gpu_epoch):
    x = torch.ones(1000, requires_grad=True)
    with gpu_epoch.Traffic() as traffic:
        y = (2 * x).view(10, 100)
    assert traffic.bytes == 2 * 4000
    with gpu_epoch.Traffic() as traffic:
        y.sum().backward()
    assert traffic.bytes >= 3 * 4000, "the sum, and the product with 2 on the way back"


def test_operations_are_those_of_the_products(gpu_epoch):
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert gpu_epoch.counted(lambda: a @ b) == (2 * 3 * 5 * 7, 4 * (15 + 35 + 21))


@pytest.mark.parametrize(("images", "pool"), [(1444, 1806), (64, 81)])
def test_the_split_leaves_the_images_asked_for(gpu_epoch, images, pool):
    assert gpu_epoch.pool_size(images) == pool
    assert int(0.8 * pool) == images
