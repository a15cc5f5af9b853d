from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from sweeper.metrics.rdm import UndefinedMetric, compute_rdm, upper_triangle
from sweeper.metrics.rsa import rsa_score, rsa_standard_error

METHODS = ("spearman", "pearson", "kendall")


def symmetric(values, num_stimuli):
    rdm = np.zeros((num_stimuli, num_stimuli))
    rdm[np.triu_indices(num_stimuli, k=1)] = values
    return rdm + rdm.T


def random_rdms(num_stimuli, seed, levels=None):
    """Two related RDMs; with `levels`, their entries are few and tie."""
    rng = np.random.default_rng(seed)
    pairs = num_stimuli * (num_stimuli - 1) // 2
    a = rng.normal(size=pairs)
    b = a + rng.normal(size=pairs)
    if levels:
        a, b = np.round(a * levels), np.round(b * levels)
    return symmetric(a, num_stimuli), symmetric(b, num_stimuli)


def loop_midranks(values):
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def loop_score(a, b, method):
    """Correlations by textbook sums over pairs."""
    if method == "kendall":
        signs = [np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in combinations(range(len(a)), 2)]
        return sum(signs) / len(signs)
    if method == "spearman":
        a, b = loop_midranks(a), loop_midranks(b)
    a, b = [x - sum(a) / len(a) for x in a], [y - sum(b) / len(b) for y in b]
    return sum(x * y for x, y in zip(a, b, strict=True)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("levels", [None, 1])
def test_equals_a_plain_loop(method, levels):
    a, b = random_rdms(8, seed=1, levels=levels)
    assert rsa_score(a, b, method) == pytest.approx(
        loop_score(upper_triangle(a).tolist(), upper_triangle(b).tolist(), method), abs=1e-12
    )


@pytest.mark.parametrize(("method", "theirs"), [("spearman", "spearman"), ("pearson", "corr"), ("kendall", "tau-a")])
def test_equals_rsatoolbox(method, theirs):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    a, b = random_rdms(10, seed=2, levels=2)
    expected = rsatoolbox.rdm.compare(rsatoolbox.rdm.RDMs(a[None]), rsatoolbox.rdm.RDMs(b[None]), method=theirs)
    assert rsa_score(a, b, method) == pytest.approx(float(expected[0, 0]), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=10, max_size=10))
def test_equals_scipy_whatever_ties(pairs):
    a, b = np.array(pairs, dtype=float).T
    assume(np.ptp(a) > 0 and np.ptp(b) > 0)
    assert rsa_score(symmetric(a, 5), symmetric(b, 5)) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_reads_the_upper_triangle_only():
    a, b = random_rdms(7, seed=3)
    broken = a + np.tril(np.full((7, 7), np.nan))
    assert rsa_score(broken, b) == rsa_score(a, b)


def test_order_of_stimuli_matters():
    a, _ = random_rdms(30, seed=4)
    order = np.random.default_rng(0).permutation(30)
    assert rsa_score(a, a) == 1.0
    assert rsa_score(a[np.ix_(order, order)], a[np.ix_(order, order)]) == 1.0
    assert abs(rsa_score(a[np.ix_(order, order)], a)) < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_constant_rdm_is_undefined(method):
    a, _ = random_rdms(5, seed=5)
    with pytest.raises(UndefinedMetric, match="all dissimilarities are equal"):
        rsa_score(a, np.ones((5, 5)) - np.eye(5), method)
    with pytest.raises(UndefinedMetric, match="at least 2 pairs; got 1"):
        rsa_score(a[:2, :2], a[:2, :2], method)


def test_collapsed_outputs_have_no_rsa():
    outputs = np.tile(np.random.default_rng(0).normal(size=66), (48, 1))
    with pytest.raises(UndefinedMetric, match="equal"):
        rsa_score(compute_rdm(outputs), random_rdms(48, seed=6)[0])


def test_refuses_nan_other_shapes_and_methods():
    a, b = random_rdms(5, seed=7)
    holed = a.copy()
    holed[0, 1] = np.nan
    with pytest.raises(ValueError, match="not finite") as caught:
        rsa_score(holed, b)
    assert not isinstance(caught.value, UndefinedMetric)  # a damaged reference is a fault, not a missing score
    with pytest.raises(ValueError, match=r"one shape"):
        rsa_score(a, b[:4, :4])
    with pytest.raises(ValueError, match="spearman, pearson, kendall; got 'tau'"):
        rsa_score(a, b, "tau")


def loop_standard_error(a, b, num_bootstraps, rng, correlate):
    """Re-samples, drops pairs of a stimulus with itself, and lets scipy rank every sample anew."""
    num_stimuli = len(a)
    scores = []
    for counts in rng.multinomial(num_stimuli, np.full(num_stimuli, 1 / num_stimuli), size=num_bootstraps):
        sample = np.repeat(np.arange(num_stimuli), counts)
        pairs = [(i, j) for i, j in combinations(sample, 2) if i != j]
        x, y = [a[i, j] for i, j in pairs], [b[i, j] for i, j in pairs]
        if len(set(x)) > 1 and len(set(y)) > 1:
            scores.append(correlate(x, y).statistic)
    return np.std(scores, ddof=1)


@pytest.mark.parametrize(("method", "correlate"), [("spearman", spearmanr), ("pearson", pearsonr)])
@pytest.mark.parametrize(("num_stimuli", "levels"), [(4, None), (12, None), (12, 1), (5, 1)])
def test_standard_error_equals_a_loop_that_ranks_anew(method, correlate, num_stimuli, levels):
    a, b = random_rdms(num_stimuli, seed=8, levels=levels)
    found = rsa_standard_error(a, b, num_bootstraps=60, rng=np.random.default_rng(9), method=method)
    expected = loop_standard_error(a, b, 60, np.random.default_rng(9), correlate)
    assert found == pytest.approx(expected, rel=1e-9)


def test_standard_error_does_not_depend_on_the_block_size(monkeypatch):
    a, b = random_rdms(20, seed=10)
    whole = rsa_standard_error(a, b, num_bootstraps=50, rng=np.random.default_rng(0))
    monkeypatch.setattr("sweeper.metrics.rsa._BLOCK", 1000)
    assert rsa_standard_error(a, b, num_bootstraps=50, rng=np.random.default_rng(0)) == whole
    assert rsa_standard_error(a, b, num_bootstraps=50, rng=np.random.default_rng(1)) != whole


def test_standard_error_is_that_of_the_score_over_samples_of_stimuli():
    """Fresh stimuli from one population vary about as much as the bootstrap of one sample says."""
    rng = np.random.default_rng(11)

    def sample():
        features = rng.normal(size=(40, 6))
        return compute_rdm(features), compute_rdm(features + rng.normal(size=(40, 6)))

    truth = np.std([rsa_score(*sample()) for _ in range(200)], ddof=1)
    estimates = [rsa_standard_error(*sample(), rng=rng) for _ in range(20)]
    assert np.mean(estimates) == pytest.approx(truth, rel=0.35)


def test_standard_error_undefined():
    a, b = random_rdms(6, seed=12)
    with pytest.raises(UndefinedMetric, match="all dissimilarities are equal"):
        rsa_standard_error(a, np.zeros((6, 6)), rng=np.random.default_rng(0))
    with pytest.raises(UndefinedMetric, match=r"only \d+ of 100 samples of 3 stimuli"):
        rsa_standard_error(a[:3, :3], b[:3, :3], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least 2; got 1"):
        rsa_standard_error(a, b, num_bootstraps=1, rng=np.random.default_rng(0))
