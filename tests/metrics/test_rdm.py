import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.metrics.rdm import UndefinedMetric, compute_rdm, upper_triangle

METRICS = ("correlation", "cosine", "euclidean")


def loop_distance(a, b, metric):
    """Distances by textbook sums, one pair at a time."""
    if metric == "euclidean":
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5
    if metric == "correlation":
        a, b = [x - sum(a) / len(a) for x in a], [y - sum(b) / len(b) for y in b]
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return 1 - dot / (sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5)


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(3.0, 2.0, size=(9, 5))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("center", [False, True])
def test_equals_a_double_loop(features, metric, center):
    rows = (features - features.mean(axis=0) if center else features).tolist()
    expected = [
        [0.0 if i == j else loop_distance(a, b, metric) for j, b in enumerate(rows)] for i, a in enumerate(rows)
    ]
    np.testing.assert_allclose(compute_rdm(features, metric, center=center), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("metric", "theirs"), [("correlation", "correlation"), ("euclidean", "euclidean")])
def test_equals_rsatoolbox(features, metric, theirs):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    expected = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(features), method=theirs).get_matrices()[0]
    if theirs == "euclidean":
        expected = np.sqrt(expected * features.shape[1])  # theirs is squared and divided by D
    np.testing.assert_allclose(compute_rdm(features, metric), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(st.integers(1, 40), st.integers(2, 90)), seed=st.integers(0, 2**32 - 1), narrow=st.booleans())
def test_is_exactly_symmetric_with_a_zero_diagonal(metric, shape, seed, narrow):
    features = np.random.default_rng(seed).normal(size=shape).astype(np.float32 if narrow else np.float64)
    rdm = compute_rdm(features, metric)
    assert rdm.dtype == np.float64
    assert (rdm == rdm.T).all()
    assert (np.diag(rdm) == 0).all()
    assert (rdm >= 0).all()


def test_centering_makes_a_prompt_offset_invisible(features):
    shifted = features + np.array([5.0, -3.0, 0.0, 9.0, 1.0])
    np.testing.assert_allclose(compute_rdm(shifted, center=True), compute_rdm(features, center=True), atol=1e-12)
    assert np.abs(compute_rdm(shifted) - compute_rdm(features)).max() > 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", [0.0, 0.1, 13.7])
def test_a_constant_row_is_undefined_despite_rounding(features, dtype, level):
    rows = features.astype(dtype)
    rows[4] = level
    rows[4, 0] = np.nextafter(dtype(level), dtype(99.0))
    if level == 0.0:
        rows[4, 0] = 0.0
    with pytest.raises(UndefinedMetric, match=r"1 of 9 stimuli have constant features \(first: row 4\)"):
        compute_rdm(rows)


def test_a_small_but_real_spread_is_defined(features):
    rows = features.astype(np.float32)
    rows[4] = 1.0 + 1e-3 * features[4]
    expected = loop_distance(rows[4].astype(float).tolist(), rows[0].astype(float).tolist(), "correlation")
    assert compute_rdm(rows)[4, 0] == pytest.approx(expected, abs=1e-10)


def test_equal_outputs_have_no_distance_but_rounding_makes_none_either():
    row = np.random.default_rng(1).normal(size=66).astype(np.float32)
    rows = np.stack([row, np.nextafter(row, np.float32(9)), row * np.float32(1.5), row])
    assert (compute_rdm(rows) == 0).all()


@pytest.mark.parametrize(
    ("features", "metric", "center", "reason"),
    [
        (np.eye(3)[:, :1], "correlation", False, "at least 2 dimensions"),
        ([[1.0, 2.0], [0.0, 0.0]], "cosine", False, "1 of 2 stimuli have zero features"),
        ([[0.1, 2.0]] * 3, "correlation", True, "3 of 3 stimuli have constant features"),
        ([[0.1, 2.0]] * 3, "cosine", True, "3 of 3 stimuli have zero features"),
        ([[1.0, np.nan]], "euclidean", False, "not finite"),
    ],
)
def test_undefined(features, metric, center, reason):
    with pytest.raises(UndefinedMetric, match=reason):
        compute_rdm(features, metric, center=center)


def test_refuses_other_shapes_and_metrics(features):
    with pytest.raises(ValueError, match=r"\[N, D\]; got shape \(5,\)"):
        compute_rdm(features[0])
    with pytest.raises(ValueError, match="correlation, cosine, euclidean; got 'manhattan'"):
        compute_rdm(features, "manhattan")


def test_upper_triangle_goes_row_by_row_and_keeps_leading_axes():
    rdm = np.array([[0, 1, 2, 3], [9, 0, 4, 5], [9, 9, 0, 6], [9, 9, 9, 0]])
    assert upper_triangle(rdm).tolist() == [1, 2, 3, 4, 5, 6]
    assert upper_triangle(np.stack([rdm, 2 * rdm])).tolist() == [[1, 2, 3, 4, 5, 6], [2, 4, 6, 8, 10, 12]]
    with pytest.raises(ValueError, match="square"):
        upper_triangle(rdm[:2])
