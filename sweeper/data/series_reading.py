"""From the `series` of a manifest to RDM series whose files were looked through."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sweeper.data.blocks import Blocks, FileBlocks, Survey, open_blocks, survey
from sweeper.data.fields import SeriesSource
from sweeper.data.series import RdmSeries
from sweeper.data.sources import SYMMETRY_TOLERANCE, rows_of
from sweeper.errors import DataError, Problem

_FEWEST_STIMULI = 3


def series_of(
    source: SeriesSource, held_out: tuple[str, ...] | None, names_by_id: Mapping[int, str], where: str
) -> tuple[RdmSeries, tuple[str, ...]]:
    """Opens a series: its file is looked through once, and again only when it changes.

    Args:
        source: the manifest's entry.
        held_out: the held-out set's names, for `rows: held_out`.
        names_by_id: names of the table's rows by their ids.
        where: the manifest's place.

    Returns:
        The series, and notes on what was replaced and rescaled.

    Raises:
        DataError: with every problem found.
    """
    blocks = open_blocks(source)
    names = _names(source, held_out, names_by_id, blocks.shape[2])
    participants = _participants(source, blocks.shape[0])
    problems = [*_axis_problems(source, blocks), *_count_problems(source, blocks, names, participants)]
    if problems:
        raise DataError(problems)
    found = survey(blocks)
    problems = _value_problems(source, blocks, found, participants)
    if problems:
        raise DataError(problems)
    low, high = (found.low, found.high) if source.normalize == "published" else (0.0, 1.0)
    identity = [blocks.digest, source.start_ms, source.step_ms, source.average, low, high]
    series = RdmSeries(
        name=source.name,
        kind=source.kind,
        source=source.source or source.file.name,
        participants=participants,
        times=_times(source, blocks),
        names=names,
        blocks=blocks,
        low=low,
        high=high,
        average=source.average,
        digest=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        where=where,
    )
    return series, _notes(source, found)


def _times(source: SeriesSource, blocks: Blocks) -> NDArray[np.float64]:
    """Returns the times after averaging; a group counts as its last one."""
    times: NDArray[np.float64] = source.start_ms + source.step_ms * np.arange(blocks.shape[1], dtype=np.float64)
    return times[:: source.average]


def _names(
    source: SeriesSource, held_out: tuple[str, ...] | None, names_by_id: Mapping[int, str], num_rows: int
) -> tuple[str, ...]:
    if source.rows == "row_ids":
        return tuple(names_by_id.get(row, f"#{row}") for row in range(num_rows))
    if source.rows == "held_out":
        if held_out is None:
            rule, remedy = "`rows: held_out` needs a `held_out` set that can be read", "Name the rows of the series"
            raise DataError(Problem(where="", rule=rule, remedy=remedy))
        return held_out
    assert not isinstance(source.rows, str)  # the field's rule
    return rows_of(source.rows, names_by_id)


def _participants(source: SeriesSource, count: int) -> tuple[str, ...]:
    return tuple(map(str, source.participants or range(1, count + 1)))


def _axis_problems(source: SeriesSource, blocks: FileBlocks) -> list[Problem]:
    problems = []
    num_times, where = blocks.shape[1], str(source.file)
    last = source.start_ms + source.step_ms * (num_times - 1)
    if source.stop_ms is not None and abs(last - source.stop_ms) > 1e-6 * source.step_ms:
        rule = f"the time axis ends at `stop_ms` {source.stop_ms:g}"
        got = f"{num_times} times from {source.start_ms:g} in steps of {source.step_ms:g} ms, the last at {last:g}"
        remedy = "Correct `start_ms`, `step_ms` or `axes`"
        problems.append(Problem(where=where, rule=rule, got=got, remedy=remedy))
    if (num_times - 1) % source.average:
        rule = f"after the first time, `average: {source.average}` makes whole groups"
        problems.append(Problem(where=where, rule=rule, got=f"{num_times} times", remedy="Choose a divisor of T - 1"))
    return problems


def _count_problems(
    source: SeriesSource, blocks: FileBlocks, names: tuple[str, ...], participants: tuple[str, ...]
) -> list[Problem]:
    problems = []
    where, shape = str(source.file), blocks.shape
    if len(participants) != shape[0]:
        rule = f"`participants` names each of the {shape[0]} in the array"
        remedy = "Correct the list, or `axes`"
        problems.append(Problem(where=where, rule=rule, got=f"{len(participants)} names", remedy=remedy))
    if len(names) != shape[2]:
        rule = f"`{source.name}` has as many rows as `rows` names"
        problems.append(Problem(where=where, rule=rule, got=f"{shape[2]} rows for {len(names)} names"))
    if shape[2] < _FEWEST_STIMULI or 0 in shape:
        rule = f"a series has participants, times and at least {_FEWEST_STIMULI} stimuli"
        problems.append(Problem(where=where, rule=rule, got="x".join(map(str, shape))))
    return problems


def _value_problems(
    source: SeriesSource, blocks: FileBlocks, found: Survey, participants: tuple[str, ...]
) -> list[Problem]:
    faults: list[tuple[str, str, str | None]] = []
    largest = max(abs(found.low), abs(found.high))

    def at(fault: str) -> str:
        return ", ".join(
            f"participant {participants[p]} at {source.start_ms + source.step_ms * t:g} ms"
            for p, t in found.slices[fault]
        )

    if found.num_infinite:
        got = f"{found.num_infinite} infinite entries, first {at('infinite')}"
        faults.append(("RDMs are finite", got, "Compute these RDMs again"))
    if found.num_nan and source.normalize == "none":
        got, remedy = (
            f"{found.num_nan} NaN off the diagonals, first {at('nan')}",
            "`normalize: published` takes them as 0",
        )
        faults.append(("RDMs are finite", got, remedy))
    if found.asymmetry > SYMMETRY_TOLERANCE * largest:
        remedy = "Average each RDM with its transpose if both halves are estimates of the same; or correct `axes`"
        got = f"a difference of {found.asymmetry:.3g}, the largest: {at('asymmetry')}"
        faults.append(("RDMs are symmetric", got, remedy))
    if found.diagonal > SYMMETRY_TOLERANCE * largest:
        remedy = "A diagonal of ones means similarities: give 1 - similarity"
        got = f"up to {found.diagonal:.3g}, {at('diagonal')}"
        faults.append(("the diagonals of RDMs are 0", got, remedy))
    if found.num_constant:
        got = f"{found.num_constant} of {blocks.shape[0] * blocks.shape[1]} are constant, first {at('constant')}"
        got += f"; {found.num_nan} entries off the diagonals are NaN, which counts as 0" if found.num_nan else ""
        remedy = "Leave these participants or times out of the file"
        faults.append(("the dissimilarities of an RDM differ", got, remedy))
    return [Problem(where=str(source.file), rule=rule, got=got, remedy=remedy) for rule, got, remedy in faults]


def _notes(source: SeriesSource, found: Survey) -> tuple[str, ...]:
    notes = []
    if found.num_nan or found.num_nan_diagonal:
        notes.append(
            f"{source.name}: {found.num_nan} NaN off the diagonals and {found.num_nan_diagonal} on them taken as 0"
        )
    if source.normalize == "published":
        notes.append(f"{source.name}: {found.low:.6g}..{found.high:.6g} mapped to 0..1 (normalize: published)")
    return tuple(notes)
