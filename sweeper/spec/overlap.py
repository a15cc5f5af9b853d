"""Published noise is seeded by q + 1000 * start + batch: seeds closer than an epoch's batches share it, shifted.

docs/methods.md 2.1, "Seeds overlap".
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeAlias

from sweeper.errors import Problem
from sweeper.spec.axes import SweptTrial
from sweeper.spec.schema import TrialConfig

Key: TypeAlias = tuple[int, int, int]
"""q + 1000 * start, q, start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Two windows that share noise, shifted by some batches.

    Attributes:
        first: index of a trial with the smaller seed.
        second: index of a trial with the larger seed.
        seeds: the two perturbation seeds q.
        starts: the starts of the two windows.
        batches: of an epoch of the first; the second seed is nearer than that.
    """

    first: int
    second: int
    seeds: tuple[int, int]
    starts: tuple[int, int]
    batches: int


def overlaps(configs: Iterable[TrialConfig], batches_of: Callable[[TrialConfig], int]) -> list[Overlap]:
    """Returns the windows of one kind whose published noise overlaps, each pair of seeds once.

    Args:
        configs: trials.
        batches_of: the batches of a trial's epoch; where too few are named, overlaps are missed.
    """
    owners: defaultdict[str, dict[Key, tuple[int, int]]] = defaultdict(dict)
    for index, config in enumerate(configs):
        for window in config.perturbation:
            if getattr(window, "noise", None) == "published":
                key = (config.seeds.noise + 1000 * window.start, config.seeds.noise, window.start)
                of_kind = owners[str(getattr(window, "kind", ""))]
                here = (batches_of(config), index)
                of_kind[key] = max(of_kind.get(key, here), here, key=itemgetter(0))
    found: dict[tuple[int, int], Overlap] = {}
    for of_kind in owners.values():
        for low, high in _too_near({key: batches for key, (batches, _) in of_kind.items()}):
            (batches, first), (_, second) = of_kind[low], of_kind[high]
            pair = Overlap(
                first=first, second=second, seeds=(low[1], high[1]), starts=(low[2], high[2]), batches=batches
            )
            found.setdefault(pair.seeds, pair)
    return list(found.values())


def _too_near(batches_of: Mapping[Key, int]) -> Iterator[tuple[Key, Key]]:
    """Yields each key (its first number seeds the first batch) that lies in the reach of one before it."""
    furthest: Key | None = None
    for key in sorted(batches_of):
        if furthest is not None and key[0] < furthest[0] + batches_of[furthest]:
            yield furthest, key
        if furthest is None or key[0] + batches_of[key] >= furthest[0] + batches_of[furthest]:
            furthest = key


def batches_for_sure(config: TrialConfig) -> int:
    """Returns how many batches an epoch has at least, as far as a spec tells: without `data.train_size`, one."""
    size = config.data.train_size
    return 1 if size is None else batches_per_epoch(config, size)


def batches_per_epoch(config: TrialConfig, pool_size: int) -> int:
    """Returns the batches of an epoch; the last one may be smaller."""
    return -(-int(config.data.train_fraction * pool_size) // config.training.batch_size)


def overlap_problem(overlap: Overlap, where: str) -> Problem:
    """Returns an overlap as a problem at a place."""
    low, high = overlap.seeds
    starts = overlap.starts
    at = f" at start {starts[0]}" if starts[0] == starts[1] else f" at starts {starts[0]} and {starts[1]}"
    return Problem(
        where=where,
        rule=f"perturbation seeds must be an epoch's batches apart ({overlap.batches}) under noise: published",
        got=f"{low} and {high}{at}",
        remedy="The same noise comes again, shifted by batches. Choose seeds further apart, e.g. 0, 100, 200, "
        "use noise: fresh, or set allow_overlap: true",
    )


def check_noise_overlap(trials: Sequence[SweptTrial], batches_of: Callable[[TrialConfig], int]) -> list[Problem]:
    """Returns a problem for every two perturbation seeds whose published noise overlaps.

    For the caller that knows the data, and only where the spec does not `allow_overlap`.
    """
    configs = [trial.config for trial in trials]
    return [overlap_problem(found, "seeds.noise") for found in overlaps(configs, batches_of)]
