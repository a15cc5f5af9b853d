"""Writes tables (lists of rows) as text, CSV, JSON or Parquet; None is empty, null, and never NaN."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, get_args

Format = Literal["text", "csv", "json", "envelope", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)


def write(
    rows: Sequence[Mapping[str, Any]],
    format: Format,
    file: str | Path | IO[Any],
    *,
    columns: Iterable[str] | None = None,
) -> None:
    """Writes a table.

    Args:
        rows: the table.
        format: one of `FORMATS`.
        file: a path, a binary stream, or a text stream (a Parquet file then goes to its binary buffer).
        columns: the columns in order; default: those of the rows. Needed for the header of an empty table.
    """
    data = dump(rows, format, columns=columns)
    if isinstance(file, str | Path):
        Path(file).write_bytes(data)
    elif not isinstance(file, io.TextIOBase):
        file.write(data)
    elif format == "parquet":
        file.flush()
        file.buffer.write(data)
    else:
        file.write(data.decode())


def dump(rows: Sequence[Mapping[str, Any]], format: Format, *, columns: Iterable[str] | None = None) -> bytes:
    """Returns the bytes that `write` writes."""
    names = tuple(dict.fromkeys(name for row in rows for name in row) if columns is None else columns)
    clean = [{name: _present(row.get(name)) for name in names} for row in rows]
    return _WRITERS[format](clean, names)


def _json(rows: list[dict[str, Any]], names: tuple[str, ...]) -> bytes:
    del names
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return f"[\n{lines}\n]\n".encode() if rows else b"[]\n"


def _envelope(rows: list[dict[str, Any]], names: tuple[str, ...]) -> bytes:
    """What `--json` of every verb prints; `json` is the bare list."""
    return b'{"schema_version": 1, "rows": ' + _json(rows, names).rstrip() + b"}\n"


def _csv(rows: list[dict[str, Any]], names: tuple[str, ...]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if names:
        writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    return text.getvalue().encode()


def _text(rows: list[dict[str, Any]], names: tuple[str, ...]) -> bytes:
    """Returns every column in full, two blanks between; the table for people is `sweeper.reporting.text`."""
    cells = [list(names), *([_short(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(names))]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)
    return ("\n".join(lines) + "\n").encode() if names else b""


def _parquet(rows: list[dict[str, Any]], names: tuple[str, ...]) -> bytes:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    table = pa.table({name: _column(pa, [row[name] for row in rows]) for name in names})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _column(pa: Any, values: list[Any]) -> Any:
    """Returns an arrow column; text where a swept field holds values of several kinds."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1 and kinds != {int, float}:
        return pa.array([None if value is None else _cell(value) for value in values], pa.string())
    return pa.array([float(v) if v is not None and float in kinds else v for v in values])


def _present(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _cell(value)


_WRITERS = {"text": _text, "csv": _csv, "json": _json, "envelope": _envelope, "parquet": _parquet}
