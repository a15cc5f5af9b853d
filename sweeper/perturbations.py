"""What acts in one epoch: the effects of all windows that are open, in the order of the spec.

The kinds with their effects are in `sweeper/spec/perturbations/`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.spec.perturbations import KINDS
from sweeper.spec.perturbations.base import Effect, Fields, Floats, Place, TableStatistics, Updates


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
        for effect, fields in self._effects():
            if effect.updates is not None:
                updates = effect.updates(fields, updates)
        return updates

    def order(self, epoch: int, n: int) -> NDArray[np.int64] | None:
        """Returns another order of the training items, the last one asked for; None for the configured one."""
        order = None
        for effect, fields in self._effects():
            if effect.order is not None:
                order = effect.order(fields, epoch, n)
        return order

    def targets(self, place: Place, targets: Floats, statistics: TableStatistics) -> Floats:
        """Returns the targets [B, D] that a batch is trained on."""
        for effect, fields in self._effects():
            if effect.targets is not None:
                targets = effect.targets(fields, place, targets, statistics)
        return targets

    def rdms(self, place: Place, rdms: Floats, statistics: TableStatistics) -> Floats:
        """Returns the target RDMs [T, B, B] that a batch is trained on; kinds without an own way act on the pairs."""
        rows, columns = np.triu_indices(rdms.shape[1], k=1)
        for effect, fields in self._effects():
            if effect.rdms is not None:
                rdms = effect.rdms(fields, place, rdms)
            elif effect.targets is not None:
                changed = np.zeros_like(rdms)
                pairs = effect.targets(fields, place, np.ascontiguousarray(rdms[:, rows, columns].T), statistics).T
                changed[:, rows, columns] = changed[:, columns, rows] = pairs
                rdms = changed
        return rdms

    @property
    def replaces_images(self) -> bool:
        """Whether `images` returns any."""
        return any(effect.images is not None for effect, _ in self._effects())

    def images(self, place: Place, shape: tuple[int, ...], statistics: TableStatistics) -> Floats | None:
        """Returns the images that replace a batch's own ([B or 1, 3, H, W]), None where they stay."""
        images = None
        for effect, fields in self._effects():
            if effect.images is not None:
                images = effect.images(fields, place, shape, statistics)
        return images

    @property
    def repeats_images(self) -> bool:
        """Tells whether what replaces them is the same in every epoch of a window: a constant, or published noise."""
        return all(fields.get("noise") != "fresh" for effect, fields in self._effects() if effect.images is not None)

    def _effects(self) -> Iterator[tuple[Effect, Fields]]:
        return ((KINDS[fields["kind"]].effect, fields) for fields in self.active)
