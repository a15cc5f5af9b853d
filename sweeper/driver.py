"""The driver: runs a sweep from plan to report. The only writer of the ledger, the only one who tracks."""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from sweeper.errors import Problem, StoreError, SweeperError
from sweeper.execution.base import Backend, Job
from sweeper.execution.dispatcher import Dispatcher
from sweeper.execution.prepare import ResolvedSweep
from sweeper.execution.reuse import changed_since, measured_records, read_failures
from sweeper.execution.worker_log import setting
from sweeper.notices import heard_by, notice
from sweeper.records import Failure, GpuMemory, Record, val_loss_of
from sweeper.reporting.soundness import kept_states, to_make_again
from sweeper.reporting.view import SweepView
from sweeper.store.chain import Holder
from sweeper.store.given import require_given
from sweeper.store.lease import Wish, held
from sweeper.store.ledger import DamagedLedger, Ledger, ledger_path, open_ledger
from sweeper.store.logs import DRIVER, Level, LogWriter, run_name
from sweeper.store.lost import lost_states, made_again, mark_lost, moved_aside
from sweeper.store.objects import ObjectStore
from sweeper.store.points import Point
from sweeper.store.pulse import PulseWriter
from sweeper.store.sweeps import latest_revision, save_revision
from sweeper.tracking.base import Tracker
from sweeper.training.events import EpochDone, Event, ParentMissing, SegmentFailed

Status = Literal["done", "failed", "gave up", "interrupted"]
_MOST_NAMED = 5


class Searcher(Protocol):
    """Says what is trained next, given what came of the last points; see `sweeper/search/searcher.py`."""

    @property
    def study_id(self) -> str:
        """What the points are kept under."""

    @property
    def items(self) -> list[dict[str, str]]:
        """What is measured on every trial, as revisions keep it."""

    @property
    def points(self) -> tuple[Point, ...]:
        """What was asked so far, as it stands."""

    def next_sweep(self, view: SweepView, gpu: float) -> ResolvedSweep | None:
        """Tells what came of the last epochs and returns what is trained next; None when the search is over."""


