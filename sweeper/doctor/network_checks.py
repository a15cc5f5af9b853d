"""Checks of the network before training: pure functions of what was measured."""

from collections.abc import Sequence

from sweeper_models.weights import WeightsFile

from sweeper.data.images import Preprocessing
from sweeper.doctor.adapter_checks import check_adapters, check_prefix
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
from sweeper.doctor.wording import score
from sweeper.inputs import preprocessing_of
from sweeper.spec.schema import TrialConfig

_CONSTANTS = {"things": "THINGS", "clip": "CLIP"}
_SHRUNK = Cause(
    text="the pictures were resized, maybe centre-cropped, before: the study stretches the originals",
    remedy="Use the JPEGs of the THINGS archive as they are",
)


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
        measured, figures = self._measured, self._figures
        checks = [
            self._weights_row(),
            self._activation(),
            self._constants(),
            self._pictures(),
            self._scale(),
            self._rsa("1 - Pearson", measured.rsa, figures.rsa),
            self._rsa("1 - cosine", measured.rsa_cosine, figures.rsa_cosine),
            self._rsa_outputs(),
            self._first_batch(
                "predictions of the first batch: mean, min, max",
                measured.predictions,
                figures.predictions,
                figures.predictions_tolerance,
            ),
            self._first_batch(
                "loss of the first batch on random targets",
                [measured.first_loss],
                [figures.first_loss],
                [figures.first_loss_tolerance],
            ),
            self._num_trainable(),
            *check_adapters(measured),
            check_prefix(measured),
        ]
        return [judge(check) for check in checks]

    def cause(self) -> Cause:
        """Returns the likely cause of a wrong RSA: what, the other way round, gives the published figure."""
        measured, figures = self._measured, self._figures
        if self._order_cause is not None:
            return self._order_cause
        if self._is_published(measured.rsa_other_activation):
            other = {"gelu": "GELU instead of QuickGELU", "quick_gelu": "QuickGELU instead of GELU"}
            found = score(measured.rsa_other_activation)
            text = f"{other[self._weights.activation]}: with the latter, the RSA is {found}"
            return Cause(text=text, remedy=f"Set model.activation: {figures.activation}")
        if self._is_published(measured.rsa_other_constants):
            text = f"CLIP's image constants: with those of THINGS, the RSA is {score(measured.rsa_other_constants)}"
            return Cause(text=text, remedy="Set data.preprocessing: things")
        if measured.smallest_side <= measured.image_size:
            return _SHRUNK
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
        rsa, other = score(measured.rsa), score(measured.rsa_other_activation)
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
        return Figure(
            name="image constants",
            expected=f"THINGS: {_shown(PUBLISHED_PREPROCESSING)}",
            found=f"{_CONSTANTS[name]}: {_shown(used)}: RSA {score(measured.rsa)}, "
            f"with {other}'s {score(measured.rsa_other_constants)}",
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
            likely=_SHRUNK,
        )

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
            found=score(found),
            holds=found is not None and abs(found - expected) <= tolerance,
            inapplicable=self._inapplicable,
            chosen=self._choices,
            likely=self.cause(),
        )

    def _rsa_outputs(self) -> Figure:
        return Figure(
            name="untrained RSA of the 66 outputs",
            expected="defined (0.4554 after the study's first epoch)",
            found=score(self._measured.rsa_outputs),
            holds=self._measured.rsa_outputs is not None,
            inapplicable=None if self._measured.rsa is not None else "no reference RDM on held-out images",
            likely=Cause(text="all outputs of an image are equal", remedy="Look at the prompts and the weights"),
        )

    def _first_batch(
        self, name: str, found: Sequence[float], expected: Sequence[float], tolerances: Sequence[float]
    ) -> Figure:
        pairs = list(zip(expected, tolerances, strict=True))
        return Figure(
            name=name,
            expected=", ".join(f"{value:.2f} +- {tolerance}" for value, tolerance in pairs),
            found=", ".join(f"{value:.2f}" for value in found),
            holds=all(abs(value - wanted) <= by for value, (wanted, by) in zip(found, pairs, strict=True)),
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

    def _num_trainable(self) -> Figure:
        measured, figures = self._measured, self._figures
        return Figure(
            name="trainable parameters",
            expected=f"{figures.num_trainable:,}",
            found=f"{measured.num_trainable:,}",
            holds=measured.num_trainable == figures.num_trainable,
            inapplicable=self._inapplicable,
            chosen=(*self._backbone, *adapter_choice(self._config.model)),
        )

    def _is_published(self, rsa: float | None) -> bool:
        return rsa is not None and abs(rsa - self._figures.rsa) <= self._figures.rsa_tolerance


def _activation_cause(own: str) -> Cause:
    return Cause(
        text=f"the network is built with {own}; OpenAI's weights were trained with QuickGELU",
        remedy="Set model.activation: quick_gelu, or name the backbone these weights belong to",
    )


def _shown(constants: Preprocessing) -> str:
    mean, std = (" ".join(f"{number:.3f}" for number in numbers) for numbers in (constants.mean, constants.std))
    return f"mean {mean}, SD {std}"
