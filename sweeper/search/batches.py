"""What a spec searches, joined with its data and weights; points and their trials."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from sweeper.errors import DataError, Problem
from sweeper.execution.prepare import ResolvedSweep, Resolver
from sweeper.plan.identity import content_id
from sweeper.reporting.points import own_trials
from sweeper.search.samplers import num_grid_points
from sweeper.search.study import check_search
from sweeper.spec.axes import Choice, Configs, SweptTrial, assign
from sweeper.spec.messages import findings
from sweeper.spec.search import corners
from sweeper.store.points import Point

SEMANTICS = 1
"""Raised whenever code changes which points are asked for, or given up."""

_NO_SEQUENCE = {"limits", "storage", "allow_test_objective"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Points that are trained together.

    Attributes:
        points: with their trials.
        sweep: these trials, resolved.
    """

    points: tuple[Point, ...]
    sweep: ResolvedSweep


class Space:
    """The searched fields of a spec, joined with its data and weights."""

    def __init__(self, resolver: Resolver) -> None:
        """Opens data and weights of the corners of the space; all points lie between them.

        Raises:
            SpecError: Optuna has no such sampler or pruner, or it does not take the options or the space.
            SweeperError: data or weights cannot be had, or do not fit the spec.
        """
        self._resolver, self.spec = resolver, resolver.spec
        assert self.spec.search is not None
        self.search = self.spec.search
        check_search(self.search)
        self._configs = Configs(self.spec.base)
        ends = {name: [value for _, value in searched.ends()] for name, searched in self.search.space.items()}
        swept = [trial for corner in corners(ends) for trial in self._swept(corner)]
        self.corners = self._resolver.resolve(swept)
        self._check_metrics()

    @cached_property
    def study_id(self) -> str:
        """The identity of all that determines which points are asked for; limits do not."""
        what = {
            "semantics": SEMANTICS,
            "search": self.search.model_dump(mode="json", exclude=_NO_SEQUENCE),
            "corners": [trial.trial_id for trial in self.corners.trials],
            "items": sorted(item.item_id for item in self.corners.all_items() if item.column in self.search.metrics),
        }
        return content_id("study", what)

    @property
    def max_points(self) -> int | None:
        """The most points that there can be, None for as many as the time allows."""
        known = [most for most in (self.search.limits.points, num_grid_points(self.search)) if most is not None]
        return min(known, default=None)

    def resolved(self, values: list[Mapping[str, Any]], first: int = 0) -> Batch:
        """Returns points with their trials.

        Args:
            values: of each point.
            first: number of the first one.
        """
        points, swept = [], list[SweptTrial]()
        for number, point in enumerate(values, start=first):
            trials, refused = self._trials(point)
            swept += trials
            found = [trial for one in trials for trial in self._resolver.resolve([one]).trials]
            distinct = tuple({trial.trial_id: trial for trial in found}.values())
            points.append(Point(number=number, values=dict(point), trials=distinct, refused=refused))
        return Batch(points=tuple(points), sweep=self._resolver.resolve(swept))

    def sweep_of(self, points: Sequence[Point]) -> ResolvedSweep:
        """Returns the trials of points that were asked before; those of pruned points end where they were pruned."""
        batch = self.resolved([point.values for point in points])
        judged = (now.judged(before.pruned) for now, before in zip(batch.points, points, strict=True))
        return batch.sweep.cut(trial for point in judged for trial in point.trials)

    def _trials(self, values: Mapping[str, Any]) -> tuple[list[SweptTrial], str | None]:
        """Returns the trials of a point; none, and the rule that it breaks, where its values do not go together."""
        try:
            return list(self._swept(values)), None
        except ValidationError as error:
            raw, _ = assign(self.spec.base, next(self._choices(values)))
            return [], "; ".join(finding.rule for finding in findings(error, raw))

    def _swept(self, values: Mapping[str, Any]) -> Iterator[SweptTrial]:
        for choices in self._choices(values):
            swept = tuple((choice.name, choice.value) for choice in choices)
            yield SweptTrial(swept=swept, config=self._configs.of(choices))

    def _choices(self, values: Mapping[str, Any]) -> Iterator[tuple[Choice, ...]]:
        own = tuple(Choice(name, value, ("point", name, repr(value))) for name, value in values.items())
        for seed in self.search.seeds:
            yield (*own, Choice("seeds", seed, ("point", "seeds", seed)))
        if not self.search.seeds:
            yield own

    def _check_metrics(self) -> None:
        columns = {item.column for item in self.corners.all_items()}
        columns |= {column for trial in self.corners.trials for column in trial.config.model.measured_in_training}
        asked = {f"objectives.{index}": objective.metric for index, objective in enumerate(self.search.objectives)}
        asked |= {"pruner": self.search.pruner.metric} if self.search.pruner else {}
        for where, metric in asked.items():
            if metric not in columns:
                problem = Problem(
                    where=f"search.{where}.metric",
                    rule="is measured on these data",
                    got=metric,
                    remedy=f"Known: {', '.join(sorted(columns))}",
                )
                raise DataError(problem)


def last_epoch_of(point: Point) -> int:
    """Returns the last epoch that a trial of a point can reach by its own rule."""
    return max((trial.own_stop.last_epoch for trial in own_trials(point)), default=0)
