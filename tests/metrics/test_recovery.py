import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.metrics.rdm import UndefinedMetric
from sweeper.metrics.recovery import COMPARATORS, epochs_seen_after, recovered_at_tolerances, recovery_epochs

# Falls by 10 an epoch to its minimum, 50 at epoch 6, then rises: trimmed at 6.
BASELINE = {1: 100.0, 2: 90.0, 3: 80.0, 4: 70.0, 5: 60.0, 6: 50.0, 7: 51.0, 8: 52.0}
# Window: epochs 2, 3.
CURVE = {1: 100.0, 2: 150.0, 3: 150.0, 4: 90.5, 5: 69.0, 6: 55.0, 7: 50.5, 8: 49.0, 9: 50.6, 10: 50.4}


@pytest.mark.parametrize(
    ("comparator", "expected"),
    [
        ("clean", 1),  # epoch 4: 90.5 <= 1.01 * 90 (epoch 2)
        ("published", 4),  # epoch 7: 50.5 <= 1.01 * 50 (the minimum, not 51)
        ("fixed", 4),
    ],
)
def test_comparators(comparator, expected):
    assert recovery_epochs(CURVE, BASELINE, 3, window_length=2, comparator=comparator) == expected


def test_published_and_fixed_differ_before_the_minimum():
    curve = {4: 70.5, 5: 70.0, 6: 50.0}
    assert recovery_epochs(curve, BASELINE, 3) == 1
    assert recovery_epochs(curve, BASELINE, 3, comparator="fixed") == 3


def test_clean_stands_still_once_its_epoch_passes_the_minimum():
    curve = {8: 55.0, 9: 50.6, 10: 51.0, 11: 50.5}
    # Epochs 8, 9, 10, 11 are held against baseline epochs 5 (60), 6 (50), 6 (not 7: 51), 6.
    assert recovery_epochs(curve, BASELINE, 7, window_length=3, comparator="clean") == 1
    assert recovery_epochs({**curve, 8: 61.0}, BASELINE, 7, window_length=3, comparator="clean") == 4


def test_the_bound_itself_counts_as_back():
    assert recovery_epochs({4: 1.01 * 70.0}, BASELINE, 3) == 1
    assert recovery_epochs({4: np.nextafter(1.01 * 70.0, 99)}, BASELINE, 3) is None


def test_the_window_and_what_lies_before_it_do_not_count():
    assert recovery_epochs({1: 0.0, 2: 0.0, 3: 0.0, 4: 99.0}, BASELINE, 3) is None
    assert recovery_epochs({1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0}, BASELINE, 3) == 1


def test_persistence_takes_the_first_epoch_of_the_streak():
    assert recovery_epochs(CURVE, BASELINE, 3, persistence=1) == 4
    assert recovery_epochs(CURVE, BASELINE, 3, persistence=2) == 4  # 7 and 8; 9 is above
    assert recovery_epochs(CURVE, BASELINE, 3, persistence=3) is None
    assert recovery_epochs({**CURVE, 11: 50.0, 12: 50.0}, BASELINE, 3, persistence=3) == 7  # 10, 11, 12


@pytest.mark.parametrize("gap", ["missing", None, float("nan")])
def test_an_epoch_not_seen_breaks_a_streak_but_never_counts(gap):
    curve = {4: 99.0, 5: 60.0, 6: gap, 7: 50.0, 8: 50.0}
    if gap == "missing":
        del curve[6]
    assert recovery_epochs(curve, BASELINE, 3, persistence=1) == 2
    assert recovery_epochs(curve, BASELINE, 3, persistence=2) == 4
    assert recovery_epochs({4: gap, 5: 60.0} if gap != "missing" else {5: 60.0}, BASELINE, 3) == 2


def test_the_order_of_the_mapping_does_not_matter():
    shuffled = dict(sorted(CURVE.items(), key=lambda item: -item[0]))
    assert recovery_epochs(shuffled, dict(sorted(BASELINE.items(), reverse=True)), 3, persistence=2) == 4


