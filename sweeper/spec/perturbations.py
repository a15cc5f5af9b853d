"""The fields of each perturbation kind; what a kind does stands in `sweeper/perturbations.py`.

A window is the epochs `start .. start + length - 1` (1-based, as published). `control` marks the kinds
that serve as a comparison and do not damage what the study says is damaged.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sweeper.spec.base import NonNegativeFloat, Number, PositiveInt, SpecModel

NoiseRule = Literal["fresh", "published"]
Distribution = Literal["target", "normal"]


class Perturbation(SpecModel):
    """What is done to training, and when."""

    control: ClassVar[bool] = False
    once: ClassVar[bool] = False

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


class RandomTarget(Perturbation):
    """Targets are replaced by mu + sigma * N(0, 1) of the whole target table."""

    kind: Literal["random_target"]
    noise: NoiseRule = "fresh"
    """`published` repeats the study's own tensors, the same in every epoch of a window."""
    distribution: Distribution = "target"
    """`target`: mean and standard deviation of the target table; `normal`: 0 and 1."""


class LabelShuffle(Perturbation):
    """Targets are permuted within the batch."""

    kind: Literal["label_shuffle"]
    noise: NoiseRule = "fresh"
    """`published`: one permutation per batch index, the same in every epoch of a window."""


class ImageNoise(Perturbation):
    """Images are replaced by noise in normalised units."""

    kind: Literal["image_noise"]
    noise: NoiseRule = "fresh"
    """`published`: one noise batch per batch index, the same in every epoch of a window."""
    distribution: Distribution = "normal"
    """`target` is what the published runs used: the statistics of the target table."""


class BlankImage(Perturbation):
    """Images are replaced by one constant in normalised units (0.5 is not mid-grey)."""

    kind: Literal["blank_image"]
    value: Number = 0.5
    """The constant, in normalised units."""


class MeanTarget(Perturbation):
    """Every target becomes the mean of the whole target table."""

    control: ClassVar[bool] = True
    kind: Literal["mean_target"]


class DimMeanTarget(Perturbation):
    """Every target becomes the mean of its dimension."""

    control: ClassVar[bool] = True
    kind: Literal["dim_mean_target"]


class Freeze(Perturbation):
    """No update is made: the clock runs, nothing is damaged."""

    control: ClassVar[bool] = True
    kind: Literal["freeze"]


class Reorder(Perturbation):
    """Batches come in another order: the null of every comparison."""

    control: ClassVar[bool] = True
    kind: Literal["reorder"]
    noise: Literal["fresh"] = "fresh"
    """Every epoch has an order of its own."""


class ResetOptimizer(Perturbation):
    """The optimiser forgets its moments, once, at the window's start."""

    control: ClassVar[bool] = True
    once: ClassVar[bool] = True
    kind: Literal["reset_optimizer"]


class LearningRate(Perturbation):
    """The learning rate is multiplied by a factor."""

    kind: Literal["learning_rate"]
    factor: NonNegativeFloat
    """The learning rate is multiplied by it; 0 stops learning."""


class WeightDecay(Perturbation):
    """The weight decay takes another value."""

    kind: Literal["weight_decay"]
    value: NonNegativeFloat
    """The weight decay in the window."""


AnyPerturbation = Annotated[
    RandomTarget
    | LabelShuffle
    | ImageNoise
    | BlankImage
    | MeanTarget
    | DimMeanTarget
    | Freeze
    | Reorder
    | ResetOptimizer
    | LearningRate
    | WeightDecay,
    Field(discriminator="kind"),
]


def all_kinds() -> Iterator[type[Perturbation]]:
    """Yields the type of every kind, in the order of the file."""
    yield from Perturbation.__subclasses__()


def kind_name(perturbation: type[Perturbation]) -> str:
    """Returns the name that a spec uses for a kind."""
    return str(perturbation.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]
