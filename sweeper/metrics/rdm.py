"""Representational dissimilarity matrices (RDMs) of stimulus features.

Shapes: N stimuli, D dimensions, P = N (N - 1) / 2 pairs.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
RdmMetric = Literal["correlation", "cosine", "euclidean"]

# 1 - cosine is exact to a few units of the last place, and two float32 rows that differ by rounding only come out
# near (1e-7)^2: anything below is no distance, and ranks must not be made from it.
RESOLUTION = 1e-13


class UndefinedMetric(ValueError):
    """Says that a score does not exist for these values, and why; the caller records null with this reason."""


def compute_rdm(features: ArrayLike, metric: RdmMetric = "correlation", *, center: bool = False) -> Array:
    """Computes the dissimilarity of every pair of stimuli.

    `correlation` (1 - Pearson over the D dimensions) is what the published study uses (docs/methods.md 1.6),
    `cosine` what
    its neural analyses use (3.6). `center=True` first removes each dimension's mean over the N stimuli, so that a
    constant per dimension, e.g. a prompt's offset, no longer moves a correlation or cosine RDM.

    Args:
        features: [N, D], one row per stimulus.
        metric: `correlation`, `cosine` or `euclidean`.
        center: whether each dimension is centred over the stimuli.

    Returns:
        float64 [N, N], exactly symmetric, zero diagonal, no negative entry.

    Raises:
        UndefinedMetric: a value is not finite; for `correlation` a row is constant (or D < 2); for `cosine` a row is
            zero. Constant means: within the rounding of the given dtype.
        ValueError: `features` is not two-dimensional, or the metric is unknown.
    """
    given = np.asarray(features)
    if given.ndim != 2:
        raise ValueError(f"features must be [N, D]; got shape {given.shape}")
    if metric not in _DISTANCES:
        raise ValueError(f"metric must be one of {', '.join(get_args(RdmMetric))}; got {metric!r}")
    rows = given.astype(np.float64)
    if not np.isfinite(rows).all():
        raise UndefinedMetric("features hold values that are not finite")
    floor = rounding_floor(given)
    if center:
        rows = rows - rows.mean(axis=0)
    return _DISTANCES[metric](rows, floor)


def upper_triangle(rdm: ArrayLike) -> Array:
    """Returns the P entries above the diagonal, row by row.

    Args:
        rdm: [..., N, N]; leading axes, e.g. subjects, are kept.

    Returns:
        float64 [..., P].
    """
    matrix = np.asarray(rdm, dtype=np.float64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"an RDM must be square; got shape {matrix.shape}")
    first, second = np.triu_indices(matrix.shape[-1], k=1)
    return np.asarray(matrix[..., first, second])


def rounding_floor(rows: NDArray[Any], axis: int = 1) -> Array:
    """Returns the norm below which a vector, once its mean is removed, is nothing but rounding.

    Args:
        rows: values as given, before centring and in their own dtype.
        axis: the axis that a vector runs along.

    Returns:
        float64, `rows.shape` without `axis`: 8 units in the last place of the vector's norm.
    """
    precision = np.finfo(rows.dtype if rows.dtype.kind == "f" else np.float64).eps
    norms = np.linalg.norm(rows.astype(np.float64), axis=axis)
    return np.asarray(8.0 * float(precision) * norms)


def _correlation(rows: Array, floor: Array) -> Array:
    if rows.shape[1] < 2:
        raise UndefinedMetric("a correlation RDM needs at least 2 dimensions")
    return _angles(rows - rows.mean(axis=1, keepdims=True), floor, "constant")


def _cosine(rows: Array, floor: Array) -> Array:
    return _angles(rows, floor, "zero")


def _angles(rows: Array, floor: Array, fault: str) -> Array:
    """Returns 1 - cosine between rows, refusing rows that have no direction."""
    norms = np.linalg.norm(rows, axis=1)
    without_direction = np.flatnonzero(norms <= floor)
    if without_direction.size:
        raise UndefinedMetric(
            f"{without_direction.size} of {len(rows)} stimuli have {fault} features (first: row {without_direction[0]})"
        )
    units = rows / norms[:, None]
    distances = 1.0 - units @ units.T
    # No BLAS promises a product that is symmetric to the last bit.
    distances = np.asarray((distances + distances.T) / 2.0)
    distances[distances < RESOLUTION] = 0.0
    np.fill_diagonal(distances, 0.0)
    return distances


def _euclidean(rows: Array, floor: Array) -> Array:
    del floor  # every pair of finite rows has a distance
    from scipy.spatial.distance import pdist, squareform  # slow to import, and only this distance needs it

    return np.asarray(squareform(pdist(rows)), dtype=np.float64)


_DISTANCES: dict[RdmMetric, Callable[[Array, Array], Array]] = {
    "correlation": _correlation,
    "cosine": _cosine,
    "euclidean": _euclidean,
}
