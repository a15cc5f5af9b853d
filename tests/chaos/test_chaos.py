"""Every fault in one sweep; `make chaos` has the long rows, see docs/reliability.md.

Each strikes about twice in `make test`: a worker here and in `execution/test_ray.py`, a node here and in
`execution/test_autoscaling.py`, the driver twice here.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from random import Random

from sweeper.training.keeping import SAVE_EVERY_S

from .cluster import Cluster
from .faults import Tally, Victim, make_yardstick, strike_driver, strike_node, strike_worker
from .processes import Driver

SLACK_S = 30.0  # of a busy machine


def test_whatever_is_killed_the_sweep_ends_with_the_same_numbers(tmp_path: Path) -> None:
    """A worker and the driver on a Ray of this machine, a node and the driver on a cluster, then peace."""
    tally, random = Tally(fault="all", wanted=4), Random(1)
    victim = Victim(make_yardstick(tmp_path, is_long=False), tally)
    left: list[Future[float]] = []

    def strike_both(driver: Driver, strike: Callable[[], None]) -> None:
        if victim.await_progress(driver):
            time.sleep(random.uniform(0, 1))
            strike()
        if victim.await_progress(driver):
            left.append(strike_driver(victim, driver))

    with Driver(victim.yardstick, victim.store) as driver:
        strike_both(driver, lambda: strike_worker(victim, driver, random))
    with (
        Cluster(1, head_cpus=1) as cluster,
        Driver(victim.yardstick, victim.store, "--address", cluster.address, roots=cluster.roots) as driver,
    ):
        strike_both(driver, lambda: strike_node(victim, cluster, random))
    with Driver(victim.yardstick, victim.store, "--backend", "local") as driver:
        victim.finish(driver)

    assert tally.kills == 4, f"the sweep is too short: {driver.text}"
    assert (tally.incomplete, tally.missing, tally.differences) == ([], [], [])
    assert all(loss.epochs <= 1 or loss.seconds < 2 * SAVE_EVERY_S for loss in tally.losses), tally.losses
    assert max(tally.workers_gone_s) < 5 + SLACK_S
    assert max(each.result() for each in left) < 180 + SLACK_S
