"""A sweep as it goes on, shown again and again until it is done: `sweeper status --watch`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sweeper.reporting.look import Look
from sweeper.reporting.status import status_text
from sweeper.store.pulse import Pulse

EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Glance:
    """A sweep at one moment.

    Attributes:
        look: how it stands.
        pulse: of the run that trains it.
        is_driven: whether there is one, as far as can be known from here.
    """

    look: Look
    pulse: Pulse | None
    is_driven: bool


def watch(read: Callable[[], Glance], console: Console, every_s: float = EVERY_S) -> None:
    """Shows a sweep until nothing is open, or nobody trains it any more.

    Args:
        read: looks at the sweep.
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


def _texts(read: Callable[[], Glance], every_s: float) -> Iterator[str]:
    while True:
        glance = read()
        is_open = "open" in glance.look.standing.counts()
        text = status_text(glance.look.standing, glance.pulse, glance.look.asked)
        yield f"{text}\n{_end(glance) if is_open else 'done'}"
        if not (is_open and glance.is_driven):
            return
        time.sleep(every_s)


def _end(glance: Glance) -> str:
    if not glance.is_driven:
        return "nobody trains it now; `sweeper run` goes on with it"
    return "running" if glance.pulse is not None else "running; no worker has begun yet"
