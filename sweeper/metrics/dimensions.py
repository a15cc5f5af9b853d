"""How well each dimension of a target space is predicted.

Shapes: N stimuli, D dimensions.
"""

import numpy as np
from numpy.typing import ArrayLike

from sweeper.metrics.rdm import Array, UndefinedMetric, rounding_floor


def squared_error_per_dimension(outputs: ArrayLike, targets: ArrayLike) -> Array:
    """Computes the mean squared error of each dimension over stimuli; its mean over dimensions is the MSE.

    Args:
        outputs: [N, D].
        targets: [N, D].

    Returns:
        float64 [D], in squared units of the targets.

    Raises:
        UndefinedMetric: there is no stimulus.
        ValueError: shapes differ or are not [N, D].
    """
    predicted, wanted = _pair(outputs, targets)
    return np.asarray(((predicted.astype(np.float64) - wanted) ** 2).mean(axis=0))


def correlation_per_dimension(outputs: ArrayLike, targets: ArrayLike) -> tuple[float | None, ...]:
    """Correlates (Pearson) outputs with targets over stimuli, for each dimension.

    Args:
        outputs: [N, D].
        targets: [N, D].

    Returns:
        D correlations; None where a side is constant within the rounding of its dtype, or not finite.

    Raises:
        UndefinedMetric: there is no stimulus.
        ValueError: shapes differ or are not [N, D].
    """
    predicted, wanted = _pair(outputs, targets)
    a, norm_a = _centered(predicted)
    b, norm_b = _centered(wanted)
    products = np.einsum("nd,nd->d", a, b)
    return tuple(
        float(np.clip(product / (na * nb), -1.0, 1.0)) if na > 0 and nb > 0 else None
        for product, na, nb in zip(products, norm_a, norm_b, strict=True)
    )


def _pair(outputs: ArrayLike, targets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    predicted, wanted = np.asarray(outputs), np.asarray(targets)
    if predicted.ndim != 2 or predicted.shape != wanted.shape:
        raise ValueError(f"outputs and targets must both be [N, D]; got {predicted.shape} and {wanted.shape}")
    if not len(predicted):
        raise UndefinedMetric("there is no stimulus")
    return predicted, wanted


def _centered(values: np.ndarray) -> tuple[Array, Array]:
    """Returns columns less their means [N, D] and their norms [D]; 0 where a column is constant or not finite."""
    finite = np.isfinite(values).all(axis=0)
    kept = np.where(finite, values, np.zeros((), dtype=values.dtype))
    centered = kept.astype(np.float64) - kept.mean(axis=0, dtype=np.float64)
    norms = np.linalg.norm(centered, axis=0)
    return centered, np.where(norms > rounding_floor(kept, axis=0), norms, 0.0)
