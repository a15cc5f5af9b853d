"""What a backend is: something that takes orders from a dispatcher until nothing is left."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sweeper.execution.dispatcher import Dispatcher
from sweeper.store.logs import LogWriter
from sweeper.store.pulse import AtWork
from sweeper.training.events import Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run of a sweep, as a backend sees it.

    Attributes:
        name: the sweep's name.
        store: address of the store, see `open_store`.
        cache: folder of the frozen features, None for the default of each node.
        cache_gb: most that it keeps, in GB; None: no limit.
        dispatcher: what is to be trained; the backend tells it what happens.
        gpu: GPUs per trial, 0 for none.
        cpu: CPUs per trial.
        address: Ray address, None for Ray's own choice.
        on_events: called in the driver's thread with what workers report; must be quick.
        on_phase: called with what is done now, while no epoch comes in.
        on_features: called with how many frozen features are computed, and of how many, while a worker does it.
        on_workers: called now and then with what each worker does; must be quick.
        on_short_of_memory: called when a worker ran out of the memory of its GPU.
        on_warning: called with a line for the user.
        log: of the driver; workers write logs of the same run.
        stop: tells whether to stop after the epochs in progress; finished epochs are kept.
    """

    name: str
    store: str
    cache: Path | None
    cache_gb: float | None
    dispatcher: Dispatcher
    gpu: float
    cpu: float
    address: str | None
    on_events: Callable[[list[Event]], None]
    on_phase: Callable[[str], None]
    on_features: Callable[[int, int], None]
    on_workers: Callable[[tuple[AtWork, ...]], None]
    on_short_of_memory: Callable[[], None]
    on_warning: Callable[[str], None]
    log: LogWriter
    stop: Callable[[], bool]


class Backend(Protocol):
    """Runs a job to its end, or until it is stopped."""

    def run(self, job: Job) -> None:
        """Returns when the dispatcher has nothing left, or soon after `job.stop` says so.

        Raises:
            SweeperError: nothing can be trained here.
        """
