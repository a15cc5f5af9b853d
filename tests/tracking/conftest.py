"""Sweeps made of plain objects, and an empty MLflow database that every test gets a copy of."""

import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.plan.lineage import Inputs
from sweeper.plan.trials import Trial, resolve
from sweeper.records import Failure, Record
from sweeper.reporting.view import SweepView
from sweeper.spec.schema import SweepSpec, TrialConfig
from sweeper.store.sweeps import Revision

ITEM = {"item": "item0", "column": "rsa_behavioral", "reference": "people", "set": "set0", "layer": "output"}
NEURAL = {"item": "item1", "column": "rsa_neural_late", "reference": "late", "set": "set0", "layer": "output"}
CREATED_AT = 1_000_000.0


@dataclass
class Sweep:
    """A small sweep that can be trained epoch by epoch without training anything."""

    starts: tuple[int, ...] = (2, 3)
    length: int = 1
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
        swept = [((("perturbation.start", start),), self._config(start)) for start in self.starts]
        return resolve(swept, lambda config: Inputs(data="d", model=(("weights", "w"),), device="cpu"))

    @property
    def baseline(self) -> Trial:
        return next(trial for trial in self.trials if trial.role == "baseline")

    def trial(self, start: int) -> Trial:
        return next(trial for trial in self.trials if dict(trial.swept).get("perturbation.start") == start)

    def view(self) -> SweepView:
        spec = SweepSpec(
            name=self.name, base={"data": {"manifest": "x"}}, stand_in=self.stand_in, recovery=self.recovery
        )
        revision = Revision(
            number=self.number,
            spec=spec,
            source=f"name: {self.name}\n",
            trials=self.trials,
            created_at=CREATED_AT + self.number,
            items=self.items,
        )
        return SweepView(revision=revision, records=dict(self.records), failures=dict(self.failures))

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

    def _config(self, start: int) -> TrialConfig:
        return TrialConfig.model_validate(
            {
                "data": {"manifest": "/somewhere/things.yaml"},
                "model": {"variant": "clip-hba-behavior", "backbone": "tiny-clip", "pretrained": "builtin"},
                "training": {"max_epochs": self.max_epochs},
                "stopping": {"horizon_after_window": self.horizon},
                "perturbation": {"kind": "random_target", "start": start, "length": self.length},
            }
        )


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


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