class Progress(Protocol):
    """Shows how a run goes on."""

    def phase(self, text: str) -> None:
        """Shows what is done now, as long as no epoch comes in."""

    def start(self, *, epochs: int, trials: int) -> None:
        """Shows what is to be done."""

    def epoch(self, done: EpochDone, waiting: int) -> None:
        """Shows an epoch; `waiting` are the epochs that may still come."""

    def note(self, text: str) -> None:
        """Shows a line."""

    def stop(self) -> None:
        """Ends the display."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a run.

    Attributes:
        view: the sweep as it stands.
        status: `done`, `failed` (some trial did), `gave up` (more than `Run.max_failed` did), or `interrupted`.
        epochs_trained: epochs that this run trained.
    """

    view: SweepView
    status: Status
    epochs_trained: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Everything that one run is given.

    Attributes:
        sweep: what to run.
        source: the spec file as written.
        store: where results go.
        cache: folder of the frozen features, None for the default of each node.
        backend: makes the backend, when there is anything to train.
        gpu: GPUs per trial, given what workers have needed; None: one must be measured first.
        tracker: the MLflow view, or none.
        progress: the display.
        stop: set when the user wants to stop.
        wait: for another driver of the store, instead of giving up.
        max_failed: trials that may fail in this run before it drains; None: any number.
        searcher: of a search, asks for the trials; `sweep` has those that it asked for before.
    """

    sweep: ResolvedSweep
    source: str
    store: ObjectStore
    cache: Path | None
    backend: Callable[[], Backend]
    gpu: Callable[[Iterable[GpuMemory]], float | None]
    tracker: Tracker
    progress: Progress
    stop: threading.Event
    wait: bool = False
    max_failed: int | None = None
    searcher: Searcher | None = None


def run_sweep(run: Run) -> Outcome:
    """Runs what the store does not hold yet, and returns the sweep as it then stands.

    Raises:
        StoreError: another driver uses the store, or it cannot be written.
        SweeperError: nothing can be trained here.
    """
    taken_by: list[Holder | None] = []

    def lost(holder: Holder | None) -> None:
        taken_by.append(holder)
        run.stop.set()

    def asked(wish: Wish) -> None:
        run.stop.set()
        if wish == "cancel":
            os.kill(os.getpid(), signal.SIGINT)  # the second request to stop ends at once

    def waits(holder: Holder) -> None:
        run.progress.note(f"waiting for {holder}")
        run.progress.phase("waiting for the store")

    with (
        heard_by(run.progress.note),
        held(
            run.store,
            run.sweep.spec.name,
            wait=run.wait,
            on_wait=waits,
            on_lost=lost,
            on_asked=asked,
            gives_up=run.stop.is_set,
        ) as lease,
        _log_of(run, lease.run_id) as log,
        heard_by(partial(log.say, level="warning")),
        closing(PulseWriter(run.store, lease.run_id)) as pulse,
        closing(open_ledger(ledger_path(run.store), run.store)) as ledger,
    ):
        outcome = _Driver(run, ledger, log, pulse).drive()
        log.say(f"the run ends: {outcome.status}, {outcome.epochs_trained} epochs trained")
    if taken_by:
        rule, got = "a driver keeps its store to the end", f"it was taken over by {taken_by[0]}"
        remedy = "Run the same command again when that one is done: finished epochs are kept"
        if taken_by[0] is None:
            got, remedy = "it could not be reached", "Run the same command again: finished epochs are kept"
        raise StoreError(Problem(where=run.store.address, rule=rule, got=got, remedy=remedy))
    return outcome


@contextmanager
def _log_of(run: Run, run_id: str) -> Iterator[LogWriter]:
    """Opens the log of a run, and says in it what ends the run early."""
    with closing(LogWriter(run.store, run_name(run.sweep.spec.name, time.time(), run_id), DRIVER)) as log:
        log.say(f"the run begins: {setting()}")
        try:
            yield log
        except SweeperError as error:
            log.say(f"the run ends: {error}", level="error")
            raise
        except BaseException as error:
            how = "at once, as asked" if isinstance(error, KeyboardInterrupt) else traceback.format_exc().rstrip()
            log.say(f"the run ends: {how}", level="error")
            raise


class _Driver:
    """One run in progress."""

    def __init__(self, run: Run, ledger: Ledger, log: LogWriter, pulse: PulseWriter) -> None:
        self._run, self._ledger, self._log, self._pulse = run, ledger, log, pulse
        self._records: dict[str, tuple[Record, ...]] = {}
        self._failures: dict[str, Failure] = {}
        self._trials_of_state: dict[str, dict[str, None]] = {}
        self._trained = 0
        self._is_short_of_memory = False  # under the share of a GPU that trials have now
        self._raised_gpu = 0.0  # the share that turned out to be needed
        self._failed_now: set[str] = set()  # trials through a state that could not be made in this run
        self._lost: set[str] = set()  # recorded epochs that are to be made again
        self._is_indexing = True
        self._gpu_memory: set[GpuMemory] = set()
        self._statuses: dict[str, str] = {}  # of the trials whose turn it was
        run.progress.phase("looking at what the store holds")
        self._recorded = ledger.val_losses()
        self._enter(run.sweep)
        if run.searcher is None:
            if changed := changed_since(run.store, run.sweep, self._recorded):
                self._tell(changed)
            items = [item.describe() for item in run.sweep.all_items()]
            self._revision = save_revision(run.store, run.sweep.spec, run.source, run.sweep.trials, items)
        else:
            searcher = run.searcher
            before = latest_revision(run.store, run.sweep.spec.name)
            if before is not None and before.study != searcher.study_id:
                self._tell(f"another search than in revision {before.number}: it begins anew, equal trials are reused")
            self._revision = save_revision(run.store, run.sweep.spec, run.source, (), searcher.items, searcher.study_id)

    def _enter(self, sweep: ResolvedSweep) -> None:
        """Takes stock of what is trained now: the whole sweep, or a batch of points."""
        run = self._run
        require_given(run.store, sweep.trials, sweep.sources)
        records = measured_records(sweep, self._ledger, run.store, self._tell)
        for state in self._find_lost(sweep, records):
            del records[state]
        self._records |= records
        self._failures |= read_failures(run.store, sweep.items_by_state)
        self._dispatcher = Dispatcher(
            trials=sweep.trials,
            tree=sweep.tree,
            evaluation=sweep.spec.evaluation,
            val_loss={state: val_loss_of(found) for state, found in records.items()},
            failures=self._failures,
            has_state=partial(run.store.has, "states"),
            partly={state: loss for state, loss in self._recorded.items() if state not in self._records},
        )
        for trial in sweep.trials:
            for state in trial.lineage.state_ids:
                self._trials_of_state.setdefault(state, {})[trial.trial_id] = None
        self._gpu_memory.update(memory for found in records.values() for memory in _gpu_memory_of(found))

    def _find_lost(self, sweep: ResolvedSweep, records: Mapping[str, Iterable[Record]]) -> set[str]:
        """Returns the recorded epochs that are to be made again, since something of them was found damaged."""
        if damaged := set(moved_aside(self._run.store)):
            kept = kept_states(
                sweep.trials, sweep.tree, {state: val_loss_of(found) for state, found in records.items()}
            )
            for state in to_make_again(damaged, kept, records):
                mark_lost(self._run.store, state)
        marked = lost_states(self._run.store) & sweep.items_by_state.keys()
        self._lost |= marked
        lost = marked & records.keys()
        if lost:
            names = ", ".join(sorted(state[:12] for state in lost)[:_MOST_NAMED])
            more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
            self._tell(f"made again, since something of it was damaged or missing: state {names}{more}")
        return lost

    def drive(self) -> Outcome:
        """Runs the backend until nothing is left; tracks what happens on the way.

        Without anything to train the tracker is told, too: the sweep may be new to the server, or measured anew.
        """
        self._run.tracker.start(self.view())
        try:
            if self._run.searcher is None:
                self._train_what_is_open()
            else:
                self._search(self._run.searcher)
        finally:
            self._run.progress.phase("logging what is left to be tracked")
            self._run.tracker.finish(self.view())
            self._run.progress.stop()
        return Outcome(view=self.view(), status=self._status(), epochs_trained=self._trained)

    def _search(self, searcher: Searcher) -> None:
        """Trains what is asked for, sweep after sweep; one whose trials the store holds costs a look."""
        gpu = 0.0
        while (sweep := searcher.next_sweep(self.view(), gpu)) is not None:
            self._revision = self._revision.with_points(searcher.points)
            self._enter(sweep)
            self._train_what_is_open()
            if self._is_over() or not self._dispatcher.is_done:
                return
            gpu = self._run.gpu(self._gpu_memory) or 0.0
        self._revision = self._revision.with_points(searcher.points)

    def _train_what_is_open(self) -> None:
        run, dispatcher = self._run, self._dispatcher
        try:
            if not dispatcher.is_done:
                epochs, trials = dispatcher.pending_epochs, len(dispatcher.trials)
                self._log.say(f"revision {self._revision.number}: {trials} trials, at most {epochs} epochs to train")
                run.progress.start(epochs=epochs, trials=trials)
                self._pulse.beat(0, epochs, ())
                try:
                    self._train()
                finally:
                    run.progress.stop()
        finally:
            self._statuses |= {trial_id: dispatcher.trial_status(trial_id) for trial_id in dispatcher.trials}

    def view(self) -> SweepView:
        """Returns the sweep as it stands."""
        return SweepView(revision=self._revision, records=self._records, failures=self._failures)

    def _train(self) -> None:
        """Runs the backend; where nobody knows what a trial needs of a GPU, first until one epoch has been measured.

        Under `auto` the share is doubled, up to a whole GPU, when it turns out too small.
        """
        run = self._run
        gpu = run.gpu(self._gpu_memory)
        if gpu is None:
            self._tell("resources.gpu is auto: one epoch is measured on a whole GPU first")
            run.backend().run(self._job(1.0, lambda: bool(self._gpu_memory) or self._is_over()))
            gpu = run.gpu(self._gpu_memory) or 1.0
        gpu = max(gpu, self._raised_gpu)
        while not self._dispatcher.is_done and not self._is_over():
            self._is_short_of_memory = False
            may_raise = run.sweep.spec.resources.gpu == "auto" and 0 < gpu < 1
            ends = self._is_over if not may_raise else lambda: self._is_over() or self._is_short_of_memory
            run.backend().run(self._job(gpu, ends))
            if not (may_raise and self._is_short_of_memory):
                return
            gpu = self._raised_gpu = min(2 * gpu, 1.0)
            self._tell(f"a trial ran out of GPU memory: from here on each gets {gpu:g} GPU", level="warning")

    def _is_over(self) -> bool:
        """Tells whether to drain: the user wants it, or too many trials failed."""
        return self._run.stop.is_set() or self._gives_up()

    def _gives_up(self) -> bool:
        return self._run.max_failed is not None and len(self._failed_now) > self._run.max_failed

    def _note_short_of_memory(self) -> None:
        self._is_short_of_memory = True

    def _job(self, gpu: float, stop: Callable[[], bool]) -> Job:
        run = self._run
        resources = run.sweep.spec.resources
        return Job(
            name=run.sweep.spec.name,
            store=run.store.address,
            cache=run.cache,
            dispatcher=self._dispatcher,
            gpu=gpu,
            cpu=resources.cpu,
            address=resources.address,
            on_events=self._note,
            on_phase=run.progress.phase,
            on_workers=lambda workers: self._pulse.beat(self._trained, self._dispatcher.pending_epochs, workers),
            on_short_of_memory=self._note_short_of_memory,
            on_warning=partial(self._tell, level="warning"),
            log=self._log,
            stop=stop,
        )

    def _note(self, events: list[Event]) -> None:
        """Indexes what workers report, and passes it on to display and tracking."""
        done = [event for event in events if isinstance(event, EpochDone)]
        self._index(done)
        touched: dict[str, None] = {}
        for event in done:
            self._records[event.state_id] = event.records
            if event.state_id in self._lost:
                made_again(self._run.store, event.state_id)
                self._lost.discard(event.state_id)
            touched |= self._trials_of_state.get(event.state_id, {})
            self._trained += event.seconds is not None and event.epoch > 0
            self._gpu_memory.update(_gpu_memory_of(event.records))
            self._run.progress.epoch(event, self._dispatcher.pending_epochs)
            for warning in event.warnings:
                self._tell(f"warning: {warning}", level="warning", state_id=event.state_id)
        for failed in (event for event in events if isinstance(event, SegmentFailed)):
            failure = failed.failure
            self._failures[failure.state_id] = failure
            self._failed_now.update(self._trials_of_state.get(failure.state_id, ()))
            self._tell(f"failed: {failure.place}: {failure.reason}", level="error", state_id=failure.state_id)
        for gone in (event for event in events if isinstance(event, ParentMissing)):
            self._tell(f"state {gone.state_id[:12]} is gone or damaged; it is trained again", level="warning")
        if touched:
            self._run.tracker.push(self.view(), touched)

    def _tell(self, text: str, *, level: Level = "info", state_id: str | None = None) -> None:
        """Tells the user, and the log."""
        self._run.progress.note(text)
        self._log.say(text, level=level, state_id=state_id)

    def _index(self, done: list[EpochDone]) -> None:
        """Adds to the ledger, unless it was damaged meanwhile: the next run builds it again, readers ask the store."""
        if self._is_indexing:
            try:
                self._ledger.add((event.state_id, event.records) for event in done)
            except DamagedLedger as damage:
                self._is_indexing = False
                notice(f"damaged: the ledger ({damage}); nothing is lost, the next run builds it again")

    def _status(self) -> Status:
        statuses = set(self._statuses.values())
        if "open" in statuses or (self._run.searcher is not None and self._is_over()):
            return "gave up" if self._gives_up() and not self._run.stop.is_set() else "interrupted"
        return "failed" if "failed" in statuses else "done"


def _gpu_memory_of(records: Iterable[Record]) -> Iterator[GpuMemory]:
    """Yields what training needed; the untrained model is only looked at."""
    return (record.gpu for record in records if record.gpu is not None and record.epoch > 0)
