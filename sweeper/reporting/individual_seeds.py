"""Seeds beside participants: how much of the difference between models is chance, in a sweep that has both axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.metrics.rdm import UndefinedMetric
from sweeper.metrics.seeds import SeedDistances, Spread, seed_distances, spread
from sweeper.reporting.individuals import Individuals, Missing, squares

SEEDS = "seeds"


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedsBeside:
    """Compares the models of several seeds of each participant.

    Attributes:
        num_seeds: how many.
        distances: between models of one participant, of several, and both.
        spread: variance between participants and between seeds of how well a model agrees with its participant.
    """

    num_seeds: int
    distances: SeedDistances
    spread: Spread


def seeds_beside(one: Individuals, others: Sequence[Individuals | Missing]) -> SeedsBeside | None:
    """Returns the comparison of a group with those that differ from it in the seed only.

    Only participants that all these groups have are compared, and only times at which all their models have an RDM.
    None where there is no further seed, where another split holds out other stimuli (folds), or nothing is left.
    """
    key = one.group.key(SEEDS)
    groups = [other for other in others if isinstance(other, Individuals) and other.group.key(SEEDS) == key]
    if any(other.people.stimuli != one.people.stimuli for other in groups):
        return None
    common = [name for name in one.people.subjects if all(name in other.people.subjects for other in groups)]
    times = np.logical_and.reduce([other.people.compared for other in groups])
    rows = [[other.people.subjects.index(name) for other in groups] for name in common]
    series = [
        [squares(other.people.rdms["trained"][row][times]) for row, other in zip(each, groups, strict=True)]
        for each in rows
    ]
    scores = [[other.own[row] for row, other in zip(each, groups, strict=True)] for each in rows]
    try:
        return SeedsBeside(num_seeds=len(groups), distances=seed_distances(series), spread=spread(scores))
    except UndefinedMetric:
        return None
