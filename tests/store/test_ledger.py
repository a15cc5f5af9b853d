"""The ledger: an index that may be lost, flipped or truncated at any time, and then says the same again."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import StoreError
from sweeper.records import TRAINING_ITEM, Record
from sweeper.store.ledger import DamagedLedger, Ledger, group_by_state, open_ledger, remove_ledger
from sweeper.store.local import LocalStore
from sweeper.store.rows import iterate_records, write_records

NUM_STATES = 40


def record(state: int, item: str = TRAINING_ITEM, **values: Any) -> Record:
    return Record(
        state_id=f"{state:032x}",
        epoch=state,
        item=item,
        values=values or {"val_loss": state / 7, "train_loss": None},
        reasons={"train_loss": "untrained"},
        measured_at=1000.0 + state,
        seconds=0.25,
    )


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    for state in range(NUM_STATES):
        write_records(store, [record(state), record(state, "item-rsa", rsa=state / 100)])
    write_records(store, [record(3, "item-later", rsa=0.5)])
    return store


@pytest.fixture
def path(store: LocalStore) -> Path:
    path = store.root / "ledger.sqlite"
    open_ledger(path, store).close()
    return path


def everything(ledger: Ledger) -> list[Record]:
    found = ledger.records(f"{state:032x}" for state in range(NUM_STATES))
    return sorted(found, key=lambda record: (record.state_id, record.item))


def in_store(store: LocalStore) -> list[Record]:
    found = [record for _, records in iterate_records(store, set()) for record in records]
    return sorted(found, key=lambda record: (record.state_id, record.item))


def flip(path: Path, text: bytes) -> None:
    """Flips the last bit of some text wherever it stands in a file."""
    data = path.read_bytes()
    assert text in data
    path.write_bytes(data.replace(text, text[:-1] + bytes([text[-1] ^ 1])))


def truncate(path: Path, part: float) -> None:
    os.truncate(path, int(path.stat().st_size * part))


def test_values_equal_those_of_the_store(store: LocalStore, path: Path) -> None:
    ledger = Ledger(path, read_only=True)
    assert everything(ledger) == in_store(store)
    assert len(everything(ledger)) == 2 * NUM_STATES + 1
    ledger.close()


def test_losses_are_those_of_training(path: Path) -> None:
    ledger = Ledger(path, read_only=True)
    assert ledger.val_losses() == {f"{state:032x}": state / 7 for state in range(NUM_STATES)}
    ledger.close()


def test_more_states_can_be_asked_for_than_sqlite_has_parameters(path: Path) -> None:
    ledger = Ledger(path, read_only=True)
    asked = [f"{state:032x}" for state in range(40_000)]
    assert len(list(ledger.records(asked + asked))) == 2 * NUM_STATES + 1
    ledger.close()


def test_catching_up_twice_finds_nothing_new(store: LocalStore, path: Path) -> None:
    ledger = Ledger(path)
    assert ledger.catch_up(store) == 0
    write_records(store, [record(7, "item-later", rsa=0.25)])
    assert ledger.catch_up(store) == 1
    assert ledger.catch_up(store) == 0
    assert everything(ledger) == in_store(store)
    ledger.close()


def test_what_is_known_stays_as_it_is(path: Path) -> None:
    ledger = Ledger(path)
    before = everything(ledger)
    ledger.add([("f" * 32, [record(3, val_loss=99.0)])])
    assert everything(ledger) == before
    ledger.close()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": remove_ledger,
    "a digit of a training value": lambda path: flip(path, b'"val_loss": 1.0'),
    "a digit of another item": lambda path: flip(path, b'"rsa": 0.17'),
    "a state's id": lambda path: flip(path, f"{5:032x}".encode()),
    "no UTF-8": lambda path: path.write_bytes(path.read_bytes().replace(b'"rsa": 0.1', b'"rsa": \xff.1')),
    "half of it": lambda path: truncate(path, 0.5),
    "its end": lambda path: truncate(path, 0.9),
    "no SQLite": lambda path: path.write_bytes(b"not a database" * 1000),
    "empty": lambda path: truncate(path, 0.0),
    "another database": lambda path: another_database(path),
}


def another_database(path: Path) -> None:
    remove_ledger(path)
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE objects (something TEXT)")
    database.commit()
    database.close()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_ledger_is_rebuilt_from_the_store(store: LocalStore, path: Path, damage: str) -> None:
    DAMAGE[damage](path)
    ledger = open_ledger(path, store)
    assert everything(ledger) == in_store(store)
    assert ledger.catch_up(store) == 0
    ledger.close()


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name not in ("deleted", "empty")])
def test_a_reader_is_told_of_damage(path: Path, damage: str) -> None:
    DAMAGE[damage](path)
    with pytest.raises(DamagedLedger):
        read_all(path)


def read_all(path: Path) -> None:
    ledger = Ledger(path, read_only=True)
    try:
        ledger.verify()
    finally:
        ledger.close()


def test_a_reader_makes_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Ledger(tmp_path / "absent.sqlite", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_cannot_write(path: Path) -> None:
    ledger = Ledger(path, read_only=True)
    with pytest.raises(DamagedLedger, match="readonly"):
        ledger.add([("k", [record(99)])])
    ledger.close()


def test_a_reader_sees_what_the_writer_adds(store: LocalStore, path: Path) -> None:
    writer, reader = Ledger(path), Ledger(path, read_only=True)
    writer.add([("k", [record(3, "item-new", rsa=0.5)])])
    assert {found.item for found in reader.records([f"{3:032x}"])} == {
        TRAINING_ITEM,
        "item-rsa",
        "item-later",
        "item-new",
    }
    writer.close()
    reader.close()


def test_an_index_in_memory_leaves_no_file(store: LocalStore) -> None:
    ledger = Ledger(None)
    assert ledger.catch_up(store) == NUM_STATES + 1
    assert everything(ledger) == in_store(store)
    ledger.close()
    assert not list(store.root.glob("*memory*"))


def test_what_the_store_lost_is_forgotten(store: LocalStore, path: Path) -> None:
    store.drop("records", f"{3:032x}")
    ledger = open_ledger(path, store)
    assert [found.item for found in ledger.records([f"{3:032x}"])] == ["item-later"]
    assert everything(ledger) == in_store(store)
    ledger.close()


def test_records_that_were_damaged_and_written_anew_are_indexed(store: LocalStore, path: Path) -> None:
    object_path = store.path("records", f"{3:032x}")
    object_path.write_bytes(b"damaged")
    remove_ledger(path)
    open_ledger(path, store).close()
    write_records(store, [record(3, val_loss=1.5)])
    ledger = open_ledger(path, store)
    assert ledger.val_losses()[f"{3:032x}"] == 1.5
    ledger.close()


def test_a_full_disk_is_explained(path: Path) -> None:
    ledger = Ledger(path)
    ledger._db.execute("PRAGMA max_page_count = 1")  # as many as there are already
    many = [(str(state), [record(state, "item-new", text="x" * 1000)]) for state in range(1000)]
    with pytest.raises(StoreError, match=r"the disk is full.*Free some space"):
        ledger.add(many)
    ledger.close()


def test_a_ledger_held_by_another_program_is_not_deleted(store: LocalStore, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    ledger = Ledger(path)
    ledger._db.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(StoreError, match="another program holds it"):
        ledger.add([("k", [record(99)])])
    ledger.close()
    other.close()
    assert path.exists()


def test_where_no_file_can_be_made_it_is_explained(store: LocalStore) -> None:
    with pytest.raises(StoreError, match="a folder can be made"):
        open_ledger(store.root / "store.json" / "ledger.sqlite", store)


def test_records_are_grouped_by_state() -> None:
    one, two, three = record(1), record(2), record(1, "item-rsa")
    assert group_by_state([one, two, three]) == {one.state_id: [one, three], two.state_id: [two]}
