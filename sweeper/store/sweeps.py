"""Sweeps in the store: every revision of a spec with its resolved trials."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from sweeper.plan.identity import content_id
from sweeper.plan.trials import Trial, farthest
from sweeper.spec.schema import SweepSpec
from sweeper.store.cards import Card
from sweeper.store.objects import ObjectStore
from sweeper.store.points import Point, read_points
from sweeper.store.revisions import each_fields, latest_fields, revision_key, revision_numbers
from sweeper.store.trial_fields import trial_fields, trial_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """One revision of a sweep.

    Attributes:
        number: 1 for the first.
        spec: the spec, with resolved paths.
        source: the file as written.
        trials: trials and baselines, in the order of the plan; of a search, those of the points asked so far.
        created_at: Unix time in seconds.
        items: what is measured on held-out sets: item id, column, reference, layer, set.
        study: of a search, what its points are kept under.
        points: of a search, what was asked so far.
    """

    number: int
    spec: SweepSpec
    source: str
    trials: tuple[Trial, ...]
    created_at: float
    items: tuple[dict[str, Any], ...]
    study: str | None = None
    points: tuple[Point, ...] = ()

    def with_points(self, points: Iterable[Point]) -> Self:
        """Returns the revision of a search with its points as they stand, and their trials, each once."""
        points = tuple(points)
        return replace(self, points=points, trials=farthest(trial for point in points for trial in point.trials))


def save_revision(
    store: ObjectStore,
    spec: SweepSpec,
    source: str,
    trials: Iterable[Trial],
    items: Iterable[dict[str, Any]],
    study: str | None = None,
) -> Revision:
    """Writes a revision unless the sweep's latest one says the same; returns the latest.

    The trials of a search are not part of it: its points are objects of their own, which every reader joins.
    """
    trials, items = tuple(trials), tuple(items)
    content = {
        "spec": spec.model_dump(mode="json"),
        "source": source,
        "trials": [trial_fields(trial) for trial in trials],
        "items": list(items),
        **({} if study is None else {"study": study}),
    }
    while True:
        number = 1 + max(revision_numbers(store, spec.name), default=0)  # before the look: what comes meanwhile has it
        latest = latest_revision(store, spec.name)
        if latest is not None and content_id("revision", _content(latest)) == content_id("revision", content):
            return latest
        more = {"number": number, "created_at": time.time(), "cards": [_card(trial).fields() for trial in trials]}
        body = json.dumps(content | more).encode()  # axes keep their order
        store.put("sweeps", revision_key(spec.name, number), body)  # another driver may have won: then look again


def latest_revision(store: ObjectStore, name: str) -> Revision | None:
    """Returns the newest revision of a sweep, None when there is none."""
    fields = latest_fields(store, name)
    return None if fields is None else _joined(store, _revision(fields))


def all_revisions(store: ObjectStore) -> Iterator[Revision]:
    """Yields every revision of every sweep."""
    for fields in each_fields(store):
        yield _joined(store, _revision(fields))


def _card(trial: Trial) -> Card:
    stretches = ((s.anchor, s.regime.regime_id, s.first_epoch, s.last_epoch) for s in trial.lineage.stretches)
    return Card(
        trial_id=trial.trial_id,
        role=trial.role,
        name=trial.name,
        baseline_id=trial.baseline_id,
        stop=trial.stop,
        root=trial.lineage.root,
        stretches=tuple(stretches),
    )


def _content(revision: Revision) -> dict[str, Any]:
    return {
        "spec": revision.spec.model_dump(mode="json"),
        "source": revision.source,
        "trials": [] if revision.study else [trial_fields(trial) for trial in revision.trials],
        "items": list(revision.items),
        **({} if revision.study is None else {"study": revision.study}),
    }


def _joined(store: ObjectStore, revision: Revision) -> Revision:
    return revision if revision.study is None else revision.with_points(read_points(store, revision.study))


def _revision(fields: dict[str, Any]) -> Revision:
    cards = fields.get("cards") or [None] * len(fields["trials"])
    pairs = zip(fields["trials"], cards, strict=True)
    return Revision(
        number=fields["number"],
        spec=SweepSpec.model_validate(fields["spec"]),
        source=fields["source"],
        trials=tuple(trial_of(trial, None if card is None else Card.of(card)) for trial, card in pairs),
        created_at=fields["created_at"],
        items=tuple(fields["items"]),
        study=fields.get("study"),
    )
