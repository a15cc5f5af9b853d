"""What an object store is: immutable objects, one verb for writing (put if absent), verified at every read.

An object is a header line with the SHA-256 and the size of its payload, then the payload. A truncated or
flipped object is therefore known as damaged; it is moved aside and counts as absent. `store.json` says that a
place is a store, and which one. Wherever a store lies, its objects have the same names: see `name_of`.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sweeper.errors import Problem, StoreError
from sweeper.notices import notice

_Lasting = Literal["states", "records", "outputs", "failures", "conflicts", "sweeps", "points"]
Kind = _Lasting | Literal["leases", "control", "logs", "features", "claims"]

FORMAT = "sweeper-object-1"
STORE_FORMAT = 1
MARKER = "store.json"
DAMAGED = "damaged"
_TELLING: tuple[Kind, ...] = ("sweeps", "records", "states")
_RENEW = (
    "`sweeper verify --new-id --store STORE` writes one with a new id. The id only keeps views of two stores apart: "
    "MLflow then shows the sweeps a second time, under new runs"
)


class DamagedObject(Exception):
    """An object whose bytes are not the ones that were written."""


class AbsentStore(StoreError):
    """There is no store at an address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file of a store, whatever it is.

    Attributes:
        name: below the store, with `/`.
        size: bytes.
        modified: Unix time by the clock of whoever keeps the file.
    """

    name: str
    size: int
    modified: float


class ObjectStore(Protocol):
    """What every store can do; `tests/contracts/` holds the suite that each one must pass."""

    @property
    def store_id(self) -> str:
        """The identity given to the store when it was made."""

    @property
    def address(self) -> str:
        """What opens the store in any process, see `open_store`."""

    @property
    def is_shared(self) -> bool:
        """Whether it lies where no file can be locked or mapped: a network file system, an object store."""

    @property
    def local_folder(self) -> Path:
        """A folder of this machine for what is not shared: ledger, default tracking database, locks, marks."""

    def put(self, kind: Kind, key: str, payload: bytes) -> bool:
        """Writes an object unless one with this key exists.

        Returns:
            True when this call wrote it, False when it was there, damaged or not: whoever must know reads it.

        Raises:
            StoreError: the store cannot be written.
        """

    def get(self, kind: Kind, key: str) -> bytes | None:
        """Returns an object's payload, None when it is absent or was found damaged (then it is moved aside)."""

    def get_each(self, kind: Kind, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yields keys with what `get` returns, in the order given; faster than one by one where a store is far."""

    def has(self, kind: Kind, key: str) -> bool:
        """Tells whether an object is there, without reading it."""

    def keys(self, kind: Kind) -> Iterator[str]:
        """Yields the keys of one kind in sorted order."""

    def drop(self, kind: Kind, key: str) -> None:
        """Removes an object; of what tells results only states that nothing pins are ever removed."""

    def files(self, folder: str) -> Iterator[StoredFile]:
        """Yields the files below a folder of the store, sorted by name: a kind's, `damaged`, or `tmp`."""

    def remove(self, name: str) -> None:
        """Removes one of `files`; that it is gone already is no error."""

    def hurry(self) -> None:
        """Waits for nothing from now on: who uses it is about to leave, and has said why."""


def name_of(kind: str, key: str) -> str:
    """Returns where an object lies below its store: `<kind>/<first two characters of the key>/<key>`."""
    return f"{kind}/{key[:2]}/{key}"


def seal(payload: bytes) -> bytes:
    """Returns the bytes of an object: header line and payload."""
    digest = hashlib.sha256(payload).hexdigest()
    return f"{FORMAT} {digest} {len(payload)}\n".encode() + payload


def unseal(data: bytes) -> bytes:
    """Returns the payload of an object.

    Raises:
        DamagedObject: header or payload is not as written.
    """
    header, newline, payload = data.partition(b"\n")
    parts = header.decode("ascii", "replace").split(" ")
    if not newline or len(parts) != 3 or parts[0] != FORMAT:
        raise DamagedObject("header is unreadable")
    if str(len(payload)) != parts[2]:
        raise DamagedObject(f"{len(payload)} bytes instead of {parts[2]}")
    if hashlib.sha256(payload).hexdigest() != parts[1]:
        raise DamagedObject("SHA-256 differs")
    return payload


def tell_damage(where: str, damage: DamagedObject) -> None:
    """Says that an object was found damaged."""
    notice(f"damaged: {where} ({damage}); it is not used; a run makes again what it needs")


def new_marker() -> bytes:
    """Returns the content of the marker of a new store."""
    about = {"format": STORE_FORMAT, "store_id": uuid.uuid4().hex}
    return f"{json.dumps({**about, 'check': _check(about)})}\n".encode()


def _check(about: Mapping[str, object]) -> str:
    """Returns a checksum of what a marker says: another id would be another store, unnoticed."""
    return hashlib.sha256(f"{about['format']} {about['store_id']}".encode()).hexdigest()[:16]


def read_marker(data: bytes, where: str) -> str:
    """Returns the identity of a store.

    Raises:
        StoreError: the marker is another version's, or unreadable.
    """
    try:
        about = json.loads(data)
        if about["format"] == STORE_FORMAT and about["check"] == _check(about):
            return str(about["store_id"])
        if about["format"] == STORE_FORMAT:
            rule, got = f"{MARKER} is as it was written", "another checksum"
        else:
            rule, got = f"the store has format {STORE_FORMAT}", f"format {about['format']}"
    except (ValueError, KeyError, TypeError):
        rule, got = f"{MARKER} says what the store is", "something unreadable"
    remedy = (
        "Use the version of sweeper that made the store, put the file back from a copy, or choose another --store. "
        f"Without it nothing else is lost: delete it, and {_RENEW}"
    )
    raise StoreError(Problem(where=where, rule=rule, got=got, remedy=remedy))


def has_lost_marker(store: ObjectStore) -> bool:
    """Tells whether a place that has no marker holds what only stores do."""
    return any(next(iter(store.files(kind)), None) is not None for kind in _TELLING)


def lost_marker(address: str) -> StoreError:
    """Returns the error of who finds a store that has lost its marker."""
    rule = f"{MARKER} is missing; all else that makes a store is here"
    return StoreError(Problem(where=address, rule=rule, remedy=f"Put it back from a copy, or {_RENEW}"))


def absent(address: str) -> AbsentStore:
    """Returns the error of who expects a store where none is."""
    remedy = "Give --store with a folder or s3://BUCKET/PREFIX, or run a sweep"
    return AbsentStore(Problem(where=address, rule="is no store", remedy=remedy))
