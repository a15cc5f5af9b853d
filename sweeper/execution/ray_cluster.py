"""Ray itself: its settings, which must stand before it is imported, and how a driver joins or starts a cluster.

What else uses Ray takes it from here; only `ray_jobs`, which runs on laptops, imports it by itself.
"""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

for _name, _value in {
    "RAY_AUTH_MODE": "disabled",  # else a local cluster switches token authentication on by itself
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_prestart_worker_first_driver": "0",  # idle workers that nobody needs: Tune's actors get processes of their own
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the death of a worker is no traceback, see `_Collector`
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own handler kills running steps
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "30",  # an actor that does not end, or never began, would be waited for 600 s
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nothing is ever restored from Tune's own files
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # ask for all slots at once: else an autoscaler adds one node at a time
}.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray._private.state import state as ray_state  # noqa: E402
from ray.util import scheduling_strategies  # noqa: E402

from sweeper.errors import ClusterError, Problem  # noqa: E402
from sweeper.execution.devices import Device  # noqa: E402

__all__ = ["cluster_device", "connected", "ray", "refuse_infeasible", "scheduling_strategies", "tune"]

ANSWER_S = 10.0
_MIB = 2**20


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connects to a cluster, or starts one on this machine; leaves it as it was.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    if ray.is_initialized():  # by the caller, who ends it
        yield
        return
    _require_somebody(address)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 256 * _MIB}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(local if address in (None, "local") else {}),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _nobody_answers(address, str(error).splitlines()[0]) from error
    for number, handler in handlers.items():  # ray.init puts its own handler in
        signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _require_somebody(address: str | None) -> None:
    """Looks whether anything listens at HOST:PORT: Ray itself would ask for two minutes, deaf to signals."""
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S):
            pass
    except (OSError, OverflowError) as error:
        raise _nobody_answers(address, str(error)) from error


def _nobody_answers(address: str | None, reason: str) -> ClusterError:
    problem = Problem(
        where="address",
        rule="a Ray cluster answers there",
        got=f"{address}: {reason}",
        remedy="Start it with `ray up` or `ray start --head`, leave --address out for Ray on this machine, "
        "or use --backend local",
    )
    return ClusterError(problem)


def refuse_infeasible(*, address: str | None, cpu: float, gpu: float) -> None:
    """Refuses a trial that asks for more than this machine has: Tune would wait for ever.

    Another cluster may grow, so there nothing is refused.

    Raises:
        ClusterError: it asks for more.
    """
    if address not in (None, "local"):
        return
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, asked in (("CPU", cpu), ("GPU", gpu)):
        if asked > there.get(name, 0.0):
            problem = Problem(
                where=f"resources.{name.lower()}",
                rule=f"one trial fits on this machine, which has {there.get(name, 0.0):g} {name}",
                got=f"{asked:g}",
                remedy="Ask for less, or give the --address of a larger cluster",
            )
            raise ClusterError(problem)


def cluster_device(address: str | None) -> Device:
    """Returns what the trials of a cluster run on: GPUs where any node has one, or may be launched with one.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    with connected(address):
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        launchable = ray_state.get_max_resources_from_cluster_config() or {}  # Ray Train asks it, too; not public
        return Device(kind="cuda" if there.get("GPU", 0) or launchable.get("GPU", 0) else "cpu", may_grow=True)
