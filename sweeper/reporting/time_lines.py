"""RSA over time of every trial at its best validation loss, from stored outputs (docs/methods.md 4.6)."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.evaluation import items_of
from sweeper.evaluation.over_time import CourseItem
from sweeper.inputs import held_out_sets
from sweeper.metrics.rdm import Array
from sweeper.plan.trials import Trial
from sweeper.reporting.individuals import BOUND, OWN, TARGETS, UNTRAINED, courses_of
from sweeper.reporting.people import Group, Incomplete, People, groups_of, people_of
from sweeper.reporting.summary import summary_of
from sweeper.reporting.tables import Row, objective_mark, swept_fields
from sweeper.reporting.view import SweepView, plain
from sweeper.store.objects import ObjectStore
from sweeper.store.outputs import read_outputs


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TimeLine:
    """Holds one measure of one trial over time.

    Attributes:
        trial: the trial.
        epoch: of its best validation loss.
        column: of the result table, where the mean over the times that count stands.
        reference: what the model is compared with.
        times_ms: float64 [T].
        counts: bool [T], the times that the column counts.
        trained: float64 [T], at that epoch; NaN where it is undefined.
        untrained: float64 [T], at epoch 0; None where that was not measured.
    """

    trial: Trial
    epoch: int
    column: str
    reference: str
    times_ms: NDArray[np.float64]
    counts: NDArray[np.bool_]
    trained: Array
    untrained: Array | None


def time_lines(view: SweepView, store: ObjectStore) -> Iterator[TimeLine]:
    """Yields the courses of every trial whose outputs have a time axis, as far as it was trained.

    Raises:
        SweeperError: the data's files are not here.
    """
    evaluation = view.revision.spec.evaluation
    for trial in view.trials.values():
        best = summary_of(view, trial)["best_epoch"] if trial.config.model.over_time else None
        if best is None:
            continue
        sets = held_out_sets(trial.config, evaluation)
        for item in items_of(evaluation, sets, trial.config.data.preprocessing):
            if isinstance(item, CourseItem) and (line := _line(store, trial, best, item)) is not None:
                yield line


def course_rows(view: SweepView, store: ObjectStore) -> list[Row]:
    """Returns one row per trial, column and time; of a sweep over participants also the means over them.

    The means have no trial: `own_model` with `rsa_untrained` beside it, `lower_noise_bound`, `targets`.
    """
    fields = swept_fields(view)
    rows = [row for line in time_lines(view, store) for row in _rows_of_trial(line, fields)]
    for group in groups_of(view):
        with suppress(Incomplete):  # what is there is shown
            rows += _rows_of_group(group, people_of(view, store, group), fields)
    return [row | objective_mark(view) for row in rows]


def _line(store: ObjectStore, trial: Trial, epoch: int, item: CourseItem) -> TimeLine | None:
    trained, untrained = (read_outputs(store, trial.state_ids[each], item.outputs) for each in (epoch, 0))
    if trained is None:
        return None
    return TimeLine(
        trial=trial,
        epoch=epoch,
        column=item.column,
        reference=item.reference,
        times_ms=item.times_ms,
        counts=item.counts,
        trained=item.course(trained),
        untrained=None if untrained is None else item.course(untrained),
    )


def _rows_of_trial(line: TimeLine, fields: tuple[str, ...]) -> Iterator[Row]:
    trial, swept = line.trial, dict(line.trial.swept)
    common: Row = {"trial_id": trial.trial_id, "role": trial.role, **{name: plain(swept.get(name)) for name in fields}}
    common |= {"epoch": line.epoch, "column": line.column, "reference": line.reference}
    for values in zip(line.times_ms, line.counts, line.trained, _or_nan(line.untrained, line.trained), strict=True):
        yield {**common, **_point(*values)}


def _rows_of_group(group: Group, people: People, fields: tuple[str, ...]) -> Iterator[Row]:
    swept, courses = dict(group.fields), courses_of(people)
    common: Row = {"trial_id": None, "role": group.role, **{name: plain(swept.get(name)) for name in fields}}
    for column in (OWN, BOUND, TARGETS):
        course = courses.get(column)
        if course is None:
            continue
        beside = _or_nan(courses[UNTRAINED] if column == OWN else None, course)
        for values in zip(people.times_ms, people.counts, course, beside, strict=True):
            yield {**common, "epoch": None, "column": column, "reference": None, **_point(*values)}


def _or_nan(course: Array | None, like: Array) -> Array:
    return np.full_like(like, np.nan) if course is None else course


def _point(time: float, counts: bool, rsa: float, untrained: float) -> Row:
    numbers = {"rsa": float(rsa), "rsa_untrained": float(untrained)}
    defined = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
    return {"time_ms": float(time), "counts": bool(counts), **defined}
