"""The ledger: an SQLite index of the store's records, rebuilt from the store whenever it is absent or damaged.

It holds nothing that the store does not hold. Every row carries a checksum, since SQLite does not notice a
flipped byte in a value.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from sweeper.errors import Problem, StoreError
from sweeper.notices import notice
from sweeper.records import TRAINING_ITEM, Record, validation_loss
from sweeper.store.objects import ObjectStore
from sweeper.store.rows import iterate_records

_TABLES = """
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    state_id TEXT NOT NULL, item TEXT NOT NULL, epoch INTEGER NOT NULL, body TEXT NOT NULL, checksum TEXT NOT NULL,
    PRIMARY KEY (state_id, item)
) WITHOUT ROWID;
"""
_ELSEWHERE = "Make room for it, or give another folder: --store, or SWEEPER_STATE where the store is shared"
LEDGER = "ledger.sqlite"
_CHUNK = 500  # below SQLite's limit on parameters in one statement


class DamagedLedger(Exception):
    """A row's checksum differs, or SQLite cannot read the file."""


class Ledger:
    """Answers questions about records fast. One process writes; any number read."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        """Opens a ledger; a writer makes it where it is absent; None is an index in memory.

        Raises:
            DamagedLedger: the file is no ledger, or a reader cannot read it.
            FileNotFoundError: there is none, and `read_only` forbids making it.
            StoreError: there is no room for it, or it is not yours to write.
        """
        if read_only and path is not None and not path.exists():
            raise FileNotFoundError(path)
        self._where, self._read_only = "ledger in memory" if path is None else str(path), read_only
        mode = "ro" if read_only else "rwc"
        uri = "file::memory:" if path is None else f"{path.absolute().as_uri()}?mode={mode}"
        with self._understood():
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
        try:
            with self._understood():
                if not read_only:
                    self._db.execute("PRAGMA journal_mode=WAL")
                    self._db.execute("PRAGMA synchronous=NORMAL")
                    self._db.executescript(_TABLES)
                self._db.execute("SELECT count(*) FROM objects").fetchone()
        except Exception:
            self._db.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def add(self, objects: Iterable[tuple[str, Iterable[Record]]]) -> None:
        """Indexes the records of some objects, given by key; what is known stays as it is.

        Raises:
            DamagedLedger: SQLite finds the file damaged.
            StoreError: the disk is full, or the file is not yours to write.
        """
        rows, keys = [], []
        for key, records in objects:
            keys.append((key,))
            for record in records:
                body = _body(record)
                checksum = _checksum(record.state_id, record.item, record.epoch, body)
                rows.append((record.state_id, record.item, record.epoch, body, checksum))
        with self._understood(), self._db:
            self._db.executemany("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)", rows)
            self._db.executemany("INSERT OR IGNORE INTO objects VALUES (?)", keys)

    def catch_up(self, store: ObjectStore) -> int:
        """Indexes every object of the store that is not known yet; returns how many there were.

        Where the store no longer holds what is indexed here (it was damaged, or replaced), all is indexed anew.
        """
        with self._understood():
            known = {key for (key,) in self._db.execute("SELECT key FROM objects")}
        if not known <= set(store.keys("records")):
            with self._understood(), self._db:
                self._db.execute("DELETE FROM records")
                self._db.execute("DELETE FROM objects")
            known = set()
        found = list(iterate_records(store, known))
        self.add(found)
        return len(found)

    def verify(self) -> None:
        """Reads every row and compares its checksum.

        Raises:
            DamagedLedger: a row is not as it was written, or cannot be read.
        """
        for _ in self._rows("", []):
            pass

    def records(self, state_ids: Iterable[str]) -> Iterator[Record]:
        """Yields all records of some states, those of one state in a row.

        Raises:
            DamagedLedger: a row is not as it was written.
        """
        for chunk in _chunks(state_ids):
            for row in self._rows(f"WHERE state_id IN ({_marks(chunk)}) ORDER BY state_id", chunk):
                yield _record(*row)

    def val_losses(self, state_ids: Iterable[str] | None = None) -> dict[str, float]:
        """Returns the validation loss of every state that has one; of some, where they are named.

        Raises:
            DamagedLedger: a row is not as it was written.
        """
        losses: dict[str, float] = {}
        for state_id, _, _, body in self._training_rows(state_ids):
            if (loss := validation_loss(json.loads(body)["values"])) is not None:
                losses[state_id] = loss
        return losses

    def _training_rows(self, state_ids: Iterable[str] | None) -> Iterator[tuple[str, str, int, str]]:
        if state_ids is None:
            yield from self._rows("WHERE item = ?", [TRAINING_ITEM])
            return
        for chunk in _chunks(state_ids):
            yield from self._rows(f"WHERE item = ? AND state_id IN ({_marks(chunk)})", [TRAINING_ITEM, *chunk])

    def _rows(self, condition: str, parameters: list[str]) -> Iterator[tuple[str, str, int, str]]:
        """Yields state, item, epoch and body of some rows whose checksum is right."""
        query = f"SELECT state_id, item, epoch, body, checksum FROM records {condition}"
        with self._understood(), closing(self._db.execute(query, parameters)) as rows:
            for *row, checksum in rows:
                if checksum != _checksum(*row):
                    raise DamagedLedger(f"checksum of state {row[0]}, item {row[1]} differs")
                yield tuple(row)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Tells damage, which a new index mends, from what the file system refuses."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code
            if self._read_only:  # the store answers instead
                raise DamagedLedger(str(error)) from error
            if code == sqlite3.SQLITE_FULL:
                rule, remedy = "the disk is full", "Free some space and run the same command again"
            elif code == sqlite3.SQLITE_READONLY:
                rule, remedy = "you may not write it", "Give a folder that you may write with --store"
            elif code == sqlite3.SQLITE_BUSY:
                rule, remedy = "another program holds it", "Close that program and run the same command again"
            else:
                raise DamagedLedger(str(error)) from error
            raise StoreError(Problem(where=self._where, rule=rule, remedy=remedy)) from error


def ledger_path(store: ObjectStore) -> Path:
    """Returns where the ledger of a store lies on this machine."""
    return store.local_folder / LEDGER


def open_ledger(path: Path, store: ObjectStore) -> Ledger:
    """Opens the ledger of a store for writing, brings it up to date, and rebuilds it where it is damaged.

    Raises:
        StoreError: the disk is full, or the folder is not yours to write.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _up_to_date(path, store)
    except OSError as error:
        problem = Problem(where=str(path.parent), rule="a folder can be made", got=str(error), remedy=_ELSEWHERE)
        raise StoreError(problem) from error
    except DamagedLedger as damage:
        notice(f"damaged: {path} ({damage}); it is built again from the store")
        remove_ledger(path)
    try:
        return _up_to_date(path, store)
    except DamagedLedger as error:
        problem = Problem(where=str(path), rule="SQLite can keep a file here", got=str(error), remedy=_ELSEWHERE)
        raise StoreError(problem) from error


