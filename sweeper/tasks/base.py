"""The Task protocol: what the training loop asks of a model variant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.evaluation import OutputKey


@dataclass(kw_only=True)
class TrainingState:
    """Everything that the next epoch depends on, besides the regime; `Task.train_epoch` advances it in place.

    Attributes:
        parameters: the trained tensors by name, in sorted order.
        moments: the optimiser's tensors, `<slot>/<parameter name>`; empty before the first update.
        counters: counters of rules that change training.
    """

    parameters: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What `Task.evaluate` measured on one state.

    Attributes:
        values: scalars by column, `val_loss` among them.
        outputs: float32 [M, D] per held-out set and layer.
    """

    values: Mapping[str, float]
    outputs: Mapping[OutputKey, NDArray[np.float32]]


class Task(Protocol):
    """A model variant with its data, ready on a device; it keeps no state between calls."""

    def init_state(self, seed: int) -> TrainingState:
        """Returns the untrained state of a seed."""

    def train_epoch(self, state: TrainingState, regime: Mapping[str, Any], epoch: int) -> dict[str, float]:
        """Advances a state in place by one epoch.

        Args:
            state: the state at the end of the epoch before.
            regime: what holds in this epoch (`sweeper/plan/lineage.py`).
            epoch: absolute, 1-based.

        Returns:
            Scalars by column, `train_loss` among them.

        Raises:
            NonFiniteLoss: the loss is NaN or infinite; the state is then of no use.
        """

    def evaluate(self, state: TrainingState) -> Measured:
        """Measures a state on validation and held-out stimuli, without changing it."""


class NonFiniteLoss(Exception):
    """A loss that is NaN or infinite: a result, not an accident."""


OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
"""What a task raises when memory runs out, on the host or on the device."""

ACCIDENTS = (*OUT_OF_MEMORY, OSError, torch.AcceleratorError)
"""What says nothing about the training: memory, disk, network and device may do it another time or elsewhere."""
