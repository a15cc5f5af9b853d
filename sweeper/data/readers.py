"""Reading of arrays from the file formats a lab has: one function per format, behind one table.

Every file is seen as named arrays: the columns of a CSV, the variables of a `.mat`, the members of an
`.npz`. No reader ever unpickles.
"""

import csv
import difflib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import DataError, Problem

Format: TypeAlias = Literal["spose-csv", "csv", "txt", "npy", "npz", "mat"]
Arrays: TypeAlias = dict[str, NDArray[Any]]
Reader: TypeAlias = Callable[[Path, Sequence[str]], Arrays]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "txt",
    ".npy": "npy",
    ".npz": "npz",
    ".mat": "mat",
}
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def read_arrays(path: Path, format: Format | None = None, keys: Sequence[str] = ()) -> Arrays:
    """Reads named arrays from a file.

    Args:
        path: the file.
        format: its format; None takes it from the file name's suffix.
        keys: names of the arrays wanted; none means all of them.

    Returns:
        The arrays by name, in the order asked for, else in the file's order. Text is `str` (dtype U).

    Raises:
        DataError: the file is absent, is not in this format, or lacks a key.
    """
    chosen = format or _SUFFIXES.get(path.suffix.lower())
    if chosen is None:
        rule = "the format follows from the suffix, or is named"
        raise _error(path, rule, f"suffix {path.suffix!r}", f"Give `format`: one of {_listed(READERS)}")
    with _told(path, chosen):
        return READERS[chosen](path, keys)


@contextmanager
def _told(path: Path, format: Format) -> Iterator[None]:
    """Turns an absent or damaged file into an error that says so."""
    if not path.is_file():
        raise _error(path, "the file exists", "no file", "Correct the path, or set the variable it is made of")
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # damaged bytes make the libraries below raise anything, MemoryError included
        got = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        rule = f"the file can be read as `{format}`, without pickled objects"
        raise _error(path, rule, got, "Fetch or save the file again, or name its true `format`") from error


def read_array(path: Path, format: Format | None = None, key: str | None = None) -> NDArray[Any]:
    """Reads one array; `key` may be left out where the file holds only one, or a table that is all numbers."""
    arrays = read_arrays(path, format, () if key is None else (key,))
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    columns = [column for name, column in arrays.items() if name]
    if (format or _SUFFIXES.get(path.suffix.lower())) == "csv" and all(c.dtype.kind == "f" for c in columns):
        return np.stack(columns, axis=1)
    raise _error(path, "a `key` says which array is meant", "no key", f"It holds {_listed(arrays)}")


def open_array(path: Path, format: Format | None = None, key: str | None = None) -> "NDArray[Any] | Mat73Array":
    """Reads one array as `read_array` does, but leaves that of a MATLAB 7.3 file where it is."""
    if (format or _SUFFIXES.get(path.suffix.lower())) == "mat":
        with _told(path, "mat"):
            if _is_mat73(path):
                return _open_mat73(path, key)
    return read_array(path, format, key)


def _open_mat73(path: Path, key: str | None) -> "Mat73Array":
    with _hdf5(path) as file:
        names = _wanted(path, () if key is None else (key,), _variables(file))
        if len(names) != 1:
            raise _error(path, "a `key` says which array is meant", "no key", f"It holds {_listed(names)}")
        item = file[names[0]]
        return Mat73Array(path=path, key=names[0], shape=tuple(item.shape[::-1]), dtype=np.dtype(item.dtype))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mat73Array:
    """Stands for an array of a MATLAB 7.3 file, of which parts are read when asked for.

    Attributes:
        path, key: where it lies.
        shape: its shape in MATLAB's order of axes.
        dtype: its type.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        """Returns the part at an index or a slice for every axis."""
        with _told(self.path, "mat"), _hdf5(self.path) as file:
            return np.asarray(file[self.key][index[::-1]]).T


def _read_spose_csv(path: Path, keys: Sequence[str]) -> Arrays:
    """Reads the lab's SPoSE table: row id (unnamed), `image_name`, then `0`..`D-1`."""
    header, rows = _csv_cells(path)
    expected = ["", "image_name", *map(str, range(max(len(header) - 2, 1)))]
    if header != expected:
        wrong = next(((a, b) for a, b in zip(header, expected, strict=False) if a != b), (header[:3], expected[:3]))
        rule = "a SPoSE table has an unnamed first column (row ids), then `image_name`, then `0`, `1`, ..."
        raise _error(path, rule, f"{wrong[0]!r} where {wrong[1]!r} belongs", "Use `format: csv` and name the columns")
    columns = {name: _column([row[i] for _, row in rows]) for i, name in enumerate(header)}
    values = np.stack([_numbers(path, columns[name], name) for name in header[2:]], axis=1)
    ids = _numbers(path, columns[""], "row id").astype(np.int64)
    arrays = {"row_id": ids, "image_name": columns["image_name"].astype(np.str_), "values": values}
    return {key: arrays[key] for key in _wanted(path, keys, arrays)}


def _read_csv(path: Path, keys: Sequence[str]) -> Arrays:
    """Reads the columns of a CSV; a first row of numbers other than 0, 1, 2, ... is data, not a header."""
    header, rows = _csv_cells(path)
    is_data = all(_is_number(cell) for cell in header) and header != [str(i) for i in range(len(header))]
    if is_data:
        rows = [(1, header), *rows]
        header = [str(i) for i in range(len(header))]
    repeated = sorted({name for name in header if header.count(name) > 1}) if len(set(header)) < len(header) else []
    if repeated:
        raise _error(path, "column names are unique", f"{_listed(repeated)} more than once", "Rename the columns")
    wanted = _wanted(path, keys, header)
    return {name: _column([row[header.index(name)] for _, row in rows]) for name in wanted}


