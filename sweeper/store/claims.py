"""Claims: which worker makes something that all wait for. Like the lease of a driver, for shorter work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sweeper.errors import StoreError
from sweeper.store.chain import RENEW_S, STALE_S, Chain, Holder
from sweeper.store.objects import ObjectStore


class Claims:
    """What one worker claims in a store, and what it has seen of others: each claim is a chain (`store/chain.py`)."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._chains: dict[str, Chain] = {}

    @contextmanager
    def taken(self, what: str) -> Iterator[bool]:
        """Tells whether this worker is the one to make something; inside, the claim is kept up.

        Args:
            what: beginning of the keys of its claims, without a dot.
        """
        chain = self._chains.setdefault(what, Chain(self._store, "claims", what, digits=6))
        number, me = self._free(chain), Holder.this_process(what)
        if number is None or not chain.put(number, me):
            yield False
            return
        done, last = threading.Event(), [number]
        keeper = threading.Thread(target=_keep, args=(chain, me, last, done), name="sweeper-claim", daemon=True)
        keeper.start()
        try:
            yield True
        finally:
            done.set()
            keeper.join()
            with suppress(StoreError):  # then it will be found standing still
                chain.remove(last[0])

    def _free(self, chain: Chain) -> int | None:
        """Returns the number that may be put; None: somebody is at it."""
        number, holder = chain.last()
        return number + 1 if holder is None or holder.is_gone() or chain.is_silent(STALE_S) else None


def _keep(chain: Chain, me: Holder, last: list[int], done: threading.Event) -> None:
    while not done.wait(RENEW_S):
        with suppress(StoreError):
            if not chain.put(last[0] + 1, me):
                return  # another worker took it over; what both make is the same
            last[0] += 1
