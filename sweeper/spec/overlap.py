"""Published noise is seeded by q + 1000 * start + batch: seeds closer than an epoch's batches share it, shifted.

docs/methods.md 2.1, "Seeds overlap".
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sweeper.errors import Problem
from sweeper.spec.axes import SweptTrial
from sweeper.spec.schema import TrialConfig

PUBLISHED_BATCHES = 23
"""Batches of an epoch in the published study: 1,444 images, 64 a batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Two windows that share noise, shifted by some batches.

    Attributes:
        first: index of a trial with the smaller seed.
        second: index of a trial with the larger seed.
        seeds: the two perturbation seeds q.
        starts: the starts of the two windows.
    """

    first: int
    second: int
    seeds: tuple[int, int]
    starts: tuple[int, int]


def overlaps(configs: Iterable[TrialConfig], batches_per_epoch: int) -> list[Overlap]:
    """Returns the windows of one kind whose published noise overlaps, each pair of seeds once."""
    owners: defaultdict[str, dict[tuple[int, int, int], int]] = defaultdict(dict)
    for index, config in enumerate(configs):
        for window in config.perturbation:
            if getattr(window, "noise", None) == "published":
                key = config.seeds.noise + 1000 * window.start
                kind = str(getattr(window, "kind", ""))
                owners[kind].setdefault((key, config.seeds.noise, window.start), index)
    found: dict[tuple[int, int], Overlap] = {}
    for keys in owners.values():
        for low, high in pairwise(sorted(keys)):
            if high[0] - low[0] < batches_per_epoch:
                pair = Overlap(first=keys[low], second=keys[high], seeds=(low[1], high[1]), starts=(low[2], high[2]))
                found.setdefault((low[1], high[1]), pair)
    return list(found.values())


def overlap_problem(overlap: Overlap, batches_per_epoch: int, where: str) -> Problem:
    """Returns an overlap as a problem at a place."""
    low, high = overlap.seeds
    starts = overlap.starts
    at = f" at start {starts[0]}" if starts[0] == starts[1] else f" at starts {starts[0]} and {starts[1]}"
    return Problem(
        where=where,
        rule=f"perturbation seeds must be an epoch's batches apart ({batches_per_epoch}) under noise: published",
        got=f"{low} and {high}{at}",
        remedy="The same noise comes again, shifted by batches. Choose seeds further apart, e.g. 0, 100, 200, "
        "use noise: fresh, or set allow_overlap: true",
    )


def check_noise_overlap(trials: Sequence[SweptTrial], batches_per_epoch: int) -> list[Problem]:
    """Returns a problem for every two perturbation seeds whose published noise overlaps.

    For the caller that knows the data, and only where the spec does not `allow_overlap`.
    """
    configs = [trial.config for trial in trials]
    return [overlap_problem(found, batches_per_epoch, "seeds.noise") for found in overlaps(configs, batches_per_epoch)]