def _csv_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the first row, and every other non-blank row with its 1-based line."""
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    if not rows:
        raise _error(path, "the table has rows", "an empty file", None)
    header = rows[0][1]
    for line, row in rows[1:]:
        if len(row) != len(header):
            rule = f"every row has {len(header)} cells like the first"
            raise DataError(Problem(where=f"{path}:{line}", rule=rule, got=f"{len(row)} cells"))
    return header, rows[1:]


def _column(cells: list[str]) -> NDArray[Any]:
    """Turns cells into float64 where all are numbers or empty (NaN), else into text."""
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float64)
    except ValueError:
        return np.array(cells, dtype=np.str_)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(path: Path, column: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Refuses a column of text, naming the first cell that is no number."""
    if column.dtype.kind == "f":
        return column
    row = next(i for i, cell in enumerate(column.tolist()) if cell and not _is_number(cell))
    raise _error(
        path, f"column `{name}` holds numbers", f"{str(column[row])!r} in row {row + 1} under the header", None
    )


def _read_txt(path: Path, keys: Sequence[str]) -> Arrays:
    """Reads one name per line; blank lines are skipped."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    _wanted(path, keys, ("lines",))
    return {"lines": np.array([line for line in lines if line], dtype=np.str_)}


def _read_npy(path: Path, keys: Sequence[str]) -> Arrays:
    """Maps the one array of a `.npy` into memory."""
    if zipfile.is_zipfile(path):
        raise _error(path, "the file is a `.npy`", "an archive of arrays", "Use `format: npz` and a key")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    _wanted(path, keys, ("array",))
    return {"array": _text(array)}


def _read_npz(path: Path, keys: Sequence[str]) -> Arrays:
    """Reads members of an `.npz`."""
    if not zipfile.is_zipfile(path):
        raise _error(path, "the file is an `.npz`", "no zip archive", "Use `format: npy` if it is a single array")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {key: _text(archive[key]) for key in _wanted(path, keys, archive.files)}


def _read_mat(path: Path, keys: Sequence[str]) -> Arrays:
    """Reads variables of a MATLAB file, version 5 by scipy, version 7.3 by h5py."""
    if _is_mat73(path):
        return _read_mat73(path, keys)
    import scipy.io

    wanted = _wanted(path, keys, [name for name, _, _ in scipy.io.whosmat(path)])
    content = scipy.io.loadmat(path, variable_names=wanted)
    return {name: _text(_cells(content[name])) for name in wanted}


def _is_mat73(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(1024)
    return head[:10] == b"MATLAB 7.3" or _HDF5_MAGIC in (head[:8], head[512:520])


def _hdf5(path: Path) -> Any:
    """Opens a version 7.3 file for reading."""
    try:
        import h5py  # type: ignore[import-untyped, unused-ignore]  # optional, and without stubs
    except ImportError as error:
        remedy = "Install it with `pip install 'sweeper[matlab73]'`, or save with `-v7` in MATLAB"
        raise _error(path, "reading MATLAB 7.3 files needs h5py", "h5py is not installed", remedy) from error
    return h5py.File(path, "r")


def _variables(file: Any) -> list[str]:
    return [name for name in file if not name.startswith("#")]


def _read_mat73(path: Path, keys: Sequence[str]) -> Arrays:
    """Reads a version 7.3 file (HDF5), with the axes in MATLAB's order."""
    with _hdf5(path) as file:
        return {name: _text(_mat73_array(file, file[name])) for name in _wanted(path, keys, _variables(file))}


def _mat73_array(file: Any, item: Any) -> NDArray[Any]:
    kind = item.attrs.get("MATLAB_class", b"")
    array: NDArray[Any] = np.asarray(item[()]).T
    if kind == b"cell":
        return np.array(["".join(map(chr, np.ravel(file[ref][()]))) for ref in array.ravel()], dtype=np.str_)
    if kind == b"char":
        return np.array(["".join(map(chr, row)) for row in array], dtype=np.str_)
    return array


def _cells(array: NDArray[Any]) -> NDArray[Any]:
    """Flattens a MATLAB cell array of strings."""
    if array.dtype.kind != "O":
        return array
    return np.array(["".join(map(str, np.ravel(cell))) for cell in array.ravel()], dtype=np.str_)


def _text(array: NDArray[Any]) -> NDArray[Any]:
    """Makes bytes text, and strips the padding of fixed-width text."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    return np.char.strip(array) if array.dtype.kind == "U" else array


def _wanted(path: Path, keys: Sequence[str], available: Iterable[str]) -> list[str]:
    """Returns the keys to read, or refuses those that the file lacks, all at once."""
    names = list(available)
    missing = [key for key in keys if key not in names]
    if not missing:
        return list(keys) or names
    near = difflib.get_close_matches(missing[0], names, n=1)
    hint = f"; did you mean `{near[0]}`" if near else ""
    raise _error(path, f"the file holds {_listed(missing)}", "no such array", f"It holds {_listed(names)}{hint}")


def _listed(names: Iterable[str], limit: int = 12) -> str:
    shown = [f"`{name}`" for name in names]
    return ", ".join(shown[:limit]) + (f" and {len(shown) - limit} more" if len(shown) > limit else "")


def _error(path: Path, rule: str, got: str, remedy: str | None) -> DataError:
    return DataError(Problem(where=str(path), rule=rule, got=got, remedy=remedy))


READERS: dict[Format, Reader] = {
    "spose-csv": _read_spose_csv,
    "csv": _read_csv,
    "txt": _read_txt,
    "npy": _read_npy,
    "npz": _read_npz,
    "mat": _read_mat,
}
