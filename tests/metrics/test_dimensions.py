import numpy as np
import pytest
from scipy.stats import pearsonr

from sweeper.metrics.dimensions import correlation_per_dimension, squared_error_per_dimension
from sweeper.metrics.rdm import UndefinedMetric


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(20, 4)).astype(np.float32)
    return (targets + rng.normal(size=(20, 4))).astype(np.float32), targets


def test_squared_error_equals_a_plain_loop(pair):
    outputs, targets = pair
    found = squared_error_per_dimension(outputs, targets)
    for d in range(4):
        expected = sum((float(o) - float(t)) ** 2 for o, t in zip(outputs[:, d], targets[:, d], strict=True)) / 20
        assert found[d] == pytest.approx(expected, rel=1e-12)


def test_correlation_equals_scipy(pair):
    outputs, targets = pair
    expected = [pearsonr(outputs[:, d].astype(float), targets[:, d].astype(float)).statistic for d in range(4)]
    assert correlation_per_dimension(outputs, targets) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("side", [0, 1])
def test_correlation_of_a_constant_or_broken_dimension_is_none(pair, side):
    pair[side][:, 1] = 13.7
    pair[side][3, 1] = np.nextafter(np.float32(13.7), np.float32(99))
    pair[side][5, 2] = np.nan
    found = correlation_per_dimension(*pair)
    assert found[1] is None
    assert found[2] is None
    assert found[0] == pytest.approx(pearsonr(pair[0][:, 0], pair[1][:, 0]).statistic, abs=1e-5)
    assert all(isinstance(found[d], float) for d in (0, 3))


def test_refuses():
    for score in (squared_error_per_dimension, correlation_per_dimension):
        with pytest.raises(ValueError, match=r"\[N, D\]; got \(2, 3\) and \(3, 2\)"):
            score(np.ones((2, 3)), np.ones((3, 2)))
        with pytest.raises(UndefinedMetric, match="no stimulus"):
            score(np.ones((0, 3)), np.ones((0, 3)))
