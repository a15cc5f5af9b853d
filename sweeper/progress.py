"""How a run shows its progress: a bar on a terminal, one line per change elsewhere, nothing when asked."""

import sys
import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from sweeper.training.events import EpochDone

LINE_EVERY_S: Final = 5.0


class QuietProgress:
    """Shows warnings only."""

    def start(self, *, epochs: int, trials: int) -> None:
        """Shows nothing."""

    def epoch(self, done: EpochDone, waiting: int) -> None:
        """Shows nothing."""

    def note(self, text: str) -> None:
        """Writes a line to standard error."""
        sys.stderr.write(f"{text}\n")

    def stop(self) -> None:
        """Shows nothing."""


class LineProgress(QuietProgress):
    """Writes a line every few seconds to standard error."""

    def __init__(self) -> None:
        self._done, self._last, self._began = 0, 0.0, 0.0

    def start(self, *, epochs: int, trials: int) -> None:
        """Says what is to be done."""
        self._began = self._last = time.monotonic()
        self.note(f"{trials} trials, at most {epochs} epochs to train; starting workers")

    def epoch(self, done: EpochDone, waiting: int) -> None:
        """Says how far the run is, every few seconds."""
        self._done += done.seconds is not None and done.epoch > 0
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S or waiting == 0:
            self._last = now
            rate = self._done / max(now - self._began, 1e-9)
            self.note(f"{self._done} epochs trained, at most {waiting} to go, {rate:.1f} per second")


class BarProgress(QuietProgress):
    """Draws a bar."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._done = 0

    def start(self, *, epochs: int, trials: int) -> None:
        """Draws an empty bar."""
        self._task = self._bar.add_task(f"{trials} trials: starting workers", total=epochs)
        self._bar.start()

    def epoch(self, done: EpochDone, waiting: int) -> None:
        """Moves the bar; early stopping shortens it."""
        self._done += done.seconds is not None and done.epoch > 0
        loss = f"epoch {done.epoch}, val_loss {done.val_loss:.2f}"
        self._bar.update(self._task, completed=self._done, total=self._done + waiting, description=loss)

    def note(self, text: str) -> None:
        """Writes a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Takes the bar away."""
        self._bar.stop()


def progress_for(*, quiet: bool) -> QuietProgress:
    """Returns the display that fits the terminal."""
    if quiet:
        return QuietProgress()
    return BarProgress() if sys.stderr.isatty() else LineProgress()
