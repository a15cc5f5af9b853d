"""What a perturbation kind consists of: fields that a spec sets, and an effect on the epochs of its window."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.randomness import stream
from sweeper.spec.base import PositiveInt, SpecModel

Fields = Mapping[str, Any]
Floats = NDArray[np.float32]
NoiseRule = Literal["fresh", "published"]
Distribution = Literal["target", "normal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Says where in training a batch stands: 1-based epoch, 0-based step."""

    epoch: int
    step: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TableStatistics:
    """Holds what noise and mean targets are drawn from: the whole target table [N, D], validation rows included.

    Attributes:
        mean: scalar mean over all entries.
        std: scalar population standard deviation over all entries.
        dimension_means: float32 [D].
    """

    mean: float
    std: float
    dimension_means: Floats

    @classmethod
    def of(cls, targets: Floats) -> "TableStatistics":
        """Returns the statistics of a table [N, D]."""
        wide = targets.astype(np.float64)
        return cls(mean=float(wide.mean()), std=float(wide.std()), dimension_means=wide.mean(axis=0).astype(np.float32))


@dataclass(frozen=True, kw_only=True, slots=True)
class Updates:
    """Says how an epoch's updates differ from the configured ones."""

    enabled: bool = True
    lr_factor: float = 1.0
    weight_decay: float | None = None
    reset_moments: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What a kind does; None where it does nothing. Task-independent: numpy arrays only.

    `fields` are those of the kind as the regime carries them, plus the noise `seed` and, where the published
    rule repeats itself in a window, the window's `start`.

    Attributes:
        targets: (fields, place, targets [B, D], statistics) -> targets [B, D].
        images: (fields, place, shape [B, 3, H, W], statistics) -> images of that shape, or [1, 3, H, W] for all.
        updates: (fields, updates) -> updates, once per epoch.
        order: (fields, epoch, n) -> int64 [n], the order of the training items.
        rdms: (fields, place, RDMs [T, B, B]) -> RDMs, for targets that are RDMs over time; where it is None, `targets`
            acts on the pairs of stimuli instead, as rows [pairs, T].
    """

    targets: Callable[[Fields, Place, Floats, TableStatistics], Floats] | None = None
    images: Callable[[Fields, Place, tuple[int, ...], TableStatistics], Floats] | None = None
    updates: Callable[[Fields, Updates], Updates] | None = None
    order: Callable[[Fields, int, int], NDArray[np.int64]] | None = None
    rdms: Callable[[Fields, Place, Floats], Floats] | None = None

    def acts(self, *, over_time: bool) -> bool:
        """Tells whether the kind does anything to targets in rows, or, `over_time`, to RDMs over time."""
        anywhere = (self.targets, self.images, self.updates, self.order)
        return any(part is not None for part in anywhere) or (over_time and self.rdms is not None)


class Perturbation(SpecModel):
    """What is done to training, and when: the epochs `start .. start + length - 1` (1-based, as published)."""

    kind: str
    effect: ClassVar[Effect]
    control: ClassVar[bool] = False
    """Serves as a comparison: does not damage what the study says is damaged."""
    once: ClassVar[bool] = False
    """Acts at the window's start only."""

    start: PositiveInt
    """First disturbed epoch, 1-based."""
    length: PositiveInt = 1
    """Number of disturbed epochs."""

    @property
    def end(self) -> int:
        """Last disturbed epoch."""
        return self.start + self.length - 1

    def active_epochs(self) -> range:
        """Returns the epochs in which the kind acts; a kind that acts `once` does so at the window's start."""
        return range(self.start, self.start + 1 if self.once else self.end + 1)

    def regime(self, noise_seed: int) -> dict[str, object]:
        """Returns what of this perturbation can change an active epoch, for the state's identity.

        Published noise depends on the window's start, so the start is then part of what an epoch is.
        """
        fields = self.model_dump(exclude={"start", "length"})
        if "noise" in fields:
            fields["seed"] = noise_seed
            fields["start"] = self.start if fields["noise"] == "published" else None
        return fields


def published_seed(fields: Fields, place: Place) -> int:
    """Returns the study's seed of a batch, q + 1000 * start + step: the same in every epoch of a window."""
    return int(fields["seed"]) + 1000 * int(fields["start"]) + place.step


def fresh(fields: Fields, place: Place) -> np.random.Generator:
    """Returns the generator of one batch, different in every epoch."""
    return stream(int(fields["seed"]), str(fields["kind"]), place.epoch, place.step)


def scaled(fields: Fields, normals: Floats, statistics: TableStatistics) -> Floats:
    """Returns standard normals with mean and spread of the target table, unless `distribution: normal`."""
    if fields["distribution"] == "normal":
        return normals
    result: Floats = normals * np.float32(statistics.std) + np.float32(statistics.mean)
    return result
