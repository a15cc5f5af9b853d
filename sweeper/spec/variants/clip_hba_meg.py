"""CLIP-HBA-MEG: fields of the model section, and what of them can change an epoch (docs/methods.md 4)."""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sweeper.spec.base import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, SpecModel, broken_rule
from sweeper.spec.variants.adapters import VisionAdapter


class MegAdapter(VisionAdapter):
    """DoRA adapters on the attention output projections of the vision blocks; the text tower has none of its own."""

    text_layers: ClassVar[int] = 0
    vision_layers: NonNegativeInt = 24
    """Number of last vision blocks that carry an adapter."""
    magnitude: Literal["frozen", "trained"] = "frozen"
    """`frozen`: the magnitudes stay at their start, as published."""


class Curves(SpecModel):
    """The time curves that scale the model: richness (alpha), binding (beta) and noise."""

    source: Literal["data", "ones"] = "data"
    """`data`: from the neural RDMs, which needs three times or more; `ones`: no curves and no noise."""
    stimuli: Literal["training", "all"] = "training"
    """Which stimuli they are computed from; `all`, test stimuli included, as published."""
    participants: Literal["targets", "all"] = "targets"
    """Whose RDMs: those that make the targets, or everybody's, as published."""
    window_ms: NonNegativeFloat = 15.0
    """Half width of the window over which layer weights, alpha and beta are averaged."""
    noise_scale: NonNegativeFloat = 1.0
    """Factor on the noise curve."""


class Losses(SpecModel):
    """Weights of the three losses, each divided by its value for the untrained model."""

    w1: NonNegativeFloat = 1.0
    """Weight of 1 - Pearson over all pairs and times together."""
    w2: NonNegativeFloat = 0.1
    """Weight of the squared error, averaged over times."""
    w3: NonNegativeFloat = 0.15
    """Weight of 1 - Pearson of the time-generalisation profiles."""
    times: Literal["after_onset", "all"] = "after_onset"
    """`all` also trains on slices before the stimulus, noise against noise, as published."""
    validation: Literal["whole", "batches"] = "whole"
    """`batches`: the mean over batches of the validation stimuli, as published."""

    @model_validator(mode="after")
    def _has_a_weight(self) -> Self:
        if self.w1 == self.w2 == self.w3 == 0:
            raise broken_rule("one of model.loss.w1, w2 and w3 must be greater than 0", "w1", "w2", "w3", got=0)
        return self


class Stages(SpecModel):
    """First the layer weights alone are trained, then, from the best state so far, the adapters with them."""

    switch: Literal["patience", "epochs"] = "patience"
    """When the second stage begins: after `patience` epochs that were not accepted, or after `epochs`."""
    epochs: PositiveInt | None = None
    """Length of the first stage under `switch: epochs`."""
    patience: PositiveInt | None = 5
    """Epochs in a row that are not accepted: ends the second stage, and the first under `switch: patience`."""
    lr_layers: PositiveFloat = 3e-3
    """Learning rate of the layer weights in both stages; `training.optimizer.lr` is that of the adapters."""

    @model_validator(mode="after")
    def _rule_has_its_number(self) -> Self:
        if self.switch == "epochs" and self.epochs is None:
            raise broken_rule("model.stages.switch: epochs needs model.stages.epochs", "switch", "epochs", got="epochs")
        if self.switch == "patience" and self.epochs is not None:
            rule = "model.stages.epochs belongs to model.stages.switch: epochs"
            raise broken_rule(rule, "epochs", "switch", got=self.epochs)
        if self.switch == "patience" and self.patience is None:
            rule = "model.stages.switch: patience needs model.stages.patience"
            raise broken_rule(rule, "patience", "switch", remedy="Name a number, or switch: epochs")
        return self


