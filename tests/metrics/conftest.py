"""Golden numbers (in every clone) and real data (where present) for the tests of the metrics."""

import csv
import gzip
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


@dataclass
class PublishedRun:
    """Holds one published run: curves by 1-based epoch, and its disturbed epochs."""

    train_loss: dict[int, float] = field(default_factory=dict)
    val_loss: dict[int, float] = field(default_factory=dict)
    rsa: dict[int, float] = field(default_factory=dict)
    disturbed: list[int] = field(default_factory=list)


@pytest.fixture(scope="session")
def published() -> Mapping[tuple[str, int], PublishedRun]:
    """Returns the published runs by (group, start); see tests/golden/README.md."""
    runs: dict[tuple[str, int], PublishedRun] = {}
    with gzip.open(GOLDEN / "published_runs.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            run = runs.setdefault((row["group"], int(row["start"])), PublishedRun())
            epoch = int(row["epoch"])
            run.train_loss[epoch] = float(row["train_loss"])
            run.val_loss[epoch] = float(row["test_loss"])
            run.rsa[epoch] = float(row["behavioral_rsa_rho"])
            if row["disturbed"] == "1":
                run.disturbed.append(epoch)
    return runs


@pytest.fixture(scope="session")
def baseline(published: Mapping[tuple[str, int], PublishedRun]) -> PublishedRun:
    """Returns the baseline of seed 1, from which every published fork starts."""
    return published["baseline_seed1", 0]


@pytest.fixture(scope="session")
def goldens() -> dict[str, Any]:
    """Returns the golden numbers of the published runs."""
    return json.loads((GOLDEN / "goldens.json").read_text())


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Returns the folder of real data, or skips the test."""
    folder = Path(os.environ.get("SWEEPER_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "things_behaviour.npz").is_file():
        pytest.skip(f"no real data at {folder} (set SWEEPER_TEST_DATA)")
    return folder
