"""The store in a folder, on a disk of this machine or on a network file system."""

import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from sweeper.disk import explained
from sweeper.errors import Problem, StoreError
from sweeper.store.objects import (
    DAMAGED,
    MARKER,
    DamagedObject,
    Kind,
    StoredFile,
    absent,
    has_lost_marker,
    lost_marker,
    name_of,
    new_marker,
    read_marker,
    seal,
    tell_damage,
    unseal,
)
from sweeper.store.places import is_on_network, state_folder


class LocalStore:
    """A store in a folder: `<kind>/<first two characters of the key>/<key>`."""

    def __init__(self, root: Path, *, create: bool = True, renew: bool = False) -> None:
        """Opens a store.

        Args:
            root: its folder.
            create: whether an absent store is made.
            renew: whether a store that has lost its marker gets another one, with a new id.

        Raises:
            AbsentStore: the folder is absent and may not be created.
            StoreError: it is something else, or a store that has lost its marker.
        """
        self.root = root
        with explained(root):
            if not self._marker.is_file():
                self._make(create=create, renew=renew)
            self._store_id = read_marker(self._marker.read_bytes(), str(self._marker))

    @property
    def store_id(self) -> str:
        """See `ObjectStore.store_id`."""
        return self._store_id

    @property
    def address(self) -> str:
        """See `ObjectStore.address`."""
        return str(self.root.absolute())

    @cached_property
    def is_shared(self) -> bool:
        """See `ObjectStore.is_shared`."""
        return is_on_network(self.root)

    @property
    def local_folder(self) -> Path:
        """See `ObjectStore.local_folder`: the store itself, unless it is shared."""
        return state_folder(self.store_id) if self.is_shared else self.root

    @property
    def _marker(self) -> Path:
        return self.root / MARKER

    @property
    def _scratch(self) -> Path:
        return self.root / "tmp"

    def _make(self, *, create: bool, renew: bool) -> None:
        if has_lost_marker(self) and not self._marker.is_file():  # another process may just have made it
            if not renew:
                raise lost_marker(str(self.root))
            _link_new(self._scratch, self._marker, new_marker())
            return
        if not create:
            raise absent(str(self.root))
        if self.root.exists() and not self.root.is_dir():
            problem = Problem(where=str(self.root), rule="a store is a folder", remedy="Choose another --store")
            raise StoreError(problem)
        found = {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
        if found - {"tmp"} and not self._marker.is_file():
            rule = "a new store needs an empty or absent folder"
            raise StoreError(Problem(where=str(self.root), rule=rule, remedy="Choose another --store"))
        _link_new(self._scratch, self._marker, new_marker())

    def path(self, kind: Kind, key: str) -> Path:
        """Returns where an object lies."""
        return self.root / name_of(kind, key)

    def put(self, kind: Kind, key: str, payload: bytes) -> bool:
        """See `ObjectStore.put`; linking a finished temporary file makes it atomic."""
        path = self.path(kind, key)
        with explained(self.root):
            return not path.exists() and _link_new(self._scratch, path, seal(payload))

    def get(self, kind: Kind, key: str) -> bytes | None:
        """See `ObjectStore.get`."""
        path = self.path(kind, key)
        with explained(self.root):
            try:
                return unseal(path.read_bytes())
            except FileNotFoundError:
                return None
            except DamagedObject as damage:
                tell_damage(str(path), damage)
                self._move_aside(path, kind)
                return None

    def get_each(self, kind: Kind, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """See `ObjectStore.get_each`."""
        return ((key, self.get(kind, key)) for key in keys)

    def has(self, kind: Kind, key: str) -> bool:
        """See `ObjectStore.has`."""
        with explained(self.root):
            return self.path(kind, key).exists()

    def keys(self, kind: Kind) -> Iterator[str]:
        """See `ObjectStore.keys`."""
        folder = self.root / kind
        with explained(self.root):
            shelves = _names(folder) if folder.is_dir() else []
        for shelf in shelves:
            with explained(self.root):
                names = _names(folder / shelf)
            yield from names

    def drop(self, kind: Kind, key: str) -> None:
        """See `ObjectStore.drop`."""
        with explained(self.root):
            self.path(kind, key).unlink(missing_ok=True)

    def files(self, folder: str) -> Iterator[StoredFile]:
        """See `ObjectStore.files`."""
        with explained(self.root):
            for path in sorted((self.root / folder).rglob("*")):
                if not path.name.startswith(".") and path.is_file() and (found := _status(path)) is not None:
                    name = path.relative_to(self.root).as_posix()
                    yield StoredFile(name=name, size=found.st_size, modified=found.st_mtime)

    def remove(self, name: str) -> None:
        """See `ObjectStore.remove`."""
        with explained(self.root):
            (self.root / name).unlink(missing_ok=True)

    def hurry(self) -> None:
        """See `ObjectStore.hurry`; a folder answers or refuses at once."""

    def _move_aside(self, path: Path, kind: Kind) -> None:
        aside = self.root / DAMAGED / kind
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


def _status(path: Path) -> os.stat_result | None:
    """Returns what is known of a file, None when somebody has just removed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


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
