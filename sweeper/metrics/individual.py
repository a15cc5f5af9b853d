"""Do models of single people differ as the people do? (docs/methods.md 5)

Shapes: P people, T times, N held-out stimuli. A *series* is [T, N, N], one RDM for each time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sweeper.metrics.rdm import Array, UndefinedMetric, compute_rdm, upper_triangle
from sweeper.metrics.rsa import rsa_score

FEWEST_PEOPLE = 4
"""Three people have three distances, whose ranks agree perfectly by chance in one case of six."""
_TIE = 1e-12  # permuted scores that differ by rounding only are the same score


def distances_between_people(series: Iterable[ArrayLike]) -> Array:
    """Compares people by everything their RDMs say.

    The triangles of all times are put one after the other, as published: differences between times count as much as
    differences between pairs of stimuli.

    Args:
        series: [T, N, N] of each person, read one by one.

    Returns:
        float64 [P, P]: 1 - Pearson.

    Raises:
        UndefinedMetric: there are fewer than `FEWEST_PEOPLE`, or all dissimilarities of one of them are equal.
        ValueError: the shapes differ, or an entry is not finite.
    """
    vectors = concatenated(series)
    _require_people(len(vectors))
    return compute_rdm(vectors, "correlation")


def concatenated(series: Iterable[ArrayLike]) -> Array:
    """Puts the triangles of all times one after the other: float64 [P, T N (N - 1) / 2], one row for each series.

    Raises:
        ValueError: the shapes differ, or an entry is not finite.
    """
    rows = [upper_triangle(given).ravel() for given in series]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"series must have the same times and stimuli; got {[len(row) for row in rows]} values")
    vectors = np.stack(rows) if rows else np.zeros((0, 0))
    if not np.isfinite(vectors).all():
        raise ValueError("a series holds entries that are not finite")
    return vectors


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """States how well the distances between models follow those between people.

    Attributes:
        rho: Spearman correlation of the two upper triangles, P (P - 1) / 2 distances each.
        p_value: share of permutations of one side's people, the given one among them, with at least this rho.
        shuffled_mean, shuffled_sd, shuffled_95: mean, standard deviation and 95th percentile of rho over permutations:
            the control of shuffled people.
        num_permutations: how many were drawn.
    """

    rho: float
    p_value: float
    shuffled_mean: float
    shuffled_sd: float
    shuffled_95: float
    num_permutations: int


def agreement_of_distances(
    models: ArrayLike, people: ArrayLike, *, rng: np.random.Generator, num_permutations: int = 10_000
) -> Agreement:
    """Correlates distances between models with distances between people, and tests it by shuffling who is who.

    The distances share people, so that a p-value over pairs means nothing. The test permutes rows and columns of one
    matrix together (Mantel 1967); p = (1 + b) / (1 + B) for b of B permutations with at least the rho seen, one-sided.

    Args:
        models: [P, P].
        people: [P, P], in the same order.
        rng: the only source of randomness.
        num_permutations: B.

    Raises:
        UndefinedMetric: fewer than `FEWEST_PEOPLE`, or all distances of one side are equal.
        ValueError: the shapes differ, or an entry is not finite, or no permutation is asked for.
    """
    rho = rsa_score(models, people)
    ours, theirs = _rank_matrix(models), _rank_matrix(people)
    _require_people(len(ours))
    _require_permutations(num_permutations)
    first, second = np.triu_indices(len(ours), k=1)
    triangle = ours[first, second]
    orders = _orders(rng, len(theirs), num_permutations)
    shuffled = np.array([triangle @ theirs[order[first], order[second]] for order in orders])
    return Agreement(
        rho=rho,
        p_value=_p_value(rho, shuffled),
        shuffled_mean=float(shuffled.mean()),
        shuffled_sd=float(shuffled.std()),
        shuffled_95=float(np.quantile(shuffled, 0.95)),
        num_permutations=num_permutations,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """States how well a matrix of distances between people agrees with itself.

    Attributes:
        rho: mean Spearman correlation between the distances from two random halves of the data.
        sd: its standard deviation over splits.
        num_splits: how many were drawn.
    """

    rho: float
    sd: float
    num_splits: int


def split_half_of_distances(
    series: Sequence[ArrayLike],
    over: Literal["times", "stimuli"],
    *,
    rng: np.random.Generator,
    num_splits: int = 100,
) -> Reliability:
    """Computes the reliability of people's own distances: the ceiling that an agreement with models lacks otherwise.

    It is not stepped up by Spearman-Brown, which needs a whole that is the sum of its halves: distances over all times
    or stimuli are not. So it is what half the data allow, a ceiling on the low side. Noise that lasts over neighbouring
    times is in both halves of the *times*, which raises it; halves of the *stimuli* have no pair in common.

    Args:
        series: [T, N, N] of each person.
        over: what is divided at random: times, or stimuli (the pairs between the halves are left out).
        rng: the only source of randomness.
        num_splits: random splits.

    Raises:
        UndefinedMetric: fewer than `FEWEST_PEOPLE`, 2 times or 6 stimuli; or distances that are all equal in a half.
        ValueError: as `distances_between_people`.
    """
    stack = np.stack([np.asarray(given, dtype=np.float64) for given in series])
    axis = {"times": 1, "stimuli": 2}[over]
    count, fewest = stack.shape[axis], {"times": 2, "stimuli": 6}[over]
    if count < fewest:
        raise UndefinedMetric(f"halves of the {over} need at least {fewest}; got {count}")
    scores = []
    for _ in range(num_splits):
        order = rng.permutation(count)
        halves = [np.sort(order[: count // 2]), np.sort(order[count // 2 :])]
        parts = [stack[:, half] if over == "times" else stack[:, :, half[:, None], half] for half in halves]
        first, second = (distances_between_people(part) for part in parts)
        scores.append(rsa_score(first, second))
    return Reliability(rho=float(np.mean(scores)), sd=float(np.std(scores, ddof=1)), num_splits=num_splits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Matching:
    """Compares models with their own people and with others.

    Attributes:
        matched: mean agreement of a model with its own person.
        mismatched: mean agreement of a model with another one.
        p_value: share of permutations of people, the given one among them, with at least this mean of `matched`.
        ahead: share of people with whom their own model agrees more than the others do on average.
        identified: share of people with whom their own model agrees more than any other does; chance is 1 / P.
        num_permutations: how many were drawn.
    """

    matched: float
    mismatched: float
    p_value: float
    ahead: float
    identified: float
    num_permutations: int


def matching(agreement: ArrayLike, *, rng: np.random.Generator, num_permutations: int = 10_000) -> Matching:
    """Asks whether models fit their own person better than others.

    A model that fits everybody, and a person whom everything fits, add to both means alike.

    Args:
        agreement: [P, P], of model i with person j, e.g. the mean over time of `time_courses.agreement_over_time`.
        rng: the only source of randomness.
        num_permutations: B, as in `agreement_of_distances`.

    Raises:
        UndefinedMetric: fewer than `FEWEST_PEOPLE`.
        ValueError: the shape is not [P, P], or an entry is not finite, or no permutation is asked for.
    """
    table = np.asarray(agreement, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not np.isfinite(table).all():
        raise ValueError(f"agreement must be finite and [P, P], models by people; got shape {table.shape}")
    count = len(table)
    _require_people(count)
    _require_permutations(num_permutations)
    matched = float(table.diagonal().mean())
    shuffled = table[np.arange(count), _orders(rng, count, num_permutations)].mean(axis=1)
    own, is_other = table.diagonal(), ~np.eye(count, dtype=bool)
    return Matching(
        matched=matched,
        mismatched=float(table[is_other].mean()),
        p_value=_p_value(matched, shuffled),
        ahead=float((own > table.mean(axis=0, where=is_other)).mean()),
        identified=float((own > table.max(axis=0, where=is_other, initial=-np.inf)).mean()),
        num_permutations=num_permutations,
    )


def _rank_matrix(distances: ArrayLike) -> Array:
    """Returns the centred mid-ranks of the distances, of unit length, which permuting people only moves about: [P, P].

    The Spearman correlation of two such matrices' triangles is their product.
    """
    from scipy.stats import rankdata  # slow to import

    triangle = upper_triangle(distances)
    count = len(np.asarray(distances))
    ranks = np.zeros((count, count))
    centred = rankdata(triangle) - (len(triangle) + 1) / 2
    ranks[np.triu_indices(count, k=1)] = centred / np.linalg.norm(centred)
    return ranks + ranks.T


def _orders(rng: np.random.Generator, count: int, num_permutations: int) -> NDArray[np.intp]:
    """Returns permutations of people: [B, P]."""
    return rng.permuted(np.tile(np.arange(count), (num_permutations, 1)), axis=1)


def _p_value(seen: float, shuffled: Array) -> float:
    return float((1 + (shuffled >= seen - _TIE).sum()) / (1 + len(shuffled)))


def _require_people(count: int) -> None:
    if count < FEWEST_PEOPLE:
        raise UndefinedMetric(f"distances between people need at least {FEWEST_PEOPLE}; got {count}")


def _require_permutations(count: int) -> None:
    if count < 1:
        raise ValueError(f"num_permutations must be at least 1; got {count}")
