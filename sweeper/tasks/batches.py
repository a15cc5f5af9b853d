"""Which training items share a batch in an epoch."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sweeper.data.split import batch_order
from sweeper.randomness import stream
from sweeper.spec.schema import Training


def training_batches(
    training: Training,
    seed: int,
    epoch: int,
    rows: NDArray[np.int64],
    order: NDArray[np.int64] | None = None,
    *,
    fewest: int = 1,
) -> Iterator[NDArray[np.int64]]:
    """Yields the rows of each batch of an epoch.

    Args:
        training: batch size, rule of the order, and whether batches are drawn once.
        seed: of the order.
        epoch: 1-based.
        rows: int64 [n], the training items.
        order: int64 [n], another order of the items that a perturbation asks for.
        fewest: a last batch with fewer items joins the one before.
    """
    is_frozen = training.batches == "frozen"
    if order is None:
        order = batch_order(training.order, seed, 1 if is_frozen else epoch, len(rows))
    size = training.batch_size
    edges = list(range(size, len(rows), size))
    if edges and len(rows) - edges[-1] < fewest:
        edges.pop()
    parts = np.split(order, edges)
    sequence = stream(seed, "batches", epoch).permutation(len(parts)) if is_frozen else range(len(parts))
    for index in sequence:
        yield rows[parts[index]]