def test_censoring_is_none_beside_the_epochs_seen():
    assert recovery_epochs({4: 99.0, 5: 98.0}, BASELINE, 3) is None
    assert epochs_seen_after({4: 99.0, 5: 98.0, 6: None}, 3) == 2
    assert epochs_seen_after({1: 1.0, 3: 1.0}, 3) == 0
    assert recovery_epochs({}, BASELINE, 3) is None
    # A streak cut off by the end of the curve is not one.
    assert recovery_epochs({4: 99.0, 5: 60.0}, BASELINE, 3, persistence=2) is None


def test_the_untrained_model_is_ignored():
    baseline = {0: 1.0, **BASELINE}
    assert recovery_epochs({0: 0.0, **CURVE}, baseline, 3) == recovery_epochs(CURVE, BASELINE, 3) == 4


def test_the_first_of_two_minima_trims():
    baseline = {1: 60.0, 2: 50.0, 3: 80.0, 4: 50.0, 5: 50.0}
    assert recovery_epochs({3: 51.0, 4: 50.5}, baseline, 2) == 2  # epoch 3 is held against 50, not 80


def test_a_trim_epoch_may_be_given():
    assert recovery_epochs({4: 90.0}, BASELINE, 3, trim_epoch=2) == 1
    assert recovery_epochs({4: 99.0, 5: 90.9}, BASELINE, 3, trim_epoch=2, comparator="fixed") == 2


RSA = {1: 0.40, 2: 0.50, 3: 0.60, 4: 0.75, 5: 0.72, 6: 0.70, 7: 0.90}


@pytest.mark.parametrize(
    ("comparator", "curve", "expected"),
    [
        ("published", {4: 0.739, 5: 0.70, 6: 0.69}, 3),  # epoch 6: 0.70 - 0.01
        ("published", {4: 0.74, 5: 0.70}, 1),
        (
            "published",
            {4: 0.1, 5: 0.1, 6: 0.1, 7: 0.691},
            4,
        ),  # beyond the trim epoch: 0.70 of epoch 6, not 0.90 or 0.75
        ("fixed", {4: 0.691}, 1),
        ("fixed", {4: 0.689}, None),
        ("clean", {4: 0.491}, 1),  # epoch 2
        ("clean", {4: 0.489, 5: 0.589, 6: 0.741}, 3),
    ],
)
def test_higher_direction(comparator, curve, expected):
    found = recovery_epochs(
        curve, RSA, 3, window_length=2, comparator=comparator, direction="higher", trim_epoch=6, tolerance=0.01
    )
    assert found == expected


def test_higher_tolerance_is_absolute():
    options = {"direction": "higher", "trim_epoch": 6}
    assert recovery_epochs({4: 0.70}, RSA, 3, tolerance=0.06, **options) == 1  # relative would also pass at 0.06 * 0.75
    assert recovery_epochs({4: 0.70}, RSA, 3, tolerance=0.049, **options) is None
    assert recovery_epochs({4: -0.2}, {6: -0.19, 4: -0.19}, 3, tolerance=0.02, **options) == 1


def test_a_reference_that_is_missing_cannot_be_met():
    baseline = {**RSA, 4: None}
    options = {"direction": "higher", "trim_epoch": 6}
    assert recovery_epochs({4: 0.9, 5: 0.9}, baseline, 3, **options) == 2
    with pytest.raises(UndefinedMetric, match="no value at its trim epoch 6"):
        recovery_epochs({4: 0.9}, {**RSA, 6: None}, 3, **options)
    with pytest.raises(UndefinedMetric, match="no epoch with a value"):
        recovery_epochs({4: 0.9}, {0: 0.9, 1: None}, 3, **options)


