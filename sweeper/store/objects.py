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
from typing import Any, Literal, Protocol

from sweeper.errors import Problem, StoreError

Kind = Literal["states", "records", "outputs", "failures", "conflicts", "sweeps", "leases", "control"]

FORMAT = "sweeper-object-1"
STORE_FORMAT = 1


class DamagedObject(Exception):
    """An object whose bytes are not the ones that were written."""


class ObjectStore(Protocol):
    """What every store can do; `tests/contracts/` holds the suite that each one must pass."""

    def put(self, kind: Kind, key: str, payload: bytes) -> bool:
        """Writes an object unless one with this key exists.

        Returns:
            True when this call wrote it, False when it was there, damaged or not: whoever must know reads it.

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
        """Removes an object; of what tells results only states that nothing pins are ever removed."""


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
        with _explained(root):
            if not self._marker.is_file():
                if not create:
                    raise StoreError(
                        Problem(where=str(root), rule="is no store", remedy="Give --store DIR, or run a sweep")
                    )
                self._make()
            self._about = self._read_marker()

    @property
    def store_id(self) -> str:
        """The identity given to the store when it was made."""
        return str(self._about["store_id"])

    @property
    def _marker(self) -> Path:
        return self.root / "store.json"

    @property
    def _scratch(self) -> Path:
        return self.root / "tmp"

    def _make(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            problem = Problem(where=str(self.root), rule="a store is a folder", remedy="Choose another --store")
            raise StoreError(problem)
        found = {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
        if found - {"tmp"} and not self._marker.is_file():  # another process may just have made it
            rule = "a new store needs an empty or absent folder"
            raise StoreError(Problem(where=str(self.root), rule=rule, remedy="Choose another --store"))
        about = {"format": STORE_FORMAT, "store_id": uuid.uuid4().hex}
        _link_new(self._scratch, self._marker, f"{json.dumps(about)}\n".encode())

    def _read_marker(self) -> dict[str, Any]:
        try:
            about = json.loads(self._marker.read_bytes())
            if about["format"] == STORE_FORMAT and isinstance(about["store_id"], str):
                return dict(about)
            rule, got = f"the store has format {STORE_FORMAT}", f"format {about['format']}"
        except (ValueError, KeyError, TypeError):
            rule, got = "store.json says what the store is", "something unreadable"
        remedy = "Use the version of sweeper that made the store, or choose another --store"
        raise StoreError(Problem(where=str(self._marker), rule=rule, got=got, remedy=remedy))

    def path(self, kind: Kind, key: str) -> Path:
        """Returns where an object lies."""
        return self.root / kind / key[:2] / key

    def put(self, kind: Kind, key: str, payload: bytes) -> bool:
        """See `ObjectStore.put`; linking a finished temporary file makes it atomic."""
        path = self.path(kind, key)
        with _explained(self.root):
            return not path.exists() and _link_new(self._scratch, path, seal(payload))

    def get(self, kind: Kind, key: str) -> bytes | None:
        """See `ObjectStore.get`."""
        path = self.path(kind, key)
        with _explained(self.root):
            try:
                return unseal(path.read_bytes())
            except FileNotFoundError:
                return None
            except DamagedObject:
                self._move_aside(path, kind)
                return None

    def has(self, kind: Kind, key: str) -> bool:
        """See `ObjectStore.has`."""
        with _explained(self.root):
            return self.path(kind, key).exists()

    def keys(self, kind: Kind) -> Iterator[str]:
        """See `ObjectStore.keys`."""
        folder = self.root / kind
        with _explained(self.root):
            shelves = _names(folder) if folder.is_dir() else []
        for shelf in shelves:
            with _explained(self.root):
                names = _names(folder / shelf)
            yield from names

    def drop(self, kind: Kind, key: str) -> None:
        """See `ObjectStore.drop`."""
        with _explained(self.root):
            self.path(kind, key).unlink(missing_ok=True)

    def _move_aside(self, path: Path, kind: Kind) -> None:
        aside = self.root / "damaged" / kind
        try:
            aside.mkdir(parents=True, exist_ok=True)
            os.replace(path, aside / f"{path.name}.{uuid.uuid4().hex[:8]}")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EROFS, errno.EACCES):
                raise
            # another reader was faster, or this one may only read


def _names(folder: Path) -> list[str]:
    """Returns what lies in a folder, sorted; hidden files are the file system's own (`.nfs...`, `.DS_Store`)."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _link_new(scratch: Path, path: Path, data: bytes) -> bool:
    scratch.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = scratch / uuid.uuid4().hex
    try:
        temporary.write_bytes(data)
        os.link(temporary, path)  # fails when `path` exists, unlike a rename
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


_REMEDIES = {
    (errno.ENOSPC, errno.EDQUOT): ("the disk is full, or your quota", "Free some space and run the same command again"),
    (errno.EROFS, errno.EACCES): (
        "you may not read or write it",
        "Give a folder with --store that you may read and write",
    ),
    (errno.EPERM, errno.EOPNOTSUPP): (
        "its file system refuses hard links, or you may not write",
        "Give a folder on another file system with --store",
    ),
}


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turns what the file system refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        rule, remedy = f"the file system failed ({error.strerror})", "Run the same command again; nothing is lost"
        for numbers, found in _REMEDIES.items():
            if error.errno in numbers:
                rule, remedy = found
        raise StoreError(Problem(where=str(root), rule=rule, remedy=remedy)) from error
