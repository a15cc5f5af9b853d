"""The room that frozen features take on a node: what lies there, and what goes when it is more than allowed."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sweeper.notices import notice

UNFINISHED = ".part"  # behind the name of an entry in the making
_USED = "used"  # a file whose time says when an entry was asked for last
_WHILE_BUILT = 0.1  # seconds to wait for the lock of an entry that somebody makes


class Room:
    """Watches over a folder of entries that several processes share."""

    def __init__(self, root: Path, limit_bytes: float) -> None:
        """Remembers the folder, and how much it may hold."""
        self._root, self._limit_bytes = root, limit_bytes
        self._mine: set[Path] = set()

    def used(self, folder: Path) -> None:
        """Notes that this process uses an entry."""
        self._mine.add(folder)
        with suppress(OSError):  # a cache that others made may not be ours to write
            (folder / _USED).touch()

    def keep_to_limit(self) -> None:
        """Removes entries that are too much, those first that were asked for longest ago; none that is used here.

        A process that has a removed entry open reads on.
        """
        entries = kept_entries(self._root)
        too_much, removed = sum(entries.values()) - self._limit_bytes, 0
        for folder in sorted(entries.keys() - self._mine, key=lambda folder: (_last_used(folder), folder)):
            if too_much <= 0:
                break
            with suppress(Timeout):
                remove_entry(folder, _WHILE_BUILT)
                too_much -= entries[folder]
                removed += entries[folder]
        if removed:
            notice(f"{removed / 1e9:.2g} GB of older features were dropped from {self._root} (resources.cache_gb)")


def kept_entries(root: Path) -> dict[Path, int]:
    """Returns the entries below a folder with their bytes, unfinished ones as well."""
    return {folder: _size_of(folder) for folder in sorted(_entries(root))}


def remove_entry(folder: Path, timeout_s: float = -1) -> None:
    """Removes an entry; a worker that has it open reads on, and the next one computes it again.

    Raises:
        Timeout: somebody has been making it for so long; a negative number waits for ever.
    """
    with FileLock(f"{str(folder).removesuffix(UNFINISHED)}.lock", timeout=timeout_s):
        shutil.rmtree(folder, ignore_errors=True)


def _entries(root: Path) -> Iterator[Path]:
    """Yields them: in the folder itself, and in those that a shared folder has for each store."""
    name = "[0-9a-f]" * 32
    for pattern in (f"{name}*", f"*/{name}*"):
        yield from (folder for folder in root.glob(pattern) if folder.is_dir())


def _size_of(folder: Path) -> int:
    with suppress(FileNotFoundError):  # somebody else makes room, too
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0


def _last_used(folder: Path) -> float:
    for path in (folder / _USED, folder):
        with suppress(FileNotFoundError):
            return path.stat().st_mtime
    return 0.0
