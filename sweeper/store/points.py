"""Points of searches in the store: what was asked, and which trials were trained for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.plan.trials import Trial
from sweeper.store.objects import ObjectStore
from sweeper.store.trial_fields import trial_fields, trial_of

_DIGITS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point of a search.

    Attributes:
        number: 0 for the first.
        values: by dotted name of the searched field.
        trials: one for each seed, and their baselines; none where the point is refused.
        refused: the rule between fields that the point breaks.
    """

    number: int
    values: Mapping[str, Any]
    trials: tuple[Trial, ...]
    refused: str | None = None


def write_point(store: ObjectStore, study: str, point: Point) -> None:
    """Keeps a point; one that is there already stays as it is."""
    fields = {
        "number": point.number,
        "values": dict(point.values),
        "trials": [trial_fields(trial) for trial in point.trials],
        "refused": point.refused,
    }
    store.put("points", f"{study}.{point.number:0{_DIGITS}d}", json.dumps(fields, allow_nan=False).encode())


def read_points(store: ObjectStore, study: str) -> tuple[Point, ...]:
    """Returns the points of a study by number, up to the first that is absent or damaged: it is asked again."""
    keys = [key for key in store.keys("points") if key.partition(".")[0] == study]
    points: list[Point] = []
    for _, data in store.get_each("points", keys):
        fields = None if data is None else json.loads(data)
        if fields is None or fields["number"] != len(points):
            break
        trials = tuple(trial_of(trial) for trial in fields["trials"])
        points.append(Point(number=fields["number"], values=fields["values"], trials=trials, refused=fields["refused"]))
    return tuple(points)
