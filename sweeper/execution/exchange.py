"""The exchange: where workers take segments and hand in epochs, and the driver collects them. Free of Ray."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sweeper.errors import SweeperError
from sweeper.execution.dispatcher import Dispatcher
from sweeper.records import Failure
from sweeper.store.pulse import AtWork
from sweeper.training.events import EpochDone, Event, ParentMissing, SegmentFailed
from sweeper.training.order import Order

MAX_DEATHS = 3  # of workers before one and the same epoch, before it counts as failed for this run
MAX_MISSING = 3  # times that a segment's parent was gone, likewise


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What a worker does next: train `order`; wait, when it is None; end, when `done`."""

    order: Order | None = None
    done: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What a worker hands in.

    Attributes:
        segment_id: what it trains.
        events: of that segment.
        finished: it is through with it.
        notices: what the user must know besides, e.g. that a file was damaged.
    """

    segment_id: str
    events: tuple[Event, ...]
    finished: bool
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What the driver fetches.

    Attributes:
        deliveries: what workers handed in.
        error: what ends the run, if anything.
        workers: what each one does that is at work.
        features: frozen features that are computed and how many they will be, if there is news of them.
    """

    deliveries: tuple[Delivery, ...]
    error: SweeperError | None
    workers: tuple[AtWork, ...]
    features: tuple[int, int] | None = None

    @property
    def idle(self) -> bool:
        """Nobody is at work."""
        return not self.workers


class Exchange:
    """One dispatcher, many workers. A worker is named by the share of the sweep that it currently stands for."""

    def __init__(self, dispatcher: Dispatcher, shares: Mapping[str, Iterable[str]]) -> None:
        """Takes the trials of each share: one, or several where a sweep has very many."""
        self._dispatcher = dispatcher
        self._open = {share: deque(trials) for share, trials in shares.items()}  # their first may have ended
        self._at_work: dict[str, str] = {}  # segment by share
        self._processes: dict[str, str] = {}  # of the workers, by share
        self._epochs: dict[str, int] = {}  # the last one of each segment
        self._deaths: Counter[str] = Counter()  # by the state that was to be made
        self._missing: Counter[str] = Counter()  # by segment
        self._features: dict[str, tuple[int, int]] = {}  # done and total, by process
        self._outbox: list[Delivery] = []
        self._error: SweeperError | None = None
        self._stopping = False

    # -- for workers ----------------------------------------------------------------------------------------------

    def turn(self, share: str, process: str = "") -> Turn:
        """Returns what the worker of a share does next: its own path first, any ready segment rather than wait."""
        self._processes[share] = process
        self.lost(share)  # it asks for work, so what it had is not being done
        own = self._open[share]
        while own and self._dispatcher.trial_status(own[0]) != "open":
            own.popleft()
        if self._stopping or self._error or not own:
            return Turn(done=True)
        order = self._dispatcher.next_order(own[0])
        if order is not None:
            self._at_work[share] = order.segment_id
        return Turn(order=order)

    def deliver(self, share: str, delivery: Delivery) -> bool:
        """Takes epochs in; returns whether the worker goes on with its segment.

        A worker that was given up for lost may still deliver: its epochs count, but it does not go on.
        """
        segment_id = delivery.segment_id
        for event in delivery.events:
            self._dispatcher.note(segment_id, event)
            if isinstance(event, EpochDone):
                self._epochs[segment_id] = event.epoch
        self._outbox.append(delivery)
        goes_well = all_epochs(delivery.events)
        if delivery.finished and goes_well:
            self._dispatcher.finished(segment_id)
        self._count_missing(delivery)
        if self._at_work.get(share) != segment_id:
            return False
        if goes_well and not delivery.finished and not self._stopping:
            return True
        del self._at_work[share]
        self._dispatcher.requeue(segment_id)
        return False

    def features(self, process: str, done: int, total: int) -> None:
        """Notes how far the frozen features are that a worker computes."""
        self._features[process] = done, total

    def lost(self, share: str, reason: str = "killed, or out of memory?") -> str | None:
        """Notes that the worker of a share died: its segment goes back.

        Returns:
            That segment, None when it had none: it died before it took work.
        """
        segment_id = self._at_work.pop(share, None)
        if segment_id is None:
            return None
        _, state_id = self._dispatcher.next_unmeasured(segment_id)
        self._deaths[state_id] += 1
        if self._deaths[state_id] < MAX_DEATHS:
            self._dispatcher.requeue(segment_id)
        else:
            self._give_up(segment_id, f"the worker died {MAX_DEATHS} times in this epoch ({reason})")
        return segment_id

    def _count_missing(self, delivery: Delivery) -> None:
        if any(isinstance(event, ParentMissing) for event in delivery.events):
            self._missing[delivery.segment_id] += 1
            if self._missing[delivery.segment_id] >= MAX_MISSING:
                reason = f"the state before it was gone {MAX_MISSING} times (do all nodes see one and the same store?)"
                self._give_up(delivery.segment_id, reason)

    def _give_up(self, segment_id: str, reason: str) -> None:
        """Fails a segment for this run; nothing is written to the store, so the next run tries again."""
        epoch, state_id = self._dispatcher.next_unmeasured(segment_id)
        failure = Failure(state_id=state_id, epoch=epoch, place=f"epoch {epoch}", reason=reason, details="")
        self._dispatcher.failed(segment_id, failure)
        self._outbox.append(Delivery(segment_id=segment_id, events=(SegmentFailed(failure=failure),), finished=True))

    def fail(self, error: SweeperError) -> None:
        """Ends the run: data or weights cannot be had where workers are."""
        self._error = self._error or error

    # -- for the driver -------------------------------------------------------------------------------------------

    def collect(self) -> "Collected":
        """Returns what came in since the last call."""
        deliveries, self._outbox = self._outbox, []
        workers = (
            self._dispatcher.at_work(segment_id, self._processes[share], self._epochs.get(segment_id))
            for share, segment_id in self._at_work.items()
        )
        made, self._features = self._features, {}
        features = (sum(done for done, _ in made.values()), sum(total for _, total in made.values())) if made else None
        return Collected(deliveries=tuple(deliveries), error=self._error, workers=tuple(workers), features=features)

    def stop(self) -> None:
        """Asks all workers to end after the epoch in progress."""
        self._stopping = True


def all_epochs(events: tuple[Event, ...]) -> bool:
    """Tells whether nothing among some events ends a segment early."""
    return not any(isinstance(event, SegmentFailed | ParentMissing) for event in events)
