"""How two participants and their models differ over time, and which dimensions make the models differ most."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sweeper_models.prompts import PROMPTS

from sweeper.errors import Problem, StoreError, SweeperError
from sweeper.metrics.rdm import Array
from sweeper.metrics.time_courses import dimensions_behind
from sweeper.reporting.caption import COLORS, caption, new_figure, plain_axes, titled
from sweeper.reporting.people import Group, Incomplete, groups_of, people_of
from sweeper.reporting.tables import Row
from sweeper.reporting.text import first_lines
from sweeper.reporting.view import SweepView, plain
from sweeper.store.objects import ObjectStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 10
_ABOUT = (
    "Difference of two participants, or of their models at the best validation loss: 1 - Spearman of their RDMs over",
    "held-out stimuli. A dimension's share: the difference less the one without that dimension in both models, at the",
    "time of the largest difference, which as a maximum is higher than its time deserves.",
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pair:
    """Holds the difference of two participants in one group.

    Attributes:
        group: its trials.
        subjects: the two.
        times_ms: float64 [T].
        counts: bool [T], the times after the stimulus began.
        models: float64 [T], difference of their models; NaN where it is undefined.
        data: float64 [T], difference of their own RDMs.
        at: index of the largest difference of the models among the times that count.
        dimensions: name and share of each dimension at that time, the largest share first.
    """

    group: Group
    subjects: tuple[str, str]
    times_ms: NDArray[np.float64]
    counts: NDArray[np.bool_]
    models: Array
    data: Array
    at: int
    dimensions: tuple[tuple[str, float], ...]


def pairs_of(view: SweepView, store: ObjectStore, subjects: tuple[str, str]) -> Iterator[Pair]:
    """Yields the difference of two participants in every group of a sweep.

    Raises:
        StoreError: the sweep has no such participants, or it cannot be said yet how they differ.
        SweeperError: the data's files are not here.
    """
    groups = groups_of(view)
    if not groups:
        raise _refused(
            "compares subjects of a sweep over them", view.revision.spec.name, "Add subject: all to the axes"
        )
    for group in groups:
        two = [trial for trial in group.trials if trial.config.subject in subjects]
        if len(two) != 2:
            known = ", ".join(str(trial.config.subject) for trial in group.trials)
            raise _refused("names two participants of the sweep", " ".join(subjects), f"Known: {known}")
        try:
            yield _pair(view, store, replace(group, trials=tuple(two)), subjects)
        except Incomplete as reason:
            raise _refused("compares complete trials", f"{group.label}: {reason}", "Run the sweep to its end") from None


def pair_rows(pairs: Iterable[Pair]) -> list[Row]:
    """Returns one row per group and time, then one per dimension at the time of the models' largest difference."""
    rows: list[Row] = []
    for pair in pairs:
        common: Row = {"label": pair.group.label, "role": pair.group.role}
        common |= {name: plain(value) for name, value in pair.group.fields}
        common |= {"first": pair.subjects[0], "second": pair.subjects[1]}
        for index, time in enumerate(pair.times_ms):
            numbers = {"models": float(pair.models[index]), "participants": float(pair.data[index])}
            row: Row = {**common, "time_ms": float(time), "counts": bool(pair.counts[index]), **numbers}
            rows.append({**row, "is_maximum": index == pair.at, "dimension": None, "share": None})
        for name, share in pair.dimensions:
            row = {**common, "time_ms": float(pair.times_ms[pair.at]), "counts": True}
            row |= {"models": None, "participants": None, "is_maximum": True}
            rows.append({**row, "dimension": name, "share": share})
    return rows


def pairs_text(view: SweepView, pairs: Iterable[Pair]) -> str:
    """Returns the differences for people; the whole courses are in the other formats."""
    lines = [*first_lines(view), *_ABOUT]
    for pair in pairs:
        counted = pair.counts & np.isfinite(pair.models) & np.isfinite(pair.data)
        shares = ", ".join(f"{name} {share:+.3f}" for name, share in pair.dimensions[:_SHOWN])
        lines += [
            "",
            f"{pair.group.label} [{pair.group.role}]: {pair.subjects[0]} and {pair.subjects[1]}",
            f"  models: {pair.models[counted].mean():.3f} on average, at most {pair.models[pair.at]:.3f} at "
            f"{pair.times_ms[pair.at]:g} ms",
            f"  participants: {pair.data[counted].mean():.3f} on average, {pair.data[pair.at]:.3f} at that time",
            f"  dimensions behind it: {shares}",
        ]
    return "\n".join(lines) + "\n"


def draw_pair(view: SweepView, pair: Pair) -> "Figure":
    """Draws both differences over time, and the dimensions with the largest shares."""
    figure, ((left, right),) = new_figure(11, 4, 1, 2)
    left.plot(pair.times_ms, pair.models, color=COLORS[0], label="their models")
    left.plot(pair.times_ms, pair.data, color="black", linestyle="--", label="the participants")
    left.axvline(pair.times_ms[pair.at], color="#888888", linewidth=0.8)
    left.set_xlabel("time (ms)", fontsize=8)
    left.set_ylabel("difference (1 - Spearman of two RDMs)", fontsize=8)
    left.legend(fontsize=8, frameon=False)
    shown = pair.dimensions[:_SHOWN]
    right.barh(range(len(shown)), [share for _, share in shown], color=COLORS[0])
    right.set_yticks(range(len(shown)), [name for name, _ in shown], fontsize=8)
    right.invert_yaxis()
    right.set_xlabel(f"share in the models' difference at {pair.times_ms[pair.at]:g} ms", fontsize=8)
    for place in (left, right):
        plain_axes(place)
    title = f"Participants {pair.subjects[0]} and {pair.subjects[1]}: {pair.group.label}"
    return titled(figure, caption(view), title, "models at their best validation loss, held-out stimuli")


def _pair(view: SweepView, store: ObjectStore, group: Group, subjects: tuple[str, str]) -> Pair:
    people = people_of(view, store, group)
    if len(people.subjects) < 2:
        raise Incomplete(f"the trial of subject {', '.join(people.left_out)} failed")
    models, data = (1.0 - (people.ranks[name][0] * people.ranks[name][1]).sum(axis=-1) for name in ("trained", "data"))
    if not (people.counts & np.isfinite(models)).any():
        raise Incomplete("there is no time after the stimulus at which both models have an RDM")
    at = int(np.where(people.counts & np.isfinite(models), models, -np.inf).argmax())
    shares = dimensions_behind(people.trained[0, at], people.trained[1, at])
    named = [(name, share) for name, share in zip(PROMPTS, shares, strict=True) if share is not None]
    return Pair(
        group=group,
        subjects=subjects,
        times_ms=people.times_ms,
        counts=people.counts,
        models=models,
        data=data,
        at=at,
        dimensions=tuple(sorted(named, key=lambda each: (-each[1], each[0]))),
    )


def _refused(rule: str, got: str, remedy: str) -> SweeperError:
    return StoreError(Problem(where="--subjects", rule=rule, got=got, remedy=remedy))
