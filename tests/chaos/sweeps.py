"""What chaos is let loose on: one small sweep, run undisturbed once, and what a disturbed run must equal."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sweeper.driver import Run, run_sweep
from sweeper.execution.local import LocalBackend
from sweeper.execution.prepare import ResolvedSweep, resolve_sweep
from sweeper.launch import stop_on_signals
from sweeper.progress import QuietProgress
from sweeper.records import Record
from sweeper.spec.load import load_spec
from sweeper.store.ledger import LEDGER, DamagedLedger, Ledger
from sweeper.store.local import LocalStore
from sweeper.store.rows import read_records
from sweeper.tasks.state import state_bits
from sweeper.tracking.base import NullTracker

MANIFEST = "name: drawn\ngenerator: {name: drawings, num_train: 240, num_test: 48, seed: 1}\n"
SPEC = {
    "name": "chaos",
    "data": {"manifest": "drawn.yaml"},
    "model": {"backbone": "tiny-clip", "pretrained": "builtin", "adapter": {"rank": 4}},
    "training": {"optimizer": {"name": "adamw", "lr": 2.5e-3}, "batch_size": 16},
    "seeds": 1,
    "numerics": {"device": "cpu"},
    "perturbation": {"kind": "random_target"},
    "evaluation": {"rsa": ["behavioral48"], "bootstraps": 3},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """What a kill at one moment makes a run train again, beside the epoch in progress.

    Attributes:
        epochs: recorded, but behind the newest state of their segment.
        seconds: that they took.
    """

    epochs: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """The sweep, its undisturbed store, and the folder for the disturbed ones."""

    folder: Path
    spec: Path
    sweep: ResolvedSweep

    @classmethod
    def make(cls, folder: Path, *, max_epochs: int, horizon: int, axes: Mapping[str, list[int]]) -> "Yardstick":
        """Writes the spec and runs it undisturbed, in this process."""
        (folder / "drawn.yaml").write_text(MANIFEST)
        fields = {**SPEC, "stopping": {"rule": "horizon", "horizon_after_window": horizon}, "axes": dict(axes)}
        fields["training"] = {**SPEC["training"], "max_epochs": max_epochs}  # type: ignore[dict-item]
        spec = folder / "chaos.yaml"
        spec.write_text(json.dumps(fields))
        yardstick = cls(folder=folder, spec=spec, sweep=resolve_sweep(load_spec(spec), device="cpu"))
        yardstick._run_undisturbed()
        return yardstick

    def _run_undisturbed(self) -> None:
        with stop_on_signals() as stop:
            outcome = run_sweep(
                Run(
                    sweep=self.sweep,
                    source="chaos",
                    store=LocalStore(self.undisturbed),
                    cache=self.cache,
                    backend=LocalBackend,
                    gpu=lambda measured: 0.0,
                    tracker=NullTracker(),
                    progress=QuietProgress(),
                    stop=stop,
                )
            )
        assert outcome.status == "done", outcome.status

    @property
    def undisturbed(self) -> Path:
        """The store that no fault has seen."""
        return self.folder / "undisturbed"

    @property
    def cache(self) -> Path:
        """The frozen features of all runs."""
        return self.folder / "features"

    @property
    def num_epochs(self) -> int:
        """Distinct training epochs of the sweep."""
        return sum(epoch > 0 for epoch, _ in self._epochs)

    @cached_property
    def _epochs(self) -> tuple[tuple[int, str], ...]:
        return tuple(item for segment in self.sweep.tree.segments.values() for item in segment.states.items())

    def differences(self, store: Path) -> list[str]:
        """Returns where a store differs from the undisturbed one: a value, or a bit of a state; or lacks it."""
        one, other = LocalStore(self.undisturbed), LocalStore(store)
        found = []
        for epoch, state in self._epochs:
            values = [
                {record.item: dict(record.values) for record in read_records(each, state)} for each in (one, other)
            ]
            if not values[0] or values[0] != values[1]:
                found.append(f"values of epoch {epoch}, state {state}")
            wanted, made = one.get("states", state), other.get("states", state)
            if wanted is not None and (made is None or state_bits(made) != state_bits(wanted)):
                found.append(f"tensors of epoch {epoch}, state {state}")
        return [*found, *(f"conflict {key}" for key in other.keys("conflicts"))]

    def loss(self, store: Path) -> Loss:
        """Returns the most that any one worker would train again if it died now."""
        objects = LocalStore(store)
        worst = Loss(epochs=0, seconds=0.0)
        for segment in self.sweep.tree.segments.values():
            behind: list[float] = []
            for state in segment.states.values():
                records = read_records(objects, state)
                if not records:
                    break
                behind = [] if objects.has("states", state) else [*behind, _seconds(records)]
            worst = max(worst, Loss(epochs=len(behind), seconds=sum(behind)), key=lambda loss: loss.epochs)
        return worst


def recorded(store: Path) -> dict[str, dict[str, Any]]:
    """Returns the values of every record object, by state and item."""
    objects = LocalStore(store, create=False) if (store / "store.json").exists() else None
    rows = ((key, read_records(objects, key)) for key in objects.keys("records")) if objects else ()
    return {key: {record.item: dict(record.values) for record in records} for key, records in rows}


def reported(store: Path) -> set[str]:
    """Returns the states that the driver has indexed, and thereby shown."""
    try:
        ledger = Ledger(store / LEDGER, read_only=True)
    except (FileNotFoundError, DamagedLedger):
        return set()
    try:
        return set(ledger.val_losses())
    finally:
        ledger.close()


def _seconds(records: tuple[Record, ...]) -> float:
    return next((record.seconds for record in records if record.seconds is not None), 0.0)
