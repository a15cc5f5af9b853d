"""Fields of the adapters that variants have in common."""

from typing import Literal

from sweeper.spec.base import NonNegativeInt, PositiveFloat, PositiveInt, SpecModel


class VisionAdapter(SpecModel):
    """DoRA adapters on the attention output projections of the last vision blocks."""

    rank: PositiveInt = 32
    """Rank of the low-rank factors."""
    alpha: PositiveFloat = 16.0
    """The factors' product is scaled by alpha / rank."""
    vision_layers: NonNegativeInt = 2
    """Number of last vision blocks that carry an adapter."""
    dora: Literal["published", "peft"] = "published"
    """Whose form: the published layer differentiates the column norm, peft's does not."""
    init: Literal["zero", "reference"] = "zero"
    """`reference`: both factors random, as published; `zero`: exact CLIP before the first step."""