def test_several_windows_count_from_the_last_end_and_by_disturbed_epochs():
    """Windows 2 and 4..5: end 5, three disturbed epochs."""
    curve = {6: 80.5, 7: 60.0}
    assert recovery_epochs(curve, BASELINE, 5, window_length=3, comparator="clean") == 1
    assert recovery_epochs(curve, BASELINE, 5, window_length=2, comparator="clean") == 2


@pytest.mark.parametrize("persistence", [1, 2])
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_pandas_series_equal_dicts(comparator, persistence):
    options = {"window_length": 2, "comparator": comparator, "persistence": persistence}
    from_series = recovery_epochs(pd.Series(CURVE), pd.Series(BASELINE), 3, **options)
    assert from_series == recovery_epochs(CURVE, BASELINE, 3, **options)
    assert from_series is None or type(from_series) is int


def loop_recovery(curve, baseline, end, length, tolerance, persistence, comparator):
    """The rule once more, as a search over whole streaks with references written out."""
    lowest = min(baseline.values())
    lowest_epoch = next(k for k in sorted(baseline) if baseline[k] == lowest)
    for k in range(end + 1, 60):
        streak = []
        for j in range(k, k + persistence):
            own = {"published": j, "clean": j - length, "fixed": 10**6}[comparator]
            reference = lowest if own > lowest_epoch else baseline[own]
            streak.append(j in curve and curve[j] <= (1 + tolerance) * reference)
        if all(streak):
            return k - end
    return None


@settings(max_examples=200, deadline=None)
@given(
    losses=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    disturbed=st.lists(st.none() | st.integers(1, 10), min_size=5, max_size=20),
    window=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    tolerance=st.sampled_from([0.0, 0.01, 0.2, 0.5]),
    persistence=st.integers(1, 4),
    comparator=st.sampled_from(list(COMPARATORS)),
)
def test_equals_a_plain_search(losses, disturbed, window, tolerance, persistence, comparator):
    baseline = {k: float(v) for k, v in enumerate(losses, start=1)}
    curve = {k: float(v) for k, v in enumerate(disturbed, start=1) if v is not None}
    start, length = window
    end = start + length - 1
    found = recovery_epochs(
        curve,
        baseline,
        end,
        window_length=length,
        tolerance=tolerance,
        persistence=persistence,
        comparator=comparator,
    )
    assert found == loop_recovery(curve, baseline, end, length, tolerance, persistence, comparator)


def test_tolerance_curve():
    found = recovered_at_tolerances(CURVE, BASELINE, 3, (0.0, 0.01, 0.1, 1.0), window_length=2)
    assert found == {0.0: 5, 0.01: 4, 0.1: 3, 1.0: 1}
    assert recovered_at_tolerances(CURVE, BASELINE, 3, [0.01], persistence=3) == {0.01: None}
    higher = recovered_at_tolerances(
        {4: 0.5}, RSA, 3, [0.01, 0.3], direction="higher", trim_epoch=6, comparator="fixed"
    )
    assert higher == {0.01: None, 0.3: 1}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"comparator": "clean"}, "'clean' needs window_length"),
        ({"comparator": "none"}, "published, fixed, clean; got 'none'"),
        ({"direction": "up"}, "lower, higher; got 'up'"),
        ({"direction": "higher"}, "'higher' needs trim_epoch"),
        ({"window_length": 0}, r"1..window_end = 3; got 0"),
        ({"window_length": 4}, r"1..window_end = 3; got 4"),
        ({"persistence": 0}, "at least 1"),
        ({"tolerance": -0.1}, "at least 0"),
        ({"tolerance": float("nan")}, "at least 0"),
    ],
)
def test_refuses(options, reason):
    with pytest.raises(ValueError, match=reason):
        recovery_epochs(CURVE, BASELINE, 3, **options)


def test_refuses_fractional_epochs():
    with pytest.raises(ValueError, match=r"whole numbers; got 4\.5"):
        recovery_epochs({4.5: 1.0}, BASELINE, 3)
