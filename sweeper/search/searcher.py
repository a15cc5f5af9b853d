"""The loop of a search, seen from the driver: tell what came of the last points, ask for the next.

It never remembers: run again, it asks for every point anew, takes what was asked before from the store, and finds
the trials there. With a pruner the points of a batch are trained from rung to rung, and judged at each.
"""

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sweeper.execution.prepare import ResolvedSweep
from sweeper.notices import notice
from sweeper.reporting.points import result_of
from sweeper.reporting.view import SweepView
from sweeper.search.batches import Batch, Space
from sweeper.search.mirror import Mirror
from sweeper.search.rungs import Judge
from sweeper.search.study import Study
from sweeper.store.objects import ObjectStore
from sweeper.store.points import Point, read_points, write_point, write_verdict


class Searcher:
    """Says what is trained next, given what came of the last points."""

    def __init__(self, space: Space, store: ObjectStore) -> None:
        """Begins anew; points that were asked before are taken from the store as they are reached."""
        self._space, self._store = space, store
        self._study = Study(space.search)
        self._asked_before = read_points(store, space.study_id)
        self._judge = Judge(space.search.pruner, self._study, self._asked_before)
        self._points = dict(enumerate(self._asked_before))
        self._batch: Batch | None = None
        self._rung: int | None = None
        self._num_told = 0
        self._began = time.monotonic()
        self._gpu_seconds: dict[str, float] = {}

    @property
    def study_id(self) -> str:
        """What the points are kept under."""
        return self._space.study_id

    @property
    def points(self) -> tuple[Point, ...]:
        """What was asked so far, in this run or before, as it stands."""
        return tuple(self._points.values())

    @cached_property
    def asked_before(self) -> ResolvedSweep:
        """The trials of the points that the store has, as far as they are wanted."""
        return self._space.sweep_of(self._asked_before)

    @property
    def corners(self) -> ResolvedSweep:
        """The trials between which all points lie."""
        return self._space.corners

    @property
    def items(self) -> list[dict[str, str]]:
        """What is measured on held-out and validation stimuli, as revisions keep it."""
        return [item.describe() for item in self.corners.all_items()]

    @cached_property
    def _mirror(self) -> Mirror:
        return Mirror(self._store, self._space.search, self._space.spec.name, self.study_id)

    def next_sweep(self, view: SweepView, gpu: float) -> ResolvedSweep | None:
        """Tells what came of the last epochs; the same points go on to their next rung, or new ones are asked for.

        Args:
            view: the sweep; every trial of the last sweep is at its end.
            gpu: GPUs of one trial.

        Returns:
            What is trained next, its points kept in the store; None when the search is over.

        Raises:
            StoreError: there is no Optuna storage, or the store cannot be written.
        """
        if self._batch is None:
            self._show()  # a storage that is not there is told before anything is trained
        elif self._goes_on(view, self._batch):
            return self._to_train(self._batch)
        else:
            self._tell(view, self._batch, gpu)
        numbers = self._next_numbers()
        if not numbers or self._is_over():
            return None
        self._batch = self._space.resolved([self._ask(number) for number in numbers], numbers.start)
        for point in self._batch.points:
            write_point(self._store, self.study_id, point)
            self._points[point.number] = point
        self._rung = self._judge.next_rung(self._batch.points, 0)
        return self._to_train(self._batch)

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

    # -- rungs ----------------------------------------------------------------------------------------------------

    def _goes_on(self, view: SweepView, batch: Batch) -> bool:
        """Lets the pruner judge a batch that has reached a rung; tells whether any of its points goes on."""
        if self._rung is None:
            return False
        for point in self._judge.at(self._rung, view, [self._points[point.number] for point in batch.points]):
            self._points[point.number] = point
            write_verdict(self._store, self.study_id, point)
        self._rung = self._judge.next_rung(batch.points, self._rung)
        return any(self._points[point.number].pruned is None for point in batch.points)

    def _to_train(self, batch: Batch) -> ResolvedSweep:
        """Returns the trials of a batch up to the next rung; those of pruned points end where they were pruned."""
        trials = (trial for point in batch.points for trial in self._points[point.number].trials)
        return batch.sweep.cut(trial if self._rung is None else trial.cut(self._rung) for trial in trials)

    # -- telling --------------------------------------------------------------------------------------------------

    def _tell(self, view: SweepView, batch: Batch, gpu: float) -> None:
        points = [self._points[point.number] for point in batch.points]
        for point in points:
            result = result_of(view, point, self._space.search)
            attributes = {
                "trial_ids": [trial.trial_id for trial in point.trials],
                "by_seed": [list(score.by_seed) for score in result.scores],
                **({} if result.reason is None else {"reason": result.reason}),
            }
            self._study.tell(point.number, result.values, attributes, pruned=point.pruned is not None)
        self._num_told += len(points)
        states = {state for point in points for trial in point.trials for state in trial.state_ids}
        for state in states & view.records.keys():
            self._gpu_seconds[state] = gpu * sum(record.seconds or 0.0 for record in view.records[state])
        self._show()

    def _show(self) -> None:
        self._mirror.show(self._study.ended())
