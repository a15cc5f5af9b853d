"""Kinds that change the targets of a batch."""

from typing import ClassVar, Literal

import numpy as np

from sweeper.mersenne import TorchGenerator
from sweeper.philox import published_normals
from sweeper.spec.perturbations.base import (
    Distribution,
    Effect,
    Fields,
    Floats,
    NoiseRule,
    Perturbation,
    Place,
    TableStatistics,
    fresh,
    published_seed,
    scaled,
)


def _random_target(fields: Fields, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
    if fields["noise"] == "published":
        normals = published_normals(published_seed(fields, place), targets.size).reshape(targets.shape)
    else:
        normals = fresh(fields, place).standard_normal(targets.shape, dtype=np.float32)
    return scaled(fields, normals, statistics)


class RandomTarget(Perturbation):
    """Targets are replaced by mu + sigma * N(0, 1) of the whole target table."""

    effect: ClassVar[Effect] = Effect(targets=_random_target)
    kind: Literal["random_target"]
    noise: NoiseRule = "fresh"
    """`published` repeats the study's own tensors, the same in every epoch of a window."""
    distribution: Distribution = "target"
    """`target`: mean and standard deviation of the target table; `normal`: 0 and 1."""


def _label_shuffle(fields: Fields, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
    if fields["noise"] == "published":
        return targets[TorchGenerator(published_seed(fields, place)).permutation(len(targets))]
    return targets[fresh(fields, place).permutation(len(targets))]


def _stimulus_shuffle(fields: Fields, place: Place, rdms: Floats) -> Floats:
    if fields["noise"] == "published":
        order = TorchGenerator(published_seed(fields, place)).permutation(rdms.shape[1])
    else:
        order = fresh(fields, place).permutation(rdms.shape[1])
    return rdms[:, order][:, :, order]


class LabelShuffle(Perturbation):
    """Targets are permuted within the batch; of RDMs, rows and columns together: the stimuli change places."""

    effect: ClassVar[Effect] = Effect(targets=_label_shuffle, rdms=_stimulus_shuffle)
    kind: Literal["label_shuffle"]
    noise: NoiseRule = "fresh"
    """`published`: one permutation per batch index, the same in every epoch of a window."""


def _time_shuffle(fields: Fields, place: Place, rdms: Floats) -> Floats:
    return rdms[fresh(fields, place).permutation(len(rdms))]


class TimeShuffle(Perturbation):
    """The slices of target RDMs over time change places, anew for every batch."""

    effect: ClassVar[Effect] = Effect(rdms=_time_shuffle)
    kind: Literal["time_shuffle"]
    noise: Literal["fresh"] = "fresh"
    """Another permutation for every batch."""


def _mean_target(fields: Fields, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
    return np.full_like(targets, statistics.mean)


class MeanTarget(Perturbation):
    """Every target becomes the mean of the whole target table."""

    effect: ClassVar[Effect] = Effect(targets=_mean_target)
    control: ClassVar[bool] = True
    kind: Literal["mean_target"]


def _dim_mean_target(fields: Fields, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
    return np.broadcast_to(statistics.dimension_means, targets.shape).copy()


class DimMeanTarget(Perturbation):
    """Every target becomes the mean of its dimension."""

    effect: ClassVar[Effect] = Effect(targets=_dim_mean_target)
    control: ClassVar[bool] = True
    kind: Literal["dim_mean_target"]
