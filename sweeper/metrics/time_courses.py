"""Agreement and difference of RDM series at each time (docs/methods.md 5).

Shapes: P people, T times, N stimuli, D dimensions. A *series* is [T, N, N], one RDM for each time. A value that does
not exist at a time, e.g. because all dissimilarities are equal before the onset, is None there.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sweeper.metrics.rdm import Array, UndefinedMetric, compute_rdm
from sweeper.metrics.rsa import RsaMethod, rsa_score

Course = tuple[float | None, ...]


def agreement_over_time(model: ArrayLike, person: ArrayLike, method: RsaMethod = "spearman") -> Course:
    """Correlates two series time by time.

    Args:
        model: [T, N, N].
        person: [T, N, N].
        method: the correlation of the triangles.

    Raises:
        ValueError: the shapes differ or are not [T, N, N], or an entry is not finite.
    """
    first, second = _series(model), _series(person)
    if first.shape != second.shape:
        raise ValueError(f"two series of one shape [T, N, N] are needed; got {first.shape} and {second.shape}")
    return tuple(_score(a, b, method) for a, b in zip(first, second, strict=True))


def lower_noise_bound(series: Sequence[ArrayLike], method: RsaMethod = "spearman") -> Course:
    """Computes the lower noise bound at each time: how well the mean of the others predicts a person.

    As published: mean over people of the correlation between a person's RDM and the plain mean of the others'
    (`noise_ceiling` pools ranks instead).

    Args:
        series: [T, N, N] of each person.
        method: the correlation of the triangles.

    Returns:
        T values; None at a time at which it is undefined for some person.

    Raises:
        UndefinedMetric: there are fewer than 2 people.
        ValueError: as `agreement_over_time`.
    """
    stack = np.stack([_series(given) for given in series]) if len(series) else np.zeros((0, 0, 0, 0))
    if len(stack) < 2:
        raise UndefinedMetric(f"a noise bound needs at least 2 people; got {len(stack)}")
    total = stack.sum(axis=0)
    courses = [agreement_over_time(own, (total - own) / (len(stack) - 1), method) for own in stack]
    return tuple(_mean(values) for values in zip(*courses, strict=True))


def dimensions_behind(first: ArrayLike, second: ArrayLike, method: RsaMethod = "spearman") -> Course:
    """Asks which dimensions make the difference of two models at one time.

    A dimension's share is the difference (1 - correlation of the two correlation RDMs) with all dimensions less the
    difference without it, in both models: above 0 where the two are more alike without it.

    Args:
        first: [N, D], a model's outputs on the stimuli.
        second: [N, D], the other's.
        method: the correlation of the triangles.

    Returns:
        D shares; None where the difference without the dimension is undefined.

    Raises:
        UndefinedMetric: the difference itself is undefined.
        ValueError: the shapes differ or are not [N, D].
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"two models' outputs of one shape [N, D] are needed; got {a.shape} and {b.shape}")
    whole = rsa_score(compute_rdm(a), compute_rdm(b), method)
    shares: list[float | None] = []
    for dimension in range(a.shape[1]):
        try:
            rdms = [compute_rdm(np.delete(outputs, dimension, axis=1)) for outputs in (a, b)]
            shares.append(rsa_score(rdms[0], rdms[1], method) - whole)
        except UndefinedMetric:
            shares.append(None)
    return tuple(shares)


def _series(given: ArrayLike) -> Array:
    series = np.asarray(given, dtype=np.float64)
    if series.ndim != 3 or series.shape[1] != series.shape[2]:
        raise ValueError(f"a series must be [T, N, N]; got shape {series.shape}")
    return series


def _score(a: Array, b: Array, method: RsaMethod) -> float | None:
    try:
        return rsa_score(a, b, method)
    except UndefinedMetric:
        return None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None
