"""What a store holds that no sweep needs: damaged objects, leftovers of killed processes, results of no revision."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeper.store.objects import LocalStore
from sweeper.store.sweeps import all_revisions

LEFTOVER_S = 24 * 3600.0
_RESULTS = ("states", "records", "outputs", "failures")


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """Files of one sort that can go.

    Attributes:
        sort: what they are.
        files: where they lie.
        size: bytes of all.
    """

    sort: str
    files: tuple[Path, ...]
    size: int

    @classmethod
    def of(cls, sort: str, files: Iterator[Path]) -> "Garbage":
        """Returns some files as garbage, with what they take."""
        found = tuple(sorted(files))
        return cls(sort=sort, files=found, size=sum(path.stat().st_size for path in found))


def find_garbage(store: LocalStore, now: float | None = None) -> tuple[Garbage, ...]:
    """Returns what can go; the results of every revision of every sweep stay, and so does what is younger than a day.

    Call it while the store is held: a running sweep makes objects of a revision that is not seen yet.
    """
    now = time.time() if now is None else now
    return (
        Garbage.of("damaged objects, moved aside", _files(store.root / "damaged")),
        Garbage.of("left by killed processes", _old(_files(store.root / "tmp"), now)),
        Garbage.of("results of no sweep", _old(_unclaimed(store), now)),
    )


def remove(garbage: Garbage) -> None:
    """Removes files; what is gone already is no error."""
    for path in garbage.files:
        path.unlink(missing_ok=True)


def _unclaimed(store: LocalStore) -> Iterator[Path]:
    claimed = {
        state for revision in all_revisions(store) for trial in revision.trials for state in trial.lineage.state_ids
    }
    for kind in _RESULTS:
        for key in store.keys(kind):  # type: ignore[arg-type]
            if key.partition(".")[0] not in claimed:
                yield store.path(kind, key)  # type: ignore[arg-type]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".lock", ".done"))


def _old(files: Iterator[Path], now: float) -> Iterator[Path]:
    return (path for path in files if now - path.stat().st_mtime > LEFTOVER_S)
