"""Records in the store.

What training measured on a state is one object named by the state; records computed later from stored
outputs are further objects named by the state and by their items.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from sweeper.plan.identity import content_id
from sweeper.records import TRAINING_ITEM, Record
from sweeper.store.lost import is_lost
from sweeper.store.objects import ObjectStore

if TYPE_CHECKING:
    from sweeper.evaluation import Item


def dump_records(records: Sequence[Record]) -> bytes:
    """Returns records as JSON; NaN is refused."""
    return json.dumps([asdict(record) for record in records], sort_keys=True, allow_nan=False).encode()


def load_records(data: bytes) -> tuple[Record, ...]:
    """Returns the records that `dump_records` wrote."""
    return tuple(Record.of(fields) for fields in json.loads(data))


def records_key(records: Sequence[Record]) -> str:
    """Returns the key under which some records of one state are stored."""
    state_id = records[0].state_id
    if any(record.item == TRAINING_ITEM for record in records):
        return state_id
    return f"{state_id}.{content_id('items', sorted(record.item for record in records))[:16]}"


def read_records(store: ObjectStore, key: str) -> tuple[Record, ...]:
    """Returns the records under a key; a state's id is the key of what training measured. Empty when absent."""
    data = store.get("records", key)
    return () if data is None else load_records(data)


def write_records(store: ObjectStore, records: Sequence[Record]) -> tuple[str, ...]:
    """Writes what training measured on a state; a rebuilt epoch must equal the stored one.

    Items that the stored object lacks are added beside it.

    Returns:
        What differs from the stored records, in words; those are kept, and the new ones put with the conflicts.
    """
    key = records_key(records)
    if store.put("records", key, dump_records(records)):
        return ()
    stored = {record.item: record for record in read_records(store, key)}  # none: was damaged and is moved aside
    added = [record for record in records if record.item not in stored]
    if added:
        store.put("records", records_key(added), dump_records(added))
    differing = [
        record
        for record in records
        if record.item in stored and dict(record.values) != dict(stored[record.item].values)
    ]
    if not differing:
        return ()
    store.put(
        "conflicts", f"{key}.{content_id('rows', [dict(r.values) for r in differing])[:16]}", dump_records(differing)
    )
    return (
        f"epoch {records[0].epoch} of state {records[0].state_id[:12]} came out different when rebuilt; "
        "the first result is kept (another machine, or changed libraries?)",
    )


def is_measured(store: ObjectStore, state_id: str, items: "Iterable[Item]") -> bool:
    """Tells whether a state has records, and the outputs that these items are computed from; not one that is lost."""
    keys = {item.outputs.store_key(state_id) for item in items}
    has_all = bool(read_records(store, state_id)) and all(store.has("outputs", key) for key in sorted(keys))
    return has_all and not is_lost(store, state_id)


def iterate_records(store: ObjectStore, known: set[str]) -> Iterator[tuple[str, tuple[Record, ...]]]:
    """Yields key and records of every object whose key is not among the known ones."""
    wanted = (key for key in store.keys("records") if key not in known)
    for key, data in store.get_each("records", wanted):
        if data is not None:  # it was damaged and has been moved aside
            yield key, load_records(data)
