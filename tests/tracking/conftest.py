"""Sweeps made of plain objects, and an empty MLflow database that every test gets a copy of."""

import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from sweeper.plan.lineage import Inputs
from sweeper.plan.trials import Trial, resolve
from sweeper.records import Failure, Record, losses_among
from sweeper.reporting.view import SweepView
from sweeper.spec.schema import SweepSpec, TrialConfig
from sweeper.store.local import LocalStore
from sweeper.store.rows import write_records
from sweeper.store.sweeps import Revision, save_revision
from sweeper.tracking.mlflow_tracker import MlflowTracker, sync

ITEM = {"item": "item0", "column": "rsa_behavioral", "reference": "people", "set": "set0", "layer": "output"}
NEURAL = {"item": "item1", "column": "rsa_neural_late", "reference": "late", "set": "set0", "layer": "output"}
CREATED_AT = 1_000_000.0
TABLES = ("experiments", "runs", "metrics", "latest_metrics", "params", "tags")


@dataclass
class Sweep:
    """A small sweep that can be trained epoch by epoch without training anything."""

    starts: tuple[int, ...] = (2, 3)
    lengths: tuple[int, ...] = (1,)
    max_epochs: int = 8
    horizon: int = 3
    name: str = "small"
    stand_in: bool = False
    number: int = 1
    items: tuple[dict[str, Any], ...] = (ITEM,)
    recovery: dict[str, Any] = field(default_factory=dict)
    records: dict[str, tuple[Record, ...]] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)

    @property
    def trials(self) -> tuple[Trial, ...]:
        windows = [(start, length) for start in self.starts for length in self.lengths]
        swept = [((("perturbation.start", start),), self._config(start, length)) for start, length in windows]
        return resolve(swept, lambda config: Inputs(data="d", model=(("weights", "w"),), device="cpu"))

    @property
    def baseline(self) -> Trial:
        return next(trial for trial in self.trials if trial.role == "baseline")

    def trial(self, start: int) -> Trial:
        return next(trial for trial in self.trials if dict(trial.swept).get("perturbation.start") == start)

    def view(self) -> SweepView:
        revision = Revision(
            number=self.number,
            spec=self._spec(),
            source=f"name: {self.name}\n",
            trials=self.trials,
            created_at=CREATED_AT + self.number,
            items=self.items,
        )
        records = dict(self.records)
        return SweepView(revision=revision, losses=losses_among(records), records=records, failures=dict(self.failures))

    def train(self, trial: Trial, last: int | None = None, *, items: tuple[dict[str, Any], ...] | None = None) -> None:
        """Records the epochs of a trial from the untrained model up to `last`; a window hurts, and heals slowly."""
        for epoch, state_id in enumerate(trial.lineage.state_ids):
            if last is not None and epoch > last:
                return
            hurt = 0.0 if not trial.config.perturbation or epoch < trial.config.start else 2.0 ** (2 - epoch)
            measured_at = CREATED_AT + 100 + epoch + hurt
            self._record(
                state_id,
                epoch,
                "training",
                {"val_loss": 10.0 / (epoch + 1) + hurt, "adapter_distance": 0.5}
                | ({"train_loss": 9.0} if epoch else {"train_loss": None}),
                measured_at,
                0.5,
            )
            for item in self.items if items is None else items:
                self._record(state_id, epoch, item["item"], {"rsa": 0.1 * epoch, "rsa_se": None}, measured_at + 0.01)

    def finish(self) -> "Sweep":
        for trial in self.trials:
            self.train(trial)
        return self

    def fail(self, trial: Trial, epoch: int) -> None:
        self.train(trial, epoch - 1)
        state_id = trial.lineage.state_ids[epoch]
        self.failures[state_id] = Failure(
            state_id=state_id, epoch=epoch, place=f"epoch {epoch}, batch 1", reason="the loss is NaN", details=""
        )

    def save(self, store: LocalStore) -> None:
        """Writes revision and records as a driver does."""
        save_revision(store, self._spec(), f"name: {self.name}\n", self.trials, self.items)
        for records in self.records.values():
            write_records(store, records)

    def changed(self, **changes: Any) -> "Sweep":
        """Returns the same sweep after an edit of its spec."""
        return replace(self, number=self.number + 1, **changes)

    def _record(
        self,
        state_id: str,
        epoch: int,
        item: str,
        values: dict[str, Any],
        measured_at: float,
        seconds: float | None = None,
    ) -> None:
        found = self.records.get(state_id, ())
        if item not in {record.item for record in found}:
            record = Record(
                state_id=state_id,
                epoch=epoch,
                item=item,
                values=values,
                reasons={},
                measured_at=measured_at,
                seconds=seconds,
            )
            self.records[state_id] = (*found, record)

    def _spec(self) -> SweepSpec:
        return SweepSpec(
            name=self.name, base={"data": {"manifest": "x"}}, stand_in=self.stand_in, recovery=self.recovery
        )

    def _config(self, start: int, length: int) -> TrialConfig:
        return TrialConfig.model_validate(
            {
                "data": {"manifest": "/somewhere/things.yaml"},
                "model": {"variant": "clip-hba-behavior", "backbone": "tiny-clip", "pretrained": "builtin"},
                "training": {"max_epochs": self.max_epochs},
                "stopping": {"horizon_after_window": self.horizon},
                "perturbation": {"kind": "random_target", "start": start, "length": length},
            }
        )


