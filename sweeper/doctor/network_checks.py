"""Checks of the network before training: pure functions of what was measured."""

from collections.abc import Iterator

from sweeper_models.weights import WeightsFile

from sweeper.doctor.judge import (
    Cause,
    Figure,
    adapter_choice,
    backbone_choice,
    judge,
    preprocessing_choice,
)
from sweeper.doctor.measure import Measurements
from sweeper.doctor.published import PUBLISHED_PREPROCESSING, NetworkFigures
from sweeper.doctor.report import Row
from sweeper.inputs import preprocessing_of
from sweeper.spec.schema import TrialConfig

_PREFIX_TOLERANCE = 1e-2  # of outputs within +-100: rounding of another order of sums
_CONSTANTS = {"things": "THINGS", "clip": "CLIP"}


class NetworkChecks:
    """Compares one network with the published one."""

    def __init__(
        self,
        config: TrialConfig,
        weights: WeightsFile,
        measured: Measurements,
        figures: NetworkFigures,
        *,
        inapplicable: str | None,
        order_cause: Cause | None,
    ) -> None:
        """Takes everything that a verdict depends on.

        Args:
            config: what the spec asks for.
            weights: the weights found.
            measured: what the network computes.
            figures: what the published one computes.
            inapplicable: why the figures say nothing here, or None.
            order_cause: why behavioural RDM and held-out targets do not fit each other, or None.
        """
        self._config, self._weights, self._measured, self._figures = config, weights, measured, figures
        self._inapplicable, self._order_cause = inapplicable, order_cause
        self._backbone = backbone_choice(config.model, figures)
        constants = preprocessing_choice(config.data) if self._is_published(measured.rsa_other_constants) else ()
        self._choices = (*self._backbone, *constants)  # a choice that does not explain the figure excuses nothing

    def rows(self) -> list[Row]:
        """Returns one row per check."""
        figures = [
            self._weights_row(),
            self._activation(),
            self._constants(),
            self._pictures(),
            self._scale(),
            self._rsa("1 - Pearson", self._measured.rsa, self._figures.rsa),
            self._rsa("1 - cosine", self._measured.rsa_cosine, self._figures.rsa_cosine),
            self._rsa_outputs(),
            self._predictions(),
            self._first_loss(),
            *self._adapters(),
            self._prefix(),
        ]
        return [judge(figure) for figure in figures]

    def cause(self) -> Cause:
        """Returns the likely cause of a wrong RSA: what, the other way round, gives the published figure."""
        measured, figures = self._measured, self._figures
        if self._order_cause is not None:
            return self._order_cause
        if self._is_published(measured.rsa_other_activation):
            other = {"gelu": "GELU instead of QuickGELU", "quick_gelu": "QuickGELU instead of GELU"}
            found = _number(measured.rsa_other_activation)
            text = f"{other[self._weights.activation]}: with the latter, the RSA is {found}"
            return Cause(text=text, remedy=f"Set model.activation: {figures.activation}")
        if self._is_published(measured.rsa_other_constants):
            text = f"CLIP's image constants: with those of THINGS, the RSA is {_number(measured.rsa_other_constants)}"
            return Cause(text=text, remedy="Set data.preprocessing: things")
        if measured.smallest_side <= measured.image_size:
            return self._shrunk()
        text = "other weights, or other pictures of the 48, than the study's"
        remedy = "Download the weights again (another CLIP loads as well); compare the 48 JPEGs with the archive's"
        return Cause(text=text, remedy=remedy)

    def _weights_row(self) -> Figure:
        model, figures = self._config.model, self._figures
        return Figure(
            name="backbone",
            expected=f"{figures.backbone} {figures.pretrained}",
            found=f"{model.backbone} {model.pretrained} (sha256 {self._weights.sha256[:12]})",
            holds=not self._backbone,
            inapplicable=self._inapplicable,
            chosen=self._backbone,
        )

    def _activation(self) -> Figure:
        """Checks which activation is built in; that of the published network where it is asked for."""
        measured, own = self._measured, self._weights.activation
        wanted = own if self._inapplicable or self._backbone else self._figures.activation
        rsa, other = _number(measured.rsa), _number(measured.rsa_other_activation)
        return Figure(
            name="activation",
            expected=wanted,
            found=f"{'+'.join(measured.activations)}: RSA {rsa}, with the other {other}",
            holds=measured.activations == (wanted,),
            likely=self.cause() if self._is_published(measured.rsa_other_activation) else _activation_cause(own),
        )

    def _constants(self) -> Figure:
        measured, used = self._measured, preprocessing_of(self._config.data)
        name = self._config.data.preprocessing
        other = _CONSTANTS["clip" if name == "things" else "things"]
        shown = f"mean {_few(used.mean)}, SD {_few(used.std)}"
        return Figure(
            name="image constants",
            expected=f"THINGS: mean {_few(PUBLISHED_PREPROCESSING.mean)}, SD {_few(PUBLISHED_PREPROCESSING.std)}",
            found=f"{_CONSTANTS[name]}: {shown}: RSA {_number(measured.rsa)}, "
            f"with {other}'s {_number(measured.rsa_other_constants)}",
            holds=used == PUBLISHED_PREPROCESSING,
            chosen=preprocessing_choice(self._config.data),
        )

    def _pictures(self) -> Figure:
        measured = self._measured
        return Figure(
            name="pictures: smallest side",
            expected=f"above {measured.image_size} pixels",
            found=f"{measured.smallest_side} pixels",
            holds=measured.smallest_side > measured.image_size,
            inapplicable=self._inapplicable,
            likely=self._shrunk(),
        )

    def _shrunk(self) -> Cause:
        text = "the pictures were resized, maybe centre-cropped, before: the study stretches the originals"
        return Cause(text=text, remedy="Use the JPEGs of the THINGS archive as they are")

    def _scale(self) -> Figure:
        return Figure(
            name="scale of outputs",
            expected=f"{self._figures.output_scale:.1f}",
            found=f"{self._measured.output_scale:.3f}",
            holds=abs(self._measured.output_scale - self._figures.output_scale) < 0.01,
            inapplicable=self._inapplicable,
            chosen=self._backbone,
            likely=Cause(text="other weights than OpenAI's", remedy="Download the weights again"),
        )

    def _rsa(self, metric: str, found: float | None, expected: float) -> Figure:
        tolerance = self._figures.rsa_tolerance
        return Figure(
            name=f"untrained RSA of image features, {metric}",
            expected=f"{expected:.4f} +- {tolerance}",
            found=_number(found),
            holds=found is not None and abs(found - expected) <= tolerance,
            inapplicable=self._inapplicable,
            chosen=self._choices,
            likely=self.cause(),
        )

    def _rsa_outputs(self) -> Figure:
        return Figure(
            name="untrained RSA of the 66 outputs",
            expected="defined (0.4554 after the study's first epoch)",
            found=_number(self._measured.rsa_outputs),
            holds=self._measured.rsa_outputs is not None,
            inapplicable=None if self._measured.rsa is not None else "no reference RDM on held-out images",
            likely=Cause(text="all outputs of an image are equal", remedy="Look at the prompts and the weights"),
        )

    def _predictions(self) -> Figure:
        figures, found = self._figures, self._measured.predictions
        close = [
            abs(value - wanted) <= tolerance
            for value, wanted, tolerance in zip(found, figures.predictions, figures.predictions_tolerance, strict=True)
        ]
        return Figure(
            name="predictions of the first batch: mean, min, max",
            expected=", ".join(
                f"{value:.2f} +- {tolerance}"
                for value, tolerance in zip(figures.predictions, figures.predictions_tolerance, strict=True)
            ),
            found=", ".join(f"{value:.2f}" for value in found),
            holds=all(close),
            inapplicable=self._inapplicable,
            chosen=(*self._choices, *adapter_choice(self._config.model)),
            likely=self._batch_cause(),
        )

    def _first_loss(self) -> Figure:
        figures, found = self._figures, self._measured.first_loss
        return Figure(
            name="loss of the first batch on random targets",
            expected=f"{figures.first_loss:.2f} +- {figures.first_loss_tolerance}",
            found=f"{found:.2f}",
            holds=abs(found - figures.first_loss) <= figures.first_loss_tolerance,
            inapplicable=self._inapplicable,
            chosen=(*self._choices, *adapter_choice(self._config.model)),
            likely=self._batch_cause(),
        )

    def _batch_cause(self) -> Cause:
        """Returns why the first batch differs: what the RSA shows, else its pictures or the text tower."""
        if not self._is_published(self._measured.rsa):
            return self.cause()
        text = "the pictures of the pool or their order, or the text tower (prompts, tokenizer)"
        return Cause(text=text, remedy="See the row `first batch`; run `sweeper data verify` on the manifest")

    def _adapters(self) -> Iterator[Figure]:
        measured, figures = self._measured, self._figures
        yield Figure(
            name="trainable parameters",
            expected=f"{figures.num_trainable:,}",
            found=f"{measured.num_trainable:,}",
            holds=measured.num_trainable == figures.num_trainable,
            inapplicable=self._inapplicable,
            chosen=(*self._backbone, *adapter_choice(self._config.model)),
        )
        total = measured.num_adapter_tensors
        dead = f" (dead: {', '.join(measured.dead[:3])})" if measured.dead else ""
        broken = Cause(
            text="an adapter that the forward pass goes round (torch's fused attention never calls `out_proj`)",
            remedy="Install the pinned versions of open_clip, peft and torch",
        )
        none = "the spec asks for no adapters" if total == 0 else None
        yield Figure(
            name="adapters alive: tensors with a gradient",
            expected=f"{total} of {total}",
            found=f"{total - len(measured.dead)} of {total}{dead}",
            holds=not measured.dead,
            inapplicable=none,
            likely=broken,
        )
        yield Figure(
            name="adapters alive: change of an output by a random start",
            expected="above 0",
            found=f"up to {measured.output_change:.3g}",
            holds=measured.output_change > 1e-4,
            inapplicable=none,
            likely=broken,
        )

    def _prefix(self) -> Figure:
        return Figure(
            name="cached prefix against full forward",
            expected=f"within {_PREFIX_TOLERANCE}",
            found=f"up to {self._measured.prefix_error:.2g}",
            holds=self._measured.prefix_error <= _PREFIX_TOLERANCE,
            likely=Cause(
                text="reduced precision on this device, or another open_clip", remedy="Use numerics.prefix: full"
            ),
        )

    def _is_published(self, rsa: float | None) -> bool:
        return rsa is not None and abs(rsa - self._figures.rsa) <= self._figures.rsa_tolerance


def _activation_cause(own: str) -> Cause:
    return Cause(
        text=f"the network is built with {own}; OpenAI's weights were trained with QuickGELU",
        remedy="Set model.activation: quick_gelu, or name the backbone these weights belong to",
    )


def _few(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.3f}" for number in numbers)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
