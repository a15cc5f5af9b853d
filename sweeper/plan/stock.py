"""Taking stock: what of a tree is still to be trained, given what exists.

A segment is pending while epochs of it are missing that a trial may want, or while a pending child needs its
last state and the store does not hold it.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property

from sweeper.plan.stopping import is_wanted
from sweeper.plan.tree import Segment, Tree
from sweeper.plan.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Known:
    """What exists.

    Attributes:
        val_loss: validation loss by state, for every state whose records are complete.
        failed: states that cannot be made.
        has_state: tells whether the store holds a state.
        partly: validation loss by state, of states with records that lack something measured on outputs not kept.
    """

    val_loss: Mapping[str, float]
    failed: Set[str]
    has_state: Callable[[str], bool]
    partly: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stock:
    """What is left of a tree.

    Attributes:
        pending: ids of the segments to be trained, parents first.
        missing: training epochs without records in these segments; an upper bound where trials may end earlier.
        rebuilt: training epochs that have records and must be trained again, since their state was dropped, or since
            something is wanted of them that was not measured then (a new layer or image set).
        remeasured: of such epochs, those whose state is there: evaluated, not trained.
    """

    pending: tuple[str, ...]
    missing: int
    rebuilt: int
    remeasured: int = 0


class StockTaker:
    """Compares a tree with what exists."""

    def __init__(self, trials: Iterable[Trial], tree: Tree, known: Known) -> None:
        self._trials = {trial.trial_id: trial for trial in trials}
        self._tree, self._known = tree, known

    @cached_property
    def stock(self) -> Stock:
        """What is left."""
        incomplete, needed = self._incomplete(), set[str]()
        for segment_id in reversed(tuple(self._tree.segments)):
            child_needs = any(child in needed for child in self._tree.children.get(segment_id, ()))
            if segment_id in incomplete or (child_needs and not self._known.has_state(segment_id)):
                needed.add(segment_id)
        pending = tuple(segment_id for segment_id in self._tree.segments if segment_id in needed)
        segments = [self._tree.segments[segment_id] for segment_id in pending]
        wanted = [state for segment in segments for state in self._wanted(segment)]
        lacking = [state for state in wanted if state not in self._known.val_loss]
        partly = [state for state in lacking if state in self._known.partly]
        again = partly + [state for segment in segments for state in self._again(segment)]
        remeasured = sum(self._known.has_state(state) for state in again)
        return Stock(
            pending=pending,
            missing=len(lacking) - len(partly),
            rebuilt=len(again) - remeasured,
            remeasured=remeasured,
        )

    def _incomplete(self) -> set[str]:
        """Returns the segments with missing epochs that may be wanted, as far as they can be reached."""
        reachable: set[str] = set()
        incomplete: set[str] = set()
        for segment_id, segment in self._tree.segments.items():
            if segment.parent is not None and segment.parent not in reachable:
                continue
            missing = [epoch for epoch, state in segment.states.items() if state not in self._known.val_loss]
            if not self._is_open(segment, min(missing, default=segment.last_epoch)):
                continue
            reachable.add(segment_id)
            if missing:
                incomplete.add(segment_id)
        return incomplete

    def _is_open(self, segment: Segment, epoch: int) -> bool:
        """Tells whether an epoch of a segment can be made and is wanted by a trial.

        An epoch that exists although nobody here wants it (another sweep went on longer) leads nowhere: what a
        sweep trains does not depend on what else is in the store.
        """
        if segment.states[epoch] in self._known.failed and segment.states[epoch] not in self._known.val_loss:
            return False
        curve = self.curve_before(segment)
        curve |= {e: self._loss(state) for e, state in segment.states.items() if e < epoch}
        return is_wanted([self._trials[trial].stop for trial in segment.trials], epoch, curve)

    def last_wanted(self, segment: Segment) -> int:
        """Returns the last epoch of a segment that may be wanted: as far as losses are known, trials may have ended."""
        stops = [self._trials[trial].stop for trial in segment.trials]
        if self._known.partly.keys().isdisjoint(segment.states.values()) or not any(stop.is_open for stop in stops):
            return segment.last_epoch
        curve = self.curve_before(segment)
        for epoch, state in segment.states.items():
            if not is_wanted(stops, epoch, curve):
                return epoch - 1
            if not self._has_loss(state):
                break
            curve[epoch] = self._loss(state)
        return segment.last_epoch

    def _wanted(self, segment: Segment) -> list[str]:
        """Returns the states that training makes and that may be wanted."""
        last = self.last_wanted(segment)
        return [segment.states[epoch] for epoch in segment.epochs if epoch <= last]

    def curve_before(self, segment: Segment) -> dict[int, float]:
        """Returns the validation loss by epoch on the way to a segment."""
        if not self._known.val_loss and not self._known.partly:
            return {}
        way, parent = [], segment.parent
        while parent is not None:
            way.append(self._tree.segments[parent])
            parent = way[-1].parent
        states = (item for piece in reversed(way) for item in piece.states.items())
        return {epoch: self._loss(state) for epoch, state in states if self._has_loss(state)}

    def _has_loss(self, state: str) -> bool:
        return state in self._known.val_loss or state in self._known.partly

    def _loss(self, state: str) -> float:
        found = self._known.val_loss.get(state)
        return self._known.partly[state] if found is None else found

    def _again(self, segment: Segment) -> list[str]:
        """Returns the states after the newest usable one that have records: a worker passes over them again."""
        epochs = list(segment.epochs)
        resume = 0
        for index, epoch in enumerate(epochs):
            if segment.states[epoch] not in self._known.val_loss:
                break
            if self._known.has_state(segment.states[epoch]):
                resume = index + 1
        return [segment.states[epoch] for epoch in epochs[resume:] if segment.states[epoch] in self._known.val_loss]
