"""The object store: immutable objects, one verb for writing (put if absent), verified at every read.

An object is a header line with the SHA-256 and the size of its payload, then the payload. A truncated or
flipped object is therefore known as damaged; it is moved aside and counts as absent.
"""

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from sweeper.errors import Problem, StoreError

Kind = Literal["states", "records", "outputs", "failures", "conflicts", "orders", "sweeps"]

FORMAT = "sweeper-object-1"


class DamagedObject(Exception):
    """An object whose bytes are not the ones that were written."""


class ObjectStore(Protocol):
    """What every store can do; `tests/contracts/` holds the suite that each one must pass."""

    def put(self, kind: Kind, key: str, payload: bytes) -> bool:
        """Writes an object unless one with this key exists.

        Returns:
            True when this call wrote it, False when it was there.

        Raises:
            StoreError: the store cannot be written.
        """

    def get(self, kind: Kind, key: str) -> bytes | None:
        """Returns an object's payload, None when it is absent or was found damaged (then it is moved aside)."""

    def has(self, kind: Kind, key: str) -> bool:
        """Tells whether an object is there, without reading it."""

    def keys(self, kind: Kind) -> Iterator[str]:
        """Yields the keys of one kind in sorted order."""

    def drop(self, kind: Kind, key: str) -> None:
        """Removes an object; only states that nothing pins are ever removed."""


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


class LocalStore:
    """A store in a folder: `<kind>/<first two characters of the key>/<key>`."""

    def __init__(self, root: Path, *, create: bool = True) -> None:
        """Opens a store.

        Raises:
            StoreError: the folder is absent and may not be created, or is something else.
        """
        self.root = root
        marker = root / "store.json"
        if not marker.exists():
            if not create:
                raise StoreError(
                    Problem(where=str(root), rule="is no store", remedy="Give --store DIR, or run a sweep")
                )
            self._make(marker)

    @property
    def store_id(self) -> str:
        """The identity given to the store when it was made."""
        return str(json.loads((self.root / "store.json").read_text())["store_id"])

    def _make(self, marker: Path) -> None:
        if self.root.is_dir() and any(self.root.iterdir()) and not (self.root / "tmp").is_dir():
            rule = "a new store needs an empty or absent folder"
            raise StoreError(Problem(where=str(self.root), rule=rule, remedy="Choose another --store"))
        with _explained(self.root):
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            _link_new(self.root / "tmp", marker, f'{{"format": 1, "store_id": "{uuid.uuid4().hex}"}}\n'.encode())

    def path(self, kind: Kind, key: str) -> Path:
        """Returns where an object lies."""
        return self.root / kind / key[:2] / key

    def put(self, kind: Kind, key: str, payload: bytes) -> bool:
        """See `ObjectStore.put`; linking a finished temporary file makes it atomic."""
        path = self.path(kind, key)
        if path.exists():
            return False
        with _explained(self.root):
            return _link_new(self.root / "tmp", path, seal(payload))

    def get(self, kind: Kind, key: str) -> bytes | None:
        """See `ObjectStore.get`."""
        path = self.path(kind, key)
        try:
            return unseal(path.read_bytes())
        except FileNotFoundError:
            return None
        except DamagedObject:
            self._move_aside(path, kind)
            return None

    def has(self, kind: Kind, key: str) -> bool:
        """See `ObjectStore.has`."""
        return self.path(kind, key).exists()

    def keys(self, kind: Kind) -> Iterator[str]:
        """See `ObjectStore.keys`."""
        folder = self.root / kind
        if not folder.is_dir():
            return
        for shelf in sorted(os.listdir(folder)):
            yield from sorted(os.listdir(folder / shelf))

    def drop(self, kind: Kind, key: str) -> None:
        """See `ObjectStore.drop`."""
        self.path(kind, key).unlink(missing_ok=True)

    def _move_aside(self, path: Path, kind: Kind) -> None:
        aside = self.root / "damaged" / kind
        with _explained(self.root):
            aside.mkdir(parents=True, exist_ok=True)
            os.replace(path, aside / f"{path.name}.{uuid.uuid4().hex[:8]}")


def _link_new(scratch: Path, path: Path, data: bytes) -> bool:
    temporary = scratch / uuid.uuid4().hex
    try:
        temporary.write_bytes(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(temporary, path)  # fails when `path` exists, unlike a rename
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turns what the file system refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            rule, remedy = "the disk is full", "Free some space and run the same command again"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            rule, remedy = "the store cannot be written", "Give a folder that you may write with --store"
        else:
            rule, remedy = f"the store failed ({error.strerror})", "Run the same command again; nothing is lost"
        raise StoreError(Problem(where=str(root), rule=rule, remedy=remedy)) from error
