"""The curves against plain loops, and what must be refused instead of becoming NaN."""

import weakref
from itertools import combinations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from sweeper.metrics import time_curves as module
from sweeper.metrics.rdm import UndefinedMetric
from sweeper.metrics.time_curves import constant_curves, time_curves


def series(participants=3, times=9, stimuli=7, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.random((stimuli, stimuli))
    strength = np.clip(np.linspace(-0.5, 1.0, times), 0, None)[:, None, None]
    rdms = 0.5 + strength * signal * 0.3 + 0.05 * rng.random((participants, times, stimuli, stimuli))
    rdms = np.triu(rdms, 1)
    return rdms + rdms.swapaxes(2, 3)


def plain(rdms, onset, noise_scale=1.0):
    """The three curves, entry by entry."""
    times, stimuli = rdms.shape[1:3]
    means, generalisations = [], []
    for rdm in rdms:
        means.append(
            [sum(rdm[t, i, j] for i in range(stimuli) for j in range(stimuli)) / stimuli**2 for t in range(times)]
        )
        vectors = [[rdm[t, i, j] for i, j in combinations(range(stimuli), 2)] for t in range(times)]
        row = [sum(np.corrcoef(vectors[t], vectors[u])[0, 1] for u in range(times)) / times for t in range(times)]
        generalisations.append([(value - min(row)) / (max(row) - min(row)) for value in row])
    mean = [sum(column) / len(rdms) for column in zip(*means, strict=True)]
    alpha = [(value - min(mean)) / (max(mean) - min(mean)) for value in mean]
    beta = [sum(column) / len(rdms) for column in zip(*generalisations, strict=True)]
    for t in range(onset):
        alpha[t] = beta[t] = 0.0
    smooth = gaussian_filter1d([1 - value for value in beta], 3)
    return alpha, beta, [noise_scale * (value - min(smooth)) / (max(smooth) - min(smooth)) for value in smooth]


@pytest.mark.parametrize(("participants", "onset", "scale"), [(3, 4, 1.0), (1, 4, 0.5), (2, 0, 1.0)])
def test_equals_a_plain_loop(participants, onset, scale):
    rdms = series(participants)
    found = time_curves(iter(rdms), onset, noise_scale=scale)
    for curve, expected in zip((found.alpha, found.beta, found.noise), plain(rdms, onset, scale), strict=True):
        np.testing.assert_allclose(curve, expected, atol=1e-12)


def test_pieces_change_nothing(monkeypatch):
    rdms = series(stimuli=11)
    whole = time_curves(rdms, 2)
    monkeypatch.setattr(module, "_CHUNK", 1)
    pieces = time_curves(rdms, 2)
    np.testing.assert_allclose(pieces.beta, whole.beta, atol=1e-12)


def test_float32_and_a_map_into_a_file_will_do(tmp_path):
    rdms = series().astype(np.float32)
    np.save(tmp_path / "rdms.npy", rdms)
    mapped = time_curves(np.load(tmp_path / "rdms.npy", mmap_mode="r"), 4)
    np.testing.assert_allclose(mapped.beta, time_curves(rdms.astype(np.float64), 4).beta, atol=1e-6)


def test_participants_are_never_held_together():
    seen = []

    def one_by_one():
        for number in range(5):
            rdm = series(5)[number].copy()
            seen.append(weakref.ref(rdm))
            yield rdm
            del rdm
            assert sum(reference() is not None for reference in seen[:-1]) == 0

    found = time_curves(one_by_one(), 4)
    assert len(seen) == 5
    np.testing.assert_array_equal(found.alpha, time_curves(series(5), 4).alpha)


def test_before_the_onset_nothing_is_seen_and_noise_is_high():
    found = time_curves(series(times=20), 8)
    assert found.alpha[:8].max() == found.beta[:8].max() == 0
    assert found.alpha.max() == pytest.approx(1)
    assert found.noise.max() == 1 == found.noise[0]
    assert found.noise.min() == 0


def test_beta_is_rescaled_per_participant_only():
    """Participants whose generalisation peaks at different times share a mean below 1."""
    rdms = series(2, times=9)
    rdms[1] = rdms[1, ::-1]
    assert time_curves(rdms, 0).beta.max() < 0.99
    assert time_curves(rdms[:1], 0).beta.max() == 1


def test_constant_curves_change_nothing():
    curves = constant_curves(2)
    assert (curves.alpha.tolist(), curves.beta.tolist(), curves.noise.tolist()) == ([1, 1], [1, 1], [0, 0])


@pytest.mark.parametrize(
    ("rdms", "onset", "words"),
    [
        (series(times=2), 0, "at least 3 times; got 2"),
        (series(stimuli=2), 0, "at least 3 stimuli"),
        ([], 0, "at least one participant"),
        (np.ones((1, 5, 4, 4)), 0, "5 of 5 RDMs are constant"),
        (np.repeat(series(1, times=1), 5, axis=1), 0, "generalisation of participant 0"),
        (series(), 9, "noise level is the same"),
    ],
)
def test_what_does_not_exist_is_said(rdms, onset, words):
    with pytest.raises(UndefinedMetric, match=words):
        time_curves(rdms, onset)


def test_a_constant_slice_is_named_even_in_float32():
    rdms = series().astype(np.float32)
    upper = np.triu(np.full((7, 7), 0.1, np.float32), 1)
    upper[0, 1] = np.nextafter(upper[0, 1], np.float32(1))
    rdms[1, 6] = upper + upper.T
    with pytest.raises(UndefinedMetric, match=r"participant 1 \(0-based\): 1 of 9 RDMs are constant \(first: time 6\)"):
        time_curves(rdms, 0)


@pytest.mark.parametrize(
    ("rdms", "onset", "words"),
    [
        (series()[:, :, :, :5], 0, r"\[T, N, N\]"),
        ([series()[0], series(times=8)[0]], 0, "same times; got 9 and 8"),
        (series(), 10, "onset must be 0..9"),
        (np.where(np.arange(9)[:, None, None] == 3, np.nan, series()), 0, r"time 3 \(0-based\)"),
    ],
)
def test_what_is_no_series_is_refused(rdms, onset, words):
    with pytest.raises(ValueError, match=words):
        time_curves(rdms, onset)
