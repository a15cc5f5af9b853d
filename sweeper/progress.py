"""How a run shows its progress: a bar on a terminal, a line now and then elsewhere, nothing when asked.

Nobody waits in silence: on a terminal something turns from the first second on; elsewhere what takes long is named
after a second, and again every ten seconds.
"""

import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.status import Status

from sweeper.wording import counted

if TYPE_CHECKING:
    from sweeper.training.events import EpochDone

LINE_EVERY_S: Final = 5.0
FIRST_LINE_AFTER_S: Final = 1.0
SILENT_FOR_S: Final = 10.0


class QuietProgress:
    """Shows warnings only."""

    def phase(self, text: str) -> None:
        """Shows nothing."""

    def start(self, *, epochs: int, trials: int) -> None:
        """Shows nothing."""

    def epoch(self, done: "EpochDone", waiting: int) -> None:
        """Shows nothing."""

    def features(self, done: int, total: int) -> None:
        """Shows nothing."""

    def note(self, text: str) -> None:
        """Writes a line to standard error."""
        sys.stderr.write(f"{text}\n")

    def stop(self) -> None:
        """Shows nothing."""


class LineProgress(QuietProgress):
    """Writes a line now and then to standard error."""

    def __init__(self) -> None:
        self._done, self._began = 0, 0.0
        self._phase, self._phase_began, self._is_named = "", 0.0, False
        self._last = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clock: threading.Thread | None = None

    def phase(self, text: str) -> None:
        """Names what is done, if nothing was said for a second."""
        with self._lock:
            self._phase, self._phase_began, self._is_named = text, time.monotonic(), False
        if self._clock is None:
            self._ended.clear()
            self._clock = threading.Thread(target=self._tick, name="sweeper-progress", daemon=True)
            self._clock.start()

    def start(self, *, epochs: int, trials: int) -> None:
        """Says what is to be done."""
        self._done, self._began = 0, time.monotonic()
        self.note(f"{counted(trials, 'trial')}, at most {counted(epochs, 'epoch')} to train")

    def epoch(self, done: "EpochDone", waiting: int) -> None:
        """Says how far the run is, every few seconds."""
        self._done += done.seconds is not None and done.epoch > 0
        now = time.monotonic()
        with self._lock:
            self._phase = ""
            is_due = now - self._last >= LINE_EVERY_S or waiting == 0
        if is_due:
            rate = self._done / max(now - self._began, 1e-9)
            self.note(f"{counted(self._done, 'epoch')} trained, at most {waiting} to go, {rate:.1f} per second")

    def features(self, done: int, total: int) -> None:
        """Says how far they are, every few seconds; what takes less is not worth a line."""
        with self._lock:
            is_due = time.monotonic() - self._last >= LINE_EVERY_S
        if is_due:
            self.note(f"frozen features: {done:,} of {total:,} computed, once for all trials")

    def note(self, text: str) -> None:
        """Writes a line."""
        with self._lock:
            self._last = time.monotonic()
        super().note(text)

    def stop(self) -> None:
        """Says no more by itself."""
        self._ended.set()
        if self._clock is not None:
            self._clock.join()
            self._clock = None

    def _tick(self) -> None:
        while not self._ended.wait(FIRST_LINE_AFTER_S / 2):
            now = time.monotonic()
            with self._lock:
                text, seconds, is_named = self._phase, now - self._phase_began, self._is_named
                is_due = now - self._last >= (SILENT_FOR_S if is_named else FIRST_LINE_AFTER_S)
                self._is_named |= is_due
            if text and is_due:
                self.note(f"{text}: {seconds:.0f} s" if is_named else f"{text} ...")


class BarProgress(QuietProgress):
    """Draws what is done now, and a bar once epochs are counted."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._status: Status | None = None
        self._bar: Progress | None = None
        self._features: TaskID | None = None
        self._done = 0

    def phase(self, text: str) -> None:
        """Shows what is done now."""
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        elif self._status is not None:
            self._status.update(text)
        else:
            self._status = Status(text, console=self._console)
            self._status.start()

    def start(self, *, epochs: int, trials: int) -> None:
        """Draws an empty bar."""
        self.stop()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        ending = (TextColumn("{task.fields[unit]}"), TimeRemainingColumn())
        self._done = 0
        self._bar = Progress(*columns, *ending, console=self._console, transient=True)
        self._task = self._bar.add_task(f"{trials} trials", total=epochs, unit="epochs")
        self._bar.start()

    def epoch(self, done: "EpochDone", waiting: int) -> None:
        """Moves the bar; early stopping shortens it."""
        self._done += done.seconds is not None and done.epoch > 0
        loss = f"epoch {done.epoch}, val_loss {done.val_loss:.2f}"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, total=self._done + waiting, description=loss)

    def features(self, done: int, total: int) -> None:
        """Draws a bar of them, until all are there."""
        if self._bar is None:
            return
        if self._features is None:
            self._features = self._bar.add_task("frozen features", total=total, completed=done, unit="images")
        self._bar.update(self._features, completed=done, total=total)
        if done == total:
            self._bar.remove_task(self._features)
            self._features = None

    def note(self, text: str) -> None:
        """Writes a line above what is drawn."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Takes away what is drawn."""
        for drawn in (self._status, self._bar):
            if drawn is not None:
                drawn.stop()
        self._status = self._bar = self._features = None


def progress_for(*, quiet: bool) -> QuietProgress:
    """Returns the display that fits the terminal."""
    if quiet:
        return QuietProgress()
    return BarProgress() if sys.stderr.isatty() else LineProgress()
