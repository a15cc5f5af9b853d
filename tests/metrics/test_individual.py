"""Individual differences: against plain loops and scipy, and on people whose true differences are known."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from sweeper.data.dataset import open_dataset
from sweeper.data.manifest import Manifest
from sweeper.data.meg_study import MegStudy
from sweeper.metrics.individual import (
    agreement_of_distances,
    distances_between_people,
    matching,
    split_half_of_distances,
)
from sweeper.metrics.rdm import UndefinedMetric


def rng(seed=0):
    return np.random.default_rng(seed)


def people(count=5, times=4, stimuli=8, seed=0):
    """Series of people who share a signal and have one of their own."""
    shared, own = rng(seed + 1).random((times, stimuli, stimuli)), rng(seed).random((count, times, stimuli, stimuli))
    rdms = np.triu(shared + own, 1)
    return rdms + rdms.swapaxes(2, 3)


def matrix(count, seed):
    drawn = np.triu(rng(seed).random((count, count)), 1)
    return drawn + drawn.T


def test_distances_equal_a_plain_loop():
    series = people()
    found = distances_between_people(iter(series))
    long = [[rdm[i, j] for rdm in one for i, j in combinations(range(8), 2)] for one in series]
    for p, q in combinations(range(5), 2):
        assert found[p, q] == found[q, p] == pytest.approx(1 - pearsonr(long[p], long[q]).statistic, abs=1e-12)
    assert np.all(np.diag(found) == 0)


def test_agreement_is_spearman_and_its_p_that_of_all_permutations():
    models, theirs = matrix(6, 1), matrix(6, 1) + 0.8 * matrix(6, 2)
    upper = np.triu_indices(6, 1)
    seen = spearmanr(models[upper], theirs[upper]).statistic
    scores = [spearmanr(models[upper], theirs[np.ix_(p, p)][upper]).statistic for p in permutations(range(6))]
    found = agreement_of_distances(models, theirs, rng=rng(), num_permutations=4000)
    assert found.rho == pytest.approx(seen, abs=1e-12)
    assert found.p_value == pytest.approx(np.mean(np.array(scores) >= seen - 1e-12), abs=0.02)
    assert found.shuffled_mean == pytest.approx(np.mean(scores), abs=0.03)
    assert found.shuffled_95 == pytest.approx(np.quantile(scores, 0.95), abs=0.05)


def test_p_never_reaches_zero_and_counts_the_given_order():
    truth = matrix(9, 1)
    found = agreement_of_distances(truth, truth, rng=rng(), num_permutations=99)
    assert (found.rho, found.p_value, found.num_permutations) == (pytest.approx(1), 1 / 100, 99)


def test_p_is_uniform_where_nothing_is_shared():
    values = [
        agreement_of_distances(matrix(6, s), matrix(6, s + 500), rng=rng(s), num_permutations=49).p_value
        for s in range(120)
    ]
    assert np.mean(np.array(values) <= 0.1) == pytest.approx(0.1, abs=0.08)
    assert np.mean(values) == pytest.approx(0.5, abs=0.08)


def test_the_same_generator_gives_the_same_p():
    one, other = (agreement_of_distances(matrix(6, 1), matrix(6, 2), rng=rng(4), num_permutations=50) for _ in "ab")
    assert one == other


@pytest.mark.parametrize("over", ["times", "stimuli"])
def test_split_half_equals_a_plain_loop(over):
    series = people(times=5, stimuli=9)
    count = 5 if over == "times" else 9
    drawn, scores = rng(3), []
    for _ in range(6):
        order = drawn.permutation(count)
        halves = []
        for half in (sorted(order[: count // 2]), sorted(order[count // 2 :])):
            times, stimuli = (half, range(9)) if over == "times" else (range(5), half)
            vectors = [[one[t, i, j] for t in times for i, j in combinations(stimuli, 2)] for one in series]
            halves.append([1 - pearsonr(vectors[p], vectors[q]).statistic for p, q in combinations(range(5), 2)])
        scores.append(spearmanr(*halves).statistic)
    found = split_half_of_distances(list(series), over, rng=rng(3), num_splits=6)
    assert (found.rho, found.sd) == (pytest.approx(np.mean(scores)), pytest.approx(np.std(scores, ddof=1)))


def test_split_half_falls_with_noise():
    drawn = rng(4)
    parts = np.triu(drawn.random((2, 6, 12, 12)), 1)
    parts = parts + parts.swapaxes(2, 3)
    weights = drawn.random(10)[:, None, None, None]  # people differ in how much of each part they have
    signal = weights * parts[0] + (1 - weights) * parts[1]
    noise = np.triu(drawn.random(signal.shape), 1)
    found = [
        split_half_of_distances(
            list(signal + sd * (noise + noise.swapaxes(2, 3))), "stimuli", rng=rng(), num_splits=20
        ).rho
        for sd in (0.0, 0.5, 5.0)
    ]
    assert found[0] > 0.9 > found[1] > 0.3 > found[2]


def test_matching_equals_a_plain_loop():
    table = rng(2).random((5, 5)) + 0.5 * np.eye(5)
    found = matching(table, rng=rng(), num_permutations=3000)
    matched = np.mean([table[i, i] for i in range(5)])
    assert found.matched == pytest.approx(matched)
    assert found.mismatched == pytest.approx(np.mean([table[i, j] for i in range(5) for j in range(5) if i != j]))
    scores = [np.mean([table[i, p[i]] for i in range(5)]) for p in permutations(range(5))]
    assert found.p_value == pytest.approx(np.mean(np.array(scores) >= matched - 1e-12), abs=0.02)
    own = [all(table[j, j] > table[i, j] for i in range(5) if i != j) for j in range(5)]
    assert found.identified == np.mean(own)


def test_models_that_fit_everybody_match_nobody():
    fits, fitted = rng(5).random(7), rng(6).random(7)
    found = matching(fits[:, None] + fitted, rng=rng(), num_permutations=50)
    assert found.matched == pytest.approx(found.mismatched)
    assert found.p_value == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: distances_between_people(people(3)), "at least 4; got 3"),
        (lambda: distances_between_people([*people(4)[:3], np.ones((4, 8, 8))]), "constant"),
        (lambda: agreement_of_distances(1 - np.eye(5), matrix(5, 1), rng=rng()), "all dissimilarities are equal"),
        (lambda: matching(np.eye(3), rng=rng()), "at least 4; got 3"),
        (lambda: split_half_of_distances(list(people(times=1)), "times", rng=rng()), "at least 2; got 1"),
        (lambda: split_half_of_distances(list(people(stimuli=5)), "stimuli", rng=rng()), "at least 6; got 5"),
    ],
)
def test_what_does_not_exist_is_said(call, words):
    with pytest.raises(UndefinedMetric, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: distances_between_people([*people(4), people(1, times=3)[0]]), "same times and stimuli"),
        (lambda: distances_between_people(np.full((4, 2, 5, 5), np.nan)), "not finite"),
        (lambda: agreement_of_distances(matrix(5, 1), matrix(6, 1), rng=rng()), "one shape"),
        (lambda: agreement_of_distances(matrix(5, 1), matrix(5, 2), rng=rng(), num_permutations=0), "at least 1"),
        (lambda: matching(np.ones((4, 5)), rng=rng()), r"\[P, P\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_simulated_people_differ_as_their_true_parameters_do():
    """The simulator's own truth: distances between people's RDMs follow the distances of what makes them."""
    generator = {"name": "drawings", "num_train": 1, "num_test": 48, "seed": 1, "participants": 12}
    (series,) = open_dataset(Manifest.model_validate({"name": "small", "generator": generator})).series
    study = series.blocks
    assert isinstance(study, MegStudy)
    seen = distances_between_people(series.each(series.participants, series.names[1:]))
    parameters = np.array(
        [
            (one.early_gain, one.late_gain, one.early_latency_ms, one.late_latency_ms, one.living, one.colour)
            for one in study.people
        ]
    )
    z = (parameters - parameters.mean(axis=0)) / parameters.std(axis=0)
    true = np.linalg.norm(z[:, None] - z[None], axis=2)
    noiseless = distances_between_people(study.signal(i) for i in range(12))
    found = agreement_of_distances(seen, true, rng=rng(), num_permutations=499)
    assert found.rho > 0.5 > found.shuffled_95
    assert found.p_value <= 0.01
    assert agreement_of_distances(seen, noiseless, rng=rng(), num_permutations=9).rho > 0.9
    ceiling = split_half_of_distances(
        list(series.each(series.participants, series.names[1:])), "stimuli", rng=rng(), num_splits=5
    )
    assert ceiling.rho > found.rho
