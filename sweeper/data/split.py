"""Splits and batch orders: pure functions of a seed, and of an epoch.

`hashed` draws from `sweeper.randomness.stream`. `published` repeats, number for number, what PyTorch drew
in the published study (docs/methods.md 1.5); it imports torch, and only when called.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sweeper.randomness import stream

if TYPE_CHECKING:
    import torch

OrderKind: TypeAlias = Literal["hashed", "published"]
_EPOCHS_PER_BLOCK = 64


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
    import torch

    return _int64(torch.randperm(n, generator=torch.Generator().manual_seed(seed)))


def published_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Returns the order of the published loader, whose own generator runs through all epochs: int64 [n]."""
    block, row = divmod(epoch - 1, _EPOCHS_PER_BLOCK)
    order: NDArray[np.int64] = _published_block(seed, n, block)[0][row].copy()
    return order


@lru_cache(maxsize=32)
def _published_block(seed: int, n: int, block: int) -> tuple[NDArray[np.int64], "torch.Tensor"]:
    """Replays 64 epochs of the loader: orders int64 [64, n], and the generator's state after them.

    Per epoch the loader takes one int64 (the seed of its workers), then the order, then a permutation that
    nobody uses [docs/methods.md 1.5].
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    if block:
        generator.set_state(_published_block(seed, n, block - 1)[1])
    orders = np.empty((_EPOCHS_PER_BLOCK, n), dtype=np.int64)
    for row in range(_EPOCHS_PER_BLOCK):
        torch.empty((), dtype=torch.int64).random_(generator=generator)
        orders[row] = _int64(torch.randperm(n, generator=generator))
        torch.randperm(n, generator=generator)
    return orders, generator.get_state()


def _int64(tensor: "torch.Tensor") -> NDArray[np.int64]:
    return np.array(tensor.numpy(), dtype=np.int64)


_SPLITS = {"hashed": hashed_split, "published": published_split}
_ORDERS = {"hashed": hashed_order, "published": published_order}
