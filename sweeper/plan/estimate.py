"""What a run would do and cost, in numbers that stand before anything is trained."""

import statistics
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from sweeper.plan.stock import Stock
from sweeper.plan.tree import Segment, Tree
from sweeper.plan.trials import Trial
from sweeper.wording import duration


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """Bytes that a sweep takes at most, all told: what the store holds already is part of it.

    Attributes:
        features: the frozen prefix of every image, once per network.
        states: adapters and optimiser, as far as they are kept.
        records: measured values and held-out outputs of every epoch, with their index.
        mlflow: the MLflow view, in SQLite.
    """

    features: int
    states: int
    records: int
    mlflow: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.features + self.states + self.records + self.mlflow


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSummary:
    """A plan in numbers.

    Attributes:
        name: the sweep's.
        trials: swept trials, controls included.
        baselines: added by the planner.
        segments: pieces of the tree that hold training epochs.
        epochs_requested: sum over trials and baselines of the epochs from 1 to their end, as if each were alone.
        epochs_distinct: epochs of the tree.
        epochs_in_ledger: of these, what the store holds already.
        epochs_to_run: of these, what is missing.
        epochs_to_rebuild: extra epochs that have records but whose state was dropped.
        epochs_to_measure: epochs that are evaluated anew from their stored state, for a new layer or image set.
        is_upper_bound: whether early stopping can make it less.
        seconds_per_epoch: quartiles measured in this store, None before the first run.
        seconds_to_run: the same for all epochs to run and to rebuild, one after another.
        disk: what the sweep takes when every trial goes to its limit.
        merged: combinations of the axes that name a trial which another one names, too.
        changed: what changed since the last revision, and how many of its epochs are of no use now; None for nothing.
        search: of a search, its points in words.
        first: what is to be trained before the sweep can begin, a line each.
    """

    name: str
    trials: int
    baselines: int
    segments: int
    epochs_requested: int
    epochs_distinct: int
    epochs_in_ledger: int
    epochs_to_run: int
    epochs_to_rebuild: int
    epochs_to_measure: int
    is_upper_bound: bool
    seconds_per_epoch: tuple[float, float, float] | None
    seconds_to_run: tuple[float, float, float] | None
    disk: Disk
    merged: int = 0
    changed: str | None = None
    search: str | None = None
    first: tuple[str, ...] = ()

    def seconds_of(self, epochs: int) -> tuple[float, float, float] | None:
        """Returns the quartiles of the time that some epochs take, None before the first run."""
        return None if self.seconds_per_epoch is None else _times(self.seconds_per_epoch, epochs)

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON values."""
        disk = {**asdict(self.disk), "total": self.disk.total}
        return {"schema_version": 1, **asdict(self), "disk": disk}

    def to_text(self) -> str:
        """Returns the plan for people."""
        most = "at most " if self.is_upper_bound else ""
        shared = self.epochs_requested - self.epochs_distinct
        lines = [
            f"{self.name}: {_count(self.trials, 'trial')}, {_count(self.baselines, 'baseline')}, "
            f"{_count(self.segments, 'segment')}",
            f"epochs, each trial alone   {most}{self.epochs_requested:>8,}",
            f"  saved by sharing         {most}{shared:>8,}  ({_percent(shared, self.epochs_requested)})",
            f"  found in the store       {' ' * len(most)}{self.epochs_in_ledger:>8,}",
            f"  to run                   {most}{self.epochs_to_run:>8,}",
            f"  to rebuild (extra)       {most}{self.epochs_to_rebuild:>8,}",
            f"time, one worker           {self._time()}",
            f"disk, at most              {self._disk()}",
        ]
        if self.merged:
            lines.insert(1, merged_text(self.merged))
        if self.changed:
            lines.insert(1, self.changed)
        if self.epochs_to_measure:
            lines.insert(-2, f"  to evaluate only         {most}{self.epochs_to_measure:>8,}")
        if self.search is not None:
            lines.insert(1, self.search)
        lines[1:1] = self.first
        return "\n".join(lines)

    def _time(self) -> str:
        if self.seconds_to_run is None or self.seconds_per_epoch is None:
            return "unknown: no epoch of this sweep has been measured in this store yet"
        low, middle, high = (duration(seconds) for seconds in self.seconds_to_run)
        return f"{middle} ({low} to {high}; from measured epochs of {self.seconds_per_epoch[1]:.3g} s)"

    def _disk(self) -> str:
        parts = ", ".join(f"{name} {_size(count)}" for name, count in asdict(self.disk).items())
        return f"{_size(self.disk.total)} ({parts})"


def merged_text(merged: int) -> str:
    """Returns what people should know of axes that name some trials more than once."""
    return f"{merged} combinations of the axes name a trial that another one names, too: each is trained once"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def summarize_plan(
    trials: Sequence[Trial],
    tree: Tree,
    stock: Stock,
    val_loss: Mapping[str, float],
    seconds: Iterable[float],
    name: str,
    disk: Disk,
) -> PlanSummary:
    """Returns a plan in numbers.

    Trials that are at their end, or cannot go on, count as far as they went; the others as far as they can go.

    Args:
        trials: trials and baselines.
        tree: of these trials.
        stock: what of it is missing.
        val_loss: by state, of everything that has records.
        seconds: measured duration of epochs.
        name: the sweep's.
        disk: what it takes.
    """
    pending = set(stock.pending)
    ends = {trial.trial_id: _end(trial, tree, val_loss, pending) for trial in trials}
    present = sum(_present(segment, ends, val_loss) for segment in tree.segments.values())
    measured = sorted(seconds)
    per_epoch = _quartiles(measured) if measured else None
    total = stock.missing + stock.rebuilt
    return PlanSummary(
        name=name,
        trials=sum(trial.role != "baseline" for trial in trials),
        baselines=sum(trial.role == "baseline" for trial in trials),
        segments=sum(len(segment.epochs) > 0 for segment in tree.segments.values()),
        epochs_requested=sum(ends.values()),
        epochs_distinct=present + stock.missing,
        epochs_in_ledger=present,
        epochs_to_run=stock.missing,
        epochs_to_rebuild=stock.rebuilt,
        epochs_to_measure=stock.remeasured,
        is_upper_bound=stock.missing > 0 and any(trial.stop.is_open for trial in trials),
        seconds_per_epoch=per_epoch,
        seconds_to_run=None if per_epoch is None else _times(per_epoch, total),
        disk=disk,
    )


def _present(segment: Segment, ends: Mapping[str, int], val_loss: Mapping[str, float]) -> int:
    """Returns how many training epochs of a segment that its trials go through have records."""
    last = max(ends[trial] for trial in segment.trials)
    return sum(1 <= epoch <= last and state in val_loss for epoch, state in segment.states.items())


def _end(trial: Trial, tree: Tree, val_loss: Mapping[str, float], pending: Set[str]) -> int:
    path = tree.paths[trial.trial_id]
    way = (item for segment_id in path for item in tree.segments[segment_id].states.items())
    last = trial.lineage.last_epoch
    seen = takewhile(lambda item: item[0] <= last and item[1] in val_loss, way)
    curve = {epoch: val_loss[state] for epoch, state in seen}
    end = trial.stop.ended_at(curve)
    if end is not None:
        return end
    return max(curve, default=0) if pending.isdisjoint(path) else last


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _times(per_epoch: tuple[float, float, float], epochs: int) -> tuple[float, float, float]:
    low, middle, high = (seconds * epochs for seconds in per_epoch)
    return low, middle, high


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
