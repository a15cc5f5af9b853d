"""Rungs: the epochs after which a pruner says which points are not worth the rest of their training."""

from collections.abc import Sequence

from sweeper.notices import notice
from sweeper.reporting.points import standing_at
from sweeper.reporting.view import SweepView
from sweeper.search.batches import last_epoch_of
from sweeper.search.study import Study
from sweeper.spec.search import Pruner
from sweeper.store.points import Point


class Judge:
    """Asks the pruner of a study about points that have reached a rung.

    A verdict hangs on the epochs up to the rung alone, whatever the store holds behind it. It is given anew in every
    run, so that the pruner knows what it knew; should it come out differently by now, the one that was kept counts.
    """

    def __init__(self, pruner: Pruner | None, study: Study, kept: Sequence[Point]) -> None:
        """Takes what is asked.

        Args:
            pruner: of the search; None: there are no rungs.
            study: in which the points are open.
            kept: points of the store with their verdicts, by number.
        """
        self._pruner, self._study, self._kept = pruner, study, kept

    def next_rung(self, points: Sequence[Point], epoch: int) -> int | None:
        """Returns the next epoch after which one of some points is judged, None where none is."""
        last = max((last_epoch_of(point) for point in points), default=0)
        return next((rung for rung in (self._pruner.epochs if self._pruner else ()) if epoch < rung < last), None)

    def at(self, rung: int, view: SweepView, points: Sequence[Point]) -> list[Point]:
        """Judges points that were trained up to a rung.

        Args:
            rung: the epoch.
            view: the sweep.
            points: of one batch, as they stand; those that were pruned, failed, or are at their end are left alone.

        Returns:
            Those on which nothing more will be said, with their verdicts.
        """
        assert self._pruner is not None
        before_end = [point for point in points if point.pruned is None and rung < last_epoch_of(point)]
        found = [(point, standing_at(view, point, self._pruner.metric, rung)) for point in before_end]
        judged = [(point, standing) for point, standing in found if standing.status in ("pruned", "complete")]
        for point, standing in judged:
            self._study.report(point.number, standing.course)
        settled = []
        for point, standing in judged:
            wants_to = self._study.should_prune(point.number)  # has a point ended, others are still compared with it
            is_pruned = self._as_kept(point, rung, wants_to and standing.status == "pruned")
            if is_pruned or self.next_rung([point], rung) is None:
                settled.append(point.judged(rung if is_pruned else None))
        return settled

    def _as_kept(self, point: Point, rung: int, wants_to: bool) -> bool:
        """Returns the verdict that was kept, where there is one."""
        kept = self._kept[point.number] if point.number < len(self._kept) else point
        if not kept.is_judged or wants_to == (kept.pruned == rung):
            return wants_to
        verdict = "pruned" if kept.pruned == rung else "not pruned"
        notice(f"point {point.number} was {verdict} after epoch {rung} when it was judged first; it stays so")
        return kept.pruned == rung
