"""Representational similarity: how alike two RDMs are, and how sure that is over stimuli.

Shapes: N stimuli, P = N (N - 1) / 2 pairs, B bootstrap samples.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from sweeper.metrics.rdm import Array, UndefinedMetric, upper_triangle

RsaMethod = Literal["spearman", "pearson", "kendall"]

# Elements of one [B, P] block; bounds the memory of a bootstrap over large RDMs to a few tens of MB.
_BLOCK = 2**20


def rsa_score(rdm_a: ArrayLike, rdm_b: ArrayLike, method: RsaMethod = "spearman") -> float:
    """Correlates the upper triangles of two RDMs.

    `spearman` is the published measure (docs/methods.md 1.6): Pearson on mid-ranks. `kendall` is
    tau-a (Nili et al. 2014).
    No p-value is given: the P pairs share stimuli, so that one over pairs means nothing.

    Args:
        rdm_a: [N, N].
        rdm_b: [N, N], its stimuli in the same order.
        method: `spearman`, `pearson` or `kendall`.

    Returns:
        The correlation, -1..1.

    Raises:
        UndefinedMetric: fewer than 2 pairs, or all dissimilarities of one RDM are equal (kendall too, for one rule).
        ValueError: shapes differ, an entry above the diagonal is not finite, or the method is unknown.
    """
    if method not in _CORRELATIONS:
        raise ValueError(f"method must be one of {', '.join(get_args(RsaMethod))}; got {method!r}")
    return correlate(*_triangles(rdm_a, rdm_b), method)


def rsa_standard_error(
    rdm_a: ArrayLike,
    rdm_b: ArrayLike,
    *,
    num_bootstraps: int = 100,
    rng: np.random.Generator,
    method: Literal["spearman", "pearson"] = "spearman",
) -> float:
    """Estimates the standard error of an RSA by a bootstrap over stimuli.

    N stimuli are drawn with replacement, pairs of a stimulus with itself are dropped, and the RSA is computed anew.
    Ranks are those *within each sample*: a pair of stimuli drawn c and d times counts c d times, and its copies share
    one mid-rank. As copies never change the order of the pairs, the values are sorted once and the ranks of all samples
    follow from cumulative counts, which equals ranking every sample from scratch.

    Args:
        rdm_a: [N, N].
        rdm_b: [N, N], its stimuli in the same order.
        num_bootstraps: B; the estimate itself has a relative error of about 1 / sqrt(2 B).
        rng: the only source of randomness.
        method: `spearman` or `pearson`.

    Returns:
        Standard deviation (n - 1) over the samples whose RSA is defined.

    Raises:
        UndefinedMetric: the RSA itself is undefined, or fewer than half of the samples have one (few stimuli).
        ValueError: as `rsa_score`, or fewer than 2 samples are asked for.
    """
    if num_bootstraps < 2:
        raise ValueError(f"num_bootstraps must be at least 2; got {num_bootstraps}")
    a, b = _triangles(rdm_a, rdm_b)
    correlate(a, b, method)
    num_stimuli = len(np.asarray(rdm_a))
    draws = rng.multinomial(num_stimuli, np.full(num_stimuli, 1.0 / num_stimuli), size=num_bootstraps)
    first, second = np.triu_indices(num_stimuli, k=1)
    values = [_ranker(v) if method == "spearman" else _unranked(v) for v in (a, b)]
    scores = []
    for block in np.array_split(draws, min(num_bootstraps, -(-num_bootstraps * len(a) // _BLOCK))):
        weights = (block[:, first] * block[:, second]).astype(np.float64)
        scores.append(_weighted_pearson(values[0](weights), values[1](weights), weights))
    defined = np.concatenate(scores)
    defined = defined[np.isfinite(defined)]
    if 2 * len(defined) < num_bootstraps or len(defined) < 2:
        raise UndefinedMetric(f"only {len(defined)} of {num_bootstraps} samples of {num_stimuli} stimuli have an RSA")
    return float(defined.std(ddof=1))


def correlate(a: Array, b: Array, method: RsaMethod = "spearman") -> float:
    """Correlates two vectors [P] of finite numbers.

    Raises:
        UndefinedMetric: fewer than 2 numbers, or all numbers of one vector are equal.
    """
    if len(a) < 2:
        raise UndefinedMetric(f"a correlation needs at least 2 pairs; got {len(a)}")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise UndefinedMetric("all dissimilarities are equal")
    return float(np.clip(_CORRELATIONS[method](a, b), -1.0, 1.0))


def _triangles(rdm_a: ArrayLike, rdm_b: ArrayLike) -> tuple[Array, Array]:
    a, b = np.asarray(rdm_a, dtype=np.float64), np.asarray(rdm_b, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"two RDMs of one shape [N, N] are needed; got {a.shape} and {b.shape}")
    pairs = upper_triangle(a), upper_triangle(b)
    if not all(np.isfinite(values).all() for values in pairs):
        raise ValueError("an RDM holds entries that are not finite")
    return pairs


def _pearson(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _spearman(a: Array, b: Array) -> float:
    from scipy.stats import rankdata  # half a second to import, and a finished sweep ranks nothing

    return _pearson(rankdata(a), rankdata(b))


def _kendall_tau_a(a: Array, b: Array) -> float:
    """Returns (concordant - discordant) / all pairs, from scipy's tau-b by undoing its correction for ties."""
    from scipy.stats import kendalltau

    total = len(a) * (len(a) - 1) / 2
    untied = [total - sum(n * (n - 1) / 2 for n in np.unique(v, return_counts=True)[1]) for v in (a, b)]
    return float(kendalltau(a, b).statistic * np.sqrt(untied[0] * untied[1]) / total)


