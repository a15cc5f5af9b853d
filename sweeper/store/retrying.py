"""Trying again: with pauses that grow and differ between processes, and with an end."""

import random
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
        silent_s: after this the user is told, once.
    """

    total_s: float = 60.0
    first_s: float = 0.25
    longest_s: float = 10.0
    silent_s: float = 5.0

    def pause_s(self, attempt: int) -> float:
        """Returns the pause after an attempt, 0 for the first: a random part of the longest, so that crowds spread."""
        return _chance.uniform(0.1, 1.0) * min(self.first_s * 2.0 ** min(attempt, 30), self.longest_s)


def retried(
    call: Callable[[int], Result], is_passing: Callable[[Exception], bool], patience: Patience, who: str
) -> Result:
    """Returns what a call returns, tried again while its errors are of the passing sort.

    Args:
        call: is given the number of the attempt, 0 for the first.
        is_passing: tells whether an error may be over at the next attempt.
        patience: how long to go on.
        who: does not answer.
    """
    began = time.monotonic()
    attempt, is_told = 0, False
    while True:
        try:
            return call(attempt)
        except Exception as error:
            pause, waited = patience.pause_s(attempt), time.monotonic() - began
            if not is_passing(error) or waited + pause > patience.total_s:
                raise
            if waited > patience.silent_s and not is_told:
                notice(f"{who} does not answer; it is asked again for up to {patience.total_s:g} s")
                is_told = True
        time.sleep(pause)
        attempt += 1
