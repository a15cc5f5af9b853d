"""RSA over time against scipy, time by time."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from sweeper.metrics.courses import nearest_before, ranked, rdm_course, rsa_course, summarize_course
from sweeper.metrics.rdm import UndefinedMetric


@pytest.fixture
def outputs():
    return np.random.default_rng(1).standard_normal((5, 7, 11)).astype(np.float32)


@pytest.mark.parametrize("metric", ["correlation", "cosine"])
def test_each_time_is_a_spearman_correlation_of_its_own(outputs, metric) -> None:
    reference = np.round(np.random.default_rng(2).random((5, 21)), 1)  # with ties
    course = rsa_course(rdm_course(outputs, metric), ranked(reference))
    for time in range(5):
        assert course[time] == pytest.approx(spearmanr(pdist(outputs[time], metric), reference[time])[0], abs=1e-9)
    fixed = rsa_course(rdm_course(outputs, metric), ranked(reference[0]))
    assert fixed[0] == course[0]
    assert fixed[3] == pytest.approx(spearmanr(pdist(outputs[3], metric), reference[0])[0], abs=1e-9)


def test_a_time_at_which_an_rdm_is_undefined_has_no_value(outputs) -> None:
    outputs[1, 3] = 2.0  # a stimulus without a pattern
    reference = np.random.default_rng(2).random((5, 21))
    reference[4] = 0.5  # a reference without differences
    course = rsa_course(rdm_course(outputs), ranked(reference))
    assert np.isnan(course).tolist() == [False, True, False, False, True]


def test_a_course_is_summarised_over_the_times_that_count() -> None:
    course, times = [0.9, np.nan, 0.2, 0.5, 0.5, 0.1], [-10.0, 0.0, 10.0, 20.0, 40.0, 50.0]
    found = summarize_course(course, times, [False, True, True, True, True, True])
    assert (found.mean, found.peak, found.peak_ms, found.num_times) == (pytest.approx(0.325), 0.5, 20.0, 4)
    assert found.auc == pytest.approx(10 * 0.35 + 20 * 0.5 + 10 * 0.3)
    with pytest.raises(UndefinedMetric, match="1 times that count"):
        summarize_course(course, times, [False, True, False, False, False, False])


def test_another_time_axis_is_read_at_the_last_time_before_clamped() -> None:
    times = np.arange(-100.0, 100.0, 5.0)
    assert nearest_before([-300, -100, -98, 0, 12, 5000], times).tolist() == [0, 0, 0, 20, 22, 39]
