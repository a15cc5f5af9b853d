"""A look at a sweep: how its trials stand, from the cards of its newest revision and the losses that are recorded.

Nothing is read but that, so that it costs a second where there are ten thousand trials.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from sweeper.errors import Problem, StoreError
from sweeper.records import Failure, validation_loss
from sweeper.reporting.standing import Standing
from sweeper.store.cards import Card
from sweeper.store.ledger import DamagedLedger, Ledger, ledger_path
from sweeper.store.lost import lost_revisions, lost_sweeps
from sweeper.store.objects import ObjectStore
from sweeper.store.revisions import latest_fields, revision_numbers, sweep_names
from sweeper.store.rows import load_records

WRITTEN_AGAIN = "`sweeper run SPEC` writes it again, and nothing is trained twice"


class LostSweep(StoreError):
    """A sweep none of whose revisions can be read, since they are damaged."""


Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen.

    Attributes:
        standing: of the sweep.
        spec: the spec of its newest revision, as JSON values.
        asked: how a search stands, in one line; None where the sweep is none.
    """

    standing: Standing
    spec: Mapping[str, Any]
    asked: str | None = None


def look_at(store: ObjectStore, sweep: str) -> Look:
    """Returns how a sweep stands.

    Raises:
        LostSweep: its description is damaged.
        StoreError: the store has no such sweep; the message names those it has.
    """
    fields = latest_fields(store, sweep)
    if fields is None:
        raise no_such_sweep(store, sweep)
    if "cards" not in fields or fields.get("study") is not None:  # the trials of a search are with its points
        return _look_at_all(store, sweep, fields["spec"])
    cards = [Card.of(card) for card in fields["cards"]]
    wanted = dict.fromkeys(state for card in cards for state in card.state_ids)
    standing = Standing(
        sweep=sweep,
        revision=fields["number"],
        is_stand_in=fields["spec"].get("stand_in", False),
        trials={card.trial_id: card for card in cards},
        loss_of=_losses(store, wanted).get,
        failures=failures_of(store, wanted),
    )
    return Look(standing=standing, spec=fields["spec"])


def no_such_sweep(store: ObjectStore, sweep: str) -> StoreError:
    """Returns the error that names the sweeps there are, or says that this one's description is damaged."""
    if revision_numbers(store, sweep) or lost_revisions(store, sweep):
        return LostSweep(Problem(where=sweep, rule="its description in the store is damaged", remedy=WRITTEN_AGAIN))
    known = ", ".join(sorted({*sweep_names(store), *lost_sweeps(store)})) or "none yet"
    return StoreError(Problem(where=store.address, rule="holds no such sweep", got=sweep, remedy=f"Known: {known}"))


def failures_of(store: ObjectStore, wanted: Iterable[str]) -> dict[str, Failure]:
    """Returns the failures of some states."""
    marked = set(store.keys("failures"))
    found = store.get_each("failures", [state_id for state_id in wanted if state_id in marked])
    return {state_id: Failure.from_json(data) for state_id, data in found if data is not None}


def _look_at_all(store: ObjectStore, sweep: str, spec: Mapping[str, Any]) -> Look:
    from sweeper.reporting.load import open_view
    from sweeper.reporting.points import asked_text

    view = open_view(store, sweep)
    return Look(standing=view.standing, spec=spec, asked=asked_text(view))


def _losses(store: ObjectStore, wanted: Mapping[str, None]) -> dict[str, float]:
    """Reads from the ledger, and from the store what the ledger lacks (absent, damaged, or behind)."""
    nothing: dict[str, float] = {}
    losses = ask_ledger(store, lambda ledger: ledger.val_losses(wanted), nothing)
    lacking = (key for key in store.keys("records") if key in wanted and key not in losses)
    for key, data in store.get_each("records", lacking):
        for record in load_records(data or b"[]"):
            if (loss := validation_loss(record.values)) is not None:
                losses[key] = loss
    return losses


def ask_ledger(store: ObjectStore, ask: Callable[[Ledger], Found], otherwise: Found) -> Found:
    """Returns what the ledger of this machine says, and something else where it is absent or damaged."""
    try:
        with closing(Ledger(ledger_path(store), read_only=True)) as ledger:
            return ask(ledger)
    except (FileNotFoundError, DamagedLedger):
        return otherwise
