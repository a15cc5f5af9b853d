"""Sweeps in the store: every revision of a spec with its resolved trials."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sweeper.plan.identity import content_id
from sweeper.plan.lineage import Inputs
from sweeper.plan.trials import Trial
from sweeper.spec.schema import SweepSpec, TrialConfig
from sweeper.store.objects import ObjectStore

_DIGITS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """One revision of a sweep.

    Attributes:
        number: 1 for the first.
        spec: the spec, with resolved paths.
        source: the file as written.
        trials: trials and baselines, in the order of the plan.
        created_at: Unix time in seconds.
        items: what is measured on held-out sets: item id, column, reference, layer, set.
    """

    number: int
    spec: SweepSpec
    source: str
    trials: tuple[Trial, ...]
    created_at: float
    items: tuple[dict[str, Any], ...]


def save_revision(
    store: ObjectStore, spec: SweepSpec, source: str, trials: Iterable[Trial], items: Iterable[dict[str, Any]]
) -> Revision:
    """Writes a revision unless the sweep's latest one says the same; returns the latest."""
    trials, items = tuple(trials), tuple(items)
    content = {
        "spec": spec.model_dump(mode="json"),
        "source": source,
        "trials": [_trial_fields(trial) for trial in trials],
        "items": list(items),
    }
    while True:
        latest = latest_revision(store, spec.name)
        if latest is not None and content_id("revision", _content(latest)) == content_id("revision", content):
            return latest
        number = 1 + max(_numbers(store, spec.name), default=0)
        body = json.dumps({**content, "number": number, "created_at": time.time()}).encode()  # axes keep their order
        store.put("sweeps", _key(spec.name, number), body)  # another driver may have won: then look again


def latest_revision(store: ObjectStore, name: str) -> Revision | None:
    """Returns the newest revision of a sweep, None when there is none."""
    for number in sorted(_numbers(store, name), reverse=True):
        data = store.get("sweeps", _key(name, number))
        if data is not None:
            return _revision(json.loads(data))
    return None


def all_revisions(store: ObjectStore) -> Iterator[Revision]:
    """Yields every revision of every sweep."""
    for key in store.keys("sweeps"):
        data = store.get("sweeps", key)
        if data is not None:
            yield _revision(json.loads(data))


def sweep_names(store: ObjectStore) -> tuple[str, ...]:
    """Returns the names of all sweeps of a store, sorted."""
    return tuple(sorted({_split(key)[0] for key in store.keys("sweeps")}))


def _numbers(store: ObjectStore, name: str) -> list[int]:
    return [number for other, number in map(_split, store.keys("sweeps")) if other == name]


def _key(name: str, number: int) -> str:
    return f"{name}.{number:0{_DIGITS}d}"


def _split(key: str) -> tuple[str, int]:
    name, number = key.rsplit(".", 1)
    return name, int(number)


def _content(revision: Revision) -> dict[str, Any]:
    return {
        "spec": revision.spec.model_dump(mode="json"),
        "source": revision.source,
        "trials": [_trial_fields(trial) for trial in revision.trials],
        "items": list(revision.items),
    }


def _trial_fields(trial: Trial) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "role": trial.role,
        "swept": [list(pair) for pair in trial.swept],
        "config": trial.config.model_dump(mode="json"),
        "inputs": {
            "data": trial.inputs.data,
            "model": [list(pair) for pair in trial.inputs.model],
            "device": trial.inputs.device,
            "device_model": trial.inputs.device_model,
            "semantics": trial.inputs.semantics,
            "files": [list(pair) for pair in trial.inputs.files],
        },
        "baseline_id": trial.baseline_id,
    }


def _trial(fields: dict[str, Any]) -> Trial:
    inputs = fields["inputs"]
    model = tuple((name, value) for name, value in inputs["model"])
    files = tuple((name, value) for name, value in inputs.get("files", ()))
    return Trial(
        trial_id=fields["trial_id"],
        role=fields["role"],
        swept=tuple((name, value) for name, value in fields["swept"]),
        config=TrialConfig.model_validate(fields["config"]),
        inputs=Inputs(**{**inputs, "model": model, "files": files}),
        baseline_id=fields["baseline_id"],
    )


def _revision(fields: dict[str, Any]) -> Revision:
    return Revision(
        number=fields["number"],
        spec=SweepSpec.model_validate(fields["spec"]),
        source=fields["source"],
        trials=tuple(_trial(trial) for trial in fields["trials"]),
        created_at=fields["created_at"],
        items=tuple(fields["items"]),
    )