def _up_to_date(path: Path, store: ObjectStore) -> Ledger:
    ledger = Ledger(path)
    try:
        ledger.verify()
        ledger.catch_up(store)
    except Exception:
        ledger.close()
        raise
    return ledger


def remove_ledger(path: Path) -> None:
    """Deletes a ledger with its side files; nothing is lost."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def group_by_state(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Returns records by state."""
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.state_id, []).append(record)
    return grouped


def _chunks(state_ids: Iterable[str]) -> Iterator[list[str]]:
    ids = list(dict.fromkeys(state_ids))
    return (ids[first : first + _CHUNK] for first in range(0, len(ids), _CHUNK))


def _marks(chunk: list[str]) -> str:
    return ",".join("?" * len(chunk))


def _body(record: Record) -> str:
    fields = asdict(record)
    for name in ("state_id", "item", "epoch"):  # columns of their own
        del fields[name]
    return json.dumps(fields, sort_keys=True, allow_nan=False)


def _record(state_id: str, item: str, epoch: int, body: str) -> Record:
    return Record.of({"state_id": state_id, "item": item, "epoch": epoch, **json.loads(body)})


def _checksum(state_id: str, item: str, epoch: int, body: str) -> str:
    return hashlib.sha256(f"{state_id}\n{item}\n{epoch}\n{body}".encode()).hexdigest()[:16]
