"""The lease: one driver at a time on a store, on whatever file system it lies.

It is a chain (`store/chain.py`): the holder puts a number every ten seconds; one that stands still for a minute may be
followed by anybody, at once when it belongs to a process of this host that is gone.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Literal, get_args

from sweeper.errors import Interrupted, Problem, StoreError
from sweeper.store.chain import RENEW_S, STALE_S, Chain, Holder
from sweeper.store.objects import ObjectStore

LISTEN_S = 1.0
LISTEN_SHARED_S = 5.0  # each look is a request
_LOOK_S = 1.0

Wish = Literal["stop", "cancel"]
"""`stop`: after the epochs in progress; `cancel`: now."""


class Lease:
    """The lease of one process on one store."""

    def __init__(
        self,
        store: ObjectStore,
        sweep: str,
        on_lost: Callable[[Holder | None], None],
        on_asked: Callable[[Wish], None] = lambda wish: None,
    ) -> None:
        """Takes nothing yet.

        Args:
            store: what is held.
            sweep: what for.
            on_lost: called, in another thread, when somebody else took the store over meanwhile, with None when
                the store could not be told in time that it is still held, so that somebody may.
            on_asked: called, in another thread, when somebody asks the holder to end (see `ask`).
        """
        self._store, self._me = store, Holder.this_process(sweep)
        self._chain = driver_chain(store)
        self._on_lost, self._on_asked = on_lost, on_asked
        self._number = 0
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="sweeper-lease", daemon=True)

    @property
    def run_id(self) -> str:
        """The id of this holding."""
        return self._me.run_id

    def acquire(
        self, *, wait: bool, on_wait: Callable[[Holder], None], gives_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Takes the store.

        Args:
            wait: until it is free, however long that takes.
            on_wait: called once with the holder that is waited for.
            gives_up: tells whether to wait no longer.

        Raises:
            StoreError: somebody else holds it, and `wait` is not asked for.
            Interrupted: it was told to give up.
        """
        told = False
        while True:
            number, holder = self._chain.last()
            is_free = holder is None or holder.is_gone()
            if (is_free or self._chain.is_silent(STALE_S)) and self._chain.put(number + 1, self._me):
                self._number = number + 1
                self._thread.start()
                return
            if holder is None or is_free:
                continue  # somebody was faster
            if not wait:
                raise _is_held(holder)
            if not told:
                on_wait(holder)
                told = True
            if gives_up():
                rule = "stopped while it waited for the store"
                raise Interrupted(Problem(where="--wait", rule=rule, got=str(holder), remedy="Nothing was changed"))
            time.sleep(_LOOK_S)

    def release(self) -> None:
        """Gives the store back; where that cannot be written any more, it is free once this process has ended."""
        self._released.set()
        self._thread.join(timeout=RENEW_S)
        with suppress(StoreError):  # a full disk has been told of
            for wish in get_args(Wish):
                self._store.drop("control", _wish_key(wish, self._me))
            if self._chain.last()[0] == self._number:
                self._chain.put(self._number + 1, replace(self._me, released=True))

    def _renew(self) -> None:
        last = time.monotonic()
        heard: set[Wish] = set()
        pause = LISTEN_SHARED_S if self._store.is_shared else LISTEN_S
        while not self._released.wait(min(pause, RENEW_S)):
            heard |= self._listen(heard)
            if time.monotonic() - last < RENEW_S:
                continue
            try:
                if self._chain.put(self._number + 1, self._me):
                    self._number, last = self._number + 1, time.monotonic()
                    continue
            except StoreError:  # full or away for the moment
                if time.monotonic() - last < STALE_S:
                    continue
            self._on_lost(self._follower())
            return

    def _follower(self) -> Holder | None:
        try:
            return self._chain.last()[1]
        except StoreError:
            return None

    def _listen(self, heard: set[Wish]) -> set[Wish]:
        """Passes on what is asked for the first time."""
        with suppress(StoreError):
            for wish in get_args(Wish):
                if wish not in heard and self._store.has("control", _wish_key(wish, self._me)):
                    self._on_asked(wish)
                    return {wish}
        return set()


@contextmanager
def held(
    store: ObjectStore,
    sweep: str,
    *,
    wait: bool = False,
    on_wait: Callable[[Holder], None] = lambda holder: None,
    on_lost: Callable[[Holder | None], None] = lambda holder: None,
    on_asked: Callable[[Wish], None] = lambda wish: None,
    gives_up: Callable[[], bool] = lambda: False,
) -> Iterator[Lease]:
    """Holds a store against other drivers; see `Lease`.

    Raises:
        StoreError: another driver holds it; the message says who.
    """
    lease = Lease(store, sweep, on_lost, on_asked)
    lease.acquire(wait=wait, on_wait=on_wait, gives_up=gives_up)
    try:
        yield lease
    finally:
        lease.release()


def driver_chain(store: ObjectStore) -> Chain:
    """Returns the chain of a store's drivers."""
    return Chain(store, "leases", "driver", digits=12)


def latest(store: ObjectStore) -> tuple[int, Holder | None]:
    """Returns the last number of a store's drivers, 0 for none, and who put it."""
    return driver_chain(store).last()


def driven_sweep(store: ObjectStore) -> str | None:
    """Returns what a driver runs on a store right now, None for nothing, as far as can be known from here."""
    _, holder = latest(store)
    return None if holder is None or holder.is_gone() else holder.sweep


def ask(store: ObjectStore, sweep: str, wish: Wish) -> Holder:
    """Asks whoever runs a sweep to end; the wish carries the id of that holding, and moves nobody else.

    Raises:
        StoreError: nobody runs it, as far as can be known from here.
    """
    _, holder = latest(store)
    if holder is None or holder.is_gone() or holder.sweep != sweep:
        is_free = holder is None or holder.is_gone()
        got = "no run" if is_free else str(holder)
        remedy = f"`sweeper status --store {store.address}` lists the sweeps there, and which one runs"
        raise StoreError(Problem(where=sweep, rule="only a sweep that runs can be ended", got=got, remedy=remedy))
    store.put("control", _wish_key(wish, holder), b"")
    return holder


def _wish_key(wish: Wish, holder: Holder) -> str:
    return f"{holder.run_id}.{wish}"


def _is_held(holder: Holder) -> StoreError:
    return StoreError(
        Problem(
            where="--store",
            rule="one driver at a time uses a store",
            got=f"it is held by {holder}",
            remedy="Wait until it ends (`sweeper run --wait` does), stop it, or use another --store. Should its host "
            f"be gone, `run --wait` takes over after {STALE_S:g} s",
        )
    )
