"""What of a view becomes metrics: points that are the same whenever and wherever they are computed.

A tracking server keeps a point (name, value, step, timestamp) once. As timestamps are those of the records,
logging a curve again stores nothing twice.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.evaluation import column_of
from sweeper.plan.trials import Trial
from sweeper.records import TRAINING_ITEM, Record
from sweeper.reporting.summary import summary_of
from sweeper.reporting.view import SweepView
from sweeper.tracking.base import metric_name

_NEEDS_BASELINE = ("delta_", "recover", "max_rsa_deviation", "min_val_loss_deviation", "epochs_seen")


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of one metric.

    Attributes:
        name: as MLflow shows it.
        value: finite.
        step: absolute epoch, 0 is the untrained model.
        timestamp_ms: Unix time in milliseconds at which it was measured.
    """

    name: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """How far a curve was logged.

    Attributes:
        epoch: the last epoch, None before the first one.
        digest: of what was logged up to there.
    """

    epoch: int | None = None
    digest: str = ""


def curve_points(view: SweepView, trial: Trial, after: int | None = None) -> Iterator[Point]:
    """Yields everything measured along a trial's way behind an epoch, its trunk's part included."""
    for epoch in view.rows(trial.trial_id):
        if after is not None and epoch <= after:
            continue
        for record in _records(view, trial, epoch):
            timestamp_ms = int(record.measured_at * 1000)
            for column, value in _columns(view, record):
                if _is_number(value):
                    yield Point(name=metric_name(column), value=float(value), step=epoch, timestamp_ms=timestamp_ms)


def logged_of(view: SweepView, trial: Trial, up_to: int | None = None, *, before: Logged | None = None) -> Logged:
    """Returns what is known once a trial's curve is logged up to an epoch (default: as far as it goes).

    Records never change, so which records there are tells which points there are.

    Args:
        view: the sweep.
        trial: whose curve.
        up_to: last epoch that counts.
        before: what was logged before; only epochs behind it are looked at.
    """
    before = before or Logged()
    epoch, digest = before.epoch, before.digest
    for number in view.rows(trial.trial_id):
        if (up_to is not None and number > up_to) or (before.epoch is not None and number <= before.epoch):
            continue
        found = sorted((r.item, view.columns.get(r.item, ()), r.measured_at) for r in _records(view, trial, number))
        digest = hashlib.sha256(repr((digest, number, found)).encode()).hexdigest()[:16]
        epoch = number
    return Logged(epoch=epoch, digest=digest)


def summary_points(view: SweepView, trial: Trial, summary: Mapping[str, Any]) -> tuple[Point, ...]:
    """Returns a trial's summary as points at its last epoch.

    A later revision can judge the same curve by another rule: its time, where later, makes the new value the
    latest one.
    """
    rows = view.rows(trial.trial_id)
    if not rows:
        return ()
    last = max(rows)
    measured = (record.measured_at for record in _records(view, trial, last))
    timestamp_ms = int(max(*measured, view.revision.created_at) * 1000)
    return tuple(
        Point(name=metric_name(name), value=float(value), step=last, timestamp_ms=timestamp_ms)
        for name, value in summary.items()
        if _is_number(value)
    )


def settled_summary(view: SweepView, trial: Trial) -> dict[str, Any]:
    """Returns the summary numbers that no further epoch can change; what does not exist is left out."""
    if view.status(trial.trial_id) == "open":
        return {}
    summary = {name: value for name, value in summary_of(view, trial).items() if value is not None}
    if trial.baseline_id is None or view.status(trial.baseline_id) != "open":
        return summary
    return {name: value for name, value in summary.items() if not name.startswith(_NEEDS_BASELINE)}


def last_measured_ms(view: SweepView, trial: Trial) -> int | None:
    """Returns when the last epoch of a trial was measured, None before the first one."""
    rows = view.rows(trial.trial_id)
    times = [record.measured_at for record in _records(view, trial, max(rows))] if rows else []
    return int(max(times) * 1000) if times else None


def first_own_start_ms(view: SweepView, trial: Trial) -> int | None:
    """Returns when training of a trial's own first epoch began, None before that."""
    start = trial.stop.start
    if start not in view.rows(trial.trial_id):
        return None
    times = [record.measured_at - (record.seconds or 0.0) for record in _records(view, trial, start)]
    return int(min(times) * 1000)


def _records(view: SweepView, trial: Trial, epoch: int) -> list[Record]:
    found: Iterable[Record] = view.records.get(trial.state_ids[epoch], ())
    return [record for record in found if record.item == TRAINING_ITEM or record.item in view.columns]


def _columns(view: SweepView, record: Record) -> Iterator[tuple[str, Any]]:
    if record.item != TRAINING_ITEM:
        for column in view.columns[record.item]:
            yield from ((column_of(column, name), value) for name, value in record.values.items())
        return
    yield from record.values.items()
    yield "seconds", record.seconds


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
