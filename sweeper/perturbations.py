"""What each perturbation kind does to an epoch: one registry, one entry a kind.

A kind acts on the targets or the images of a batch, on the order of the batches, or on the optimiser. Its
fields are those of `sweeper/spec/perturbations.py` as the regime carries them, plus `seed` and, where the
published rule repeats itself in a window, the window's `start`. Task-independent: numpy arrays only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.philox import published_normals
from sweeper.randomness import stream

Fields = Mapping[str, Any]
Floats = NDArray[np.float32]


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
    """What a kind does; None where it does nothing.

    Attributes:
        targets: (fields, place, targets [B, D], statistics) -> targets [B, D].
        images: (fields, place, shape [B, 3, H, W], statistics) -> images of that shape, or [1, 3, H, W] for all.
        updates: (fields, updates) -> updates, once per epoch.
        order: (fields, epoch, n) -> int64 [n], the order of the training items.
    """

    targets: Callable[[Fields, Place, Floats, TableStatistics], Floats] | None = None
    images: Callable[[Fields, Place, tuple[int, ...], TableStatistics], Floats] | None = None
    updates: Callable[[Fields, Updates], Updates] | None = None
    order: Callable[[Fields, int, int], NDArray[np.int64]] | None = None


def published_seed(fields: Fields, place: Place) -> int:
    """Returns the study's seed of a batch, q + 1000 * start + step: the same in every epoch of a window."""
    return int(fields["seed"]) + 1000 * int(fields["start"]) + place.step


def _fresh(fields: Fields, place: Place) -> np.random.Generator:
    return stream(int(fields["seed"]), str(fields["kind"]), place.epoch, place.step)


def _scaled(fields: Fields, normals: Floats, statistics: TableStatistics) -> Floats:
    if fields["distribution"] == "normal":
        return normals
    scaled: Floats = normals * np.float32(statistics.std) + np.float32(statistics.mean)
    return scaled


def _random_target(fields: Fields, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
    if fields["noise"] == "published":
        normals = published_normals(published_seed(fields, place), targets.size).reshape(targets.shape)
    else:
        normals = _fresh(fields, place).standard_normal(targets.shape, dtype=np.float32)
    return _scaled(fields, normals, statistics)


def _label_shuffle(fields: Fields, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
    if fields["noise"] == "fresh":
        return targets[_fresh(fields, place).permutation(len(targets))]
    import torch  # the published permutation is torch's own

    generator = torch.Generator().manual_seed(published_seed(fields, place))
    order: NDArray[np.int64] = torch.randperm(len(targets), generator=generator).numpy()
    return targets[order]


def _image_noise(fields: Fields, place: Place, shape: tuple[int, ...], statistics: TableStatistics) -> Floats:
    if fields["noise"] == "published":
        # The study drew these on an unnamed GPU, so its numbers cannot be had again: same law, same repetition.
        generator = stream(published_seed(fields, place), "image_noise_published")
    else:
        generator = _fresh(fields, place)
    return _scaled(fields, generator.standard_normal(shape, dtype=np.float32), statistics)


def _blank_image(fields: Fields, place: Place, shape: tuple[int, ...], statistics: TableStatistics) -> Floats:
    return np.full((1, *shape[1:]), fields["value"], dtype=np.float32)


def _mean_target(fields: Fields, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
    return np.full_like(targets, statistics.mean)


def _dim_mean_target(fields: Fields, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
    return np.broadcast_to(statistics.dimension_means, targets.shape).copy()


def _reorder(fields: Fields, epoch: int, n: int) -> NDArray[np.int64]:
    return stream(int(fields["seed"]), "reorder", epoch).permutation(n)


EFFECTS: dict[str, Effect] = {
    "random_target": Effect(targets=_random_target),
    "label_shuffle": Effect(targets=_label_shuffle),
    "image_noise": Effect(images=_image_noise),
    "blank_image": Effect(images=_blank_image),
    "mean_target": Effect(targets=_mean_target),
    "dim_mean_target": Effect(targets=_dim_mean_target),
    "freeze": Effect(updates=lambda fields, updates: replace(updates, enabled=False)),
    "reorder": Effect(order=_reorder),
    "reset_optimizer": Effect(updates=lambda fields, updates: replace(updates, reset_moments=True)),
    "learning_rate": Effect(
        updates=lambda fields, updates: replace(updates, lr_factor=updates.lr_factor * fields["factor"])
    ),
    "weight_decay": Effect(updates=lambda fields, updates: replace(updates, weight_decay=fields["value"])),
}


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Everything that acts in one epoch, in the order of the spec."""

    active: tuple[Fields, ...]

    @classmethod
    def of(cls, regime: Mapping[str, Any]) -> "Disturbance":
        """Returns what acts under a regime."""
        return cls(tuple(regime.get("perturbation") or ()))

    def updates(self) -> Updates:
        """Returns how this epoch's updates are made."""
        updates = Updates()
        for fields in self.active:
            if (rule := EFFECTS[fields["kind"]].updates) is not None:
                updates = rule(fields, updates)
        return updates

    def order(self, epoch: int, n: int) -> NDArray[np.int64] | None:
        """Returns another order of the training items, the last one asked for; None for the configured one."""
        order = None
        for fields in self.active:
            if (rule := EFFECTS[fields["kind"]].order) is not None:
                order = rule(fields, epoch, n)
        return order

    def targets(self, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
        """Returns the targets [B, D] that a batch is trained on."""
        for fields in self.active:
            if (rule := EFFECTS[fields["kind"]].targets) is not None:
                targets = rule(fields, place, targets, statistics)
        return targets

    def images(self, place: Place, shape: tuple[int, ...], statistics: TableStatistics) -> Floats | None:
        """Returns the images that replace a batch's own ([B or 1, 3, H, W]), None where they stay."""
        images = None
        for fields in self.active:
            if (rule := EFFECTS[fields["kind"]].images) is not None:
                images = rule(fields, place, shape, statistics)
        return images
