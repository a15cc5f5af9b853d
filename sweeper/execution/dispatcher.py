"""The dispatcher: which segment is trained next. Pure bookkeeping over a tree; it trains and reads nothing."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from sweeper.execution.frontier import Frontier
from sweeper.plan.stock import Known, StockTaker
from sweeper.plan.tree import Tree
from sweeper.plan.trials import Trial
from sweeper.records import Failure
from sweeper.spec.schema import Evaluation
from sweeper.store.pulse import AtWork
from sweeper.training.events import EpochDone, Event, SegmentFailed
from sweeper.training.order import Order

TrialStatus = Literal["open", "complete", "failed"]


class Dispatcher:
    """Hands out the segments of a sweep, each to one worker at a time."""

    def __init__(
        self,
        *,
        trials: Iterable[Trial],
        tree: Tree,
        evaluation: Evaluation,
        val_loss: Mapping[str, float],
        failures: Mapping[str, Failure],
        has_state: Callable[[str], bool],
        partly: Mapping[str, float] | None = None,
    ) -> None:
        """Takes stock of what exists.

        Args:
            trials: of the sweep, baselines included.
            tree: of these trials.
            evaluation: what is measured on each state.
            val_loss: validation loss by state, for every state whose records are complete.
            failures: by state, for every state that cannot be made.
            has_state: tells whether the store holds a state.
            partly: validation loss of states whose records lack something.
        """
        self.trials = {trial.trial_id: trial for trial in trials}
        self.tree = tree
        self._evaluation = evaluation
        self._val_loss, self._failures = dict(val_loss), dict(failures)
        self._has_state = has_state
        self._baselines = {trial.trial_id for trial in self.trials.values() if trial.role == "baseline"}
        known = Known(val_loss=self._val_loss, failed=self._failures.keys(), has_state=has_state, partly=partly or {})
        self._stock_taker = StockTaker(self.trials.values(), tree, known)
        self.stock = self._stock_taker.stock
        self._frontier = Frontier(tree, self._baselines, self.stock.pending)
        self._unmeasured = {state for segment_id in self.stock.pending for state in self._unmeasured_of(segment_id)}
        self._settled: dict[str, TrialStatus] = {}

    # -- asking ---------------------------------------------------------------------------------------------------

    def next_order(self, trial_id: str | None = None) -> Order | None:
        """Returns the order of the most urgent segment that can start; None when nothing can start now.

        Args:
            trial_id: the trial that the worker stands for.
        """
        chosen = self._frontier.take(trial_id)
        if chosen is None:
            return None
        segment = self.tree.segments[chosen]
        return Order.of(segment, self.trials, self._evaluation, self._stock_taker.curve_before(segment))

    @property
    def num_usable(self) -> int:
        """How many workers the tree can keep busy now."""
        return self._frontier.num_usable

    @property
    def is_done(self) -> bool:
        """Tells whether nothing is left to train."""
        return not self._frontier

    @property
    def pending_epochs(self) -> int:
        """Training epochs that have no records yet and may still be wanted."""
        return len(self._unmeasured)

    def at_work(self, segment_id: str, process: str, epoch: int | None) -> AtWork:
        """Returns what a worker does that is through with an epoch of a segment; None: with none yet."""
        segment = self.tree.segments[segment_id]
        return AtWork(
            process=process,
            segment_id=segment_id,
            epoch=epoch,
            first_epoch=min(segment.states),
            last_epoch=max(segment.states),
            trial_ids=segment.trials,
        )

    def next_unmeasured(self, segment_id: str) -> tuple[int, str]:
        """Returns epoch and state of the first epoch of a segment that has no records; the last, where all have."""
        states = self.tree.segments[segment_id].states
        missing = (epoch for epoch, state_id in states.items() if state_id not in self._val_loss)
        epoch = next(missing, max(states))
        return epoch, states[epoch]

    def trial_status(self, trial_id: str) -> TrialStatus:
        """Tells how a trial stands."""
        if trial_id not in self._settled:
            status = self._look_up_status(trial_id)
            if status == "open":
                return status
            self._settled[trial_id] = status
        return self._settled[trial_id]

    def curve(self, trial_id: str) -> dict[int, float]:
        """Returns the validation loss by epoch along a trial's lineage, as far as it is known without a gap."""
        curve: dict[int, float] = {}
        for epoch, state_id in enumerate(self.trials[trial_id].state_ids):
            if state_id not in self._val_loss:
                break
            curve[epoch] = self._val_loss[state_id]
        return curve

    # -- telling --------------------------------------------------------------------------------------------------

    def note(self, segment_id: str, event: Event) -> None:
        """Notes what a worker reports of a segment."""
        if isinstance(event, EpochDone):
            self.epoch_done(event.state_id, event.val_loss)
        elif isinstance(event, SegmentFailed):
            self.failed(segment_id, event.failure)
        else:
            self.parent_missing(segment_id)

    def epoch_done(self, state_id: str, val_loss: float) -> None:
        """Notes that a state has records."""
        self._val_loss[state_id] = val_loss
        self._unmeasured.discard(state_id)

    def finished(self, segment_id: str) -> None:
        """Notes that a worker is through with a segment: to its end, or as far as any trial wanted."""
        self._settle(segment_id)
        if segment_id not in self._val_loss:  # it ended early, so nothing behind it can start
            self._frontier.settle_below(segment_id, self._forget)

    def failed(self, segment_id: str, failure: Failure) -> None:
        """Notes that a segment cannot go on; nothing behind it will be trained."""
        self._failures[failure.state_id] = failure
        self._settle(segment_id)
        self._frontier.settle_below(segment_id, self._forget)

    def requeue(self, segment_id: str) -> None:
        """Notes that a worker died; what it wrote to the store is found there by the next one."""
        self._frontier.give_back(segment_id)

    def parent_missing(self, segment_id: str) -> None:
        """Notes that the state before a segment is gone: the segments that make it are trained again."""
        parent = self.tree.segments[segment_id].parent
        while parent is not None and parent not in self._frontier and not self._has_state(parent):
            self._frontier.want(parent)
            self._unmeasured.update(self._unmeasured_of(parent))
            parent = self.tree.segments[parent].parent
        self._frontier.give_back(segment_id)

    # -- keeping --------------------------------------------------------------------------------------------------

    def _unmeasured_of(self, segment_id: str) -> list[str]:
        """Returns the states of a segment that may be wanted and have no records."""
        segment = self.tree.segments[segment_id]
        last = self._stock_taker.last_wanted(segment)
        states = (segment.states[epoch] for epoch in segment.epochs if epoch <= last)
        return [state_id for state_id in states if state_id not in self._val_loss]

    def _settle(self, segment_id: str) -> None:
        self._frontier.settle(segment_id)
        self._frontier.give_back(segment_id)
        self._forget(segment_id)

    def _forget(self, segment_id: str) -> None:
        """Counts on nothing more of a segment."""
        self._unmeasured.difference_update(self.tree.segments[segment_id].states.values())

    def _look_up_status(self, trial_id: str) -> TrialStatus:
        if self.trials[trial_id].stop.ended_at(self.curve(trial_id)) is not None:
            return "complete"
        if any(segment_id in self._frontier for segment_id in self.tree.paths[trial_id]):
            return "open"
        return "failed"
