"""The loop of a search, seen from the driver: tell what came of the last points, ask for the next.

It never remembers: run again, it asks for every point anew, takes what was asked before from the store, and finds
the trials there.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from sweeper.errors import DataError, Problem
from sweeper.execution.prepare import ResolvedSweep, Resolver
from sweeper.notices import notice
from sweeper.plan.identity import content_id
from sweeper.reporting.points import result_of
from sweeper.reporting.view import SweepView
from sweeper.search.mirror import Mirror
from sweeper.search.samplers import check_sampler, num_grid_points
from sweeper.search.study import Study
from sweeper.spec.axes import Choice, Configs, SweptTrial, assign
from sweeper.spec.messages import findings
from sweeper.spec.search import corners
from sweeper.store.objects import ObjectStore
from sweeper.store.points import Point, read_points, write_point

SEMANTICS = 1
"""Raised whenever code changes which points are asked for."""

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
            SpecError: Optuna has no such sampler, or the sampler does not take the options or the space.
            SweeperError: data or weights cannot be had, or do not fit the spec.
        """
        self._resolver, self.spec = resolver, resolver.spec
        assert self.spec.search is not None
        self.search = self.spec.search
        check_sampler(self.search)
        self._configs = Configs(self.spec.base)
        ends = {name: [value for _, value in searched.ends()] for name, searched in self.search.space.items()}
        swept = [trial for corner in corners(ends) for trial in self._swept(corner)]
        self.corners = self._resolver.resolve(swept)
        self._check_objectives()

    @cached_property
    def study_id(self) -> str:
        """The identity of all that determines which points are asked for; limits do not."""
        what = {
            "semantics": SEMANTICS,
            "search": self.search.model_dump(mode="json", exclude=_NO_SEQUENCE),
            "corners": [trial.trial_id for trial in self.corners.trials],
            "items": sorted(item.item_id for item in self.corners.all_items() if item.column in self._metrics),
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

    @property
    def _metrics(self) -> set[str]:
        return {objective.metric for objective in self.search.objectives}

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

    def _check_objectives(self) -> None:
        columns = {item.column for item in self.corners.all_items()}
        columns |= {column for trial in self.corners.trials for column in trial.config.model.measured_in_training}
        for index, objective in enumerate(self.search.objectives):
            if objective.metric not in columns:
                problem = Problem(
                    where=f"search.objectives.{index}.metric",
                    rule="is measured on these data",
                    got=objective.metric,
                    remedy=f"Known: {', '.join(sorted(columns))}",
                )
                raise DataError(problem)


class Searcher:
    """Says what is trained next, given what came of the last points."""

    def __init__(self, space: Space, store: ObjectStore) -> None:
        """Begins anew; points that were asked before are taken from the store as they are reached."""
        self._space, self._store = space, store
        self._study = Study(space.search)
        self._asked_before = read_points(store, space.study_id)
        self._batch: Batch | None = None
        self._num_told = 0
        self._began = time.monotonic()
        self._gpu_seconds: dict[str, float] = {}

    @property
    def study_id(self) -> str:
        """What the points are kept under."""
        return self._space.study_id

    @cached_property
    def asked_before(self) -> ResolvedSweep:
        """The trials of the points that the store has."""
        return self._space.resolved([point.values for point in self._asked_before]).sweep

    @property
    def items(self) -> list[dict[str, str]]:
        """What is measured on held-out and validation stimuli, as revisions keep it."""
        return [item.describe() for item in self._space.corners.all_items()]

    @cached_property
    def _mirror(self) -> Mirror:
        return Mirror(self._store, self._space.search, self._space.spec.name, self.study_id)

    def next_batch(self, view: SweepView, gpu: float) -> Batch | None:
        """Tells what came of the last points and asks for the next.

        Args:
            view: the sweep; every trial of the last points is at its end.
            gpu: GPUs of one trial.

        Returns:
            The next points, kept in the store; None when the search is over.

        Raises:
            StoreError: there is no Optuna storage, or the store cannot be written.
        """
        if self._batch is None:
            self._show()  # a storage that is not there is told before anything is trained
        else:
            self._tell(view, self._batch, gpu)
        numbers = self._next_numbers()
        if not numbers or self._is_over():
            return None
        self._batch = self._space.resolved([self._ask(number) for number in numbers], numbers.start)
        for point in self._batch.points:
            write_point(self._store, self.study_id, point)
        return self._batch

    def _next_numbers(self) -> range:
        batch, most = self._space.search.batch, self._space.max_points
        last = self._num_told - self._num_told % batch + batch  # a batch cut short by a limit is filled up later
        return range(self._num_told, last if most is None else min(last, most))

    def _is_over(self) -> bool:
        """Tells whether the time is up; what was asked before is trained to its end all the same."""
        limits = self._space.search.limits
        if self._num_told < len(self._asked_before):
            return False
        hours, gpu_hours = (time.monotonic() - self._began) / 3600, sum(self._gpu_seconds.values()) / 3600
        too_long = limits.hours is not None and hours >= limits.hours
        return too_long or (limits.gpu_hours is not None and gpu_hours >= limits.gpu_hours)

    def _ask(self, number: int) -> Mapping[str, Any]:
        search = self._space.search
        before = self._asked_before[number].values if number < len(self._asked_before) else None
        given = before if before is not None else search.first[number] if number < len(search.first) else None
        asked = self._study.ask(number, given)
        if before is not None and asked != before:
            notice(f"point {number} was {dict(before)} when it was asked first; the grid is in another order now")
        return asked

    def _tell(self, view: SweepView, batch: Batch, gpu: float) -> None:
        for point in batch.points:
            result = result_of(view, point, self._space.search)
            attributes = {
                "trial_ids": [trial.trial_id for trial in point.trials],
                "by_seed": [list(score.by_seed) for score in result.scores],
                **({} if result.reason is None else {"reason": result.reason}),
            }
            self._study.tell(point.number, result.values, attributes)
        self._num_told += len(batch.points)
        states = {state for trial in batch.sweep.trials for state in trial.lineage.state_ids}
        for state in states & view.records.keys():
            self._gpu_seconds[state] = gpu * sum(record.seconds or 0.0 for record in view.records[state])
        self._show()

    def _show(self) -> None:
        self._mirror.show(self._study.ended())
