"""Claims: which worker makes something that all wait for. Like the lease of a driver, for shorter work.

A claim is a chain of numbered objects named by what is made. Who puts the first number makes it, and puts the next
one every few seconds. A chain that stands still for a while may be followed by anybody, at once when its process
is known to be gone. Clocks of two hosts are never compared.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from sweeper.errors import StoreError
from sweeper.store.lease import Holder
from sweeper.store.objects import ObjectStore

RENEW_S = 10.0
STALE_S = 60.0
_DIGITS = 6


class Claims:
    """What one worker claims in a store, and what it has seen of others."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._seen: dict[str, tuple[str, bytes | None, float]] = {}

    @contextmanager
    def taken(self, what: str) -> Iterator[bool]:
        """Tells whether this worker is the one to make something; inside, the claim is kept up.

        Args:
            what: beginning of the keys of its claims, without a dot.
        """
        number, body = self._last_free(what), json.dumps(asdict(Holder.this_process(what)), sort_keys=True).encode()
        if number is None or not self._put(what, number + 1, body):
            yield False
            return
        done = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(what, number + 1, body, done), name="sweeper-claim")
        keeper.daemon = True
        keeper.start()
        try:
            yield True
        finally:
            done.set()
            keeper.join()
            with suppress(StoreError):  # then it will be found standing still
                for key in self._keys(what):
                    if key.endswith(_number(number)) or self._store.get("claims", key) == body:
                        self._store.drop("claims", key)

    def _last_free(self, what: str) -> int | None:
        """Returns the last number of a chain that may be followed, 0 where there is none; None: somebody is at it."""
        key = max(self._keys(what), default=None)
        if key is None:
            return 0
        data = self._store.get("claims", key)
        if self._seen.get(what, ("", None, 0.0))[:2] != (key, data):
            self._seen[what] = key, data, time.monotonic()
        is_gone = data is not None and Holder(**json.loads(data)).is_gone()
        return int(key.rpartition(".")[2]) if is_gone or time.monotonic() - self._seen[what][2] > STALE_S else None

    def _keys(self, what: str) -> list[str]:
        return [key for key in self._store.keys("claims") if key.partition(".")[0] == what]

    def _put(self, what: str, number: int, body: bytes) -> bool:
        key = what + _number(number)
        return self._store.put("claims", key, body) or self._store.get("claims", key) == body

    def _keep(self, what: str, number: int, body: bytes, done: threading.Event) -> None:
        while not done.wait(RENEW_S):
            with suppress(StoreError):
                if not self._put(what, number + 1, body):
                    return  # another worker took it over; what both make is the same
                self._store.drop("claims", what + _number(number - 1))  # the last two stay: who lists sees one of them
                number += 1


def _number(number: int) -> str:
    return f".{number:0{_DIGITS}d}"
