"""A driver in a process of its own, and all that it starts. Nothing else is ever looked at, let alone ended."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from .sweeps import Yardstick

LOOK_EVERY_S = 0.1
DRIVER_LIMIT_S = 900.0


class Driver:
    """`sweeper run` as a user starts it, watched until it ends."""

    def __init__(self, yardstick: Yardstick, store: Path, *options: str, roots: Iterable[int] = ()) -> None:
        """Starts it.

        Args:
            yardstick: what it runs.
            store: where to.
            options: of the command line, besides.
            roots: processes below which its workers are, too.
        """
        words = ["run", str(yardstick.spec), "--store", str(store), "--cache", str(yardstick.cache)]
        words += ["--backend", "ray", "--tracking-uri", "off", *options]
        self.store = store
        self._log = yardstick.folder / "driver.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sweeper.cli", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        self.killed_at = math.inf  # by the monotonic clock
        self._roots = (self.process.pid, *roots)
        self.family: dict[psutil.Process, str] = {}
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *raised: object) -> None:
        """Ends it and what it started, unless it ended or was killed before."""
        if self.is_running():
            workers, others = self.kill()
            for each in workers | others:
                kill_now(each)

    def _watch(self) -> None:
        while self.process.poll() is None:
            self._look()
            time.sleep(LOOK_EVERY_S)

    def _look(self) -> None:
        for child in (child for root in self._roots for child in descendants(root)):
            self.family[child] = _title(child) or self.family.get(child, "")

    @property
    def text(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    def is_running(self) -> bool:
        """Tells whether it has not ended."""
        return self.process.poll() is None

    def workers(self) -> list[psutil.Process]:
        """Returns the living processes of Ray's actors and idle workers that were found below it."""
        return [each for each, title in list(self.family.items()) if title.startswith("ray::") and is_alive(each)]

    def training(self) -> list[psutil.Process]:
        """Returns the living processes that train."""
        return [each for each in self.workers() if "Trainable" in self.family[each]]

    def kill(self) -> tuple[set[psutil.Process], set[psutil.Process]]:
        """Kills it; returns its worker processes, and all others of a Ray that it had started."""
        self._look()
        workers = {each for each in self.workers() if not self._is_of_ray(each)}
        self.process.kill()
        self.killed_at = time.monotonic()
        self.process.wait()
        self._watching.join()
        others = () if len(self._roots) > 1 else {each for each in self.family if is_alive(each)}
        return workers, set(others) - workers

    def _is_of_ray(self, process: psutil.Process) -> bool:
        """Tells Ray's own agents and idle workers, which a cluster keeps, from what works for this driver."""
        title = self.family[process]
        return "Agent" in title or (len(self._roots) > 1 and "IDLE" in title)

    def finish(self) -> int:
        """Waits for its end; returns its exit code."""
        return self.process.wait(timeout=DRIVER_LIMIT_S)


def descendants(pid: int) -> list[psutil.Process]:
    """Returns all that a process has started, and what that has started in turn."""
    with suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def is_alive(process: psutil.Process) -> bool:
    """Tells whether a process runs; one that nobody has reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def gone_after(processes: Iterable[psutil.Process], since: float, limit_s: float) -> float:
    """Returns the seconds from some moment until the last of some processes is gone, at most the limit."""
    left = list(processes)
    while (left := [each for each in left if is_alive(each)]) and time.monotonic() - since < limit_s:
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - since


def wait_for(condition: Callable[[], object], limit_s: float = 180.0) -> bool:
    """Waits for something; returns whether it came about."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > limit_s:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def kill_now(process: psutil.Process) -> bool:
    """Kills a process; returns whether it was there to be killed."""
    if not is_alive(process):
        return False
    with suppress(psutil.NoSuchProcess):
        os.kill(process.pid, signal.SIGKILL)
        return True
    return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
