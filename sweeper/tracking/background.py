"""A tracker in a thread of its own: training never waits for a server, and never fails because of one."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from sweeper.errors import SweeperError
from sweeper.reporting.view import SweepView
from sweeper.tracking.base import Tracker

_INTERVAL_S = 1.0
_MAX_PAUSE_S = 60.0
_GRACE_S = 5.0


class BackgroundTracker:
    """Runs another tracker; every method returns at once, `finish` waits a limited time.

    What waits to be logged is a set of trials and the newest view, so nothing piles up however slow the
    server is. What fails is tried again, at growing intervals, and told of once.
    """

    def __init__(
        self,
        tracker: Tracker,
        on_warning: Callable[[str], None],
        *,
        catch_up: str = "sweeper sync",
        finish_timeout_s: float = 30.0,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        """Starts the thread.

        Args:
            tracker: what does the work.
            on_warning: is told once, from any thread, that the tracker is behind, and what to do.
            catch_up: the command that brings the tracker up to date later.
            finish_timeout_s: how long `finish` waits.
            interval_s: least time between the beginnings of two pushes.
        """
        self._tracker = tracker
        self._on_warning = on_warning
        self._catch_up = catch_up
        self._finish_timeout_s = finish_timeout_s
        self._interval_s = interval_s
        self._changed = threading.Condition()
        self._view: SweepView | None = None
        self._dirty: set[str] = set()
        self._finishing = self._closed = self._warned = False
        self._healthy = True
        self._ended = threading.Event()
        threading.Thread(target=self._work, name="sweeper-tracking", daemon=True).start()

    def start(self, view: SweepView) -> None:
        """See `Tracker.start`."""
        self._tell(view, ())

    def push(self, view: SweepView, trial_ids: Iterable[str]) -> None:
        """See `Tracker.push`."""
        self._tell(view, trial_ids)

    def finish(self, view: SweepView) -> None:
        """See `Tracker.finish`; gives up with a warning when the time is over, sooner when the server is known bad."""
        self._tell(view, (), finishing=True)
        timeout_s = self._finish_timeout_s if self._healthy else min(self._finish_timeout_s, _GRACE_S)
        if not self._ended.wait(timeout_s):
            self._warn(f"not everything was logged within {timeout_s:g} s. `{self._catch_up}` does the rest.")

    @property
    def is_behind(self) -> bool:
        """Whether something could not be logged; asked after `finish`."""
        return not (self._ended.is_set() and self._healthy)

    def close(self) -> None:
        """Lets the thread end after what it does now; does not wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _tell(self, view: SweepView, trial_ids: Iterable[str], *, finishing: bool = False) -> None:
        with self._changed:
            self._view = view
            self._dirty.update(trial_ids)
            self._finishing = self._finishing or finishing
            self._changed.notify()

    def _work(self) -> None:
        started, failures = False, 0
        while (task := self._next_task(started)) is not None:
            began = time.monotonic()
            try:
                if not started:
                    self._tracker.start(task.view)
                    started = True
                task.run(self._tracker)
                failures = 0
            except Exception as error:  # whatever a tracking server or its client does, training goes on
                failures += 1
                self._take_back(task, error)
            self._healthy = failures == 0
            if task.is_last:
                break
            self._pause(began + min(self._interval_s * 2**failures, _MAX_PAUSE_S))
        with suppress(Exception):
            self._tracker.close()
        self._ended.set()

    def _next_task(self, started: bool) -> "_Task | None":
        with self._changed:
            self._changed.wait_for(lambda: self._is_urgent() or (self._view and (self._dirty or not started)))
            if self._closed or self._view is None:
                return None
            task = _Task(view=self._view, trial_ids=frozenset(self._dirty), is_last=self._finishing)
            self._dirty.clear()
            return task

    def _take_back(self, task: "_Task", error: Exception) -> None:
        with self._changed:
            self._dirty |= task.trial_ids
        self._warn(str(error) if isinstance(error, SweeperError) else f"{type(error).__name__}: {error}")

    def _pause(self, until: float) -> None:
        with self._changed:
            self._changed.wait_for(self._is_urgent, timeout=until - time.monotonic())

    def _is_urgent(self) -> bool:
        return self._closed or self._finishing

    def _warn(self, what: str) -> None:
        with self._changed:
            if self._warned:
                return
            self._warned = True
        with suppress(Exception):  # the caller's business, but neither training nor this thread may end of it
            self._on_warning(f"MLflow is behind, training is not affected: {what}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    view: SweepView
    trial_ids: frozenset[str]
    is_last: bool

    def run(self, tracker: Tracker) -> None:
        if self.is_last:
            tracker.finish(self.view)
        elif self.trial_ids:
            tracker.push(self.view, self.trial_ids)
