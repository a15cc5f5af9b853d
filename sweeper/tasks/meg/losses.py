"""The weighted losses between RDM series, and what holds where there is nothing to correlate (docs/methods.md 4.4)."""

from collections.abc import Mapping

from sweeper_models.errors import UndefinedLoss
from sweeper_models.rdm_losses import LOSSES, PROFILE, normalised_total
from torch import Tensor

from sweeper.spec.variants.clip_hba_meg import Losses

FIRST = "pearson"
COLUMNS = {"pearson": "val_loss_pearson", "mse": "val_loss_mse", "time_generalisation": "val_loss_generalisation"}
"""Columns of the losses as they are, neither weighted nor divided."""


class WeightedLosses:
    """Computes the losses of a configuration."""

    def __init__(self, wanted: Losses) -> None:
        self._weights = dict(zip(LOSSES, (wanted.w1, wanted.w2, wanted.w3), strict=True))

    def between(self, model: Tensor, target: Tensor, *, lenient: bool = False) -> dict[str, Tensor]:
        """Returns the losses that have a weight, and the first one always, between RDM series [T', P].

        Args:
            model: of the model.
            target: of people, or what a perturbation made of it.
            lenient: a perturbation acts, which may make targets, or what images give, constant.
        """
        wanted = (name for name in LOSSES if self._weights[name] > 0 or name == FIRST)
        return {name: _loss(name, model, target, lenient=lenient) for name in wanted}

    def total(self, losses: Mapping[str, Tensor], start: Mapping[str, float]) -> Tensor:
        """Returns their weighted sum, each divided by its value for the untrained model."""
        total: Tensor = normalised_total(losses, start, self._weights)
        return total


def _loss(name: str, model: Tensor, target: Tensor, *, lenient: bool) -> Tensor:
    """Returns one loss; where there is nothing to correlate, nothing is explained: the loss is 1, without a gradient.

    So it is with the untrained model without noise, whose RDMs are the same at all times and generalise alike, and with
    what a perturbation made constant. Else a constant RDM is an error.
    """
    try:
        loss: Tensor = LOSSES[name](model, target)
    except UndefinedLoss as undefined:
        if not lenient and undefined.where != f"model.{PROFILE}":
            raise
        return model.sum() * 0.0 + 1.0
    return loss
