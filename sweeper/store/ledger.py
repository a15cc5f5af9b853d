"""The ledger: an SQLite index of the store's records, rebuilt from the store whenever it is absent or damaged.

It holds nothing that the store does not hold. Every row carries a checksum, since SQLite does not notice a
flipped byte in a value.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from sweeper.evaluation import TRAINING_ITEM
from sweeper.records import Record
from sweeper.store.objects import ObjectStore
from sweeper.store.rows import iterate_records

_TABLES = """
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    state_id TEXT NOT NULL, item TEXT NOT NULL, epoch INTEGER NOT NULL, body TEXT NOT NULL, checksum TEXT NOT NULL,
    PRIMARY KEY (state_id, item)
) WITHOUT ROWID;
"""
_CHUNK = 500  # below SQLite's limit on parameters in one statement


class DamagedLedger(Exception):
    """A row's checksum differs, or SQLite cannot read the file."""


class Ledger:
    """Answers questions about records fast. One process writes; any number read."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        """Opens a ledger; a writer makes it where it is absent; None is an index in memory.

        Raises:
            DamagedLedger: the file is no ledger.
            FileNotFoundError: there is none, and `read_only` forbids making it.
        """
        if read_only and path is not None and not path.exists():
            raise FileNotFoundError(path)
        mode = "ro" if read_only else "rwc"
        uri = "file::memory:" if path is None else f"{path.absolute().as_uri()}?mode={mode}"
        try:
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
            if not read_only:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.executescript(_TABLES)
            self._db.execute("SELECT count(*) FROM objects").fetchone()
        except sqlite3.DatabaseError as error:
            raise DamagedLedger(str(error)) from error

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def add(self, objects: Iterable[tuple[str, Iterable[Record]]]) -> None:
        """Indexes the records of some objects, given by key; what is known stays as it is."""
        rows, keys = [], []
        for key, records in objects:
            keys.append((key,))
            for record in records:
                body = _body(record)
                checksum = _checksum(record.state_id, record.item, record.epoch, body)
                rows.append((record.state_id, record.item, record.epoch, body, checksum))
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)", rows)
            self._db.executemany("INSERT OR IGNORE INTO objects VALUES (?)", keys)

    def catch_up(self, store: ObjectStore) -> int:
        """Indexes every object of the store that is not known yet; returns how many there were."""
        known = {key for (key,) in self._db.execute("SELECT key FROM objects")}
        found = list(iterate_records(store, known))
        self.add(found)
        return len(found)

    def records(self, state_ids: Iterable[str]) -> Iterator[Record]:
        """Yields all records of some states.

        Raises:
            DamagedLedger: a row is not as it was written.
        """
        ids = list(dict.fromkeys(state_ids))
        for first in range(0, len(ids), _CHUNK):
            chunk = ids[first : first + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT state_id, item, epoch, body, checksum FROM records WHERE state_id IN ({marks})"
            yield from self._checked(query, chunk)

    def val_losses(self) -> dict[str, float]:
        """Returns the validation loss of every state that has one.

        Raises:
            DamagedLedger: a row is not as it was written.
        """
        query = "SELECT state_id, item, epoch, body, checksum FROM records WHERE item = ?"
        losses: dict[str, float] = {}
        for record in self._checked(query, [TRAINING_ITEM]):
            value = record.values.get("val_loss")
            if isinstance(value, float):
                losses[record.state_id] = value
        return losses

    def _checked(self, query: str, parameters: list[str]) -> Iterator[Record]:
        try:
            with closing(self._db.execute(query, parameters)) as rows:
                for state_id, item, epoch, body, checksum in rows:
                    if checksum != _checksum(state_id, item, epoch, body):
                        raise DamagedLedger(f"checksum of state {state_id}, item {item} differs")
                    yield Record(state_id=state_id, item=item, epoch=epoch, **json.loads(body))
        except sqlite3.DatabaseError as error:
            raise DamagedLedger(str(error)) from error


def open_ledger(path: Path, store: ObjectStore) -> Ledger:
    """Opens the ledger of a store for writing, brings it up to date, and rebuilds it where it is damaged."""
    try:
        ledger = Ledger(path)
        ledger.catch_up(store)
        ledger.val_losses()  # reads every checksum that planning depends on
        return ledger
    except DamagedLedger:
        remove_ledger(path)
        ledger = Ledger(path)
        ledger.catch_up(store)
        return ledger


def remove_ledger(path: Path) -> None:
    """Deletes a ledger with its side files; nothing is lost."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def group_by_state(records: Iterable[Record]) -> Mapping[str, list[Record]]:
    """Returns records by state."""
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.state_id, []).append(record)
    return grouped


def _body(record: Record) -> str:
    fields = {
        "values": dict(record.values),
        "reasons": dict(record.reasons),
        "measured_at": record.measured_at,
        "seconds": record.seconds,
    }
    return json.dumps(fields, sort_keys=True, allow_nan=False)


def _checksum(state_id: str, item: str, epoch: int, body: str) -> str:
    return hashlib.sha256(f"{state_id}\n{item}\n{epoch}\n{body}".encode()).hexdigest()[:16]