def put_state(store: LocalStore, state_id: str, *, values: int = 4) -> bytes:
    """Writes a state whose trained tensor holds so many numbers; returns its bytes."""
    tensor = np.full((values,), int(state_id[:4], 16), np.float32)
    tensors = {"parameters/dora.a": tensor, "moments/exp_avg/dora.a": tensor + 1}
    data = safetensors.numpy.save(tensors, metadata={"counters": "{}"})
    store.put("states", state_id, data)
    return data


class Server:
    """What lies in a tracking database, read past MLflow."""

    def __init__(self, uri: str, store: LocalStore) -> None:
        self.uri = uri
        self.store = store

    def tracker(self) -> MlflowTracker:
        return MlflowTracker(self.uri, "small", self.store)

    def sync(self, view: SweepView, *, store: LocalStore | None = None, is_running: bool = False) -> None:
        sync(view, self.uri, "small", store or self.store, is_running=is_running)

    def files(self, run_id: str) -> dict[str, bytes]:
        folder = Path(self.uri.removeprefix("sqlite:///")).parent / "mlflow-artifacts" / run_id / "artifacts"
        found = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.uri.removeprefix("sqlite:///")) as connection:
            found = connection.execute(query, values).fetchall()
        connection.close()
        return found

    def counts(self) -> dict[str, int]:
        return {table: self.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        return {table: sorted(self.rows(f"SELECT * FROM {table}"), key=repr) for table in TABLES}

    def run(self, trial_id: str) -> str:
        query = "SELECT run_uuid FROM tags WHERE key = 'sweeper.trial_id' AND value = ?"
        [(run_id,)] = self.rows(query, trial_id)
        return str(run_id)

    def parent(self) -> str:
        [(run_id,)] = self.rows("SELECT run_uuid FROM tags WHERE key = 'sweeper.role' AND value = 'sweep'")
        return str(run_id)

    def status(self, run_id: str) -> str:
        return str(self.rows("SELECT status FROM runs WHERE run_uuid = ?", run_id)[0][0])

    def tags(self, run_id: str) -> dict[str, str]:
        return dict(self.rows("SELECT key, value FROM tags WHERE run_uuid = ?", run_id))

    def latest(self, run_id: str) -> dict[str, float]:
        return dict(self.rows("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", run_id))

    def curve(self, run_id: str, name: str) -> list[tuple[int, float]]:
        query = "SELECT step, value FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step, timestamp"
        return self.rows(query, run_id, name)  # type: ignore[return-value]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def sweep() -> Sweep:
    return Sweep()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: made once, since its migrations take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    path = tmp_path / "tracking" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_database, path)
    return f"sqlite:///{path}"


@pytest.fixture
def server(uri: str, store: LocalStore) -> Server:
    return Server(uri, store)


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
