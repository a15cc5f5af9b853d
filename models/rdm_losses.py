"""Losses between two series of RDMs over time, and the series of a model (docs/methods.md 4.4).

A correlation with something constant does not exist: it is refused with its place, never NaN. Constant means within
the rounding of the given dtype.

Shapes: T times, B stimuli, D dimensions, P = B (B - 1) / 2 pairs.
"""

from collections.abc import Callable, Mapping

import torch
from sweeper_models.errors import TensorMismatch, UndefinedLoss
from torch import Tensor

PROFILE = "generalisation"
"""Where an error is about how like the times are, not about one of them: `model.generalisation`."""
ROUNDING = 8.0  # units in the last place of a vector's norm, below which what is left after centring is rounding


def rdm_series(embeddings: Tensor) -> Tensor:
    """Compute 1 - Pearson between the embeddings of every two stimuli, at each time.

    Args:
        embeddings: float [T, B, D].

    Returns:
        float [T, P]: the entries above the diagonal, row by row.

    Raises:
        UndefinedLoss: at some time a stimulus has the same value in all dimensions.
        TensorMismatch: there are fewer than 3 stimuli.
    """
    num_stimuli = embeddings.shape[1]
    if num_stimuli < 3:
        raise TensorMismatch(
            where="embeddings",
            rule="an RDM needs at least 3 stimuli",
            got=str(num_stimuli),
            remedy="Use a larger batch or more stimuli.",
        )
    units = _directions(
        embeddings,
        "embeddings",
        rule="a stimulus differs between dimensions, else it correlates with nothing",
        axes="time index {}, stimulus {}",
        remedy="Leave out times at which alpha or beta is 0 (`defined_times`), or add jitter.",
    )
    similarity = (units @ units.mT).flatten(1)
    first, second = torch.triu_indices(num_stimuli, num_stimuli, offset=1, device=embeddings.device)
    return 1.0 - similarity.index_select(1, first * num_stimuli + second)


def pearson_long(model: Tensor, target: Tensor, times: Tensor | None = None) -> Tensor:
    """Compute 1 - Pearson between two whole series, all times in one vector.

    Differences of the mean between times count as much as geometry within a time.

    Args:
        model: float [T, P].
        target: float [T, P].
        times: int64 or bool index of the times that count; left out: all.

    Raises:
        UndefinedLoss: one of the two is constant.
    """
    units = [
        _directions(series.flatten(), name, rule="a series of RDMs is not constant", axes="all times", remedy=_REMEDY)
        for name, series, _ in _paired(model, target, times)
    ]
    return 1.0 - units[0] @ units[1]


def mse(model: Tensor, target: Tensor, times: Tensor | None = None) -> Tensor:
    """Compute the mean over time of the mean squared difference of each slice.

    Args:
        model: float [T, P].
        target: float [T, P].
        times: int64 or bool index of the times that count; left out: all.

    Raises:
        UndefinedLoss: an entry is not finite.
    """
    (_, x, _), (_, y, _) = pairs = _paired(model, target, times)
    loss = (x - y).square().mean()
    if not bool(loss.isfinite()):
        for name, series, indices in pairs:
            _require_finite(series, name, indices)
    return loss


def time_generalisation(model: Tensor, target: Tensor, times: Tensor | None = None) -> Tensor:
    """Compute 1 - Pearson between the time generalisation of two series: how much each time is like all times.

    Each slice is z-scored, R = Z Z^T / (P - 1) and g the mean of its rows. R itself is never made: the mean of row i is
    slice i times the mean slice. Factors that all times share drop out of the correlation.

    Args:
        model: float [T, P].
        target: float [T, P].
        times: int64 or bool index of the times that count; left out: all.

    Raises:
        UndefinedLoss: a slice is constant, or all times generalise alike (then at `model.generalisation` or
            `target.generalisation`).
        TensorMismatch: fewer than 3 times count: with 2 both generalise alike.
    """
    profiles = []
    for name, series, indices in _paired(model, target, times):
        _require_three(len(series))
        rule = "the RDM of a time is not constant"
        slices = _directions(series, name, rule=rule, axes="time index {}", remedy=_REMEDY, indices=indices)
        g = slices @ slices.mean(dim=0)
        rule = "some times are more like the others than some"
        profiles.append(_directions(g, f"{name}.{PROFILE}", rule=rule, axes="all times", remedy=_REMEDY, unit=1.0))
    return 1.0 - profiles[0] @ profiles[1]


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "pearson": pearson_long,
    "mse": mse,
    "time_generalisation": time_generalisation,
}
"""The three losses P, M, G by the names that weights carry; w1, w2, w3 in this order."""


