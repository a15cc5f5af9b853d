from itertools import combinations

import numpy as np
import pytest
from scipy.stats import f_oneway, pearsonr

from sweeper.metrics.rdm import UndefinedMetric, upper_triangle
from sweeper.metrics.seeds import seed_distances, spread


def rng(seed=0):
    return np.random.default_rng(seed)


def models(count, seed=0):
    """The series of some seeds of one person's model."""
    rdms = np.triu(rng(seed + 1).random((4, 8, 8)) + rng(seed).random((count, 4, 8, 8)), 1)
    return list(rdms + rdms.swapaxes(2, 3))


def test_spread_recovers_both_variances():
    drawn = rng(8)
    scores = [2.0 * mean + 0.5 * drawn.standard_normal(4) for mean in drawn.standard_normal(4000)]
    found = spread(scores)
    assert (found.people, found.seeds) == (pytest.approx(4.0, rel=0.1), pytest.approx(0.25, rel=0.1))


def test_spread_is_that_of_an_analysis_of_variance():
    groups = [[1.0, 2.0, 4.0], [2.5, 3.0], [6.0], [5.0, 5.5, 7.0]]
    found = spread(groups)
    counts = [len(group) for group in groups]
    typical = (9 - sum(n**2 for n in counts) / 9) / 3
    assert found.seeds * f_oneway(*groups).statistic == pytest.approx(found.people * typical + found.seeds)
    assert found.seeds == pytest.approx(sum(np.var(g) * len(g) for g in groups) / 5)
    assert spread([[1.0, 3.0], [3.0, 1.0]]).people < 0


def test_seed_distances_equal_a_plain_loop():
    series = [models(3, seed=p) for p in range(2)]
    found = seed_distances(series)
    kinds = {"seeds": [], "people": [], "both": []}
    labelled = [(p, s, upper_triangle(series[p][s]).ravel()) for p in range(2) for s in range(3)]
    for (p, s, a), (q, r, b) in combinations(labelled, 2):
        kinds["seeds" if p == q else "people" if s == r else "both"].append(1 - pearsonr(a, b).statistic)
    for kind, values in kinds.items():
        assert getattr(found, kind) == pytest.approx(np.mean(values))
    assert seed_distances([[one] for one in models(3)]).seeds is None


def test_what_does_not_exist_or_is_no_number_is_said():
    with pytest.raises(UndefinedMetric, match=r"got \[1, 1\] seeds"):
        spread([[1.0], [2.0]])
    for scores in ([[1.0, np.nan], [2.0]], [[], [2.0]]):
        with pytest.raises(ValueError, match="finite"):
            spread(scores)
    with pytest.raises(ValueError, match="same times"):
        seed_distances([models(2), [models(1)[0][:2]]])
