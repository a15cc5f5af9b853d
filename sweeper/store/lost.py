"""Epochs that are to be made again, though records of them exist: a state or an output of them was found damaged.

Each is an empty object among what drivers are asked for. Workers take such an epoch as not measured; the driver drops
the mark when it is made.
"""

from collections.abc import Iterator

from sweeper.store.objects import DAMAGED, Kind, ObjectStore
from sweeper.store.revisions import split_key, sweep_names

_MARK = ".lost"


def mark_lost(store: ObjectStore, state_id: str) -> None:
    """Asks the next run to make an epoch again."""
    store.put("control", f"{state_id}{_MARK}", b"")


def is_lost(store: ObjectStore, state_id: str) -> bool:
    """Tells whether an epoch is to be made again."""
    return store.has("control", f"{state_id}{_MARK}")


def lost_states(store: ObjectStore) -> set[str]:
    """Returns the states of the epochs that are to be made again."""
    return {key.removesuffix(_MARK) for key in store.keys("control") if key.endswith(_MARK)}


def made_again(store: ObjectStore, state_id: str) -> None:
    """Takes the wish back."""
    store.drop("control", f"{state_id}{_MARK}")


def moved_aside(store: ObjectStore) -> Iterator[tuple[Kind, str]]:
    """Yields kind and key of every object that was found damaged and is not there now."""
    for file in store.files(DAMAGED):
        _, kind, name = file.name.split("/")
        key = name.rpartition(".")[0]
        if not store.has(kind, key):  # type: ignore[arg-type]
            yield kind, key  # type: ignore[misc]


def lost_revisions(store: ObjectStore, sweep: str) -> list[str]:
    """Returns the keys of a sweep's revisions that were found damaged, and are not there now."""
    found = {key for kind, key in moved_aside(store) if kind == "sweeps"}
    return sorted(key for key in found if split_key(key)[0] == sweep)


def lost_sweeps(store: ObjectStore) -> list[str]:
    """Returns the names of the sweeps all revisions of which were found damaged, and are not there now."""
    found = {split_key(key)[0] for kind, key in moved_aside(store) if kind == "sweeps"}
    return sorted(found - set(sweep_names(store)))
