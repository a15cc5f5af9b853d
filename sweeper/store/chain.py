"""A chain of numbered objects: who puts the next number, which only one can, holds what the chain stands for.

The holder puts the next one every few seconds; the last two stay, so that who lists always sees one of them. A chain
that stands still for a while may be followed by anybody, at once when its process is known to be gone. Clocks of two
hosts are never compared. The lease of a driver is such a chain, and the claim of a worker on what it makes.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import psutil

from sweeper.store.objects import ObjectStore

RENEW_S = 10.0
STALE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who put a number.

    Attributes:
        run_id: of this holding.
        host: name of the machine.
        process: its id there.
        born: when that process began, Unix time: ids are used again.
        sweep: what is run, or made.
        released: given back.
    """

    run_id: str
    host: str
    process: int
    born: float
    sweep: str
    released: bool = False

    @classmethod
    def this_process(cls, sweep: str) -> "Holder":
        """Returns this process as a holder."""
        born = psutil.Process().create_time()
        return cls(run_id=uuid.uuid4().hex, host=socket.gethostname(), process=os.getpid(), born=born, sweep=sweep)

    def is_gone(self) -> bool:
        """Tells whether what it held is known to be free: given back, or the process of this host has ended."""
        if self.released or self.host != socket.gethostname():
            return self.released
        try:
            return bool(abs(psutil.Process(self.process).create_time() - self.born) > 1.0)
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, which runs {self.sweep}"


class Chain:
    """One chain, and what its user has seen of it."""

    def __init__(self, store: ObjectStore, kind: Literal["leases", "claims"], name: str, *, digits: int) -> None:
        """Takes a chain, which may be empty.

        Args:
            store: where it lies.
            kind: of its objects.
            name: the beginning of their keys, without a dot.
            digits: of their numbers.
        """
        self._store, self._kind, self._name, self._digits = store, kind, name, digits
        self._seen: tuple[int, Holder | None] = (-1, None)
        self._seen_at = 0.0

    def last(self) -> tuple[int, Holder | None]:
        """Returns the last number that can be read, 0 for none, and who put it."""
        found: tuple[int, Holder | None] = (0, None)
        for number in sorted(self._numbers(), reverse=True):
            data = self._store.get(self._kind, self._key(number))
            if data is not None:
                found = (number, Holder(**json.loads(data)))
                break
        if found != self._seen:
            self._seen, self._seen_at = found, time.monotonic()
        return found

    def is_silent(self, stale_s: float) -> bool:
        """Tells whether `last` has returned the same for so many seconds."""
        return time.monotonic() - self._seen_at > stale_s

    def put(self, number: int, holder: Holder) -> bool:
        """Puts a number and drops those before the last two; False when somebody else has put it, or a later one."""
        body = json.dumps(asdict(holder), sort_keys=True).encode()
        key = self._key(number)
        if not self._store.put(self._kind, key, body) and self._store.get(self._kind, key) != body:
            return False  # equal: put by an earlier attempt of which nothing was heard
        numbers = self._numbers()
        if max(numbers, default=number) > number:  # it went on without us, and its old numbers were removed
            self._store.drop(self._kind, key)
            return False
        self._drop(each for each in numbers if each < number - 1)
        return True

    def remove(self, number: int) -> None:
        """Drops a number and those before it; who has followed stays."""
        self._drop(each for each in self._numbers() if each <= number)

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._store.drop(self._kind, self._key(number))

    def _numbers(self) -> list[int]:
        split = (key.rpartition(".") for key in self._store.keys(self._kind))
        return [int(number) for name, _, number in split if name == self._name]

    def _key(self, number: int) -> str:
        return f"{self._name}.{number:0{self._digits}d}"
