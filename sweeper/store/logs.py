"""What the processes of a run said, kept in the store, so that it is found from every machine that sees the store.

A log is a list of pages. The page in the making is written again as it grows and its older writing dropped, so a
process leaves few objects however long it runs. Of a very long log the first page and the newest ones stay.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

from sweeper.errors import StoreError
from sweeper.store.objects import ObjectStore

WRITE_EVERY_S = 3.0
PAGE_BYTES = 32_000
MAX_PAGES = 40  # of one process, about 1.3 MB
LINE_CHARS = 8_000
DRIVER = "driver"

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """One thing that was said.

    Attributes:
        time: Unix time in seconds, by the clock of the process's machine.
        process: `driver`, or host and process id of a worker.
        level: how bad it is.
        text: what was said, several lines for a traceback.
        state_id: the state that it is about: the end of a segment, or a state that could not be made.
    """

    time: float
    process: str
    level: Level
    text: str
    state_id: str | None = None


class LogWriter:
    """Writes the log of one process. A store that cannot be written costs the log, never the training."""

    def __init__(self, store: ObjectStore, run: str, process: str) -> None:
        """Begins a log.

        Args:
            store: where it goes.
            run: name of the run, see `run_name`.
            process: who says it.
        """
        self.run, self.process = run, re.sub(r"[^\w-]", "-", process)[-60:]
        self._store = store
        self._said: list[str] = []  # not on the page yet
        self._lines: list[str] = []  # the page in the making
        self._number, self._writings = 0, 0
        self._is_new = False
        self._full: list[str] = []  # keys of the finished pages that are kept
        # A finalizer that runs inside may have something to say, too.
        self._telling, self._writing = threading.RLock(), threading.RLock()
        self._closed = threading.Event()
        threading.Thread(target=self._write_on, name="sweeper-log", daemon=True).start()

    def say(self, text: str, *, level: Level = "info", state_id: str | None = None, process: str | None = None) -> None:
        """Notes a line; an error is written at once, since the process may not live long.

        Args:
            text: what is said.
            level: how bad it is.
            state_id: the state that it is about.
            process: who says it, where this process passes it on.
        """
        if len(text) > LINE_CHARS:
            text = f"{text[: LINE_CHARS // 2]}\n[...]\n{text[-LINE_CHARS // 2 :]}"
        line = LogLine(time=time.time(), process=process or self.process, level=level, text=text, state_id=state_id)
        with self._telling:
            self._said.append(json.dumps(asdict(line)))
        if level == "error":
            self.write()

    def write(self) -> None:
        """Writes what was said since the last time."""
        with self._writing:
            with self._telling:
                said, self._said = self._said, []
            for line in said:
                if self._lines and sum(map(len, self._lines)) + len(line) > PAGE_BYTES and self._put_page():
                    self._turn_page()
                self._lines.append(line)
                self._is_new = True
            self._put_page()

    def close(self) -> None:
        """Writes what is left, and writes no more by itself."""
        self._closed.set()
        self.write()

    def _write_on(self) -> None:
        while not self._closed.wait(WRITE_EVERY_S):
            self.write()

    def _put_page(self) -> bool:
        """Writes the page in the making; where the store is full, or away for the moment, the next writing has it all.

        Returns:
            Whether the store has it.
        """
        try:
            while self._is_new:
                self._writings += 1  # a number is never used again: its writing may have arrived unheard of
                self._is_new = not self._store.put("logs", self._key(self._writings), "\n".join(self._lines).encode())
                for older in range(max(1, self._writings - 2), self._writings):
                    self._store.drop("logs", self._key(older))
        except StoreError:
            return False
        return True

    def _turn_page(self) -> None:
        self._full.append(self._key(self._writings))
        self._number, self._writings, self._lines = self._number + 1, 0, []
        if len(self._full) >= MAX_PAGES:
            with suppress(StoreError):
                self._store.drop("logs", self._full.pop(1))

    def _key(self, writing: int) -> str:
        return f"{self.run}.{self.process}.{self._number:06d}.{writing:06d}"


@dataclass(frozen=True, slots=True)
class _Key:
    """The parts of a key; a sweep's name may have dots."""

    run: str
    process: str
    page: str
    writing: str

    @classmethod
    def of(cls, key: str) -> "_Key":
        return cls(*key.rsplit(".", 3))


class LogReader:
    """Reads the logs of one run, and again what came since."""

    def __init__(self, store: ObjectStore, run: str) -> None:
        self._store, self._run = store, run
        self._seen: dict[tuple[str, str], tuple[str, int]] = {}  # last writing and number of lines, by page

    def new(self) -> list[LogLine]:
        """Returns what was said since the last call, by time and process."""
        newest: dict[tuple[str, str], tuple[str, str]] = {}
        for name in self._store.keys("logs"):  # sorted, so the last writing of a page stays
            key = _Key.of(name)
            if key.run == self._run:
                newest[key.process, key.page] = key.writing, name
        lines: list[LogLine] = []
        for page, (writing, name) in newest.items():
            before, known = self._seen.get(page, ("", 0))
            data = self._store.get("logs", name) if writing > before else None
            if data is not None:  # else it was just written anew, and the next call finds that
                read = [LogLine(**json.loads(line)) for line in data.decode().split("\n")]
                self._seen[page] = writing, len(read)
                lines += read[known:]
        return sorted(lines, key=lambda line: (line.time, line.process))


def run_name(sweep: str, started: float, run_id: str) -> str:
    """Returns what the logs of a run are kept under: names of later runs of a sweep sort behind."""
    return f"{sweep}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(started))}-{run_id[:8]}"


def runs_of(store: ObjectStore, sweep: str) -> list[str]:
    """Returns the runs of a sweep that left logs, the newest last."""
    found = {_Key.of(key).run for key in store.keys("logs")}
    return sorted(run for run in found if run.rpartition(".")[0] == sweep)


def logs_to_drop(store: ObjectStore, keep: int) -> Iterator[str]:
    """Yields the keys of the logs of all but the newest runs of each sweep."""
    keys = list(store.keys("logs"))
    runs: dict[str, set[str]] = {}
    for key in keys:
        run = _Key.of(key).run
        runs.setdefault(run.rpartition(".")[0], set()).add(run)
    kept = {run for found in runs.values() for run in sorted(found)[-keep:]}
    return (key for key in keys if _Key.of(key).run not in kept)
