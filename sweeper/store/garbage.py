"""What a store holds that no sweep needs: damaged objects, leftovers of killed processes, old logs and results."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sweeper.store.logs import logs_to_drop
from sweeper.store.objects import DAMAGED, ObjectStore, StoredFile
from sweeper.store.sweeps import all_revisions

LEFTOVER_S = 24 * 3600.0
RUNS_WITH_LOGS = 5
_RESULTS = ("states", "records", "outputs", "failures")
_OF_TRACKING = (".lock", ".done")


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """Files of one sort that can go.

    Attributes:
        sort: what they are.
        files: their names in the store.
        size: bytes of all.
    """

    sort: str
    files: tuple[str, ...]
    size: int

    @classmethod
    def of(cls, sort: str, files: Iterable[StoredFile]) -> "Garbage":
        """Returns some files as garbage, with what they take."""
        found = tuple(files)
        return cls(sort=sort, files=tuple(file.name for file in found), size=sum(file.size for file in found))


def find_garbage(store: ObjectStore, now: float | None = None) -> tuple[Garbage, ...]:
    """Returns what can go; the results of every revision of every sweep stay, and so does what is younger than a day.

    Call it while the store is held: a running sweep makes objects of a revision that is not seen yet.
    """
    now = time.time() if now is None else now
    unfinished = (*store.files("tmp"), *store.files("claims"))
    leftovers = (file for file in unfinished if not file.name.endswith(_OF_TRACKING))
    return (
        Garbage.of("damaged objects, moved aside", store.files(DAMAGED)),
        Garbage.of("left by killed processes", _old(leftovers, now)),
        Garbage.of("results of no sweep", _old(_unclaimed(store), now)),
        Garbage.of("logs of older runs", _old(_old_logs(store), now)),
    )


def remove(store: ObjectStore, garbage: Garbage) -> None:
    """Removes files; what is gone already is no error."""
    for name in garbage.files:
        store.remove(name)


def _unclaimed(store: ObjectStore) -> Iterator[StoredFile]:
    claimed = {state for revision in all_revisions(store) for trial in revision.trials for state in trial.state_ids}
    for kind in _RESULTS:
        for file in store.files(kind):
            key = file.name.rpartition("/")[2]
            if key.partition(".")[0] not in claimed:
                yield file


def _old_logs(store: ObjectStore) -> Iterator[StoredFile]:
    dropped = set(logs_to_drop(store, RUNS_WITH_LOGS))
    return (file for file in store.files("logs") if file.name.rpartition("/")[2] in dropped)


def _old(files: Iterable[StoredFile], now: float) -> Iterator[StoredFile]:
    return (file for file in files if now - file.modified > LEFTOVER_S)
