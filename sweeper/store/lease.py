"""The lease: one driver at a time on a store, on whatever file system it lies.

It is a chain of numbered objects, each put if absent: who puts the next number holds the store. The holder
puts one every ten seconds. A number that stands still for a minute may be followed by anybody, at once when it
belongs to a process of this host that is gone. Clocks of two hosts are never compared.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

import psutil

from sweeper.errors import Interrupted, Problem, StoreError
from sweeper.store.objects import ObjectStore

RENEW_S = 10.0
LISTEN_S = 1.0
LISTEN_SHARED_S = 5.0  # each look is a request
STALE_S = 60.0
_LOOK_S = 1.0
_DIGITS = 12

Wish = Literal["stop", "cancel"]
"""`stop`: after the epochs in progress; `cancel`: now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who holds a store, or held it last.

    Attributes:
        run_id: of this holding.
        host: name of the machine.
        process: its id there.
        born: when that process began, Unix time: ids are used again.
        sweep: what is run.
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
        """Tells whether the store is known to be free: given back, or the process of this host has ended."""
        if self.released or self.host != socket.gethostname():
            return self.released
        try:
            return bool(abs(psutil.Process(self.process).create_time() - self.born) > 1.0)
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, which runs {self.sweep}"


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
        seen, since, told = -1, time.monotonic(), False
        while True:
            number, holder = latest(self._store)
            if number != seen:
                seen, since = number, time.monotonic()
            stands_still = time.monotonic() - since > STALE_S
            if (holder is None or holder.is_gone() or stands_still) and self._put(number + 1, self._me):
                self._thread.start()
                return
            if holder is None or holder.is_gone():
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
            if latest(self._store)[0] == self._number:
                self._put(self._number + 1, replace(self._me, released=True))

    def _put(self, number: int, holder: Holder) -> bool:
        body = json.dumps(asdict(holder), sort_keys=True).encode()
        if not self._store.put("leases", _key(number), body) and self._store.get("leases", _key(number)) != body:
            return False  # equal: put by an earlier attempt of which nothing was heard
        keys = list(self._store.keys("leases"))
        if keys and max(keys) > _key(number):  # the chain went on without us, and its old numbers were removed
            self._store.drop("leases", _key(number))
            return False
        self._number = number
        for older in [key for key in keys if key < _key(number - 1)]:
            self._store.drop("leases", older)
        return True

    def _renew(self) -> None:
        last = time.monotonic()
        heard: set[Wish] = set()
        pause = LISTEN_SHARED_S if self._store.is_shared else LISTEN_S
        while not self._released.wait(min(pause, RENEW_S)):
            heard |= self._listen(heard)
            if time.monotonic() - last < RENEW_S:
                continue
            try:
                if self._put(self._number + 1, self._me):
                    last = time.monotonic()
                    continue
            except StoreError:  # full or away for the moment
                if time.monotonic() - last < STALE_S:
                    continue
            self._on_lost(self._follower())
            return

    def _follower(self) -> Holder | None:
        try:
            return latest(self._store)[1]
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


def latest(store: ObjectStore) -> tuple[int, Holder | None]:
    """Returns the last number of the chain, 0 for none, and who put it."""
    for key in sorted(store.keys("leases"), reverse=True):
        data = store.get("leases", key)
        if data is not None:
            return int(key.rpartition(".")[2]), Holder(**json.loads(data))
    return 0, None


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


def _key(number: int) -> str:
    return f"driver.{number:0{_DIGITS}d}"


def _is_held(holder: Holder) -> StoreError:
    return StoreError(
        Problem(
            where="--store",
            rule="one driver at a time uses a store",
            got=f"it is held by {holder}",
            remedy="Wait for it with --wait, stop it, or use another --store. Should its host be gone, --wait takes "
            f"over after {STALE_S:g} s",
        )
    )
