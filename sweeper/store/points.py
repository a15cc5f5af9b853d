"""Points of searches in the store: what was asked, which trials were trained for it, and which were given up.

A point is one object, written when it is asked. A search with a pruner adds a second one when the pruner has said all
that it will ever say of the point: its verdict.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from sweeper.plan.trials import Trial
from sweeper.store.objects import ObjectStore
from sweeper.store.trial_fields import trial_fields, trial_of

_DIGITS = 6
_VERDICT = "verdict"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point of a search.

    Attributes:
        number: 0 for the first.
        values: by dotted name of the searched field.
        trials: one for each seed, and their baselines; none where the point is refused.
        refused: the rule between fields that the point breaks.
        pruned: the epoch after which the pruner gave it up; its trials end there.
        is_judged: the pruner has said all that it will say of it.
    """

    number: int
    values: Mapping[str, Any]
    trials: tuple[Trial, ...]
    refused: str | None = None
    pruned: int | None = None
    is_judged: bool = False

    def judged(self, pruned: int | None) -> Self:
        """Returns the point with its verdict: given up after an epoch, or None: trained to its end."""
        trials = self.trials if pruned is None else tuple(trial.cut(pruned) for trial in self.trials)
        return replace(self, trials=trials, pruned=pruned, is_judged=True)


def write_point(store: ObjectStore, study: str, point: Point) -> None:
    """Keeps a point; one that is there already stays as it is."""
    fields = {
        "number": point.number,
        "values": dict(point.values),
        "trials": [trial_fields(trial) for trial in point.trials],
        "refused": point.refused,
    }
    store.put("points", _key(study, point.number), json.dumps(fields, allow_nan=False).encode())


def write_verdict(store: ObjectStore, study: str, point: Point) -> None:
    """Keeps the verdict on a point; one that is there already stays as it is."""
    store.put("points", f"{_key(study, point.number)}.{_VERDICT}", json.dumps({"pruned": point.pruned}).encode())


def read_points(store: ObjectStore, study: str) -> tuple[Point, ...]:
    """Returns the points of a study by number, up to the first that is absent or damaged: it is asked again."""
    keys = [key for key in store.keys("points") if key.partition(".")[0] == study]
    found = {key: json.loads(data) for key, data in store.get_each("points", keys) if data is not None}
    points: list[Point] = []
    while (fields := found.get(_key(study, len(points)))) is not None:
        trials = tuple(trial_of(trial) for trial in fields["trials"])
        point = Point(number=len(points), values=fields["values"], trials=trials, refused=fields["refused"])
        verdict = found.get(f"{_key(study, len(points))}.{_VERDICT}")
        points.append(point if verdict is None else point.judged(verdict["pruned"]))
    return tuple(points)


def _key(study: str, number: int) -> str:
    return f"{study}.{number:0{_DIGITS}d}"
