"""CLIP-HBA-Behavior: fields of the model section, and what of them can change an epoch."""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal

from sweeper.spec.base import NonNegativeInt, SpecModel
from sweeper.spec.variants.adapters import VisionAdapter


class Adapter(VisionAdapter):
    """DoRA adapters on the attention output projections of the last blocks."""

    text_layers: NonNegativeInt = 1
    """Number of last text blocks that carry an adapter."""


class ClipHbaBehavior(SpecModel):
    """CLIP with adapters whose 66 outputs are 100 * cos(image, dimension name)."""

    over_time: ClassVar[bool] = False
    participants: ClassVar[None] = None
    """Nobody's data are trained on."""
    gives: ClassVar[frozenset[str]] = frozenset({"text_from"})
    measured_in_training: ClassVar[tuple[str, ...]] = ("val_loss",)
    """Columns that training measures on the validation stimuli; all else on them is an evaluation item."""
    variant: Literal["clip-hba-behavior"] = "clip-hba-behavior"
    """Which model variant."""
    backbone: str = "ViT-L-14"
    """A configuration of open_clip, or `tiny-clip`."""
    pretrained: str = "openai"
    """`openai`, `builtin` (tiny-clip), `random`, or the path of a local .safetensors file."""
    activation: Literal["quick_gelu", "gelu"] | None = None
    """Must be named for a local file; elsewhere it follows from the weights."""
    adapter: Adapter = Adapter()
    """What is trained."""

    def incomparable(self, metric: str, searched: Collection[str]) -> str | None:
        """Returns why a validation metric must not compare trials that differ in some fields; None: it may.

        The validation loss is a plain mean over outputs of one scale: no field of a trial is a weight in it.

        Args:
            metric: a column of the trials' curves.
            searched: dotted names of the fields.
        """
        del searched
        if metric in ("val_loss", "rsa_validation", "rsa_validation_embedding"):
            return None
        return "it says nothing about stimuli that were not trained on, or is not measured"

    def doubts(self, max_epochs: int) -> tuple[str, ...]:
        """Says what of these fields does nothing in a training of so many epochs, a line each."""
        del max_epochs  # all that is trained is trained from the first epoch on
        return ()

    def regime(self, inputs: Mapping[str, str]) -> dict[str, object]:
        """Returns what identifies this network: weights by content, never by name or path.

        Args:
            inputs: `weights` and `prompts` (digests) and `activation`, as found on disk.
        """
        return {"variant": self.variant, **inputs, "adapter": self.adapter.model_dump()}
