"""The faults, at random moments drawn from a seed, and what each of them was seen to cost."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from .cluster import Cluster
from .processes import Driver, gone_after, kill_now, wait_for
from .sweeps import Loss, Yardstick, recorded, reported

WORKERS_LIMIT_S, ALL_LIMIT_S = 60.0, 300.0
START_S = 25.0  # within which a driver has started its workers, about
NUM_NODES = 2


@dataclass(kw_only=True)
class Tally:
    """What was seen of one fault.

    Attributes:
        fault: its name.
        wanted: how often it is to strike.
        until: by the monotonic clock: it strikes no more, though fewer were than wanted.
        kills: how often it struck.
        sweeps: how many sweeps it struck.
        incomplete: what the runs said that ended otherwise than complete.
        given_up: runs that failed an epoch before which three workers had died; the next run completed them.
        losses: per kill, what any one worker had recorded, but not saved.
        workers_gone_s: per kill of a driver, seconds until its last worker was gone.
        all_gone_s: likewise of any process of its Ray.
        missing: records that were reported or in the store before a kill, and not or with other values at the end.
        differences: from the undisturbed run.
    """

    fault: str
    wanted: int
    until: float = math.inf
    kills: int = 0
    sweeps: int = 0
    given_up: int = 0
    incomplete: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    workers_gone_s: list[float] = field(default_factory=list)
    all_gone_s: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def goes_on(self) -> bool:
        """Tells whether it is to strike again."""
        return self.kills < self.wanted and time.monotonic() < self.until


class Victim:
    """One sweep that is struck again and again, and must end as if it had not been."""

    def __init__(self, yardstick: Yardstick, tally: Tally) -> None:
        self.yardstick, self.tally = yardstick, tally
        tally.sweeps += 1
        self.store = yardstick.folder / f"{tally.fault}-{tally.sweeps}"
        self._known: dict[str, object] = {}
        self._seen = 0

    def num_records(self) -> int:
        """Returns how many epochs are recorded."""
        return sum(1 for _ in (self.store / "records").glob("*/*"))

    def await_progress(self, driver: Driver) -> bool:
        """Waits for an epoch recorded since the last kill; False when the driver ends before."""
        wait_for(lambda: self.num_records() > self._seen or not driver.is_running())
        return driver.is_running()

    def struck(self) -> None:
        """Notes what the store holds after a kill."""
        tally, self._seen = self.tally, self.num_records()
        tally.kills += 1
        tally.losses.append(self.yardstick.loss(self.store))
        self._known |= recorded(self.store)
        tally.missing += sorted(reported(self.store) - self._known.keys())

    def finish(self, driver: Driver) -> None:
        """Waits for the run's end, and compares."""
        tally = self.tally
        code = driver.finish()
        if code == 1 and "the worker died" in driver.text:
            tally.given_up += 1
            with Driver(self.yardstick, self.store) as again:
                code = again.finish()
        if code != 0:
            tally.incomplete.append(f"exit code {code}: {driver.text[-2000:]}")
        tally.differences += self.yardstick.differences(self.store)
        final = recorded(self.store)
        tally.missing += [key for key, values in self._known.items() if final.get(key) != values]


def kill_workers(yardstick: Yardstick, tally: Tally, random: Random, *, pause_s: float) -> None:
    """Kills workers of running drivers, which go on."""
    while tally.goes_on():
        victim = Victim(yardstick, tally)
        with Driver(yardstick, victim.store) as driver:
            while tally.goes_on() and victim.await_progress(driver):
                time.sleep(random.uniform(0, pause_s))
                strike_worker(victim, driver, random)
            victim.finish(driver)


def strike_worker(victim: Victim, driver: Driver, random: Random) -> None:
    """Kills one of the workers, if there is any."""
    workers = sorted(driver.training(), key=lambda each: each.pid)
    if workers and kill_now(random.choice(workers)):
        victim.struck()


def kill_drivers(yardstick: Yardstick, tally: Tally, random: Random, *, pause_s: float) -> None:
    """Kills drivers, in the middle and while they start; the same command goes on."""
    with _measuring(tally) as left:
        while tally.goes_on():
            victim = Victim(yardstick, tally)
            while (others := _run_until_struck(victim, random, pause_s)) is not None:
                left.append(others)


def _run_until_struck(victim: Victim, random: Random, pause_s: float) -> "Future[float] | None":
    """Runs a sweep and kills its driver; None when it ended in peace."""
    with Driver(victim.yardstick, victim.store) as driver:
        if victim.tally.goes_on() and _moment_comes(victim, driver, random, pause_s):
            return strike_driver(victim, driver)
        victim.finish(driver)
        return None


def _moment_comes(victim: Victim, driver: Driver, random: Random, pause_s: float) -> bool:
    while_it_starts, part = random.random() < 0.3, random.random()
    if while_it_starts:
        time.sleep(part * START_S)
    elif victim.await_progress(driver):
        time.sleep(part * pause_s)
    return driver.is_running()


def strike_driver(victim: Victim, driver: Driver) -> "Future[float]":
    """Kills the driver, and waits until its workers are gone; returns what measures how long the others stay."""
    workers, others = driver.kill()
    victim.tally.workers_gone_s.append(gone_after(workers, driver.killed_at, WORKERS_LIMIT_S))
    victim.struck()
    return _POOL.submit(gone_after, others, driver.killed_at, ALL_LIMIT_S)


_POOL = ThreadPoolExecutor(max_workers=64, thread_name_prefix="chaos")


@contextmanager
def _measuring(tally: Tally) -> Iterator[list["Future[float]"]]:
    left: list[Future[float]] = []
    yield left
    tally.all_gone_s += [each.result() for each in left]


def remove_nodes(yardstick: Yardstick, tally: Tally, random: Random, *, pause_s: float) -> None:
    """Takes nodes out of a cluster, and puts others in, while a sweep runs on it."""
    with Cluster(NUM_NODES) as cluster:
        while tally.goes_on():
            victim = Victim(yardstick, tally)
            with Driver(yardstick, victim.store, "--address", cluster.address) as driver:
                while tally.goes_on() and victim.await_progress(driver):
                    time.sleep(random.uniform(0, pause_s))
                    if driver.is_running():
                        strike_node(victim, cluster, random)
                        cluster.add_node()
                victim.finish(driver)


def strike_node(victim: Victim, cluster: Cluster, random: Random) -> None:
    """Removes one of the nodes."""
    cluster.remove_node(random.randrange(len(cluster.nodes)))
    victim.struck()


def make_yardstick(folder: Path, *, is_long: bool) -> Yardstick:
    """Makes the sweep: 219 epochs for long rows of kills, or a third of them."""
    starts, lengths = ([5, 15, 30], [2, 4, 8]) if is_long else ([5, 15], [2, 4])
    axes = {"perturbation.start": starts, "perturbation.length": lengths}
    max_epochs, horizon = (60, 15) if is_long else (30, 8)
    return Yardstick.make(folder, max_epochs=max_epochs, horizon=horizon, axes=axes)
