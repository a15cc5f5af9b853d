"""How well any model could do: agreement between the RDMs of several subjects.

Shapes: S subjects, N stimuli, P = N (N - 1) / 2 pairs.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from sweeper.metrics.rdm import Array, UndefinedMetric, upper_triangle
from sweeper.metrics.rsa import correlate

CeilingMethod = Literal["spearman", "pearson"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseCeiling:
    """Holds the range in which the RSA of the true model lies.

    Attributes:
        lower: mean correlation of a subject with the pooled RDM of the others.
        upper: mean correlation of a subject with the pooled RDM of all, itself included.
    """

    lower: float
    upper: float


def noise_ceiling(rdms: ArrayLike, method: CeilingMethod = "spearman") -> NoiseCeiling:
    """Computes the noise ceiling of several subjects' RDMs (Nili et al. 2014).

    Subjects are pooled on the scale of the measure: mean of ranks for `spearman`, of z-scores for `pearson`; a plain
    mean would let the subject with the widest range decide.

    Args:
        rdms: [S, N, N], one RDM per subject.
        method: the measure that models are scored by.

    Returns:
        Lower and upper bound of the mean RSA over subjects.

    Raises:
        UndefinedMetric: fewer than 2 subjects, or all dissimilarities of one subject, or of a pool, are equal.
        ValueError: the shape is not [S, N, N], or an entry is not finite.
    """
    triangles = _triangles(rdms)
    scaled = np.stack([_SCALES[method](triangle) for triangle in triangles])
    total = scaled.sum(axis=0)
    num_subjects = len(scaled)
    return NoiseCeiling(
        lower=float(np.mean([correlate(own, (total - own) / (num_subjects - 1), method) for own in scaled])),
        upper=float(np.mean([correlate(own, total / num_subjects, method) for own in scaled])),
    )


def split_half(
    rdms: ArrayLike, *, num_splits: int = 100, rng: np.random.Generator, method: CeilingMethod = "spearman"
) -> float:
    """Computes the reliability of a group's mean RDM: the mean correlation of two random halves' means.

    With an odd number of subjects one half holds one more. The value is that of half a group; by Spearman-Brown a whole
    group has 2 r / (1 + r).

    Args:
        rdms: [S, N, N], one RDM per subject.
        num_splits: random splits.
        rng: the only source of randomness.
        method: the correlation.

    Returns:
        Mean correlation over splits.

    Raises:
        UndefinedMetric, ValueError: as `noise_ceiling`.
    """
    triangles = _triangles(rdms)
    half = len(triangles) // 2
    orders = [rng.permutation(len(triangles)) for _ in range(num_splits)]
    halves = [(triangles[order[:half]].mean(axis=0), triangles[order[half:]].mean(axis=0)) for order in orders]
    return float(np.mean([correlate(first, second, method) for first, second in halves]))


def _triangles(rdms: ArrayLike) -> Array:
    stack = np.asarray(rdms, dtype=np.float64)
    if stack.ndim != 3:
        raise ValueError(f"rdms must be [S, N, N]; got shape {stack.shape}")
    if len(stack) < 2:
        raise UndefinedMetric(f"agreement needs at least 2 subjects; got {len(stack)}")
    triangles = upper_triangle(stack)
    if not np.isfinite(triangles).all():
        raise ValueError("a subject's RDM holds entries that are not finite")
    if (np.ptp(triangles, axis=1) == 0).any():
        raise UndefinedMetric("all dissimilarities of one subject are equal")
    return triangles


def _ranks(triangle: Array) -> Array:
    return np.asarray(rankdata(triangle), dtype=np.float64)


def _z_scores(triangle: Array) -> Array:
    return np.asarray((triangle - triangle.mean()) / triangle.std())


_SCALES = {"spearman": _ranks, "pearson": _z_scores}
