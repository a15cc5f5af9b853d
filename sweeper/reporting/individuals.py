"""Do models of single participants differ as the participants do? A sweep over subjects, from the store alone.

Every trial stands at its best validation loss; held-out stimuli choose nothing (docs/methods.md 5).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from sweeper.errors import SweeperError
from sweeper.metrics.courses import ranked, rdm_course
from sweeper.metrics.individual import (
    Agreement,
    Matching,
    Reliability,
    agreement_of_distances,
    distances_between_people,
    matching,
    split_half_of_distances,
)
from sweeper.metrics.rdm import Array, UndefinedMetric, compute_rdm, upper_triangle
from sweeper.metrics.time_courses import lower_noise_bound
from sweeper.randomness import stream
from sweeper.reporting.people import Group, Incomplete, Outputs, People, groups_of, people_of
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore

T = TypeVar("T")
CURVES = "model.curves.participants"
OWN, UNTRAINED, BOUND, TARGETS = "own_model", "untrained_model", "lower_noise_bound", "targets"
"""Lines over time: means over participants, and what they are held against."""


Asked = Literal["trained", "geometry", "untrained", "noisy"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Individuals:
    """Holds the individual differences of one group.

    Attributes:
        group: its trials.
        people: what they say of the held-out stimuli.
        distances: float64 [P, P] between the `trained` models, and between the participants by their `data`.
        agreements: of models' distances with the data's, None where the models do not differ. `trained`; `geometry`:
            with ranks within each time, which levels over time cannot move; the first control, `untrained`, and
            `noisy`: the same with the model's own noise, through which curves reach an RDM.
        ceilings: reliability of the data's own distances over halves of the `stimuli`, and of the `times`.
        own: float64 [P], agreement of each model with its own participant, mean over the times that are compared.
        matching: models against their own participants and others.
        courses: float64 [T] by line; NaN at times at which it is undefined for someone.
    """

    group: Group
    people: People
    distances: Mapping[str, Array]
    agreements: Mapping[Asked, Agreement | None]
    ceilings: Mapping[str, Reliability | None]
    own: Array
    matching: Matching
    courses: Mapping[str, Array]

    def mean(self, line: str) -> float | None:
        """Returns the mean of a line over the times that are compared; None where it is not defined at all of them."""
        values = self.courses[line][self.people.compared] if line in self.courses else np.array([np.nan])
        return float(values.mean()) if np.isfinite(values).all() else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """Says why a group has no individual differences yet."""

    group: Group
    reason: str


def individuals_of(view: SweepView, store: ObjectStore) -> tuple[Individuals | Missing, ...]:
    """Returns the individual differences of every group of a sweep over participants; none where it has no such axis.

    A group that is not complete, or whose data files are not here, says why.
    """
    found: list[Individuals | Missing] = []
    for group in groups_of(view):
        try:
            found.append(_individuals(group, people_of(view, store, group)))
        except (Incomplete, SweeperError, UndefinedMetric) as reason:
            found.append(Missing(group=group, reason=str(reason)))
    return tuple(found)


def common_curves(one: Individuals, others: Sequence[Individuals | Missing]) -> Individuals | None:
    """Returns the group that differs from one in nothing but that its models have common curves: the second control."""
    key = one.group.key(CURVES)
    alike = (other for other in others if isinstance(other, Individuals) and other.group.key(CURVES) == key)
    return None if one.group.has_common_curves else next((o for o in alike if o.group.has_common_curves), None)


def squares(triangles: Array) -> Array:
    """Returns RDMs [..., N, N] of their upper triangles [..., Q]."""
    count = round((1 + (1 + 8 * triangles.shape[-1]) ** 0.5) / 2)
    rdms = np.zeros((*triangles.shape[:-1], count, count))
    first, second = np.triu_indices(count, k=1)
    rdms[..., first, second] = rdms[..., second, first] = triangles
    return rdms


def _individuals(group: Group, people: People) -> Individuals:
    times = people.compared
    if not times.any():
        raise Incomplete("there is no time after the stimulus at which every model has an RDM")
    rdms, ranks = ({name: each[:, times] for name, each in given.items()} for given in (people.rdms, people.ranks))
    data = squares(rdms["data"])
    distances = {"trained": distances_between_people(squares(rdms["trained"])), "data": distances_between_people(data)}
    table = np.einsum("itq,jtq->ij", ranks["trained"], ranks["data"]) / times.sum()
    return Individuals(
        group=group,
        people=people,
        distances=distances,
        agreements={
            "trained": _agreement(rdms["trained"], rdms["data"]),
            "geometry": _agreement(ranks["trained"], ranks["data"]),
            "untrained": _agreement(rdms["untrained"], rdms["data"]),
            "noisy": _noisy_agreement(people),
        },
        ceilings={
            "stimuli": _or_none(lambda: split_half_of_distances(list(data), "stimuli", rng=_draws("stimuli"))),
            "times": _or_none(lambda: split_half_of_distances(list(data), "times", rng=_draws("times"))),
        },
        own=table.diagonal(),
        matching=matching(table, rng=_draws("matching")),
        courses=courses_of(people),
    )


def _noisy_agreement(people: People) -> Agreement | None:
    """Compares the untrained models with their noise, one draw for all: what tells them apart is their curves."""
    if people.noise is None:
        return None
    draws = _draws("noise").standard_normal(people.untrained.shape[1:])
    noisy = (with_noise(*each, draws) for each in zip(people.untrained, people.noise, strict=True))
    rdms = np.stack([rdm_course(outputs, people.metric) for outputs in noisy])
    times = people.compared & np.isfinite(rdms).all(axis=(0, 2))
    return _agreement(rdms[:, times], people.rdms["data"][:, times])


def with_noise(outputs: Outputs, level: Array, draws: Array) -> Array:
    """Adds a model's noise to outputs without it, as in evaluation with noise (docs/methods.md 4.3).

    Without noise they are beta r with r >= 0, so that ReLU(beta (r + level eps std r)) follows from them.

    Args:
        outputs: float32 [T, N, D], without noise.
        level: [T], the noise curve.
        draws: [T, N, D] of N(0, 1).
    """
    given = outputs.astype(np.float64)
    spread = given.std(axis=1, ddof=1, keepdims=True)
    return np.asarray(np.maximum(given + level[:, None, None] * draws * spread, 0.0))


def courses_of(people: People) -> dict[str, Array]:
    """Returns the lines over time, float64 [T] each: means over participants, NaN where one of them has none."""
    data, targets = people.ranks["data"], people.targets
    courses = {
        OWN: np.einsum("ptq,ptq->t", people.ranks["trained"], data) / len(data),
        UNTRAINED: np.einsum("ptq,ptq->t", people.ranks["untrained"], data) / len(data),
    }
    bound = _or_none(lambda: lower_noise_bound(list(people.data)))
    if bound is not None:
        courses[BOUND] = np.array([np.nan if value is None else value for value in bound])
    embedding = None if targets is None else _or_none(lambda: compute_rdm(targets))
    if embedding is not None:
        courses[TARGETS] = np.einsum("q,ptq->t", ranked(upper_triangle(embedding)), data) / len(data)
    return courses


def _agreement(models: Array, data: Array) -> Agreement | None:
    """Compares distances between models and between participants, made of triangles or their ranks [P, T, Q]."""
    return _or_none(
        lambda: agreement_of_distances(
            *(distances_between_people(squares(each)) for each in (models, data)), rng=_draws("agreement")
        )
    )


def _or_none(compute: Callable[[], T]) -> T | None:
    try:
        return compute()
    except UndefinedMetric:
        return None


def _draws(what: str) -> np.random.Generator:
    """The same permutations and splits whenever a result is looked at."""
    return stream(0, f"individuals/{what}")
