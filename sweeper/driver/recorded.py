"""What was recorded, as a run sees it: losses at hand, records read when somebody asks for them."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from sweeper.records import Record
from sweeper.store.ledger import DamagedLedger, Ledger, ledger_path
from sweeper.store.objects import ObjectStore
from sweeper.store.rows import read_records

_REMEMBERED_STATES = 10_000


class Recorded(Mapping[str, tuple[Record, ...]]):
    """Records by state, of every state that counts as measured.

    A run may make millions of records and looks at few of them again, so they are read from the ledger, or from the
    store where the ledger does not have them; what was read last is remembered.

    Attributes:
        losses: validation loss by state; a state counts as measured once it stands here.
    """

    def __init__(self, store: ObjectStore) -> None:
        """Remembers the store; its ledger is opened when something is read, after `close` as well."""
        self.losses: dict[str, float] = {}
        self._store = store
        self._ledger: Ledger | None = None
        self._records_of = lru_cache(_REMEMBERED_STATES)(self._read)

    def close(self) -> None:
        """Closes the ledger, so that who writes it can tidy up."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()

    def __getitem__(self, state_id: str) -> tuple[Record, ...]:
        if state_id not in self.losses:
            raise KeyError(state_id)
        return self._records_of(state_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.losses)

    def __len__(self) -> int:
        return len(self.losses)

    def _read(self, state_id: str) -> tuple[Record, ...]:
        try:
            found = self._look_up(state_id)
        except (DamagedLedger, FileNotFoundError):
            self._ledger = Ledger(None)
            self._ledger.catch_up(self._store)
            found = self._look_up(state_id)
        return found or read_records(self._store, state_id)

    def _look_up(self, state_id: str) -> tuple[Record, ...]:
        if self._ledger is None:
            self._ledger = Ledger(ledger_path(self._store), read_only=True)
        return tuple(self._ledger.records((state_id,)))
