"""RDM series in parts: some consecutive times of one participant, whatever file and order of axes they lie in."""

import hashlib
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sweeper.data.facts import file_digest, kept
from sweeper.data.fields import SeriesSource
from sweeper.data.readers import open_array, read_arrays
from sweeper.errors import DataError, Problem

Rows: TypeAlias = NDArray[np.int64]

_ENTRIES = 2**21  # of one part, in float64: 16 MiB


class Blocks(Protocol):
    """Gives parts of a series [participants, T, N, N]."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns participants, times, stimuli, stimuli."""

    @property
    def digest(self) -> str:
        """Returns what stands for the values."""

    def read(self, participant: int, times: range, rows: Rows | None = None) -> NDArray[np.float64]:
        """Returns some consecutive times of one participant, as stored: float64 [t, n, n]; None takes all rows."""


class _Stored(Protocol):
    """An array that gives parts of itself, in memory or in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FileBlocks:
    """Reads parts of an array of a file.

    Attributes:
        array: the array.
        axes: what its axes are; `participant` or `time` may be absent.
        digest: SHA-256 of the file's bytes with the keys and the axes.
    """

    array: _Stored
    axes: tuple[str, ...]
    digest: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns participants, times, stimuli, stimuli."""
        length = dict(zip(self.axes, self.array.shape, strict=True))
        stimuli = [n for axis, n in zip(self.axes, self.array.shape, strict=True) if axis == "stimulus"]
        return length.get("participant", 1), length.get("time", 1), stimuli[0], stimuli[1]

    def read(self, participant: int, times: range, rows: Rows | None = None) -> NDArray[np.float64]:
        """Returns some consecutive times of one participant, as stored: float64 [t, n, n]; None takes all rows."""
        _let_go(self.array)
        wanted = {"participant": participant, "time": slice(times.start, times.stop), "stimulus": slice(None)}
        part = self.array[tuple(wanted[axis] for axis in self.axes)]
        left = [axis for axis in self.axes if axis != "participant"]
        part = np.moveaxis(part, left.index("time"), 0) if "time" in left else part[None]
        if rows is not None:  # of a mapped file the other rows are never read
            part = part[:, rows[:, None], rows]
        return np.asarray(part, dtype=np.float64)


