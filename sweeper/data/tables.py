"""Target tables: one row of numbers per image name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.data.readers import Format, read_arrays
from sweeper.errors import DataError, Problem


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Table:
    """Holds the rows of a target table in the file's order.

    Attributes:
        names: one per row, unique; `position_names` where the file has none.
        values: float32 [N, D].
        row_ids: int64 [N], the ids printed in the file, or None.
        dimensions: D names.
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    row_ids: NDArray[np.int64] | None
    dimensions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, positions: Sequence[int]) -> "Table":
        """Returns the rows at `positions`, in that order."""
        index = np.array(positions, dtype=np.int64)
        return Table(
            names=tuple(self.names[i] for i in index),
            values=self.values[index],
            row_ids=None if self.row_ids is None else self.row_ids[index],
            dimensions=self.dimensions,
        )


def numbered(table: Table) -> Table:
    """Gives rows without ids their positions as ids."""
    if table.row_ids is not None:
        return table
    return replace(table, row_ids=np.arange(len(table), dtype=np.int64))


def position_names(n: int, prefix: str = "row") -> tuple[str, ...]:
    """Names rows that the file does not name: `row_0000`, `row_0001`, ..."""
    return tuple(f"{prefix}_{i:04d}" for i in range(n))


def read_table(
    path: Path,
    format: Format | None,
    *,
    names: str | None,
    values: str | Sequence[str] | None,
    row_ids: str | None,
    dimensions: Sequence[str] | None,
) -> Table:
    """Reads a target table.

    Args:
        path: the file.
        format: its format, or None for the suffix's.
        names: the array or column of image names; None for a table without names, and for `spose-csv`.
        values: the array [N, D], or the columns; None means every column that is not named otherwise.
        row_ids: the array or column of row ids, if any.
        dimensions: names of the D columns; None takes the column names, else `0`..`D-1`.
    """
    if format == "spose-csv":
        names, values, row_ids = "image_name", "values", "row_id"
    columns = [values] if isinstance(values, str) else values
    labels = [key for key in (names, row_ids) if key is not None]
    arrays = read_arrays(path, format, () if columns is None else [*labels, *columns])
    if not set(labels) <= set(arrays):
        read_arrays(path, format, labels)  # refuses them, and says what the file holds
    if columns is None:
        columns = [key for key in arrays if key not in labels]
    matrix = _matrix(path, {key: arrays[key] for key in columns})
    return Table(
        names=position_names(len(matrix)) if names is None else _names(path, arrays[names], len(matrix)),
        values=matrix,
        row_ids=None if row_ids is None else _ids(path, arrays[row_ids], len(matrix)),
        dimensions=_dimensions(path, dimensions, columns, matrix.shape[1]),
    )


def _matrix(path: Path, columns: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Joins columns, or takes the one array: float32 [N, D]."""
    problems = [_text_column(path, key, array) for key, array in columns.items() if array.dtype.kind not in "fiu"]
    if problems:
        raise DataError(problems)
    arrays = list(columns.values())
    if len({len(array) for array in arrays}) > 1 or not arrays:
        raise DataError(Problem(where=str(path), rule="the value columns exist and are of one length"))
    parts = [array[:, None] if array.ndim == 1 else array for array in arrays]
    bad = next((part.shape for part in parts if part.ndim != 2), None)
    if bad is not None:
        raise DataError(Problem(where=str(path), rule="target values are a matrix [N, D]", got=f"shape {bad}"))
    return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)


def _text_column(path: Path, key: str, array: NDArray[Any]) -> Problem:
    example = array.ravel()[0] if array.size else ""
    remedy = "Say which columns hold values with `values: [...]`"
    rule = f"the values in `{key}` are numbers"
    return Problem(where=str(path), rule=rule, got=f"{array.dtype} such as {str(example)!r}", remedy=remedy)


def _names(path: Path, array: NDArray[Any], n: int) -> tuple[str, ...]:
    flat = array.ravel()
    if flat.dtype.kind == "f" and np.all(flat == np.floor(flat)):
        flat = flat.astype(np.int64)
    names = tuple(map(str, flat.tolist()))
    problems = []
    if len(names) != n:
        rule = f"there is one name for each of the {n} rows"
        problems.append(Problem(where=str(path), rule=rule, got=f"{len(names)}"))
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        got = ", ".join(repeated[:5]) + (f" and {len(repeated) - 5} more" if len(repeated) > 5 else "")
        problems.append(Problem(where=str(path), rule="image names are unique", got=f"{got} more than once"))
    if problems:
        raise DataError(problems)
    return names


def _ids(path: Path, array: NDArray[Any], n: int) -> NDArray[np.int64]:
    flat = array.ravel()
    whole = flat.dtype.kind in "iu" or (flat.dtype.kind == "f" and bool(np.all(flat == np.floor(flat))))
    if not whole or len(flat) != n or len(np.unique(flat)) != n:
        got = f"{len(flat)} of type {flat.dtype}, {len(np.unique(flat))} different"
        raise DataError(Problem(where=str(path), rule=f"row ids are {n} different whole numbers", got=got))
    ids: NDArray[np.int64] = flat.astype(np.int64)
    return ids


def _dimensions(path: Path, given: Sequence[str] | None, columns: Sequence[str], depth: int) -> tuple[str, ...]:
    if given is not None and len(given) != depth:
        rule = f"`dimensions` names each of the {depth} columns"
        raise DataError(Problem(where=str(path), rule=rule, got=f"{len(given)} names"))
    if given is not None:
        return tuple(given)
    return tuple(columns) if len(columns) == depth else tuple(map(str, range(depth)))
