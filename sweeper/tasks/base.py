"""The Task protocol: what the training loop asks of a model variant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.data.features import FeatureCache
from sweeper.evaluation import OutputKey
from sweeper.store.objects import ObjectStore


@dataclass(kw_only=True)
class TrainingState:
    """Everything that the next epoch depends on, besides the regime; `Task.train_epoch` advances it in place.

    Attributes:
        parameters: the trained tensors by name, in sorted order.
        moments: the optimiser's tensors, `<slot>/<parameter name>`; empty before the first update.
        counters: counters and bests of rules that change training.
        best: the parameters that such a rule goes back to, by name; empty while they are the untrained ones.
    """

    parameters: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    best: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workbench:
    """What a task finds where it runs.

    Attributes:
        cache: of frozen features, on this machine.
        store: of the sweep, for what is taken from other trials.
        device: `cpu` or `cuda`.
        decoders: images that may be decoded at the same time.
    """

    cache: FeatureCache
    store: ObjectStore
    device: str
    decoders: int = 1


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

    def review(self, state: TrainingState, values: Mapping[str, float], epoch: int) -> dict[str, float]:
        """Advances the counters of rules that change training, in place, by what was measured after an epoch.

        Args:
            state: at the end of the epoch; its parameters stay as they were measured.
            values: what training and evaluation measured.
            epoch: absolute, 1-based.

        Returns:
            Scalars by column. `ended` says that training has nothing more to do after this epoch.
        """


class NonFiniteLoss(Exception):
    """A loss that is NaN or infinite: a result, not an accident."""


OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
"""What a task raises when memory runs out, on the host or on the device."""

ACCIDENTS = (*OUT_OF_MEMORY, OSError, torch.AcceleratorError)
"""What says nothing about the training: memory, disk, network and device may do it another time or elsewhere."""
