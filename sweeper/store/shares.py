"""The least share of a GPU that a user asked for after trials ran out of memory: `sweeper retry --gpu`.

Shares are no part of what a trial is, so nothing is trained anew for them. The newest number counts.
"""

import json

from sweeper.store.objects import ObjectStore


def ask_share(store: ObjectStore, sweep: str, gpu: float) -> None:
    """Asks that every later run of a sweep gives each trial at least this much of a GPU; 0 takes that back."""
    keys = _keys(store, sweep)
    number = 1 + (int(keys[-1].rpartition(".")[2]) if keys else 0)
    store.put("control", f"{sweep}.gpu.{number:06d}", json.dumps({"gpu": gpu}).encode())
    for key in keys:
        store.drop("control", key)


def asked_share(store: ObjectStore, sweep: str) -> float:
    """Returns what was asked for last, 0 for nothing."""
    keys = _keys(store, sweep)
    data = store.get("control", keys[-1]) if keys else None
    return 0.0 if data is None else float(json.loads(data)["gpu"])


def _keys(store: ObjectStore, sweep: str) -> list[str]:
    return [key for key in store.keys("control") if key.rpartition(".")[0] == f"{sweep}.gpu"]
