"""Splits and batch orders: pure functions of a seed, and of an epoch.

`hashed` draws from `sweeper.randomness.stream`. `published` repeats, number for number, what PyTorch drew
in the published study (docs/methods.md 1.5).
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sweeper.mersenne import TorchGenerator
from sweeper.randomness import stream

OrderKind: TypeAlias = Literal["hashed", "published"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """Holds the positions of a split.

    Attributes:
        train: int64 [n_train], positions in the pool, in the split's own order.
        val: int64 [n - n_train].
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]


def split_pool(kind: OrderKind, seed: int, n: int, train_fraction: float = 0.8) -> Split:
    """Splits `n` items into int(train_fraction * n) training items and the rest for validation."""
    positions = _SPLITS[kind](seed, n)
    n_train = int(train_fraction * n)
    return Split(train=positions[:n_train], val=positions[n_train:])


def batch_order(kind: OrderKind, seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Returns the order in which epoch `epoch` (1-based) visits `n` training items: int64 [n].

    Positions count in the split's `train`, not in the pool.
    """
    if epoch < 1:
        raise ValueError(f"epochs count from 1, got {epoch}")
    return _ORDERS[kind](seed, epoch, n)


def hashed_split(seed: int, n: int) -> NDArray[np.int64]:
    """Permutes the pool's positions: int64 [n]."""
    return stream(seed, "split").permutation(n).astype(np.int64)


def hashed_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Permutes the training items anew in each epoch: int64 [n]."""
    return stream(seed, "order", epoch).permutation(n).astype(np.int64)


def published_split(seed: int, n: int) -> NDArray[np.int64]:
    """Permutes the pool as `random_split` does right after `manual_seed(seed)`: int64 [n]."""
    return TorchGenerator(seed).permutation(n)


def published_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Returns the order of the published loader, whose own generator runs through all epochs: int64 [n].

    Per epoch the loader takes one int64 (the seed of its workers), then the order, then a permutation that
    nobody uses [docs/methods.md 1.5].
    """
    generator = TorchGenerator(seed)
    words_of_a_permutation = max(n - 1, 0)
    generator.skip((epoch - 1) * 2 * (1 + words_of_a_permutation) + 2)
    return generator.permutation(n)


_SPLITS = {"hashed": hashed_split, "published": published_split}
_ORDERS = {"hashed": hashed_order, "published": published_order}
