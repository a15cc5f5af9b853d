"""From the fields of a manifest to arrays: tables, images, RDMs and trials, each checked by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.data.fields import ArrayRef, ImageSource, ReferenceSource, RowList, TableSource, TripletSource
from sweeper.data.images import ImageSet
from sweeper.data.readers import read_array, read_arrays
from sweeper.data.relabel import concept_of
from sweeper.data.tables import Table, position_names, read_table
from sweeper.errors import DataError, Problem

SYMMETRY_TOLERANCE = 1e-5  # relative to the largest entry: averages kept as float32 pass


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Triplets:
    """Holds human odd-one-out trials.

    Attributes:
        names: what the positions in `rows` count.
        rows: int64 [T, 3], positions in `names`.
        odd_position: int64 [T], 0, 1 or 2: which of the three was chosen as the odd one.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    odd_position: NDArray[np.int64]


def table_of(source: TableSource) -> Table:
    """Reads a target table and refuses values that are not finite."""
    dimensions = None if source.dimensions is None else list(map(str, _array(source.dimensions).ravel().tolist()))
    table = read_table(
        source.file,
        source.format,
        names=source.names,
        values=source.values,
        row_ids=source.row_ids,
        dimensions=dimensions,
    )
    if not table.values.size:
        raise DataError(Problem(where=str(source.file), rule="the table has rows and columns of targets", got="none"))
    bad = np.flatnonzero(~np.isfinite(table.values).all(axis=1))
    if len(bad):
        got = f"{len(bad)} rows with NaN or infinity, first {', '.join(table.names[i] for i in bad[:5])}"
        remedy = "Complete these rows, or take them out of the table"
        raise DataError(Problem(where=str(source.file), rule="targets are finite numbers", got=got, remedy=remedy))
    return table


def image_set_of(source: ImageSource, names: Sequence[str] | None) -> ImageSet:
    """Finds the images called `names`, in that order; None takes all that the source names itself."""
    if source.file is not None:
        return _image_array(source, source.file, names)
    assert source.folder is not None  # the manifest's rule: a folder or a file
    return _image_folder(source, source.folder, names)


def rows_of(rows: RowList, names_by_id: Mapping[int, str]) -> tuple[str, ...]:
    """Returns the names of listed rows; an id that no table prints becomes `#id`."""
    items: list[Any] = _array(rows).ravel().tolist() if isinstance(rows, ArrayRef) else list(rows)
    names = tuple(item if isinstance(item, str) else names_by_id.get(int(item), f"#{int(item)}") for item in items)
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        where = str(rows.file) if isinstance(rows, ArrayRef) else "rows"
        raise DataError(Problem(where=where, rule="a row is listed once", got=f"{', '.join(repeated[:5])} repeated"))
    return names


