"""Points of a search with what came out: values of the objectives over seeds, the best ones, the Pareto front."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from sweeper.metrics.curves import first_minimum_epoch
from sweeper.plan.trials import Trial
from sweeper.reporting.standing import STATUSES, Status
from sweeper.reporting.summary import LOSS
from sweeper.reporting.view import SweepView, plain
from sweeper.spec.search import TEST_METRICS, Objective, Search
from sweeper.store.points import Point
from sweeper.wording import counted

TEST_STIMULI = "THE OBJECTIVE SEES TEST STIMULI (allow_test_objective): what it chose has no independent test"


def sees_test_stimuli(view: SweepView) -> bool:
    """Tells whether test stimuli chose the points of a search."""
    search = view.revision.spec.search
    return search is not None and search.sees_test_stimuli


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A metric of one point.

    Attributes:
        by_seed: of each trial; None where it is undefined, or the trial is not at its end.
    """

    by_seed: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Over the seeds, None where one lacks."""
        known = [value for value in self.by_seed if value is not None]
        return statistics.fmean(known) if known and len(known) == len(self.by_seed) else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds, None for less than two."""
        if self.mean is None or len(self.by_seed) < 2:
            return None
        return statistics.stdev(value for value in self.by_seed if value is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class PointResult:
    """One point with what came out.

    Attributes:
        point: what was asked.
        status: `failed` where a trial failed or an objective is undefined.
        scores: one for each objective, in the spec's order; none where it was pruned.
        reason: why it failed.
        course: what the pruner was told, by epoch.
    """

    point: Point
    status: Status
    scores: tuple[Score, ...]
    reason: str | None = None
    course: Mapping[int, float] = field(default_factory=dict)

    @property
    def values(self) -> tuple[float, ...] | None:
        """Mean of each objective, None where the point has not ended well."""
        means = [score.mean for score in self.scores]
        known = tuple(mean for mean in means if mean is not None)
        return known if self.status == "complete" and len(known) == len(means) else None


def result_of(view: SweepView, point: Point, search: Search) -> PointResult:
    """Returns what came out of a point so far."""
    if point.refused is not None:
        return PointResult(point=point, status="failed", scores=(), reason=point.refused)
    result = _result_of(view, point, search)
    if search.pruner is None or result.status == "failed":
        return result
    last = search.pruner.epochs[-1] if point.pruned is None else point.pruned
    return replace(result, course=standing_at(view, point, search.pruner.metric, last).course)


def _result_of(view: SweepView, point: Point, search: Search) -> PointResult:
    if point.pruned is not None:
        return PointResult(point=point, status="pruned", scores=())
    trials = own_trials(point)
    scores = tuple(
        Score(by_seed=tuple(value_of(view, trial, objective) for trial in trials)) for objective in search.objectives
    )
    statuses = {view.status(trial.trial_id) for trial in trials}
    if "failed" in statuses:
        reason = next(reason for trial in trials if (reason := view.failure(trial.trial_id)) is not None)
        return PointResult(point=point, status="failed", scores=scores, reason=reason)
    if "open" in statuses:
        return PointResult(point=point, status="open", scores=scores)
    lacking = [
        objective.metric for objective, score in zip(search.objectives, scores, strict=True) if score.mean is None
    ]
    if lacking:
        return PointResult(point=point, status="failed", scores=scores, reason=f"{lacking[0]} is undefined")
    return PointResult(point=point, status="complete", scores=scores)


def results_of(view: SweepView) -> tuple[PointResult, ...]:
    """Returns what came out of the points of a search, by number; none where the sweep is no search."""
    search = view.revision.spec.search
    return () if search is None else tuple(result_of(view, point, search) for point in view.revision.points)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a point stands at an epoch, whatever was trained behind it.

    Attributes:
        status: `pruned`: it would go on; `complete`: each of its trials has ended by its own rule.
        course: the metric by epoch, as the mean over the seeds, where all of them have one.
    """

    status: Status
    course: Mapping[int, float]


def standing_at(view: SweepView, point: Point, metric: str, epoch: int) -> Standing:
    """Returns how a point stands at the end of an epoch, and how its metric came there.

    A trial that ended before by its own rule keeps its last value: that is what further training would leave.
    """
    so_far = view.of(trial.cut(epoch) for trial in point.trials)
    trials = [so_far.trials[trial.trial_id] for trial in own_trials(point)]
    statuses = [so_far.status(trial.trial_id) for trial in trials]
    courses = [_course(so_far, trial, metric, epoch) for trial in trials]
    common = sorted(reduce(lambda known, course: known & course.keys(), courses[1:], set(courses[0])))
    return Standing(
        status=next((status for status in ("failed", "open", "pruned") if status in statuses), "complete"),
        course={each: statistics.fmean(course[each] for course in courses) for each in common},
    )


def _course(view: SweepView, trial: Trial, metric: str, last: int) -> dict[int, float]:
    course = {epoch: value for epoch, value in view.curve(trial.trial_id, metric).items() if epoch >= trial.stop.start}
    end = max(view.rows(trial.trial_id), default=None)
    if view.status(trial.trial_id) == "complete" and end in course:
        course |= dict.fromkeys(range(end + 1, last + 1), course[end])
    return course


def own_trials(point: Point) -> tuple[Trial, ...]:
    """Returns the trials of a point without their baselines: one for each seed."""
    return tuple(trial for trial in point.trials if trial.role != "baseline")


def value_of(view: SweepView, trial: Trial, objective: Objective) -> float | None:
    """Returns the value of an objective on one trial that is at its end; None where it is undefined."""
    if view.status(trial.trial_id) != "complete":
        return None
    rows = {epoch: row for epoch, row in view.rows(trial.trial_id).items() if epoch >= trial.stop.start}
    losses = {epoch: float(loss) for epoch, row in rows.items() if isinstance(loss := row.get(LOSS), float)}
    if not losses:
        return None
    value = rows[first_minimum_epoch(losses) if objective.at == "best_val_loss" else max(rows)].get(objective.metric)
    return float(value) if isinstance(value, int | float) else None


def ranked(results: Sequence[PointResult], search: Search) -> list[PointResult]:
    """Returns the points that ended well, the best first.

    With several objectives those of the Pareto front come first; both parts are in the order of the first objective,
    and equal values in the order in which they were asked.
    """
    signs = [-1.0 if objective.is_maximized else 1.0 for objective in search.objectives]

    def order(result: PointResult) -> tuple[bool, float, int]:
        assert result.values is not None
        return result.point.number not in front, signs[0] * result.values[0], result.point.number

    ended = [result for result in results if result.values is not None]
    front = {result.point.number for result in (pareto_front(ended, search) if len(signs) > 1 else ended)}
    return sorted(ended, key=order)


def pareto_front(results: Sequence[PointResult], search: Search) -> list[PointResult]:
    """Returns the points that no other point is better than in one objective and at least as good as in all."""
    signs = [-1.0 if objective.is_maximized else 1.0 for objective in search.objectives]
    costs = [
        (result, tuple(sign * value for sign, value in zip(signs, result.values, strict=True)))
        for result in results
        if result.values is not None
    ]
    return [
        result
        for result, cost in costs
        if not any(other != cost and all(o <= c for o, c in zip(other, cost, strict=True)) for _, other in costs)
    ]


def point_rows(view: SweepView) -> list[dict[str, Any]]:
    """Returns one row per point, by number; what was measured on test stimuli stands in columns `test_<metric>`.

    These are means over the seeds at the best validation loss; no point is chosen by them, unless the spec says so.
    """
    search = view.revision.spec.search
    if search is None:
        return []
    results = results_of(view)
    places = {result.point.number: place for place, result in enumerate(ranked(results, search), start=1)}
    front = {result.point.number for result in pareto_front(results, search)}
    several, tests = len(search.objectives) > 1, metrics_on_test_stimuli(view)
    rows: list[dict[str, Any]] = []
    for result in results:
        row: dict[str, Any] = {"point": result.point.number, "status": result.status}
        row |= {} if search.pruner is None else {"pruned_after_epoch": result.point.pruned}
        row |= {name: plain(result.point.values.get(name)) for name in search.space}
        for index, objective in enumerate(search.objectives):
            score = result.scores[index] if result.scores else None
            row[objective.metric] = None if score is None else score.mean
            row[f"{objective.metric}_sd"] = None if score is None else score.spread
        row |= {"place": places.get(result.point.number)}
        row |= {"pareto": result.point.number in front} if several else {}
        row |= {f"test_{metric}": _test_mean(view, result, metric) for metric in tests}
        trials = own_trials(result.point)
        row |= {"trial_ids": " ".join(trial.trial_id for trial in trials), "reason": result.reason}
        row |= {"objective_sees_test_stimuli": search.sees_test_stimuli, "stand_in": view.revision.spec.stand_in}
        rows.append(row)
    return rows


_SHOWN = 10


def points_text(view: SweepView) -> str:
    """Returns the best points for people, with what was measured on test stimuli of the chosen one; empty without."""
    search = view.revision.spec.search
    best = [] if search is None else ranked(results_of(view), search)
    if search is None or not best:
        return ""
    front = {result.point.number for result in pareto_front(best, search)}
    several = len(search.objectives) > 1
    lines = [f"\nBest points{' (*: Pareto front)' if several else ''}; {_meaning(search)}"]
    for result in best[:_SHOWN]:
        mark = "*" if several and result.point.number in front else " "
        scores = (
            f"{objective.metric} {score.mean:.4g}" + ("" if score.spread is None else f" (SD {score.spread:.2g})")
            for objective, score in zip(search.objectives, result.scores, strict=True)
        )
        values = " ".join(f"{name.rsplit('.', 1)[-1]}={_shown(value)}" for name, value in result.point.values.items())
        lines.append(f"{mark} point {result.point.number}: {', '.join(scores)}; {values}")
    if len(best) > _SHOWN:
        lines.append(f"  and {len(best) - _SHOWN} more: --points")
    lines.extend(_pruned_lines(view))
    tests = ((metric, _test_mean(view, best[0], metric)) for metric in metrics_on_test_stimuli(view))
    found = ", ".join(f"{metric} {value:.3f}" for metric, value in tests if value is not None)
    if found and not search.sees_test_stimuli:
        lines.append(f"On test stimuli, which chose nothing, point {best[0].point.number} has {found}")
    return "\n".join(lines)


def _pruned_lines(view: SweepView) -> list[str]:
    """Returns at which epochs how many points were given up, as one line; none where none was."""
    found = [point.pruned for point in view.revision.points if point.pruned is not None]
    counts = ", ".join(f"{found.count(epoch)} after epoch {epoch}" for epoch in sorted(set(found)))
    return [f"Pruned, and not compared with these: {counts}"] if found else []


def _meaning(search: Search) -> str:
    over = f", means over {len(search.seeds)} seeds" if len(search.seeds) > 1 else ""
    at = {objective.at for objective in search.objectives}
    return ("at the best validation loss" if at == {"best_val_loss"} else "as the spec says") + over


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(plain(value))


def metrics_on_test_stimuli(view: SweepView) -> tuple[str, ...]:
    """Returns the columns that are measured on test stimuli, each once."""
    columns = (item["column"] for item in view.revision.items)
    return tuple(dict.fromkeys(column for column in columns if column.startswith(TEST_METRICS)))


def _test_mean(view: SweepView, result: PointResult, metric: str) -> float | None:
    trials = own_trials(result.point)
    return Score(by_seed=tuple(value_of(view, trial, Objective(metric=metric)) for trial in trials)).mean


def asked_text(view: SweepView) -> str | None:
    """Returns how a search stands, and whether test stimuli choose its points; None where the sweep is no search."""
    search = view.revision.spec.search
    if search is None:
        return None
    statuses = [result.status for result in results_of(view)]
    counts = ", ".join(f"{statuses.count(s)} {s}" for s in STATUSES if s in statuses)
    most = "" if search.limits.points is None else f" of at most {search.limits.points}"
    seeds = f", {len(search.seeds)} seeds each" if len(search.seeds) > 1 else ""
    text = f"search ({search.sampler.name}): {counted(len(statuses), 'point')} asked{most}{seeds}"
    text = f"{text}; {counts}" if counts else text
    return f"{text}\n{TEST_STIMULI}" if search.sees_test_stimuli else text
