"""Facts about large files that take minutes to find, kept on disk from run to run: digests, ranges.

They lie in `$SWEEPER_CACHE/facts`, else `sweeper/facts` below the user's cache folder, one small file each, put in
place whole; where that folder cannot be written, they are found anew by each process.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from sweeper.errors import DataError, Problem

WORTH_KEEPING = 64 * 2**20
"""Bytes from which on the facts about a file are kept; a smaller one is read within the second."""

Facts = dict[str, Any]


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, read in pieces.

    Same path, size and times of change are taken for the same bytes, for a large file in later processes too.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        stat = path.stat()
        return _digest_of_version(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    except OSError as error:
        problem = Problem(where=str(path), rule="the file can be read", got=error.strerror, remedy="Check the path")
        raise DataError(problem) from error


@lru_cache(maxsize=1024)
def _digest_of_version(path: Path, size: int, mtime_ns: int, ctime_ns: int) -> str:
    def find() -> Facts:
        with path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    return str(kept(f"file {path} {size} {mtime_ns} {ctime_ns}", size, find)["sha256"])


def kept(key: str, num_bytes: int, find: Callable[[], Facts]) -> Facts:
    """Returns facts that an earlier call found, else finds them.

    Args:
        key: all that the facts depend on.
        num_bytes: how much has to be read to find them; little is never kept.
        find: makes the facts, as JSON values.
    """
    if num_bytes < WORTH_KEEPING:
        return find()
    path = _folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["key"] == key:
            return dict(content["facts"])
    facts = find()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        scratch.write_text(json.dumps({"key": key, "facts": facts}), encoding="utf-8")
        os.replace(scratch, path)
    return facts


def _folder() -> Path:
    chosen = os.environ.get("SWEEPER_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sweeper"
    return (Path(chosen) if chosen else usual).absolute() / "facts"
