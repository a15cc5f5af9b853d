"""Curves of agreement over time against scipy, time by time."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from sweeper.metrics.rdm import UndefinedMetric
from sweeper.metrics.time_courses import (
    agreement_over_time,
    dimensions_behind,
    lower_noise_bound,
)


def people(count=4, times=5, stimuli=7, seed=0):
    drawn = np.random.default_rng(seed)
    rdms = np.triu(drawn.random((times, stimuli, stimuli)) + drawn.random((count, times, stimuli, stimuli)), 1)
    return rdms + rdms.swapaxes(2, 3)


def pairs(rdm):
    return [rdm[i, j] for i, j in combinations(range(len(rdm)), 2)]


def test_agreement_equals_scipy():
    first, second = people(2)
    expected = [spearmanr(pairs(first[t]), pairs(second[t])).statistic for t in range(5)]
    assert agreement_over_time(first, second) == pytest.approx(expected)
    assert agreement_over_time(first, second, "pearson")[2] == pytest.approx(
        pearsonr(pairs(first[2]), pairs(second[2])).statistic
    )


def test_lower_bound_is_each_against_the_mean_of_the_others():
    rdms = people()
    expected = []
    for t in range(5):
        scores = []
        for p in range(4):
            others = sum(rdms[q, t] for q in range(4) if q != p) / 3
            scores.append(spearmanr(pairs(rdms[p, t]), pairs(others)).statistic)
        expected.append(np.mean(scores))
    assert lower_noise_bound(list(rdms)) == pytest.approx(expected)


def test_what_is_undefined_at_a_time_is_none_there_and_nowhere_else():
    rdms = people()
    rdms[1, 2] = 1.0
    assert [value is None for value in agreement_over_time(rdms[0], rdms[1])] == [False, False, True, False, False]
    bound = lower_noise_bound(list(rdms))
    assert bound[2] is None


def test_the_dimension_in_which_two_models_differ_is_found():
    drawn = np.random.default_rng(1)
    first = drawn.random((12, 6))
    second = first.copy()
    second[:, 4] = drawn.permutation(second[:, 4])
    shares = dimensions_behind(first, second)

    def difference(a, b):
        return 1 - spearmanr(pairs(1 - np.corrcoef(a)), pairs(1 - np.corrcoef(b))).statistic

    for d in range(6):
        left = [c for c in range(6) if c != d]
        expected = difference(first, second) - difference(first[:, left], second[:, left])
        assert shares[d] == pytest.approx(expected, abs=1e-9)
    assert max(range(6), key=lambda d: shares[d]) == 4
    assert shares[4] == pytest.approx(difference(first, second))


def test_a_dimension_that_cannot_be_left_out_has_no_share():
    drawn = np.random.default_rng(2)
    first, second = np.column_stack([2 * drawn.random(8), np.ones((8, 2))]), drawn.random((8, 3))
    shares = dimensions_behind(first, second)
    assert shares[0] is None
    assert dimensions_behind(second, second)[0] == pytest.approx(0)


def test_bad_input_is_refused():
    first, second = people(2)
    with pytest.raises(UndefinedMetric, match="2 people; got 1"):
        lower_noise_bound([first])
    with pytest.raises(ValueError, match=r"one shape \[T, N, N\]"):
        agreement_over_time(first, second[:3])
    with pytest.raises(ValueError, match=r"must be \[T, N, N\]"):
        agreement_over_time(first[0], second[0])
    with pytest.raises(ValueError, match="not finite"):
        agreement_over_time(first, np.full_like(second, np.nan))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        dimensions_behind(np.ones((3, 4)), np.ones((3, 5)))
