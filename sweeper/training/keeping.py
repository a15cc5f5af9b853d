"""Which states of a segment are kept.

Every state where windows may fork; elsewhere the end, the ends of trials, the best so far, and one every ten
seconds, of which only the newest stays.
"""

from collections.abc import Mapping

from sweeper.store.objects import ObjectStore
from sweeper.training.order import Order

SAVE_EVERY_S = 10.0


class Keeper:
    """Saves the states of one segment, and drops those that nothing needs any more."""

    def __init__(self, order: Order, store: ObjectStore, now: float) -> None:
        self._order, self._store = order, store
        self._saved_at = now
        self._passing: set[int] = set()  # saved, and to be dropped once a newer one is there

    def due(self, epoch: int, val_loss: Mapping[int, float], now: float, *, wants_more: bool) -> bool:
        """Tells whether the state at the end of an epoch must be saved."""
        if self._order.keep_all or not wants_more or epoch in (0, self._order.last_epoch):
            return True
        if self._order.ending(epoch, val_loss):
            return True
        return self._best(val_loss) == epoch or now - self._saved_at >= SAVE_EVERY_S

    def saved(self, epoch: int, val_loss: Mapping[int, float], now: float, *, is_new: bool, wants_more: bool) -> None:
        """Notes that a state was saved; drops the older ones that are neither best nor an end.

        Args:
            epoch: whose state.
            val_loss: the curve up to it.
            now: seconds of a monotonic clock.
            is_new: the store did not hold it before; what it held may belong to another sweep, and stays.
            wants_more: the segment goes on.
        """
        self._saved_at = now
        best = self._best(val_loss)
        if self._order.keep_all:
            return
        for older in sorted(self._passing - {best}):
            self._store.drop("states", self._order.states[older])
            self._passing.discard(older)
        if is_new and wants_more and epoch != 0 and not self._order.ending(epoch, val_loss):
            self._passing.add(epoch)

    def _best(self, val_loss: Mapping[int, float]) -> int | None:
        start = min(stop.start for stop in self._order.stops.values())
        own = {epoch: loss for epoch, loss in val_loss.items() if epoch >= start}
        return min(own, key=lambda epoch: (own[epoch], epoch)) if own else None
