"""Revisions of sweeps as they lie in the store: JSON under a name and a number."""

import json
from collections.abc import Iterator
from typing import Any

from sweeper.store.objects import ObjectStore

_DIGITS = 6


def revision_key(name: str, number: int) -> str:
    """Returns what a revision is kept under."""
    return f"{name}.{number:0{_DIGITS}d}"


def revision_numbers(store: ObjectStore, name: str) -> list[int]:
    """Returns the numbers of a sweep's revisions, the newest first."""
    found = (number for other, number in map(split_key, store.keys("sweeps")) if other == name)
    return sorted(found, reverse=True)


def sweep_names(store: ObjectStore) -> tuple[str, ...]:
    """Returns the names of all sweeps of a store, sorted."""
    return tuple(sorted({split_key(key)[0] for key in store.keys("sweeps")}))


def latest_fields(store: ObjectStore, name: str) -> dict[str, Any] | None:
    """Returns the fields of a sweep's newest sound revision; None when there is none."""
    for number in revision_numbers(store, name):
        data = store.get("sweeps", revision_key(name, number))
        if data is not None:
            return dict(json.loads(data))
    return None


def each_fields(store: ObjectStore) -> Iterator[dict[str, Any]]:
    """Yields the fields of every revision of every sweep."""
    for key in store.keys("sweeps"):
        data = store.get("sweeps", key)
        if data is not None:
            yield json.loads(data)


def split_key(key: str) -> tuple[str, int]:
    """Returns name and number of a revision that is kept under a key."""
    name, number = key.rsplit(".", 1)
    return name, int(number)
