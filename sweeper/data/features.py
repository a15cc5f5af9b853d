"""The cache of frozen features: computed once per content, memory-mapped by every trial on the node.

A cache entry is a folder named by the hash of all that can change its numbers; it holds one `.npy` file per
tensor. It is built under a lock, in chunks, beside its final place, and moved there whole (`unfinished.py`).
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from sweeper.data.room import UNFINISHED, Room
from sweeper.data.unfinished import Unfinished
from sweeper.disk import explained
from sweeper.notices import notice

Arrays = dict[str, NDArray[Any]]
Chunk = Mapping[str, NDArray[Any]]
Build = Callable[[range], Chunk]
Chunks = Callable[[str, Iterable[range], Build], Iterator[tuple[range, Chunk]]]
"""Yields the chunks of an entry, given its name, the rows of each, and what makes one; in any order."""


Tell = Callable[[int, int], None]
"""Is told how many items of an entry are made, and of how many, as soon as a chunk is there."""


def tell_nobody(done: int, total: int) -> None:
    """Keeps it to itself."""


def build_chunks(entry: str, chunks: Iterable[range], build: Build) -> Iterator[tuple[range, Chunk]]:
    """Makes every chunk here."""
    return ((rows, build(rows)) for rows in chunks)


class FeatureCache:
    """Finds or builds features below one folder, which all workers of a node share."""

    def __init__(
        self,
        root: Path,
        *,
        chunk: int = 64,
        chunks: Chunks = build_chunks,
        tell: Tell = tell_nobody,
        limit_bytes: float = math.inf,
    ) -> None:
        """Remembers where entries lie, how many items make a chunk, where chunks come from, and who is told of them.

        More than `limit_bytes` are not kept once an entry is made: those go that were asked for longest ago.
        """
        self._root = root
        self._room = Room(root, limit_bytes)
        self._chunk = chunk
        self._chunks = chunks
        self._tell = tell

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    def get(self, signature: Mapping[str, Any], num_items: int, build: Build, *, chunk: int | None = None) -> Arrays:
        """Returns the features of some items, memory-mapped read-only.

        Args:
            signature: everything that can change the numbers, as JSON values: weights, activation, preprocessing,
                image bytes, cut, storage type. The chunk is added: batch sizes change last bits.
            num_items: N.
            build: makes the features of some items, [n, ...] by name.
            chunk: how many items are made at once, default: the cache's own number.

        Returns:
            [N, ...] by name.

        Raises:
            StoreError: the disk is full, or the folder is not yours to write.
        """
        chunk = self._chunk if chunk is None else chunk
        text = json.dumps({**signature, "items": num_items, "chunk": chunk}, sort_keys=True)
        folder = self._root / hashlib.sha256(text.encode()).hexdigest()[:32]
        with explained(self._root, "--cache"):
            self._root.mkdir(parents=True, exist_ok=True)
            found = _open(folder)
            if found is None:
                with FileLock(f"{folder}.lock"):
                    found = _open(folder)
                    if found is None:
                        self._build(folder, num_items, build, chunk)
                        found = _open(folder)
            self._room.used(folder)
        assert found is not None
        return found

    def _build(self, folder: Path, num_items: int, build: Build, chunk: int) -> None:
        """Builds an entry in chunks beside its place, behind what a killed process left; tells how far it is."""
        if folder.exists():
            notice(f"damaged: {folder}; these features are not used, and are computed again")
            shutil.rmtree(folder, ignore_errors=True)
        unfinished = Unfinished(folder.with_name(f"{folder.name}{UNFINISHED}"), num_items)
        parts = [range(first, min(first + chunk, num_items)) for first in range(0, num_items, chunk)]
        lacking = [rows for rows in parts if not unfinished.has(rows)]
        done = num_items - sum(map(len, lacking))
        self._tell(done, num_items)
        for rows, made in self._chunks(folder.name, lacking, build):
            unfinished.write(rows, made)
            done += len(rows)
            self._tell(done, num_items)
        unfinished.finish(folder)
        self._room.used(folder)
        self._room.keep_to_limit()


def _open(folder: Path) -> Arrays | None:
    """Returns the arrays of a finished entry; None when it is absent or damaged."""
    try:
        digests = json.loads((folder / "sha256.json").read_text())
        if any(_digest(folder / f"{name}.npy") != digest for name, digest in digests.items()):
            return None
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in digests}
    except (OSError, ValueError):
        return None


def _digest(path: Path) -> str:
    stat = path.stat()
    return _digest_of_version(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _digest_of_version(path: Path, size: int, mtime_ns: int) -> str:
    """Hashes a file once per process and version: entries have gigabytes, and each new task opens them again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
