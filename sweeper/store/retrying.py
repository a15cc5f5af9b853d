"""Trying again: with pauses that grow and differ between processes, and with an end."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sweeper.notices import notice

Result = TypeVar("Result")

_chance = random.SystemRandom()  # of the machine: no generator that anybody could seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long to try.

    Attributes:
        total_s: no attempt begins later than this after the first.
        first_s: longest pause after the first attempt; it doubles from one attempt to the next.
        longest_s: longest pause at all.
        silent_s: after this the user is told.
    """

    total_s: float = 60.0
    first_s: float = 0.25
    longest_s: float = 10.0
    silent_s: float = 5.0

    def pause_s(self, attempt: int) -> float:
        """Returns the pause after an attempt, 0 for the first: a random part of the longest, so that crowds spread."""
        return _chance.uniform(0.1, 1.0) * min(self.first_s * 2.0 ** min(attempt, 30), self.longest_s)


class Outages:
    """Tells the user that somebody does not answer, once for all requests that meet the same outage.

    It is over when a request that was begun since then is answered. Who leaves does not wait for its end: in a hurry
    nothing is tried twice, and during an outage nothing at all.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._told_at: float | None = None
        self._lock = threading.Lock()
        self.is_hurried = False

    @property
    def is_given_up(self) -> bool:
        """Whether nobody is asked any more."""
        return self.is_hurried and self._told_at is not None

    def met(self, patience: Patience) -> None:
        """Tells it, unless it was told."""
        if self.noted():
            notice(f"{self._who} does not answer; it is asked again for up to {patience.total_s:g} s")

    def noted(self) -> bool:
        """Notes that there is one; returns whether it is new."""
        with self._lock:
            is_new, self._told_at = self._told_at is None, self._told_at or time.monotonic()
        return is_new

    def answered(self, began: float) -> None:
        """Notes that a request was answered that was begun at some moment of the monotonic clock."""
        with self._lock:
            if self._told_at is not None and began > self._told_at:
                self._told_at = None


def retried(
    call: Callable[[int], Result], is_passing: Callable[[Exception], bool], patience: Patience, outages: Outages
) -> Result:
    """Returns what a call returns, tried again while its errors are of the passing sort.

    Args:
        call: is given the number of the attempt, 0 for the first.
        is_passing: tells whether an error may be over at the next attempt.
        patience: how long to go on.
        outages: of whom the call asks.
    """
    began = time.monotonic()
    attempt = 0
    while True:
        if outages.is_given_up:
            raise ConnectionError("nothing was answered, and it is not asked again on the way out")
        try:
            result = call(attempt)
            outages.answered(began)
            return result
        except Exception as error:
            pause, waited = patience.pause_s(attempt), time.monotonic() - began
            if not is_passing(error):
                raise
            if waited + pause > patience.total_s or outages.is_hurried:
                outages.noted()
                raise
            if waited > patience.silent_s:
                outages.met(patience)
        time.sleep(pause)
        attempt += 1
