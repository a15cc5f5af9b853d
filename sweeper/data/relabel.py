"""Repair of the 21 mislabelled rows in the lab's SPoSE table.

The rows of the table are in the order of THINGS' unique ids, where a blank sorts before `-`, digits and
letters; its labels are in the order of the file names, where `_` stands for that blank and sorts after `-`
and the digits. So `camera1` is printed beside the row of `camera_lens`, and so on. Row ids 0..1853 are kept
by the lab's 1,806-row and 48-row tables, which lets a row be recognised in either.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sweeper.data.tables import Table
from sweeper.errors import DataError, Problem

# Row id: label as printed, concept whose row it is, and the row's five largest dimensions, largest first,
# by which the row is known whatever its scale (a table that somebody has repaired is left alone).
MISLABELLED: Mapping[int, tuple[str, str, tuple[int, ...]]] = {
    246: ("camera1", "camera_lens", (55, 0, 10, 26, 17)),
    247: ("camera2", "camera1", (55, 0, 10, 26, 13)),
    248: ("camera_lens", "camera2", (10, 0, 55, 26, 7)),
    322: ("chicken1", "chicken_wire", (0, 46, 32, 59, 12)),
    323: ("chicken2", "chicken1", (1, 29, 2, 4, 18)),
    324: ("chicken_wire", "chicken2", (2, 1, 27, 12, 38)),
    453: ("crystal1", "crystal_ball", (13, 35, 0, 40, 21)),
    454: ("crystal2", "crystal1", (33, 40, 28, 52, 22)),
    455: ("crystal_ball", "crystal2", (40, 61, 20, 21, 0)),
    801: ("hot-air_balloon", "hot_chocolate", (1, 17, 57, 13, 21)),
    802: ("hot-water_bottle", "hot_tub", (18, 13, 17, 5, 12)),
    803: ("hot_chocolate", "hot-air_balloon", (11, 38, 35, 13, 7)),
    804: ("hot_tub", "hot-water_bottle", (60, 41, 56, 3, 44)),
    816: ("ice-cream_cone", "ice", (40, 61, 20, 17, 43)),
    817: ("ice", "ice_cream", (1, 57, 11, 17, 13)),
    818: ("ice_cream", "ice_cube", (1, 61, 17, 5, 22)),
    819: ("ice_cube", "ice_pack", (61, 56, 1, 3, 14)),
    820: ("ice_pack", "ice-cream_cone", (1, 58, 17, 19, 11)),
    1149: ("pepper1", "pepper_mill", (0, 1, 26, 57, 49)),
    1150: ("pepper2", "pepper1", (20, 1, 33, 4, 27)),
    1151: ("pepper_mill", "pepper2", (1, 4, 23, 42, 22)),
}

_NUM_DIMENSIONS = 66


def find_mislabelled(table: Table) -> tuple[int, ...]:
    """Returns the positions of the rows that are known to stand beside another concept's label."""
    if table.row_ids is None or table.values.shape[1] != _NUM_DIMENSIONS:
        return ()
    return tuple(i for i, row_id in enumerate(table.row_ids.tolist()) if _is_mislabelled(table, i, row_id))


def repair(tables: Sequence[Table], where: str) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """Gives every label the row that is its own, wherever among the tables that row lies.

    Names keep their places, so images, their order and the reference RDMs stay as they are; values and row
    ids move, between tables too (`camera1` is among the 48, its row is in the 1,806-row table).

    Args:
        tables: all tables that share one numbering of rows.
        where: place to name in an error.

    Returns:
        The tables, and one note per exchange between tables plus a summary; no notes if nothing was wrong.

    Raises:
        DataError: a row that a label needs is in none of the tables.
    """
    wrong = [(t, i) for t, table in enumerate(tables) for i in find_mislabelled(table)]
    home = {MISLABELLED[_row_id(tables[t], i)][1]: (t, i) for t, i in wrong}
    lost = [tables[t].names[i] for t, i in wrong if concept_of(tables[t].names[i]) not in home]
    if lost:
        raise DataError(_lost(lost, where))
    values = [table.values.copy() for table in tables]
    ids = [None if table.row_ids is None else table.row_ids.copy() for table in tables]
    notes = []
    for t, i in wrong:
        source, row = home[concept_of(tables[t].names[i])]
        values[t][i] = tables[source].values[row]
        new_ids = ids[t]
        assert new_ids is not None  # only tables with row ids have mislabelled rows
        new_ids[i] = _row_id(tables[source], row)
        if source != t:
            notes.append(f"relabel: {tables[t].names[i]} took row {new_ids[i]} from the other table")
    if wrong:
        notes.insert(0, f"relabel: {len(wrong)} mislabelled SPoSE rows repaired (things-uniqueid)")
    repaired = (replace(table, values=v, row_ids=r) for table, v, r in zip(tables, values, ids, strict=True))
    return tuple(repaired), tuple(notes)


def concept_of(name: str) -> str:
    """Returns the THINGS concept of an image name: `camera1` for `camera1_01b.jpg`."""
    return re.sub(r"(_\d\d[a-z])?(\.[A-Za-z]+)?$", "", name, count=1)


def _is_mislabelled(table: Table, position: int, row_id: int) -> bool:
    known = MISLABELLED.get(row_id)
    if known is None or concept_of(table.names[position]) != known[0]:
        return False
    largest = np.argsort(-table.values[position], kind="stable")[: len(known[2])]
    return tuple(largest.tolist()) == known[2]


def _row_id(table: Table, position: int) -> int:
    assert table.row_ids is not None
    return int(table.row_ids[position])


def _lost(names: Sequence[str], where: str) -> Problem:
    concepts = {concept: row_id for row_id, (_, concept, _) in MISLABELLED.items()}
    needed = ", ".join(f"{name} (row id {concepts[concept_of(name)]})" for name in names)
    return Problem(
        where=where,
        rule="`relabel: things-uniqueid` finds the row of every mislabelled image among the manifest's tables",
        got=f"no such row for {needed}",
        remedy="Name the table that holds it (the 1,806 rows and the 48 belong together), or set `relabel: none`",
    )