def _let_go(array: _Stored) -> None:
    """Lets go of what was read of a mapped file before: it would count as memory of this process, gigabytes of it."""
    mapped = getattr(array, "base", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def open_blocks(source: SeriesSource) -> FileBlocks:
    """Opens the array of a series; a large one stays in its file.

    Raises:
        DataError: the file cannot be read, lacks a key, or its array is not what `axes` says.
    """
    where = str(source.file) + (f" `{source.key}`" if isinstance(source.key, str) else "")
    array: _Stored
    if isinstance(source.key, tuple):
        arrays = read_arrays(source.file, source.format, source.key)
        if len({part.shape for part in arrays.values()}) > 1:
            shapes = ", ".join(f"`{key}` {part.shape}" for key, part in arrays.items())
            raise DataError(Problem(where=where, rule="the arrays of all times have the same shape", got=shapes))
        array, axes = np.stack(list(arrays.values())), ("time", *(axis for axis in source.axes if axis != "time"))
    else:
        array, axes = open_array(source.file, source.format, source.key), source.axes
    dtype = np.dtype(getattr(array, "dtype", object))
    if dtype.kind not in "fiu":
        remedy = "Save the dissimilarities as real numbers, such as float32"
        raise DataError(Problem(where=where, rule="a series is real numbers", got=f"dtype {dtype}", remedy=remedy))
    if len(array.shape) != len(axes):
        rule = f"a series is numbers [{', '.join(axes)}]"
        remedy = "Give `axes` as the array has them"
        raise DataError(Problem(where=where, rule=rule, got=f"shape {tuple(array.shape)}", remedy=remedy))
    identity = json.dumps([file_digest(source.file), source.key, axes])
    blocks = FileBlocks(array=array, axes=axes, digest=hashlib.sha256(identity.encode()).hexdigest())
    if blocks.shape[2] != blocks.shape[3]:
        remedy = "Give `axes` as the array has them"
        got = f"{blocks.shape[2]} x {blocks.shape[3]} of shape {tuple(array.shape)}"
        raise DataError(Problem(where=where, rule="the RDMs of a series are square", got=got, remedy=remedy))
    return blocks


def parts_of(num_times: int, entries: int) -> list[range]:
    """Cuts times, each of which takes so many entries, into parts of about 16 MiB."""
    step = max(1, _ENTRIES // entries)
    return [range(first, min(first + step, num_times)) for first in range(0, num_times, step)]


Slice: TypeAlias = tuple[int, int]
"""Participant and time, 0-based."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """States what one pass over a series finds.

    Attributes:
        low, high: smallest and largest value, diagonals included, NaN taken as 0.
        num_nan, num_nan_diagonal: how many NaN there are, off and on the diagonals.
        num_infinite: how many infinities.
        asymmetry: largest difference of two entries that mirror each other.
        diagonal: largest size of an entry on a diagonal.
        num_constant: how many slices have dissimilarities that are all equal.
        slices: the first with a fault, by `nan` (off the diagonal), `infinite`, `constant`; the worst one by
            `asymmetry`, `diagonal`.
    """

    low: float
    high: float
    num_nan: int
    num_nan_diagonal: int
    num_infinite: int
    asymmetry: float
    diagonal: float
    num_constant: int
    slices: Mapping[str, Sequence[Slice]]


_SLICES_SHOWN = 5


def survey(blocks: Blocks) -> Survey:
    """Looks through a series in one pass; of a large one the result is kept on disk, by its content."""
    participants, times, stimuli, _ = blocks.shape
    facts = kept(f"survey 2 {blocks.digest}", 8 * participants * times * stimuli**2, lambda: _look_through(blocks))
    slices = {fault: tuple((int(p), int(t)) for p, t in found) for fault, found in facts["slices"].items()}
    return Survey(**{**facts, "slices": slices})


def _look_through(blocks: Blocks) -> dict[str, Any]:
    participants, num_times, num_stimuli, _ = blocks.shape
    found = {"low": np.inf, "high": -np.inf, "asymmetry": 0.0, "diagonal": 0.0}
    counts = {"num_nan": 0, "num_nan_diagonal": 0, "num_infinite": 0, "num_constant": 0}
    slices: dict[str, list[Slice]] = {fault: [] for fault in ("nan", "infinite", "constant", "asymmetry", "diagonal")}
    for participant in range(participants):
        for times in parts_of(num_times, num_stimuli**2):
            part = blocks.read(participant, times)
            missing, infinite = np.isnan(part), np.isinf(part)
            on_diagonal = np.diagonal(missing, axis1=1, axis2=2).sum(axis=1)
            off_diagonal = missing.sum(axis=(1, 2)) - on_diagonal
            counts["num_nan_diagonal"] += int(on_diagonal.sum())
            counts["num_nan"] += int(off_diagonal.sum())
            counts["num_infinite"] += int(infinite.sum())
            part = np.where(missing | infinite, 0.0, part)
            found["low"] = min(found["low"], float(part.min()))
            found["high"] = max(found["high"], float(part.max()))
            constant = _constant_slices(part)
            counts["num_constant"] += int(constant.sum())
            for fault, has in (
                ("nan", off_diagonal > 0),
                ("infinite", infinite.any(axis=(1, 2))),
                ("constant", constant),
            ):
                slices[fault] += [(participant, times[t]) for t in np.flatnonzero(has)]
                del slices[fault][_SLICES_SHOWN:]
            diagonal = np.diagonal(part, axis1=1, axis2=2)
            for fault, size in (
                ("asymmetry", np.abs(part - part.swapaxes(1, 2)).max(axis=(1, 2))),
                ("diagonal", np.abs(diagonal).max(axis=1)),
            ):
                if size.max() > found[fault]:
                    found[fault], slices[fault] = float(size.max()), [(participant, times[int(size.argmax())])]
    return {**found, **counts, "slices": slices}


def _constant_slices(part: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tells of each slice whether its entries off the diagonal are all the same."""
    off_diagonal = part.copy()
    index = np.arange(part.shape[1])
    off_diagonal[:, index, index] = part[:, :1, 1]  # an entry that counts anyway
    return np.asarray(np.ptp(off_diagonal, axis=(1, 2)) == 0)
