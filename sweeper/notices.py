"""What is noticed far below and must reach the user: damage, above all.

Said through `logging`, so that whoever notices needs to know nobody. A run hears it and shows it, a worker hears it
and hands it in; elsewhere Python prints it to standard error.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOG = logging.getLogger("sweeper")


def notice(text: str) -> None:
    """Says something that the user must know, though the work goes on."""
    _LOG.warning(text)


@contextmanager
def heard_by(tell: Callable[[str], None]) -> Iterator[None]:
    """Passes on what is noticed in this process."""
    listener = _Listener(tell)
    _LOG.addHandler(listener)
    try:
        yield
    finally:
        _LOG.removeHandler(listener)


class _Listener(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())
