"""A sweep as it goes on, shown again and again until it is done: `sweeper status --watch`."""

import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sweeper.reporting.status import status_text
from sweeper.reporting.view import SweepView

EVERY_S = 2.0
_MEMORY_S = 60.0  # over which the rate is taken


def watch(read: Callable[[], tuple[SweepView, bool]], console: Console, every_s: float = EVERY_S) -> None:
    """Shows a sweep until nothing is open, or nobody trains it any more.

    Args:
        read: returns the sweep as it stands, and whether a driver runs it.
        console: a terminal is drawn over; anything else gets a text per change.
        every_s: seconds between two looks.
    """
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for text in _texts(read, every_s):
                live.update(Text(text), refresh=True)
        return
    before = ""
    for text in _texts(read, every_s):
        if text != before:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        before = text


def _texts(read: Callable[[], tuple[SweepView, bool]], every_s: float) -> Iterator[str]:
    seen: list[tuple[float, int]] = []
    while True:
        view, is_driven = read()
        now, measured = time.monotonic(), len(view.records)
        seen = [(when, count) for when, count in seen if now - when <= _MEMORY_S] + [(now, measured)]
        is_open = any(view.status(trial_id) == "open" for trial_id in view.trials)
        yield f"{status_text(view)}\n{_pace(seen, is_driven=is_driven) if is_open else 'done'}"
        if not (is_open and is_driven):
            return
        time.sleep(every_s)


def _pace(seen: list[tuple[float, int]], *, is_driven: bool) -> str:
    """Says how fast epochs come in."""
    if not is_driven:
        return f"{seen[-1][1]} epochs measured; nobody trains it now"
    seconds, epochs = seen[-1][0] - seen[0][0], seen[-1][1] - seen[0][1]
    return f"{seen[-1][1]} epochs measured" + (f", {epochs / seconds:.1f} per second" if seconds > 0 else "")
