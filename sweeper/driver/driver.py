"""Drives the training of a sweep: what is open is trained, what is reported is kept, tracked and shown."""

from collections.abc import Callable
from functools import partial

from sweeper.driver.book import Book
from sweeper.driver.run import Outcome, Run, Searcher, Status
from sweeper.execution.base import Job
from sweeper.execution.reuse import changed_since
from sweeper.reporting.view import SweepView
from sweeper.store.ledger import Ledger
from sweeper.store.logs import Level, LogWriter
from sweeper.store.pulse import PulseWriter
from sweeper.store.sweeps import latest_revision, save_revision
from sweeper.training.events import EpochDone, Event, ParentMissing, SegmentFailed


class Driver:
    """One run in progress."""

    def __init__(self, run: Run, ledger: Ledger, log: LogWriter, pulse: PulseWriter) -> None:
        self._run, self._log, self._pulse = run, log, pulse
        self._trained = 0
        self._is_short_of_memory = False  # under the share of a GPU that trials have now
        self._raised_gpu = 0.0  # the share that turned out to be needed
        self._failed_now: set[str] = set()  # trials through a state that could not be made in this run
        self._statuses: dict[str, str] = {}  # of the trials whose turn it was
        run.progress.phase("looking at what the store holds")
        self._book = Book(run.store, ledger, self._tell)
        self._dispatcher = self._book.enter(run.sweep)
        if run.searcher is None:
            if changed := changed_since(run.store, run.sweep, self._book.recorded):
                self._tell(changed)
            items = [item.describe() for item in run.sweep.all_items()]
            self._revision = save_revision(run.store, run.sweep.spec, run.source, run.sweep.trials, items)
        else:
            searcher = run.searcher
            before = latest_revision(run.store, run.sweep.spec.name)
            if before is not None and before.study != searcher.study_id:
                self._tell(f"another search than in revision {before.number}: it begins anew, equal trials are reused")
            self._revision = save_revision(run.store, run.sweep.spec, run.source, (), searcher.items, searcher.study_id)

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
        except BaseException:
            self._run.store.hurry()  # what is still written says how it ended, and is not worth a wait
            raise
        finally:
            self._run.progress.phase("logging what is left to be tracked")
            self._run.tracker.finish(self.view())
            self._run.progress.stop()
            self._book.close()
        return Outcome(view=self.view(), status=self._status(), epochs_trained=self._trained)

    def _search(self, searcher: Searcher) -> None:
        """Trains what is asked for, sweep after sweep; one whose trials the store holds costs a look."""
        gpu = 0.0
        while (sweep := searcher.next_sweep(self.view(), gpu)) is not None:
            self._revision = self._revision.with_points(searcher.points)
            self._dispatcher = self._book.enter(sweep)
            self._train_what_is_open()
            if self._is_over() or not self._dispatcher.is_done:
                return
            gpu = self._run.gpu(self._book.gpu_memory) or 0.0
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
        return self._book.view(self._revision)

    def _train(self) -> None:
        """Runs the backend; where nobody knows what a trial needs of a GPU, first until one epoch has been measured.

        Under `auto` the share is doubled, up to a whole GPU, when it turns out too small.
        """
        run = self._run
        gpu = run.gpu(self._book.gpu_memory)
        if gpu is None:
            self._tell("resources.gpu is auto: one epoch is measured on a whole GPU first")
            run.backend().run(self._job(1.0, lambda: bool(self._book.gpu_memory) or self._is_over()))
            gpu = run.gpu(self._book.gpu_memory) or 1.0
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
            cache_gb=resources.cache_gb,
            dispatcher=self._dispatcher,
            gpu=gpu,
            cpu=resources.cpu,
            address=resources.address,
            on_events=self._note,
            on_phase=run.progress.phase,
            on_features=run.progress.features,
            on_workers=lambda workers: self._pulse.beat(self._trained, self._dispatcher.pending_epochs, workers),
            on_short_of_memory=self._note_short_of_memory,
            on_warning=partial(self._tell, level="warning"),
            log=self._log,
            stop=stop,
        )

    def _note(self, events: list[Event]) -> None:
        """Indexes what workers report, and passes it on to display and tracking."""
        done = [event for event in events if isinstance(event, EpochDone)]
        self._book.add(done)
        touched: dict[str, None] = {}
        for event in done:
            touched |= dict.fromkeys(self._book.trials_through(event.state_id))
            self._trained += event.seconds is not None and event.epoch > 0
            self._run.progress.epoch(event, self._dispatcher.pending_epochs)
            for warning in event.warnings:
                self._tell(f"warning: {warning}", level="warning", state_id=event.state_id)
        for failed in (event for event in events if isinstance(event, SegmentFailed)):
            failure = failed.failure
            self._book.add_failure(failure)
            self._failed_now.update(self._book.trials_through(failure.state_id))
            self._tell(f"failed: {failure.place}: {failure.reason}", level="error", state_id=failure.state_id)
        for gone in (event for event in events if isinstance(event, ParentMissing)):
            self._tell(f"state {gone.state_id[:12]} is gone or damaged; it is trained again", level="warning")
        if touched:
            self._run.tracker.push(self.view(), touched)

    def _tell(self, text: str, *, level: Level = "info", state_id: str | None = None) -> None:
        """Tells the user, and the log."""
        self._run.progress.note(text)
        self._log.say(text, level=level, state_id=state_id)

    def _status(self) -> Status:
        statuses = set(self._statuses.values())
        if "open" in statuses or (self._run.searcher is not None and self._is_over()):
            return "gave up" if self._gives_up() and not self._run.stop.is_set() else "interrupted"
        return "failed" if "failed" in statuses else "done"
