"""Kinds that change how an epoch learns: its updates, or the order of its batches."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.randomness import stream
from sweeper.spec.base import NonNegativeFloat
from sweeper.spec.perturbations.base import Effect, Fields, Perturbation, Updates


def _freeze(fields: Fields, updates: Updates) -> Updates:
    return replace(updates, enabled=False)


class Freeze(Perturbation):
    """No update is made: the clock runs, nothing is damaged."""

    effect: ClassVar[Effect] = Effect(updates=_freeze)
    control: ClassVar[bool] = True
    kind: Literal["freeze"]


def _reorder(fields: Fields, epoch: int, n: int) -> NDArray[np.int64]:
    return stream(int(fields["seed"]), "reorder", epoch).permutation(n)


class Reorder(Perturbation):
    """Batches come in another order: the null of every comparison."""

    effect: ClassVar[Effect] = Effect(order=_reorder)
    control: ClassVar[bool] = True
    kind: Literal["reorder"]
    noise: Literal["fresh"] = "fresh"
    """Every epoch has an order of its own."""


def _reset_optimizer(fields: Fields, updates: Updates) -> Updates:
    return replace(updates, reset_moments=True)


class ResetOptimizer(Perturbation):
    """The optimiser forgets its moments, once, at the window's start."""

    effect: ClassVar[Effect] = Effect(updates=_reset_optimizer)
    control: ClassVar[bool] = True
    once: ClassVar[bool] = True
    kind: Literal["reset_optimizer"]


def _learning_rate(fields: Fields, updates: Updates) -> Updates:
    return replace(updates, lr_factor=updates.lr_factor * fields["factor"])


class LearningRate(Perturbation):
    """The learning rate is multiplied by a factor."""

    effect: ClassVar[Effect] = Effect(updates=_learning_rate)
    kind: Literal["learning_rate"]
    factor: NonNegativeFloat
    """The learning rate is multiplied by it; 0 stops learning."""


def _weight_decay(fields: Fields, updates: Updates) -> Updates:
    return replace(updates, weight_decay=fields["value"])


class WeightDecay(Perturbation):
    """The weight decay takes another value."""

    effect: ClassVar[Effect] = Effect(updates=_weight_decay)
    kind: Literal["weight_decay"]
    value: NonNegativeFloat
    """The weight decay in the window."""
