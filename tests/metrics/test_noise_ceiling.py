import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr, zscore

from sweeper.metrics.noise_ceiling import noise_ceiling, split_half
from sweeper.metrics.rdm import UndefinedMetric, compute_rdm, upper_triangle


def subjects(num_subjects=5, noise=1.0, seed=0):
    """RDMs of subjects who see one truth, on scales that differ widely."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(10, 4))
    rdms = [compute_rdm(truth + noise * rng.normal(size=truth.shape), "euclidean") for _ in range(num_subjects)]
    return np.stack([10.0**k * rdm for k, rdm in enumerate(rdms)])


@pytest.mark.parametrize(("method", "theirs"), [("spearman", "spearman"), ("pearson", "corr")])
def test_equals_rsatoolbox(method, theirs):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    rdms = subjects()
    lower, upper = rsatoolbox.inference.boot_noise_ceiling(rsatoolbox.rdm.RDMs(rdms), method=theirs)
    found = noise_ceiling(rdms, method)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=1e-10)


def test_equals_a_plain_loop():
    triangles = upper_triangle(subjects())
    ranks = [np.argsort(np.argsort(t)) + 1.0 for t in triangles]  # no ties
    lower = [spearmanr(own, sum(r for j, r in enumerate(ranks) if j != i)).statistic for i, own in enumerate(triangles)]
    upper = [spearmanr(own, sum(ranks)).statistic for own in triangles]
    found = noise_ceiling(subjects())
    assert (found.lower, found.upper) == pytest.approx((np.mean(lower), np.mean(upper)), abs=1e-12)
    z = zscore(triangles, axis=1)
    assert noise_ceiling(subjects(), "pearson").upper == pytest.approx(
        np.mean([pearsonr(own, z.sum(axis=0)).statistic for own in triangles]), abs=1e-12
    )


def test_brackets_the_true_model():
    found = noise_ceiling(subjects(num_subjects=20, noise=0.8))
    truth = upper_triangle(subjects(num_subjects=1, noise=0.0))[0]
    model = np.mean([spearmanr(truth, t).statistic for t in upper_triangle(subjects(num_subjects=20, noise=0.8))])
    assert found.lower - 0.02 < model < found.upper
    assert found.lower < found.upper


def test_equal_subjects_agree_fully():
    rdms = np.repeat(subjects(num_subjects=1), 3, axis=0)
    found = noise_ceiling(rdms)
    assert (found.lower, found.upper) == pytest.approx((1.0, 1.0))
    assert split_half(rdms, rng=np.random.default_rng(0)) == pytest.approx(1.0)


def test_split_half_of_two_subjects_is_their_correlation():
    rdms = subjects(num_subjects=2)
    expected = spearmanr(*upper_triangle(rdms)).statistic
    assert split_half(rdms, num_splits=5, rng=np.random.default_rng(0)) == pytest.approx(expected, abs=1e-12)


def test_split_half_averages_halves():
    rdms = subjects(num_subjects=5)
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(4):
        order = rng.permutation(5)
        halves = [upper_triangle(rdms[part].mean(axis=0)) for part in (order[:2], order[2:])]
        scores.append(spearmanr(*halves).statistic)
    assert split_half(rdms, num_splits=4, rng=np.random.default_rng(3)) == pytest.approx(np.mean(scores), abs=1e-12)


def test_undefined_and_refused():
    rdms = subjects()
    with pytest.raises(UndefinedMetric, match="2 subjects; got 1"):
        noise_ceiling(rdms[:1])
    with pytest.raises(ValueError, match=r"\[S, N, N\]"):
        noise_ceiling(rdms[0])
    rdms[1] = 1.0
    with pytest.raises(UndefinedMetric, match="one subject are equal"):
        noise_ceiling(rdms)
    rdms[1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        noise_ceiling(rdms)
