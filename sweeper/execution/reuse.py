"""What a store holds already of a resolved sweep: records, failures, and what an earlier revision made useless."""

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby

from sweeper.evaluation import Item, distinct
from sweeper.execution.prepare import ResolvedSweep
from sweeper.plan.changes import why_not_reused
from sweeper.records import TRAINING_ITEM, Failure, Record, val_loss_of
from sweeper.store.ledger import Ledger
from sweeper.store.objects import ObjectStore
from sweeper.store.outputs import read_outputs
from sweeper.store.rows import write_records
from sweeper.store.sweeps import latest_revision


def changed_since(store: ObjectStore, sweep: ResolvedSweep, recorded: Collection[str]) -> str | None:
    """Says what changed since the sweep's newest revision in the store, where that makes epochs useless.

    Args:
        store: where the revision is.
        sweep: as it is now.
        recorded: states that have records.
    """
    last = latest_revision(store, sweep.spec.name)
    if last is None:
        return None
    return why_not_reused(last.trials, last.number, last.created_at, sweep.trials, recorded)


def read_failures(store: ObjectStore, states: Iterable[str]) -> dict[str, Failure]:
    """Returns the failures of some states."""
    marked = set(store.keys("failures"))
    found = store.get_each("failures", [state for state in states if state in marked])
    return {state: Failure.from_json(data) for state, data in found if data is not None}


def measured_records(
    sweep: ResolvedSweep, ledger: Ledger, store: ObjectStore, on_note: Callable[[str], None]
) -> Iterator[tuple[str, tuple[Record, ...]]]:
    """Yields every state on which all items are measured, with its records.

    An item added since is computed from the stored outputs, and kept; a state whose outputs lack is left out, and
    is thereby trained again.
    """
    incomplete = []
    for state, records, missing in _recorded(sweep, ledger):
        if missing:
            incomplete.append((state, records, missing))
        else:
            yield state, records
    if not incomplete:
        return
    on_note(f"{len(incomplete)} epochs of the store are measured against what the spec asks for since")
    for state, records, missing in incomplete:
        computed = _from_outputs(store, state, records[0].epoch, missing, records[0].measured_at)
        if len(computed) == len(missing):
            write_records(store, computed)
            yield state, (*records, *computed)
    ledger.catch_up(store)


def measurable_losses(sweep: ResolvedSweep, ledger: Ledger, store: ObjectStore) -> dict[str, float]:
    """Returns the validation loss of every state of which all items are measured, or can be from stored outputs."""
    return {
        state: val_loss_of(records)
        for state, records, missing in _recorded(sweep, ledger)
        if all(store.has("outputs", key) for key in {item.outputs.store_key(state) for item in missing})
    }


def _recorded(sweep: ResolvedSweep, ledger: Ledger) -> Iterator[tuple[str, tuple[Record, ...], list[Item]]]:
    """Yields each state that training measured, with its records and the items that are not among them."""
    for state, found in groupby(ledger.records(sweep.items_by_state), lambda record: record.state_id):
        records = tuple(found)
        known = {record.item for record in records}
        if TRAINING_ITEM in known:  # else it is lost, and to be trained again; items added later may have outlived it
            missing = [item for item in distinct(sweep.items_by_state[state]) if item.item_id not in known]
            yield state, records, missing


def _from_outputs(
    store: ObjectStore, state: str, epoch: int, items: Iterable[Item], measured_at: float
) -> tuple[Record, ...]:
    records = []
    for item in items:
        outputs = read_outputs(store, state, item.outputs)
        if outputs is not None:
            records.append(item.record(state, epoch, outputs, measured_at))
    return tuple(records)
