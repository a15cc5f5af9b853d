"""What a run is given, what it tells, and what becomes of it."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sweeper.execution.base import Backend
from sweeper.execution.prepare import ResolvedSweep
from sweeper.records import GpuMemory
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore
from sweeper.store.points import Point
from sweeper.tracking.base import Tracker
from sweeper.training.events import EpochDone

Status = Literal["done", "failed", "gave up", "interrupted"]


class Searcher(Protocol):
    """Says what is trained next, given what came of the last points; see `sweeper/search/searcher.py`."""

    @property
    def study_id(self) -> str:
        """What the points are kept under."""

    @property
    def items(self) -> list[dict[str, str]]:
        """What is measured on every trial, as revisions keep it."""

    @property
    def points(self) -> tuple[Point, ...]:
        """What was asked so far, as it stands."""

    def next_sweep(self, view: SweepView, gpu: float) -> ResolvedSweep | None:
        """Tells what came of the last epochs and returns what is trained next; None when the search is over."""


class Progress(Protocol):
    """Shows how a run goes on."""

    def phase(self, text: str) -> None:
        """Shows what is done now, as long as no epoch comes in."""

    def start(self, *, epochs: int, trials: int) -> None:
        """Shows what is to be done."""

    def epoch(self, done: EpochDone, waiting: int) -> None:
        """Shows an epoch; `waiting` are the epochs that may still come."""

    def features(self, done: int, total: int) -> None:
        """Shows how many frozen features are computed, of how many."""

    def note(self, text: str) -> None:
        """Shows a line."""

    def stop(self) -> None:
        """Ends the display."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a run.

    Attributes:
        view: the sweep as it stands.
        status: `done`, `failed` (some trial did), `gave up` (more than `Run.max_failed` did), or `interrupted`.
        epochs_trained: epochs that this run trained.
        is_tracked: whether the MLflow view, where one is kept, shows all of it.
    """

    view: SweepView
    status: Status
    epochs_trained: int
    is_tracked: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Everything that one run is given.

    Attributes:
        sweep: what to run.
        source: the spec file as written.
        store: where results go.
        cache: folder of the frozen features, None for the default of each node.
        backend: makes the backend, when there is anything to train.
        gpu: GPUs per trial, given what workers have needed; None: one must be measured first.
        tracker: the MLflow view, or none.
        progress: the display.
        stop: set when the user wants to stop.
        wait: for another driver of the store, instead of giving up.
        max_failed: trials that may fail in this run before it drains; None: any number.
        searcher: of a search, asks for the trials; `sweep` has those that it asked for before.
    """

    sweep: ResolvedSweep
    source: str
    store: ObjectStore
    cache: Path | None
    backend: Callable[[], Backend]
    gpu: Callable[[Iterable[GpuMemory]], float | None]
    tracker: Tracker
    progress: Progress
    stop: threading.Event
    wait: bool = False
    max_failed: int | None = None
    searcher: Searcher | None = None
