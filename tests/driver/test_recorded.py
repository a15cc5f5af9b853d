"""What a run knows of its states: read from the ledger when asked, from the store where the ledger fails."""

from pathlib import Path

import pytest

from sweeper.driver.recorded import Recorded
from sweeper.records import TRAINING_ITEM, Record
from sweeper.store.ledger import Ledger, ledger_path, open_ledger, remove_ledger
from sweeper.store.local import LocalStore
from sweeper.store.rows import write_records

STATES = ["a", "b", "c"]


def records_of(state: str) -> tuple[Record, ...]:
    values = {"val_loss": float(ord(state)), "note": f"of {state}"}
    row = Record(state_id=state, epoch=1, item=TRAINING_ITEM, values=values, reasons={}, measured_at=1.0)
    item = Record(state_id=state, epoch=1, item="behavioral", values={"rsa": 0.5}, reasons={}, measured_at=1.0)
    return row, item


def by_item(records: tuple[Record, ...]) -> dict[str, Record]:
    return {record.item: record for record in records}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    for state in STATES:
        write_records(store, records_of(state))
    open_ledger(ledger_path(store), store).close()
    return store


@pytest.fixture
def recorded(store: LocalStore) -> Recorded:
    recorded = Recorded(store)
    recorded.losses.update({"a": 97.0, "b": 98.0})
    return recorded


def test_a_state_counts_once_its_loss_is_noted(recorded: Recorded) -> None:
    assert set(recorded) == {"a", "b"}
    assert "c" not in recorded
    assert by_item(recorded["a"]) == by_item(records_of("a"))
    recorded.losses["c"] = 99.0
    assert by_item(recorded["c"]) == by_item(records_of("c"))


def test_what_is_indexed_later_is_seen(store: LocalStore, recorded: Recorded) -> None:
    assert by_item(recorded["a"]) == by_item(records_of("a"))
    ledger = Ledger(ledger_path(store))
    ledger.add([("d", records_of("d"))])  # not in the store: it can come from nowhere else
    ledger.close()
    recorded.losses["d"] = 100.0
    assert by_item(recorded["d"]) == by_item(records_of("d"))


def test_what_the_ledger_lacks_comes_from_the_store(store: LocalStore, recorded: Recorded) -> None:
    write_records(store, records_of("e"))
    recorded.losses["e"] = 101.0
    assert by_item(recorded["e"]) == by_item(records_of("e"))


def test_a_ledger_that_is_damaged_meanwhile_is_not_believed(store: LocalStore) -> None:
    path = ledger_path(store)
    data = path.read_bytes()
    assert b"of b" in data
    path.write_bytes(data.replace(b"of b", b"of x"))
    recorded = Recorded(store)
    recorded.losses.update({"a": 97.0, "b": 98.0})
    assert by_item(recorded["b"]) == by_item(records_of("b"))
    remove_ledger(path)
    assert by_item(recorded["a"]) == by_item(records_of("a"))
