"""How much of a GPU a trial asks for, as a table."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.errors import ClusterError
from sweeper.execution import devices
from sweeper.execution.devices import Device, find_device, gpus_per_trial
from sweeper.records import GpuMemory

GIB = 2**30
CPU, H100 = Device(kind="cpu"), Device(kind="cuda", model="H100")


def memory(peak_gib: float, total_gib: float = 80) -> GpuMemory:
    return GpuMemory(peak_bytes=int(peak_gib * GIB), total_bytes=int(total_gib * GIB))


@pytest.mark.parametrize(
    ("setting", "device", "peak_gib", "expected"),
    [
        ("auto", CPU, None, 0.0),
        (1.0, CPU, None, 0.0),
        (0.25, H100, None, 0.25),
        (0.25, H100, 79, 0.25),
        (0.0, H100, None, 0.0),
        ("auto", H100, None, None),
        ("auto", H100, 20, 0.3),
        ("auto", H100, 20.1, 0.31),
        ("auto", H100, 1, 0.02),
        ("auto", H100, 0, 0.01),
        ("auto", H100, 66, 0.99),
        ("auto", H100, 67, 2.0),
        ("auto", H100, 140, 3.0),
    ],
)
def test_gpus_per_trial(setting, device, peak_gib, expected):
    measured = [] if peak_gib is None else [memory(peak_gib), memory(peak_gib / 2, total_gib=141)]
    assert gpus_per_trial(setting, device, measured) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("setting", "device", "peak_gib", "least", "expected"),
    [
        ("auto", H100, 20, 0.5, 0.5),
        ("auto", H100, 20, 0.2, 0.3),
        ("auto", H100, 140, 0.5, 3.0),
        ("auto", H100, None, 0.5, None),
        (0.25, H100, 20, 0.5, 0.5),
        ("auto", CPU, 20, 0.5, 0.0),
        (0.25, CPU, 20, 0.5, 0.0),
    ],
)
def test_a_user_may_ask_for_more(setting, device, peak_gib, least, expected) -> None:
    measured = [] if peak_gib is None else [memory(peak_gib)]
    assert gpus_per_trial(setting, device, measured, least=least) == pytest.approx(expected)


def test_trials_that_compute_on_the_cpu_take_a_gpu_only_when_told() -> None:
    assert gpus_per_trial("auto", H100, [memory(20)], computes_there=False) == 0.0
    assert gpus_per_trial(0.5, H100, computes_there=False) == 0.5
    assert gpus_per_trial(0.5, CPU) == 0.0
    assert gpus_per_trial(0.5, Device(kind="cpu", may_grow=True)) == 0.5, "the cluster may launch what it lacks"


def test_as_many_trials_fit_as_the_memory_has_room_for():
    for peak_gib in range(1, 67):
        share = gpus_per_trial("auto", H100, [memory(peak_gib)])
        assert int(1 / share) * 1.2 * peak_gib <= 80


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_hidden_gpu_is_none(monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert find_device("local", None).kind == "cpu"


def test_the_device_of_a_cluster_is_asked_of_the_cluster(monkeypatch):
    monkeypatch.setattr("sweeper.execution.ray_cluster.cluster_device", lambda address: H100)
    assert find_device("ray", "head:6379") == H100
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: False)
    assert find_device("ray", None).kind == "cpu"
    assert find_device("local", "head:6379").kind == "cpu"


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    """Ray itself would ask for two minutes."""
    from sweeper.execution.ray_cluster import connected

    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1: .*refused"), connected("127.0.0.1:1"):
        pytest.fail("connected")
    assert time.monotonic() - began < 60


def test_what_ray_writes_into_a_workers_output_is_nobodys_last_words(tmp_path: Path, monkeypatch: Any) -> None:
    from sweeper.execution import ray_deaths

    (tmp_path / "worker-a-b-77.err").write_text(":job_id:01000000\n:actor_name:SegmentTrainable\n")
    node = SimpleNamespace(_global_node=SimpleNamespace(get_logs_dir_path=lambda: tmp_path))
    monkeypatch.setattr(ray_deaths.ray._private, "worker", node)
    words = ray_deaths.last_words_of("The actor is dead because connection error. pid: 77")
    assert words == ""
    assert "killed, out of memory" in ray_deaths.reason_in("The actor is dead because connection error", words)
