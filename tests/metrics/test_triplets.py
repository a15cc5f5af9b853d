from itertools import product

import numpy as np
import pytest

from sweeper.metrics.rdm import UndefinedMetric
from sweeper.metrics.triplets import (
    CHANCE,
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


def test_standard_error():
    assert standard_error([1.0, 0.0, 0.0, 1.0]) == pytest.approx((1 / 3) ** 0.5 / 2)
    with pytest.raises(UndefinedMetric, match="got 1"):
        standard_error([1.0])


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
