"""A cache entry in the making: rows are written as they come, and a later builder goes on behind a killed one.

The folder holds the `.npy` files at their final size and `made.jsonl`, a line for each chunk that is on disk: its rows
and the SHA-256 of its bytes. What does not match its line is made again.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import dtype_to_descr, read_array_header_1_0, read_magic, write_array_header_1_0
from numpy.typing import NDArray

_JOURNAL = "made.jsonl"


class Unfinished:
    """Writes the chunks of one entry of N items; one process at a time."""

    def __init__(self, folder: Path, num_items: int) -> None:
        """Makes the folder, or takes up what another process left in it."""
        self._folder, self._num_items = folder, num_items
        folder.mkdir(exist_ok=True)
        self._digests = self._read_journal()

    def has(self, rows: range) -> bool:
        """Tells whether some rows are here as they were written."""
        key = f"{rows.start}:{rows.stop}"
        if key not in self._digests:
            return False
        try:
            return self._digests[key] == {name: self._digest_of(name, rows) for name in self._digests[key]}
        except (OSError, ValueError):
            return False

    def write(self, rows: range, chunk: Mapping[str, NDArray[Any]]) -> None:
        """Writes some rows, [n, ...] by name, and notes them."""
        for name, values in chunk.items():
            path = self._path(name)
            if not path.exists():
                self._begin(path, values)
            with path.open("r+b") as file:  # not through a map: there a full disk kills
                _, _, begin = _header(file)
                file.seek(begin + rows.start * (values.nbytes // len(rows)))
                file.write(np.ascontiguousarray(values).data)
        digests = {
            name: hashlib.sha256(np.ascontiguousarray(values).data).hexdigest() for name, values in chunk.items()
        }
        with (self._folder / _JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(f"{json.dumps({f'{rows.start}:{rows.stop}': digests})}\n")

    def finish(self, folder: Path) -> None:
        """Moves the entry to its place, whole, with the digests of its files."""
        (self._folder / _JOURNAL).unlink()
        digests = {path.stem: _digest(path) for path in sorted(self._folder.glob("*.npy"))}
        (self._folder / "sha256.json").write_text(json.dumps(digests, sort_keys=True))
        self._folder.rename(folder)

    def _begin(self, path: Path, values: NDArray[Any]) -> None:
        """Writes the header of a file of all rows, and gives it its size."""
        shape = (self._num_items, *values.shape[1:])
        beside = path.with_suffix(".tmp")
        with beside.open("wb") as file:
            header = {"descr": dtype_to_descr(values.dtype), "fortran_order": False, "shape": shape}
            write_array_header_1_0(file, header)
            file.truncate(file.tell() + self._num_items * (values.nbytes // len(values)))
        beside.rename(path)

    def _digest_of(self, name: str, rows: range) -> str:
        with self._path(name).open("rb") as file:
            shape, dtype, begin = _header(file)
            row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
            file.seek(begin + rows.start * row)
            return hashlib.sha256(file.read(len(rows) * row)).hexdigest()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npy"

    def _read_journal(self) -> dict[str, dict[str, str]]:
        try:
            lines = (self._folder / _JOURNAL).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        found: dict[str, dict[str, str]] = {}
        for line in lines:
            try:
                found |= json.loads(line)
            except ValueError:  # the line that was being written
                continue
        return found


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Reads shape, type and the place of the first row."""
    read_magic(file)
    shape, _, dtype = read_array_header_1_0(file)
    return shape, dtype, file.tell()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