class Targets(SpecModel):
    """A series of RDMs over time, and whose of it."""

    series: str | None = None
    """Name of the RDM series in the manifest; may be left out where there is one only."""
    participants: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Whose RDMs are averaged; default: all but the last, who is left for testing. Not beside a `subject`."""


class ClipHbaMeg(SpecModel):
    """CLIP whose layers are weighted over time, so that its RDMs follow neural RDMs."""

    over_time: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"start_from"})
    measured_in_training: ClassVar[tuple[str, ...]] = ("val_loss", "val_loss_pearson", "rsa_validation")
    """Columns that training measures on the validation stimuli; all else on them is an evaluation item."""
    variant: Literal["clip-hba-meg"]
    """Which model variant."""
    backbone: str = "ViT-L-14"
    """A configuration of open_clip, or `tiny-clip`."""
    pretrained: str = "openai"
    """`openai`, `builtin` (tiny-clip), `random`, or the path of a local .safetensors file."""
    activation: Literal["quick_gelu", "gelu"] | None = None
    """Must be named for a local file; elsewhere it follows from the weights."""
    text_from: str | None = None
    """Id of a finished behaviour trial of this store, or the path of its spec: its text adapters are taken, frozen. Or
    a .safetensors file with the `features` [66, E] of the prompts."""
    start_from: str | None = None
    """Id of a finished trial of this variant, or the path of its spec: training starts from its best state."""
    adapter: MegAdapter = MegAdapter()
    """What is trained in the vision tower."""
    curves: Curves = Curves()
    """The time curves that scale the model."""
    loss: Losses = Losses()
    """Weights of the three losses."""
    stages: Stages = Stages()
    """Layer weights first, then adapters."""
    targets: Targets = Targets()
    """Which neural RDMs are trained on."""
    zero_weights: Literal["learn", "stay"] = "learn"
    """`stay`: a layer weight of exactly 0 passes no gradient, as published; at the start that is all but the last."""
    evaluation_noise: Literal["none", "seeded"] = "none"
    """`seeded` draws the model's noise in evaluation, too, as published; the same at every epoch."""

    @property
    def participants(self) -> tuple[str, ...] | None:
        """Those who are named to be trained on."""
        return self.targets.participants

    def incomparable(self, metric: str, searched: Collection[str]) -> str | None:
        """Returns why a validation metric must not compare trials that differ in some fields; None: it may.

        Args:
            metric: a column of the trials' curves.
            searched: dotted names of the fields.
        """
        if metric == "rsa_validation":
            moving = _among(searched, ("model.targets", "model.curves.source"))
            return f"what it is compared with, or at which times, depends on {moving}" if moving else None
        if metric == "val_loss_pearson":  # neither weighted nor divided
            in_batches = ("training.batch_size",) if self.loss.validation == "batches" else ()
            moving = _among(searched, ("model.targets", "model.curves", "model.loss.times", "data", *in_batches))
            return f"what it is compared with, or at which times, depends on {moving}" if moving else None
        if metric == "val_loss":
            in_batches = ("training.batch_size",) if self.loss.validation == "batches" else ()
            moving = _among(searched, ("model", "data", *in_batches))
            return f"the total loss is weighted and normalised by what is searched ({moving})" if moving else None
        return "it says nothing about stimuli that were not trained on, or is not measured"

    def doubts(self, max_epochs: int) -> tuple[str, ...]:
        """Says what of these fields does nothing in a training of so many epochs, a line each."""
        first = self.stages.epochs
        if self.stages.switch == "patience" or first is None or first < max_epochs or self.adapter.vision_layers == 0:
            return ()
        text = f"model.stages.epochs is {first} and training.max_epochs {max_epochs}: the adapters are never trained"
        return (text,)

    def regime(self, inputs: Mapping[str, str]) -> dict[str, object]:
        """Returns what identifies this network: weights and given states by content, never by name or path.

        Args:
            inputs: digests of weights, prompts and given states, and `activation`.
        """
        by_content = {"backbone", "pretrained", "activation", "text_from", "start_from", "targets"}
        return {**self.model_dump(exclude=by_content), **inputs}


def _among(searched: Collection[str], fields: Collection[str]) -> str:
    """Returns the searched names that are one of some fields, part of one, or hold one; sorted, as text."""
    found = (
        name for name in searched if any(f"{name}.".startswith(f"{f}.") or f.startswith(f"{name}.") for f in fields)
    )
    return ", ".join(sorted(found))
