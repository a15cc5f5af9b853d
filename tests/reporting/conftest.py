"""Hand-made stores: real objects, written through `LocalStore`, whose curves a test chooses."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.evaluation import OutputKey
from sweeper.plan.lineage import Inputs
from sweeper.plan.trials import Trial, resolve
from sweeper.records import TRAINING_ITEM, Failure, Record
from sweeper.spec.axes import expand
from sweeper.spec.load import parse_spec
from sweeper.spec.schema import TrialConfig
from sweeper.store.ledger import open_ledger
from sweeper.store.local import LocalStore
from sweeper.store.outputs import write_outputs
from sweeper.store.rows import write_records
from sweeper.store.sweeps import Revision, save_revision

INPUTS = Inputs(data="d" * 8, model=(("weights", "w" * 8),), device="cpu")
RSA_ITEM = {
    "item": "item-rsa",
    "column": "rsa_behavioral",
    "reference": "behavioral48",
    "set": "set0",
    "layer": "output",
}
Curve = Callable[[Trial, int], Mapping[str, float | None] | None]
"""Trial and epoch -> the columns train_loss, val_loss and rsa; None: not measured."""

GRID = """
name: hand
data: {manifest: builtin:selfmade}
model: {backbone: tiny-clip, pretrained: builtin}
training: {max_epochs: 10}
stopping: {rule: horizon, horizon_after_window: 4}
perturbation: {kind: random_target}
axes:
  perturbation.start: [2, 5]
  perturbation.length: [1, 2]
recovery: {tolerance: 0.01, comparator: clean}
"""


def _inputs_of(config: TrialConfig) -> Inputs:
    """Folds and subjects differ in their data, hence in their states."""
    return replace(INPUTS, data=f"fold {config.data.fold}, subject {config.subject}")


class HandMade:
    """A store with one sweep whose curves are given."""

    def __init__(self, root: Path, text: str = GRID, items: tuple[dict[str, Any], ...] = (RSA_ITEM,)) -> None:
        self.spec = parse_spec(text, "hand.yaml")
        self.store = LocalStore(root)
        swept = [(trial.swept, trial.config) for trial in expand(self.spec)]
        self.trials = resolve(swept, _inputs_of)
        self.revision: Revision = save_revision(self.store, self.spec, text, self.trials, items)
        self.items = items

    @property
    def baseline(self) -> Trial:
        return next(trial for trial in self.trials if trial.role == "baseline")

    def trial(self, **swept: Any) -> Trial:
        """Returns the trial with these last parts of swept names, e.g. `start=2`."""
        return next(
            trial
            for trial in self.trials
            if trial.swept and {name.rsplit(".", 1)[-1]: value for name, value in trial.swept} == swept
        )

    def measure(self, curve: Curve, trials: tuple[Trial, ...] | None = None) -> "HandMade":
        """Writes records along the lineages, baselines first, up to the first epoch that a curve lacks."""
        order = self.trials if trials is None else trials
        for trial in sorted(order, key=lambda trial: trial.role != "baseline"):
            for epoch, state_id in enumerate(trial.lineage.state_ids):
                values = curve(trial, epoch)
                if values is None:
                    break
                write_records(self.store, self.records(state_id, epoch, values))
        return self

    def records(self, state_id: str, epoch: int, values: Mapping[str, float | None]) -> list[Record]:
        training = {name: value for name, value in values.items() if name != "rsa"}
        common = {"state_id": state_id, "epoch": epoch, "measured_at": 1000.0 + epoch}
        rsa = values.get("rsa")
        reasons = {} if rsa is not None else {"rsa": "constant outputs"}
        return [
            Record(item=TRAINING_ITEM, values=training, reasons={}, seconds=0.5, **common),
            Record(item=self.items[0]["item"], values={"rsa": rsa}, reasons=reasons, **common),
        ]

    def fail(self, trial: Trial, epoch: int, reason: str = "val_loss is nan") -> None:
        state_id = trial.lineage.state_ids[epoch]
        failure = Failure(state_id=state_id, epoch=epoch, place=f"epoch {epoch}", reason=reason, details="")
        self.store.put("failures", state_id, failure.to_json())

    def outputs(self, trial: Trial, epoch: int, outputs: np.ndarray, set_id: str = "set0") -> None:
        key = OutputKey(set_id=set_id, layer="output")
        write_outputs(self.store, trial.lineage.state_ids[epoch], key, outputs.astype(np.float32))

    def index(self) -> "HandMade":
        """Makes the ledger."""
        open_ledger(self.store.root / "ledger.sqlite", self.store).close()
        return self


def bump(trial: Trial, epoch: int) -> dict[str, float | None]:
    """A baseline that falls to 10 by 10 % an epoch; a window adds 5, half of which is left after each further epoch."""
    loss, rsa = 10.0 + 20.0 * 0.5**epoch, 0.8 - 0.5 * 0.5**epoch
    end = trial.config.window_end
    if end is not None and epoch >= trial.config.start:
        extra = 5.0 * 0.5 ** max(epoch - end, 0)
        loss, rsa = loss + extra, rsa - extra / 20.0
    trained: dict[str, float | None] = {} if epoch == 0 else {"train_loss": loss - 1.0}
    return {**trained, "val_loss": loss, "rsa": rsa}


@pytest.fixture
def hand(tmp_path: Path) -> HandMade:
    """A finished 2 x 2 grid with its baseline."""
    return HandMade(tmp_path / "store").measure(bump)
