from itertools import product

import numpy as np
import pytest

from sweeper.metrics.rdm import UndefinedMetric
from sweeper.metrics.triplets import (
    CHANCE,
    num_distinct,
    odd_one_out_accuracy,
    odd_one_out_hits,
    odd_one_out_hits_from_similarity,
    standard_error,
)


def loop_hits(embedding, triplets, odd_position):
    """Scores one triplet at a time by looking for the pair with the largest dot product."""
    hits = []
    for triplet, odd in zip(triplets, odd_position, strict=True):
        stays = {
            k: sum(x * y for x, y in zip(*(embedding[triplet[m]] for m in range(3) if m != k), strict=True))
            for k in range(3)
        }
        best = [k for k in stays if stays[k] == max(stays.values())]
        hits.append(1 / len(best) if odd in best else 0.0)
    return hits


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_plain_loop_with_ties(seed):
    rng = np.random.default_rng(seed)
    embedding = rng.integers(0, 3, size=(12, 3))
    triplets = np.array([rng.permutation(12)[:3] for _ in range(200)], dtype=np.int16)
    odd = rng.integers(0, 3, size=200).astype(np.int8)
    hits = odd_one_out_hits(embedding, triplets, odd)
    assert hits.tolist() == loop_hits(embedding.tolist(), triplets.tolist(), odd.tolist())
    assert {0.0, 0.5, 1 / 3, 1.0} == set(hits)
    assert odd_one_out_accuracy(embedding, triplets, odd) == hits.mean()
    assert odd_one_out_hits_from_similarity(embedding @ embedding.T, triplets, odd).tolist() == hits.tolist()


@pytest.mark.parametrize(("odd", "member"), list(product(range(3), repeat=2)))
def test_the_pair_most_alike_leaves_the_odd_one(odd, member):
    embedding = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    triplet = np.roll([0, 1, 2], member - 2)  # stimulus 2 is the odd one, at this position
    assert odd_one_out_accuracy(embedding, [triplet], [odd]) == float(odd == member)


def test_a_collapsed_embedding_scores_chance():
    triplets = [[0, 1, 2], [2, 3, 4]]
    assert odd_one_out_accuracy(np.full((5, 66), 0.1), triplets, [0, 2]) == pytest.approx(CHANCE)


def loop_standard_error(hits, triplets):
    mean = sum(hits) / len(hits)
    sums = {}
    for hit, triplet in zip(hits, triplets, strict=True):
        key = frozenset(triplet)
        sums[key] = sums.get(key, 0.0) + hit - mean
    return (len(sums) / (len(sums) - 1) * sum(each**2 for each in sums.values())) ** 0.5 / len(hits)


def repeated(rng, num_triplets=40, num_people=10):
    """People repeat each triplet, its members in any order; whether they agree with the model hangs on the triplet."""
    distinct = [rng.choice(30, size=3, replace=False) for _ in range(num_triplets)]
    rate = rng.choice([0.1, 0.9], size=num_triplets)
    which = rng.permutation(np.repeat(np.arange(num_triplets), num_people))
    triplets = np.array([rng.permutation(distinct[each]) for each in which])
    return (rng.random(len(which)) < rate[which]).astype(float), triplets, which


def test_standard_error_of_triplets_that_come_once_is_the_usual_one():
    triplets = np.arange(12).reshape(4, 3)
    assert standard_error([1.0, 0.0, 0.0, 1.0], triplets) == pytest.approx((1 / 3) ** 0.5 / 2)


def test_standard_error_is_clustered_as_in_a_plain_loop():
    hits, triplets, _ = repeated(np.random.default_rng(0))
    assert num_distinct(triplets) == 40
    assert standard_error(hits, triplets) == pytest.approx(loop_standard_error(hits.tolist(), triplets.tolist()))


def test_standard_error_is_that_of_a_bootstrap_over_triplets_not_over_trials():
    rng = np.random.default_rng(1)
    hits, triplets, which = repeated(rng)
    means = [np.concatenate([hits[which == each] for each in rng.integers(0, 40, size=40)]).mean() for _ in range(2000)]
    assert standard_error(hits, triplets) == pytest.approx(np.std(means), rel=0.1)
    assert standard_error(hits, triplets) > 2 * hits.std() / len(hits) ** 0.5


def test_standard_error_undefined():
    with pytest.raises(UndefinedMetric, match="at least 2 distinct triplets; got 1"):
        standard_error([1.0, 0.0], [[0, 1, 2], [2, 0, 1]])
    with pytest.raises(UndefinedMetric, match="got 0"):
        standard_error([], np.empty((0, 3), dtype=int))
    with pytest.raises(ValueError, match="one per triplet"):
        standard_error([1.0], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("triplets", "odd", "error", "reason"),
    [
        (np.zeros((0, 3), int), [], UndefinedMetric, "no triplet"),
        ([[0, 1]], [0], ValueError, r"\[M, 3\]"),
        ([[0, 1, 2]], [0, 1], ValueError, r"\[M, 3\]"),
        ([[0, 1, -1]], [0], ValueError, r"rows 0..4; got -1..1"),
        ([[0, 1, 5]], [0], ValueError, r"rows 0..4; got 0..5"),
        ([[0, 1, 2]], [3], ValueError, r"0, 1 or 2; got 3..3"),
        ([[0, 1, 2]], [0.0], ValueError, "integers"),
    ],
)
def test_refuses(triplets, odd, error, reason):
    with pytest.raises(error, match=reason):
        odd_one_out_hits(np.ones((5, 2)), triplets, odd)


def test_refuses_values_that_are_not_finite_and_other_shapes():
    with pytest.raises(UndefinedMetric, match="not finite"):
        odd_one_out_hits([[1.0], [np.nan], [2.0]], [[0, 1, 2]], [0])
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        odd_one_out_hits([1.0, 2.0, 3.0], [[0, 1, 2]], [0])
    with pytest.raises(ValueError, match=r"\[N, N\]"):
        odd_one_out_hits_from_similarity(np.ones((3, 2)), [[0, 1, 2]], [0])
