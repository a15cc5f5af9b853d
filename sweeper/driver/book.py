"""The book of a run: what is known of each state, from the store at first, then from what workers report."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from sweeper.driver.recorded import Recorded
from sweeper.execution.dispatcher import Dispatcher
from sweeper.execution.prepare import ResolvedSweep
from sweeper.execution.reuse import measured_records, read_failures
from sweeper.notices import notice
from sweeper.records import Failure, GpuMemory, Record, val_loss_of
from sweeper.reporting.soundness import kept_states, to_make_again
from sweeper.reporting.view import SweepView
from sweeper.store.given import require_given
from sweeper.store.ledger import DamagedLedger, Ledger
from sweeper.store.lost import lost_states, made_again, mark_lost, moved_aside
from sweeper.store.objects import ObjectStore
from sweeper.store.sweeps import Revision
from sweeper.training.events import EpochDone

_MOST_NAMED = 5


class Book:
    """Records and failures by state; the ledger is written along.

    Attributes:
        recorded: validation loss of every state that had records in the store when the run began.
        gpu_memory: what workers have needed of a GPU.
    """

    def __init__(self, store: ObjectStore, ledger: Ledger, tell: Callable[[str], None]) -> None:
        """Reads what the ledger holds; `tell` tells the user."""
        self._store, self._ledger, self._tell = store, ledger, tell
        self._records = Recorded(store)
        self._failures: dict[str, Failure] = {}
        self._trials_of_state: dict[str, dict[str, None]] = {}
        self._lost: set[str] = set()  # recorded epochs that are to be made again
        self._is_indexing = True
        self.recorded = ledger.val_losses()
        self.gpu_memory: set[GpuMemory] = set()

    def close(self) -> None:
        """Ends reading; what is asked later is read anew."""
        self._records.close()

    def enter(self, sweep: ResolvedSweep) -> Dispatcher:
        """Takes stock of what is trained now, the whole sweep or a batch of points, and returns who hands it out.

        Raises:
            StoreError: a state that a trial starts from is not there.
        """
        require_given(self._store, sweep.trials, sweep.sources)
        losses: dict[str, float] = {}
        for state, records in measured_records(sweep, self._ledger, self._store, self._tell):
            losses[state] = val_loss_of(records)
            self.gpu_memory.update(_gpu_memory_of(records))
        for state in self._find_lost(sweep, losses):
            del losses[state]
        self._records.losses.update(losses)
        self._failures |= read_failures(self._store, sweep.items_by_state)
        for trial in sweep.trials:
            for state in trial.state_ids:
                self._trials_of_state.setdefault(state, {})[trial.trial_id] = None
        return Dispatcher(
            trials=sweep.trials,
            tree=sweep.tree,
            evaluation=sweep.spec.evaluation,
            val_loss=losses,
            failures=self._failures,
            has_state=partial(self._store.has, "states"),
            partly={state: loss for state, loss in self.recorded.items() if state not in self._records},
        )

    def add(self, done: Iterable[EpochDone]) -> None:
        """Notes epochs. A ledger that was damaged meanwhile is left: the next run builds it, readers ask the store."""
        done = list(done)
        if self._is_indexing:
            try:
                self._ledger.add((event.state_id, event.records) for event in done)
            except DamagedLedger as damage:
                self._is_indexing = False
                notice(f"damaged: the ledger ({damage}); nothing is lost, the next run builds it again")
        for event in done:
            self._records.losses[event.state_id] = event.val_loss
            if event.state_id in self._lost:
                made_again(self._store, event.state_id)
                self._lost.discard(event.state_id)
            self.gpu_memory.update(_gpu_memory_of(event.records))

    def add_failure(self, failure: Failure) -> None:
        """Notes a failure."""
        self._failures[failure.state_id] = failure

    def trials_through(self, state_id: str) -> Iterable[str]:
        """Returns the ids of the trials that pass through a state."""
        return self._trials_of_state.get(state_id, {})

    def view(self, revision: Revision) -> SweepView:
        """Returns a sweep as it stands."""
        return SweepView(revision=revision, losses=self._records.losses, records=self._records, failures=self._failures)

    def _find_lost(self, sweep: ResolvedSweep, losses: Mapping[str, float]) -> set[str]:
        """Returns the recorded epochs that are to be made again, since something of them was found damaged."""
        if damaged := set(moved_aside(self._store)):
            kept = kept_states(sweep.trials, sweep.tree, losses)
            for state in to_make_again(damaged, kept, losses):
                mark_lost(self._store, state)
        marked = lost_states(self._store) & sweep.items_by_state.keys()
        self._lost |= marked
        lost = marked & losses.keys()
        if lost:
            names = ", ".join(sorted(state[:12] for state in lost)[:_MOST_NAMED])
            more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
            self._tell(f"made again, since something of it was damaged or missing: state {names}{more}")
        return lost


def _gpu_memory_of(records: Iterable[Record]) -> Iterator[GpuMemory]:
    """Yields what training needed; the untrained model is only looked at."""
    return (record.gpu for record in records if record.gpu is not None and record.epoch > 0)
