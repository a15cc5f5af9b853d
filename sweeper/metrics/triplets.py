"""Odd-one-out choices: which of three stimuli does a representation set apart, and do people agree.

Shapes: N stimuli, D dimensions, M trials, each on a triplet that other trials may repeat.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sweeper.metrics.rdm import Array, UndefinedMetric

CHANCE = 1.0 / 3.0

# Row k holds the two members that stay when member k is the odd one.
_REMAINING = np.array([[1, 2], [0, 2], [0, 1]])


def odd_one_out_accuracy(embedding: ArrayLike, triplets: ArrayLike, odd_position: ArrayLike) -> float:
    """Computes the share of triplets in which the embedding picks the odd one that people picked.

    Args:
        embedding: [N, D], one row per stimulus.
        triplets: int [M, 3], rows of `embedding`.
        odd_position: int [M], 0..2, the member people set apart.

    Returns:
        Mean of `odd_one_out_hits`, 0..1; chance is 1/3.
    """
    return float(odd_one_out_hits(embedding, triplets, odd_position).mean())


def odd_one_out_hits(embedding: ArrayLike, triplets: ArrayLike, odd_position: ArrayLike) -> Array:
    """Scores each triplet by the dot-product rule: the pair most alike leaves the odd one (Hebart et al. 2020).

    Args:
        embedding: [N, D], one row per stimulus.
        triplets: int [M, 3], rows of `embedding`.
        odd_position: int [M], 0..2.

    Returns:
        float64 [M]: 1 for agreement, 0 for none; where T pairs tie exactly as most alike, 1/T if people's choice is
        among the T candidates. So a collapsed embedding scores exactly chance.

    Raises:
        UndefinedMetric: there is no triplet, or an embedding value is not finite.
        ValueError: shapes, rows or positions are out of range.
    """
    rows = np.asarray(embedding, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"embedding must be [N, D]; got shape {rows.shape}")
    members, odd = _checked(triplets, odd_position, len(rows))
    similarities = [
        np.einsum("md,md->m", rows[members[:, first]], rows[members[:, second]]) for first, second in _REMAINING
    ]
    return _hits(np.stack(similarities, axis=1), odd)


def odd_one_out_hits_from_similarity(similarity: ArrayLike, triplets: ArrayLike, odd_position: ArrayLike) -> Array:
    """Scores each triplet by a given similarity, e.g. the cosine of a network's features.

    Args:
        similarity: [N, N], larger is more alike; for an RDM pass its negative.
        triplets: int [M, 3], rows of `similarity`.
        odd_position: int [M], 0..2.

    Returns:
        float64 [M], as `odd_one_out_hits`, which also says what is raised.
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"similarity must be [N, N]; got shape {matrix.shape}")
    members, odd = _checked(triplets, odd_position, len(matrix))
    pairs = members[:, _REMAINING]
    return _hits(matrix[pairs[:, :, 0], pairs[:, :, 1]], odd)


def standard_error(hits: ArrayLike, triplets: ArrayLike) -> float:
    """Estimates the standard error of a mean of hits, clustered by triplet.

    People who judge the same three stimuli meet the same choice of the model, so their hits are not independent. With
    m the mean over all M trials and S_g the sum of (hit - m) over the trials of triplet g of G,

        se = sqrt(G / (G - 1) * sum_g S_g^2) / M,

    which is the cluster-robust variance of a mean with its finite-sample factor (Cameron & Miller 2015, "A
    practitioner's guide to cluster-robust inference", J. Human Resources 50, 317-372). Where no triplet comes twice it
    is the usual standard deviation / sqrt(M). Triplets that share a stimulus still count as independent.

    Args:
        hits: [M], as `odd_one_out_hits`, or a difference of two.
        triplets: int [M, 3]; the order of the three does not matter.

    Raises:
        UndefinedMetric: there are fewer than 2 distinct triplets.
        ValueError: the two differ in length.
    """
    scores, cluster = np.asarray(hits, dtype=np.float64), _clusters(triplets)
    if scores.shape != cluster.shape:
        raise ValueError(f"hits must be one per triplet; got shapes {scores.shape} and {cluster.shape}")
    num_clusters = num_distinct(triplets)
    if num_clusters < 2:
        raise UndefinedMetric(f"a standard error needs at least 2 distinct triplets; got {num_clusters}")
    sums = np.bincount(cluster, weights=scores - scores.mean())
    return float(np.sqrt(num_clusters / (num_clusters - 1) * np.sum(sums**2)) / len(scores))


def num_distinct(triplets: ArrayLike) -> int:
    """Counts sets of three stimuli among triplets [M, 3], whatever their order."""
    return int(_clusters(triplets).max(initial=-1)) + 1


def _clusters(triplets: ArrayLike) -> NDArray[np.intp]:
    """Numbers the distinct triplets 0..G-1 and returns the number of each trial [M]."""
    members = np.sort(np.asarray(triplets), axis=1)
    return np.unique(members, axis=0, return_inverse=True)[1].reshape(-1)


def _hits(similarities: Array, odd: NDArray[np.intp]) -> Array:
    """Scores choices from the similarity [M, 3] of the pair that stays when member k goes."""
    if not np.isfinite(similarities).all():
        raise UndefinedMetric("similarities hold values that are not finite")
    is_candidate = similarities == similarities.max(axis=1, keepdims=True)
    return np.asarray(is_candidate[np.arange(len(odd)), odd] / is_candidate.sum(axis=1))


def _checked(
    triplets: ArrayLike, odd_position: ArrayLike, num_stimuli: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    members, odd = np.asarray(triplets), np.asarray(odd_position)
    if members.size == 0:
        raise UndefinedMetric("there is no triplet")
    if members.ndim != 2 or members.shape[1] != 3 or odd.shape != members.shape[:1]:
        raise ValueError(f"triplets must be [M, 3] and odd_position [M]; got {members.shape} and {odd.shape}")
    if members.dtype.kind not in "iu" or odd.dtype.kind not in "iu":
        raise ValueError(f"triplets and odd_position must be integers; got {members.dtype} and {odd.dtype}")
    # A negative row would silently count from the end.
    if members.min() < 0 or members.max() >= num_stimuli:
        raise ValueError(f"triplets must name rows 0..{num_stimuli - 1}; got {members.min()}..{members.max()}")
    if odd.min() < 0 or odd.max() > 2:
        raise ValueError(f"odd_position must be 0, 1 or 2; got {odd.min()}..{odd.max()}")
    return members.astype(np.intp), odd.astype(np.intp)