_CORRELATIONS: dict[RsaMethod, Callable[[Array, Array], float]] = {
    "spearman": _spearman,
    "pearson": _pearson,
    "kendall": _kendall_tau_a,
}


def _ranker(values: Array) -> Callable[[Array], Array]:
    """Returns the function from pair counts [B, P] to the mid-ranks [B, P] of `values` under these counts."""
    order = np.argsort(values, kind="stable")
    is_new = np.diff(values[order], prepend=-np.inf) > 0
    starts = np.flatnonzero(is_new)
    group = np.empty(len(values), dtype=np.intp)
    group[order] = np.cumsum(is_new) - 1

    def ranks(weights: Array) -> Array:
        counts = np.add.reduceat(weights[:, order], starts, axis=1)
        midranks = np.cumsum(counts, axis=1) - (counts - 1.0) / 2.0
        return np.asarray(midranks[:, group])

    return ranks


def _unranked(values: Array) -> Callable[[Array], Array]:
    return lambda weights: np.broadcast_to(values, weights.shape)


def _weighted_pearson(a: Array, b: Array, weights: Array) -> Array:
    """Returns the Pearson correlation [B] of rows a, b under weights [B, P]; NaN where it is undefined."""
    centered_a, variance_a = _centered(a, weights)
    centered_b, variance_b = _centered(b, weights)
    covariance = np.einsum("bp,bp,bp->b", weights, centered_a, centered_b)
    with np.errstate(invalid="ignore"):
        return np.asarray(covariance / np.sqrt(variance_a * variance_b))


def _centered(values: Array, weights: Array) -> tuple[Array, Array]:
    """Returns values less their weighted mean [B, P] and their summed squares [B]; NaN where only rounding is left."""
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)  # a sample of one stimulus has no pair at all
    centered = values - np.einsum("bp,bp->b", weights, values)[:, None] / total
    variance = np.einsum("bp,bp,bp->b", weights, centered, centered)
    size = np.einsum("bp,bp,bp->b", weights, values, values)
    return centered, np.where(variance > 1e-24 * size, variance, np.nan)
