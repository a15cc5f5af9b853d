"""Kinds that replace the images of a batch."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from sweeper.randomness import stream
from sweeper.spec.base import Number
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


def _image_noise(fields: Fields, place: Place, shape: tuple[int, ...], statistics: TableStatistics) -> Floats:
    if fields["noise"] == "published":
        # The study drew these on an unnamed GPU, so its numbers cannot be had again: same law, same repetition.
        generator = stream(published_seed(fields, place), "image_noise_published")
    else:
        generator = fresh(fields, place)
    return scaled(fields, generator.standard_normal(shape, dtype=np.float32), statistics)


class ImageNoise(Perturbation):
    """Images are replaced by noise in normalised units."""

    effect: ClassVar[Effect] = Effect(images=_image_noise)
    kind: Literal["image_noise"]
    noise: NoiseRule = "fresh"
    """`published`: one noise batch per batch index, the same in every epoch of a window."""
    distribution: Distribution = "normal"
    """`target` is what the published runs used, the statistics of the target table: the default with their noise."""

    @model_validator(mode="before")
    @classmethod
    def _published_noise_is_on_the_scale_of_the_targets(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("noise") == "published":
            return {"distribution": "target", **fields}
        return fields


def _blank_image(fields: Fields, place: Place, shape: tuple[int, ...], statistics: TableStatistics) -> Floats:
    return np.full((1, *shape[1:]), fields["value"], dtype=np.float32)


class BlankImage(Perturbation):
    """Images are replaced by one constant in normalised units (0.5 is not mid-grey)."""

    effect: ClassVar[Effect] = Effect(images=_blank_image)
    kind: Literal["blank_image"]
    value: Number = 0.5
    """The constant, in normalised units."""
