"""The store on S3, or on a server that speaks its language: one object of the bucket for each object of the store.

Put-if-absent is a request with `If-None-Match`. Requests that fail for the moment are tried again by `retried`
alone: the libraries below are told to try once, so that one place says how long.
"""

import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

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
from sweeper.store.places import state_folder
from sweeper.store.retrying import Outages, Patience, retried
from sweeper.store.s3_errors import code_of, explained, is_passing, status_of

CONNECT_S, ANSWER_S = 5.0, 20.0
SLOWEST = 100_000.0  # bytes per second: an upload that takes longer has stalled
_READERS = 16
_ONE_REQUEST = 2**31  # bytes: larger objects would be put in parts, which nothing here is
_EXISTS, _ABSENT = 412, 404

Result = TypeVar("Result")


class S3Store:
    """A store below a prefix of a bucket; see `ObjectStore`.

    A damaged object is copied to `damaged/` and removed, when a second look finds the same bytes.
    """

    def __init__(
        self, address: str, *, create: bool = True, renew: bool = False, patience: Patience | None = None
    ) -> None:
        """Opens a store. Server, region and credentials are found as all AWS tools find them.

        Args:
            address: `s3://BUCKET` or `s3://BUCKET/PREFIX`.
            create: whether an absent store is made.
            renew: whether a store that has lost its marker gets another one, with a new id.
            patience: with a server that does not answer.

        Raises:
            AbsentStore: there is none, and none may be made.
            StoreError: the bucket cannot be used, or holds something else there, or a store without its marker.
        """
        self._root = address.removeprefix("s3://").rstrip("/")
        self._patience = patience or Patience()
        self._opened: tuple[int, Any] | None = None
        self._lock = threading.Lock()
        if not self._root.partition("/")[0]:
            remedy = "Name a bucket: s3://BUCKET/PREFIX"
            raise StoreError(Problem(where="--store", rule="a store lies in a bucket", got=address, remedy=remedy))
        self._s3()  # says what is not installed
        _outages_at(self.address).is_hurried = False
        marker = self._read(MARKER)
        if marker is None:
            marker = self._make(create=create, renew=renew)
        self._store_id = read_marker(marker, f"{self.address}/{MARKER}")

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the connection behind: another process has its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_opened", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._opened, self._lock = None, threading.Lock()

    @property
    def store_id(self) -> str:
        """See `ObjectStore.store_id`."""
        return self._store_id

    @property
    def address(self) -> str:
        """See `ObjectStore.address`."""
        return f"s3://{self._root}"

    @property
    def is_shared(self) -> bool:
        """See `ObjectStore.is_shared`."""
        return True

    @property
    def local_folder(self) -> Path:
        """See `ObjectStore.local_folder`."""
        return state_folder(self.store_id)

    def put(self, kind: Kind, key: str, payload: bytes) -> bool:
        """See `ObjectStore.put`."""
        return self._write(name_of(kind, key), seal(payload))

    def get(self, kind: Kind, key: str) -> bytes | None:
        """See `ObjectStore.get`."""
        name, seen = name_of(kind, key), b""
        while (data := self._read(name)) is not None:
            try:
                return unseal(data)
            except DamagedObject as damage:
                if data == seen:
                    tell_damage(f"{self.address}/{name}", damage)
                    self._move_aside(kind, key, data)
                    return None
                seen = data  # perhaps it came over badly
        return None

    def get_each(self, kind: Kind, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """See `ObjectStore.get_each`; some are asked for at once."""
        waiting = iter(keys)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="sweeper-s3") as readers:
            while batch := list(islice(waiting, 4 * _READERS)):
                yield from zip(batch, readers.map(lambda key: self.get(kind, key), batch), strict=True)

    def has(self, kind: Kind, key: str) -> bool:
        """See `ObjectStore.has`."""
        bucket, _, path = self._path(name_of(kind, key)).partition("/")
        return self._asked(lambda s3: s3.call_s3("head_object", Bucket=bucket, Key=path)) is not None

    def keys(self, kind: Kind) -> Iterator[str]:
        """See `ObjectStore.keys`."""
        return iter(sorted(file.name.rpartition("/")[2] for file in self.files(kind)))

    def drop(self, kind: Kind, key: str) -> None:
        """See `ObjectStore.drop`."""
        self.remove(name_of(kind, key))

    def files(self, folder: str) -> Iterator[StoredFile]:
        """See `ObjectStore.files`."""
        found = self._asked(lambda s3: s3.find(self._root, prefix=f"{folder}/", detail=True)) or {}
        for path, about in sorted(found.items()):
            name, modified = path.removeprefix(f"{self._root}/"), about["LastModified"].timestamp()
            yield StoredFile(name=name, size=about["size"], modified=modified)

    def remove(self, name: str) -> None:
        """See `ObjectStore.remove`."""
        self._asked(lambda s3: s3.rm_file(self._path(name)))

    def hurry(self) -> None:
        """See `ObjectStore.hurry`; all that this process has open at this address hurries with it."""
        _outages_at(self.address).is_hurried = True

    def _make(self, *, create: bool, renew: bool) -> bytes:
        is_lost = has_lost_marker(self) and self._read(MARKER) is None  # another process may just have made it
        if is_lost and not renew:
            raise lost_marker(self.address)
        if not is_lost and not create:
            raise absent(self.address)
        bucket, _, prefix = self._root.partition("/")
        about = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", "MaxKeys": 1}
        found = self._asked(lambda s3: s3.call_s3("list_objects_v2", **about)) or {}
        if found.get("Contents") and not is_lost and self._read(MARKER) is None:
            rule, remedy = "a new store needs an empty or absent prefix", "Choose another --store"
            raise StoreError(Problem(where=self.address, rule=rule, remedy=remedy))
        marker = new_marker()
        if self._write(MARKER, marker) and self._write(MARKER, new_marker()):
            self.remove(MARKER)
            rule, remedy = "a store's server honours If-None-Match", "Use a server that does, or a folder"
            raise StoreError(Problem(where=self.address, rule=rule, got="it replaced an object", remedy=remedy))
        return self._read(MARKER) or marker

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _read(self, name: str) -> bytes | None:
        data: bytes | None = self._asked(lambda s3: s3.cat_file(self._path(name)))
        return data

    def _write(self, name: str, data: bytes) -> bool:
        """Puts bytes where there is nothing; tells whether this call did.

        An attempt of which nothing was heard may have succeeded: then what lies there tells.
        """

        def put(attempt: int) -> bool:
            path, limit_s = self._path(name), CONNECT_S + ANSWER_S + len(data) / SLOWEST
            try:
                self._s3().pipe_file(path, data, chunksize=_ONE_REQUEST, mode="create", timeout=limit_s)
            except Exception as error:
                if status_of(error) != _EXISTS:
                    raise
                return attempt > 0 and self._read(name) == data
            return True

        with explained(self.address, self._patience.total_s):
            return retried(put, is_passing, self._patience, _outages_at(self.address))

    def _move_aside(self, kind: Kind, key: str, data: bytes) -> None:
        try:
            self._write(f"{DAMAGED}/{kind}/{key}.{uuid.uuid4().hex[:8]}", data)
            self.drop(kind, key)
        except StoreError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            # this reader may only read

    def _asked(self, request: Callable[[Any], Result]) -> Result | None:
        """Returns the answer to a request, None where there is nothing."""

        def ask(attempt: int) -> Result | None:
            try:
                return request(self._s3())
            except FileNotFoundError as error:
                if code_of(error) == "NoSuchBucket":
                    raise
                return None

        with explained(self.address, self._patience.total_s):
            return retried(ask, is_passing, self._patience, _outages_at(self.address))

    def _s3(self) -> Any:
        """Returns the connection of this process: what a fork inherits has no thread that would serve it."""
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = os.getpid(), _connect(self.address)
            return self._opened[1]


@cache
def _outages_at(address: str) -> Outages:
    """Returns what all stores of this process at an address share."""
    return Outages(address)


def _connect(address: str) -> Any:
    try:
        from s3fs import S3FileSystem
    except ModuleNotFoundError as error:
        remedy = "Install it: pip install 'sweeper[s3]'"
        raise StoreError(Problem(where=address, rule="a store on S3 needs s3fs", remedy=remedy)) from error
    s3 = S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        max_concurrency=1,
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": ANSWER_S,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "max_pool_connections": 2 * _READERS,
        },
    )
    s3.retries = 1
    return s3