def normalised_total(losses: Mapping[str, Tensor], start: Mapping[str, float], weights: Mapping[str, float]) -> Tensor:
    """Add up losses, each divided by its value for the untrained model and weighted.

    Args:
        losses: scalars by name; those without weight may be absent.
        start: P0, M0, G0: the validation losses of the untrained model, by name.
        weights: w1, w2, w3 by name, 0 or more.

    Raises:
        TensorMismatch: no weight is above 0 or one is below, or a start value cannot divide.
    """
    if not any(weight > 0 for weight in weights.values()) or any(not weight >= 0 for weight in weights.values()):
        raise TensorMismatch(
            where="weights",
            rule="weights are 0 or more and one is above 0",
            got=str(dict(weights)),
            remedy="Give at least one loss a weight.",
        )
    used = sorted(name for name, weight in weights.items() if weight > 0)
    for name in used:
        if not 0 < start[name] < float("inf"):
            raise TensorMismatch(
                where=f"start.{name}",
                rule="the untrained model's loss is finite and above 0, since losses are divided by it",
                got=str(start[name]),
                remedy="Give this loss the weight 0.",
            )
    return torch.stack([weights[name] / start[name] * losses[name] for name in used]).sum()


_DIVERGED = "Training has diverged: lower the learning rates, or look at the features that the model was given."
_REMEDY = "Leave this time out, or give the loss the weight 0."


def _paired(model: Tensor, target: Tensor, times: Tensor | None) -> list[tuple[str, Tensor, Tensor]]:
    """Return both series by name with the times that count and their indices."""
    if model.shape != target.shape or model.ndim != 2 or model.numel() == 0:
        raise TensorMismatch(
            where="target",
            rule="model and target have the same times and pairs, [T, P]",
            got=f"{list(model.shape)} and {list(target.shape)}",
            remedy="Bring both to one time axis and the same stimuli.",
        )
    indices = torch.arange(len(model), device=model.device)
    if times is None:
        return [("model", model, indices), ("target", target, indices)]
    chosen = indices[times.to(model.device)]
    return [("model", model[chosen], chosen), ("target", target[chosen], chosen)]


def _require_finite(series: Tensor, where: str, indices: Tensor) -> None:
    bad = ~series.isfinite().all(dim=1)
    if bool(bad.any()):
        raise UndefinedLoss(
            where=where,
            rule="RDMs are finite",
            got=f"values that are not finite at time index {int(indices[bad.nonzero()[0, 0]])}",
            remedy=_REMEDY,
        )


def _require_three(num_times: int) -> None:
    if num_times < 3:
        raise TensorMismatch(
            where="times",
            rule="time generalisation needs at least 3 times",
            got=str(num_times),
            remedy="Give this loss the weight 0.",
        )


def _directions(
    vectors: Tensor,
    where: str,
    *,
    rule: str,
    axes: str,
    remedy: str,
    indices: Tensor | None = None,
    unit: float | None = None,
) -> Tensor:
    """Centre vectors [..., n] and scale them to unit norm, refusing those that have no direction.

    Args:
        vectors: what is correlated.
        where: name of the argument.
        rule: what must hold.
        axes: how the place of a vector is told, a brace for each leading axis.
        remedy: the way out.
        indices: original numbers along the first axis, where some were left out.
        unit: size of the terms that the vectors are sums of, where rounding does not follow their own size.
    """
    centred = vectors - vectors.mean(dim=-1, keepdim=True)
    norms = centred.norm(dim=-1, keepdim=True)
    size = vectors.norm(dim=-1, keepdim=True) if unit is None else unit * vectors.shape[-1] ** 0.5
    bad = ~(norms > ROUNDING * torch.finfo(vectors.dtype).eps * size).squeeze(-1)  # also where a value is NaN
    if bool(bad.any()):
        place = bad.nonzero()[0]
        finite = bool(vectors[tuple(place)].isfinite().all())
        numbers = [int(number) for number in place]
        if indices is not None:
            numbers[0] = int(indices[numbers[0]])
        raise UndefinedLoss(
            where=where,
            rule=rule,
            got=f"{'a constant' if finite else 'values that are not finite'} at {axes.format(*numbers)}",
            remedy=remedy if finite or where.startswith("target") else _DIVERGED,
        )
    return centred / norms