def rdm_of(source: ReferenceSource) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Reads one reference RDM: float64 [M, M], checked to be one, and notes on what was set to zero."""
    rdm = _reduced(source, read_array(source.file, source.format, source.key))
    notes = []
    diagonal = np.diagonal(rdm)
    if rdm.shape[0] == rdm.shape[1] and np.isnan(diagonal).all():
        np.fill_diagonal(rdm, 0.0)
        notes.append(f"{source.name}: the diagonal was NaN, taken as 0")
    missing = int(np.isnan(rdm).sum())
    if missing and source.nan == "zero":
        rdm = np.nan_to_num(rdm, nan=0.0)
        notes.append(f"{source.name}: {missing} NaN taken as 0 (nan: zero)")
    faults = rdm_faults(rdm)
    if faults:
        where = str(source.file) + (f" `{source.key}`" if source.key else "")
        raise DataError([Problem(where=where, rule=rule, got=got, remedy=remedy) for rule, got, remedy in faults])
    return rdm, tuple(notes)


def rdm_faults(rdm: NDArray[np.float64]) -> list[tuple[str, str, str | None]]:
    """Returns what keeps a matrix from being an RDM: (rule, got, remedy)."""
    if rdm.ndim != 2 or rdm.shape[0] != rdm.shape[1]:
        return [("an RDM is square", f"shape {rdm.shape}", None)]
    faults: list[tuple[str, str, str | None]] = []
    bad = int((~np.isfinite(rdm)).sum())
    if bad:
        faults.append(
            ("an RDM is finite", f"{bad} entries NaN or infinite", "Use `nan: zero` if NaN means no distance")
        )
        rdm = np.nan_to_num(rdm, posinf=0.0, neginf=0.0)
    largest = float(np.abs(rdm).max(initial=0.0))
    asymmetry = float(np.abs(rdm - rdm.T).max(initial=0.0))
    if asymmetry > SYMMETRY_TOLERANCE * largest:
        remedy = "Average it with its transpose if both halves are estimates of the same"
        faults.append(("an RDM is symmetric", f"a difference of {asymmetry:.3g}", remedy))
    diagonal = float(np.abs(np.diagonal(rdm)).max(initial=0.0))
    if diagonal > SYMMETRY_TOLERANCE * largest:
        remedy = "A diagonal of ones means similarities: give 1 - similarity"
        faults.append(("the diagonal of an RDM is 0", f"up to {diagonal:.3g}", remedy))
    return faults


def triplets_of(source: TripletSource, names: Sequence[str]) -> Triplets:
    """Reads odd-one-out trials whose positions count `names`."""
    arrays = read_arrays(source.file, source.format, (source.key, source.odd))
    rows, odd = arrays[source.key], arrays[source.odd].ravel()
    problems = []
    where = str(source.file)
    if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind not in "iu":
        rule = f"`{source.key}` holds three whole numbers per trial"
        problems.append(Problem(where=where, rule=rule, got=f"{rows.dtype} {rows.shape}"))
    elif rows.size and (rows.min() < 0 or rows.max() >= len(names)):
        rule = f"trials count rows 0..{len(names) - 1}"
        problems.append(Problem(where=where, rule=rule, got=f"{rows.min()}..{rows.max()}"))
    if odd.dtype.kind not in "iu" or len(odd) != len(rows) or not set(np.unique(odd).tolist()) <= {0, 1, 2}:
        got = f"{len(odd)} values {np.unique(odd)[:5].tolist()} for {len(rows)} trials"
        problems.append(Problem(where=where, rule=f"`{source.odd}` is 0, 1 or 2 for each trial", got=got))
    if problems:
        raise DataError(problems)
    return Triplets(names=tuple(names), rows=rows.astype(np.int64), odd_position=odd.astype(np.int64))


def _array(ref: ArrayRef) -> NDArray[Any]:
    return read_array(ref.file, ref.format, ref.key)


def _image_folder(source: ImageSource, folder: Path, names: Sequence[str] | None) -> ImageSet:
    if not folder.is_dir():
        remedy = (
            "Put the images there (the manifest's `source` says where they come from), correct the path or the "
            "environment variable it is made of, or run the same spec with --stand-in (self-made data, tiny CLIP)"
        )
        raise DataError(Problem(where=str(folder), rule="the folder of images exists", got="no folder", remedy=remedy))
    if names is None and isinstance(source.names, tuple):
        names = source.names
    if names is None or "*" in source.pattern:
        files = tuple(sorted(path for path in folder.glob(source.pattern) if path.is_file()))
        found = dict(zip((file.stem for file in files), files, strict=True))
        names = tuple(found) if names is None else names
        paths = tuple(found.get(name, folder / name) for name in names)
    else:
        paths = tuple(folder / _file_name(source.pattern, name) for name in names)
    if not paths:
        raise DataError(Problem(where=str(folder), rule=f"files match `{source.pattern}`", got="none"))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        shown = ", ".join(path.name for path in missing[:3])
        got = f"{len(missing)} of {len(paths)} are missing, first {shown}"
        remedy = "Complete the folder, or give the `pattern` by which a name becomes a file"
        raise DataError(Problem(where=str(folder), rule="every image exists", got=got, remedy=remedy))
    return ImageSet(names=tuple(names), sources=paths)


def _file_name(pattern: str, name: str) -> str:
    return pattern.replace("{concept}", concept_of(name)).replace("{name}", name)


def _image_array(source: ImageSource, file: Path, names: Sequence[str] | None) -> ImageSet:
    pixels = read_array(file, None, source.key)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        got = f"{pixels.dtype} {pixels.shape}"
        raise DataError(Problem(where=str(file), rule="images are an array uint8 [N, H, W, 3]", got=got))
    own = source.names
    if isinstance(own, str):
        own = tuple(map(str, read_array(file, None, own).ravel().tolist()))
    if own is None:
        own = position_names(len(pixels), "image") if names is None else tuple(names)
    if len(own) != len(pixels) or len(set(own)) != len(own):
        got = f"{len(own)} names, {len(set(own))} different, for {len(pixels)} images"
        remedy = "Give `names` of the images if the table has other rows, or another order"
        raise DataError(Problem(where=str(file), rule="every image has a name of its own", got=got, remedy=remedy))
    images = ImageSet(names=own, sources=pixels)
    if names is None or tuple(names) == own:
        return images
    position = {name: i for i, name in enumerate(own)}
    missing = [name for name in names if name not in position]
    if missing:
        got = f"{len(missing)} missing, first {', '.join(missing[:3])}"
        raise DataError(Problem(where=str(file), rule="every image exists", got=got))
    return images.subset([position[name] for name in names])


def _reduced(source: ReferenceSource, array: NDArray[Any]) -> NDArray[np.float64]:
    """Selects and averages leading axes until one matrix is left."""
    where = str(source.file)
    if array.dtype.kind not in "fiu" or array.ndim < 2:
        raise DataError(Problem(where=where, rule="an RDM is numbers [N, N]", got=f"{array.dtype} {array.shape}"))
    leading = array.shape[:-2]
    fits = len(source.select) <= len(leading) and all(
        index is None or index < length for index, length in zip(source.select, leading, strict=False)
    )
    kept = [axis for axis in range(len(leading)) if axis >= len(source.select) or source.select[axis] is None]
    if not fits or not set(source.mean_over) <= set(kept):
        rule = "`select` and `mean_over` name leading axes of the array, and `select` an index within each"
        got = f"select {list(source.select)}, mean_over {list(source.mean_over)} for shape {array.shape}"
        raise DataError(Problem(where=where, rule=rule, got=got))
    chosen = np.array(array[tuple(slice(None) if i is None else i for i in source.select)], dtype=np.float64)
    axes = tuple(kept.index(axis) for axis in source.mean_over)
    matrix: NDArray[np.float64] = chosen.mean(axis=axes) if axes else chosen
    if matrix.ndim != 2:
        remedy = f"Choose with `select` or average with `mean_over` over the {len(leading)} leading axes"
        raise DataError(Problem(where=where, rule="one matrix is left", got=f"shape {matrix.shape}", remedy=remedy))
    return matrix
