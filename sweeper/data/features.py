"""The cache of frozen features: computed once per content, memory-mapped by every trial on the node.

A cache entry is a folder named by the hash of all that can change its numbers; it holds one `.npy` file per
tensor. It is built under a lock, in chunks, beside its final place, and moved there whole.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from sweeper.disk import explained
from sweeper.notices import notice

Arrays = dict[str, NDArray[Any]]
Chunk = Mapping[str, NDArray[Any]]
Build = Callable[[range], Chunk]
Chunks = Callable[[str, Iterable[range], Build], Iterator[tuple[range, Chunk]]]
"""Yields the chunks of an entry, given its name, the rows of each, and what makes one; in any order."""


def build_chunks(entry: str, chunks: Iterable[range], build: Build) -> Iterator[tuple[range, Chunk]]:
    """Makes every chunk here."""
    return ((rows, build(rows)) for rows in chunks)


class FeatureCache:
    """Finds or builds features below one folder, which all workers of a node share."""

    def __init__(self, root: Path, *, chunk: int = 64, chunks: Chunks = build_chunks) -> None:
        """Remembers where entries lie, how many items make a chunk, and where chunks come from."""
        self._root = root
        self._chunk = chunk
        self._chunks = chunks

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    def get(self, signature: Mapping[str, Any], num_items: int, build: Build) -> Arrays:
        """Returns the features of some items, memory-mapped read-only.

        Args:
            signature: everything that can change the numbers, as JSON values: weights, activation, preprocessing,
                image bytes, cut, storage type. The chunk is added: batch sizes change last bits.
            num_items: N.
            build: makes the features of some items, [n, ...] by name.

        Returns:
            [N, ...] by name.

        Raises:
            StoreError: the disk is full, or the folder is not yours to write.
        """
        text = json.dumps({**signature, "items": num_items, "chunk": self._chunk}, sort_keys=True)
        folder = self._root / hashlib.sha256(text.encode()).hexdigest()[:32]
        with explained(self._root, "--cache"):
            self._root.mkdir(parents=True, exist_ok=True)
            found = _open(folder)
            if found is None:
                with FileLock(f"{folder}.lock"):
                    found = _open(folder)
                    if found is None:
                        self._build(folder, num_items, build)
                        found = _open(folder)
        assert found is not None
        return found

    def _build(self, folder: Path, num_items: int, build: Build) -> None:
        if folder.exists():
            notice(f"damaged: {folder}; these features are not used, and are computed again")
        for remains in (folder, *folder.parent.glob(f"{folder.name}.*.tmp")):  # damaged, or left by a killed process
            shutil.rmtree(remains, ignore_errors=True)
        scratch = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
        scratch.mkdir()
        parts = [range(first, min(first + self._chunk, num_items)) for first in range(0, num_items, self._chunk)]
        with ExitStack() as opened:
            files: dict[str, tuple[BinaryIO, int]] = {}  # each with the place of its first row
            for rows, chunk in self._chunks(folder.name, parts, build):
                for name, values in chunk.items():
                    if name not in files:
                        made = opened.enter_context((scratch / f"{name}.npy").open("wb"))
                        _write_header(made, values.dtype, (num_items, *values.shape[1:]))
                        files[name] = made, made.tell()
                    file, begin = files[name]
                    file.seek(begin + rows.start * (values.nbytes // len(rows)))
                    file.write(np.ascontiguousarray(values).data)  # written through a map, a full disk kills
        _write_digests(scratch, sorted(files))
        scratch.rename(folder)


def kept_entries(root: Path) -> dict[Path, int]:
    """Returns the finished entries below a folder with their bytes."""
    folders = sorted(path.parent for path in root.glob("*/sha256.json")) if root.is_dir() else []
    return {folder: sum(file.stat().st_size for file in folder.iterdir()) for folder in folders}


def remove_entry(folder: Path) -> None:
    """Removes an entry; a worker that has it open reads on, and the next one computes it again."""
    with FileLock(f"{folder}.lock"):
        shutil.rmtree(folder, ignore_errors=True)


def _write_header(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    write_array_header_1_0(file, header)


def _write_digests(folder: Path, names: Sequence[str]) -> None:
    digests = {name: _digest(folder / f"{name}.npy") for name in names}
    (folder / "sha256.json").write_text(json.dumps(digests, sort_keys=True))


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
