"""Seeds beside people: how much of the difference between models is chance (docs/methods.md 5).

Shapes: T times, N stimuli. A *series* is [T, N, N], one RDM for each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sweeper.metrics.individual import concatenated
from sweeper.metrics.rdm import UndefinedMetric, compute_rdm, upper_triangle


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Splits the variance of a score between people and seeds.

    Attributes:
        people: variance between people beyond that of seeds; below 0 where seeds make more than is seen between people.
        seeds: variance between seeds of one person.
    """

    people: float
    seeds: float


def spread(scores: Sequence[ArrayLike]) -> Spread:
    """Estimates both variances of a score by a one-way analysis with random effects (method of moments).

    Args:
        scores: for each person the score of each seed; their numbers may differ.

    Raises:
        UndefinedMetric: fewer than 2 people, or no person has 2 seeds.
        ValueError: a score is not finite, or a person has none.
    """
    groups = [np.asarray(values, dtype=np.float64).ravel() for values in scores]
    if any(not len(values) or not np.isfinite(values).all() for values in groups):
        raise ValueError("every person needs scores, all of them finite")
    counts = np.array([len(values) for values in groups])
    total = int(counts.sum())
    if len(groups) < 2 or total == len(groups):
        raise UndefinedMetric(
            f"variance of people beside seeds needs 2 people and 2 seeds; got {counts.tolist()} seeds"
        )
    means = np.array([values.mean() for values in groups])
    grand = float(np.concatenate(groups).mean())
    seeds = sum(float(((values - values.mean()) ** 2).sum()) for values in groups) / (total - len(groups))
    between = float((counts * (means - grand) ** 2).sum()) / (len(groups) - 1)
    typical = (total - float((counts**2).sum()) / total) / (len(groups) - 1)
    return Spread(people=(between - seeds) / typical, seeds=seeds)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedDistances:
    """Compares models by person and by seed: mean distances, 1 - Pearson as between people.

    A mean is None where there is no such pair. Where `both` is hardly above `seeds`, models differ by chance, not by
    person.

    Attributes:
        seeds: between models of one person that have other seeds.
        people: between models of different people that have the same seed.
        both: between models of different people that have other seeds.
    """

    seeds: float | None
    people: float | None
    both: float | None


def seed_distances(series: Sequence[Sequence[ArrayLike]]) -> SeedDistances:
    """Computes distances between the models of all people and seeds.

    Args:
        series: for each person the [T, N, N] of each seed, seeds in the same order for all.

    Raises:
        UndefinedMetric: all dissimilarities of a model are equal.
        ValueError: the shapes differ, or an entry is not finite.
    """
    person, seed = np.array([(p, s) for p, models in enumerate(series) for s, _ in enumerate(models)]).reshape(-1, 2).T
    distances = upper_triangle(compute_rdm(concatenated(model for models in series for model in models)))
    same_person, same_seed = (upper_triangle(np.equal.outer(label, label)) > 0 for label in (person, seed))

    def mean(pairs: NDArray[np.bool_]) -> float | None:
        return float(distances[pairs].mean()) if pairs.any() else None

    return SeedDistances(
        seeds=mean(same_person), people=mean(same_seed & ~same_person), both=mean(~same_seed & ~same_person)
    )
