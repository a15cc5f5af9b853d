"""Held-out outputs in the store: what a state says of the stimuli that it is judged on."""

import io

import numpy as np
from numpy.typing import NDArray

from sweeper.evaluation import OutputKey
from sweeper.store.objects import ObjectStore


def write_outputs(store: ObjectStore, state_id: str, key: OutputKey, outputs: NDArray[np.float32]) -> None:
    """Writes held-out outputs [M, D]."""
    buffer = io.BytesIO()
    np.save(buffer, outputs, allow_pickle=False)
    store.put("outputs", key.store_key(state_id), buffer.getvalue())


def read_outputs(store: ObjectStore, state_id: str, key: OutputKey) -> NDArray[np.float32] | None:
    """Returns held-out outputs [M, D], None when they are absent."""
    data = store.get("outputs", key.store_key(state_id))
    if data is None:
        return None
    outputs: NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
    return outputs
