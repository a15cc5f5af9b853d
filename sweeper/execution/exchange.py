"""The exchange: where workers take segments and hand in epochs, and the driver collects them. Free of Ray."""

from dataclasses import dataclass

from sweeper.errors import SweeperError
from sweeper.execution.dispatcher import Dispatcher
from sweeper.records import Failure
from sweeper.training.events import Event, ParentMissing, SegmentFailed
from sweeper.training.order import Order

MAX_DEATHS = 3  # of workers in one segment, before it counts as failed for this run


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What a worker does next: train `order`; wait, when it is None; end, when `done`."""

    order: Order | None = None
    done: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What a worker hands in: events of a segment, and whether it is through with it."""

    segment_id: str
    events: tuple[Event, ...]
    finished: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What the driver fetches.

    Attributes:
        deliveries: what workers handed in.
        error: what ends the run, if anything.
        idle: nobody is at work.
    """

    deliveries: tuple[Delivery, ...]
    error: SweeperError | None
    idle: bool


class Exchange:
    """One dispatcher, many workers. A worker is named by the trial that it currently stands for."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._at_work: dict[str, str] = {}  # segment by trial
        self._deaths: dict[str, int] = {}
        self._outbox: list[Delivery] = []
        self._error: SweeperError | None = None
        self._stopping = False

    # -- for workers ----------------------------------------------------------------------------------------------

    def turn(self, trial_id: str) -> Turn:
        """Returns what the worker of a trial does next: its own path first, any ready segment rather than wait."""
        if self._stopping or self._error or self._dispatcher.trial_status(trial_id) != "open":
            return Turn(done=True)
        order = self._dispatcher.next_order(trial_id)
        if order is not None:
            self._at_work[trial_id] = order.segment_id
        return Turn(order=order)

    def deliver(self, trial_id: str, delivery: Delivery) -> bool:
        """Takes epochs in; returns whether the worker goes on with its segment."""
        for event in delivery.events:
            self._dispatcher.note(delivery.segment_id, event)
        self._outbox.append(delivery)
        ended = delivery.finished or not all_epochs(delivery.events)
        if delivery.finished and all_epochs(delivery.events):
            self._dispatcher.finished(delivery.segment_id)
        if ended or self._stopping:
            self._at_work.pop(trial_id, None)
        if self._stopping and not ended:
            self._dispatcher.requeue(delivery.segment_id)
        return not (ended or self._stopping)

    def lost(self, trial_id: str) -> None:
        """Notes that the worker of a trial died or starts anew: its segment goes back."""
        segment_id = self._at_work.pop(trial_id, None)
        if segment_id is None:
            return
        self._deaths[segment_id] = self._deaths.get(segment_id, 0) + 1
        if self._deaths[segment_id] < MAX_DEATHS:
            self._dispatcher.requeue(segment_id)
            return
        reason = f"the worker died {MAX_DEATHS} times in this segment (killed, or out of memory?)"
        failure = Failure(state_id=segment_id, epoch=0, place="worker", reason=reason, details="")
        self._dispatcher.failed(segment_id, failure)
        self._outbox.append(Delivery(segment_id=segment_id, events=(SegmentFailed(failure=failure),), finished=True))

    def fail(self, error: SweeperError) -> None:
        """Ends the run: data or weights cannot be had where workers are."""
        self._error = self._error or error

    # -- for the driver -------------------------------------------------------------------------------------------

    def collect(self) -> "Collected":
        """Returns what came in since the last call."""
        deliveries, self._outbox = self._outbox, []
        return Collected(deliveries=tuple(deliveries), error=self._error, idle=not self._at_work)

    def stop(self) -> None:
        """Asks all workers to end after the epoch in progress."""
        self._stopping = True


def all_epochs(events: tuple[Event, ...]) -> bool:
    """Tells whether nothing among some events ends a segment early."""
    return not any(isinstance(event, SegmentFailed | ParentMissing) for event in events)
