"""The composition root of `run` and `plan`: joins spec, store, backend, tracking and display."""

import os
import shlex
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sweeper.addresses import cluster_address
from sweeper.driver import Outcome, Progress, Run, run_sweep
from sweeper.errors import Problem, SpecError
from sweeper.execution.base import Backend
from sweeper.execution.devices import find_device, gpus_per_trial
from sweeper.execution.prepare import ResolvedSweep, Resolver
from sweeper.execution.reuse import changed_since, measurable_records, read_failures
from sweeper.plan.estimate import PlanSummary, merged_text, summarize_plan
from sweeper.plan.stock import Known, StockTaker
from sweeper.records import Failure, val_loss_of
from sweeper.reporting.load import open_view, trials_named
from sweeper.sizes import disk_of
from sweeper.spec.axes import expand
from sweeper.spec.schema import SweepSpec
from sweeper.specs import find_spec
from sweeper.store.given import given_to_come
from sweeper.store.lease import driven_sweep, held
from sweeper.store.ledger import DamagedLedger, Ledger, ledger_path
from sweeper.store.lost import lost_states
from sweeper.store.objects import ObjectStore
from sweeper.store.opening import find_store, open_store
from sweeper.store.points import read_points
from sweeper.store.shares import ask_share, asked_share
from sweeper.tracking.address import checked_uri
from sweeper.tracking.base import NullTracker, Tracker

if TYPE_CHECKING:
    from sweeper.search.searcher import Searcher

NO_TRACKING = "off"
_STOPPING = b"\nstopping after the epochs in progress, which takes some seconds; once more ends at once\n"
FINISH_TRACKING_S = 300.0  # a thousand runs take minutes to log; what is left after that is for `sweeper sync`


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a user asked for with `sweeper run`.

    Attributes:
        spec: the file, or a sweep of the store.
        store: where results go: a folder, or an address as `open_store` takes it.
        stand_in: whether data and backbone are replaced by the self-made ones.
        backend: `ray` or `local`.
        address: Ray address.
        cache: folder of frozen features; default: see `features_folder`.
        tracking_uri: MLflow server; `off` for none.
        wait: for another driver of the store.
        max_failed: trials that may fail before the run drains.
        typed: how the user, who sent this run from another machine, named spec and cluster there.
    """

    spec: Path
    store: str
    stand_in: bool
    backend: str
    address: str | None
    cache: Path | None
    tracking_uri: str | None
    wait: bool = False
    max_failed: int | None = None
    typed: tuple[str, ...] = ()

    def command(self) -> str:
        """Returns the command that goes on with this run, as the user types it."""
        address = [] if self.address is None else ["--address", self.address]
        named = self.typed or [str(self.spec), *["--stand-in"] * self.stand_in, *address]
        words = ["sweeper", "run", *named, "--store", self.store, "--backend", self.backend, *["--wait"] * self.wait]
        for flag, value in (
            ("--cache", self.cache),
            ("--tracking-uri", self.tracking_uri),
            ("--max-failed", self.max_failed),
        ):
            if value is not None:
                words += [flag, str(value)]
        return shlex.join(words)

    def ui_command(self, name: str) -> str:
        """Returns the command that shows the sweep in MLflow."""
        words = ["sweeper", "ui", name, "--store", self.store]
        if self.tracking_uri is not None:
            words += ["--tracking-uri", self.tracking_uri]
        return shlex.join(words)


def launch(request: Request, progress: Progress) -> Outcome:
    """Runs a sweep.

    Args:
        request: what the user asked for.
        progress: the display.

    Raises:
        SweeperError: the spec, the data, the store or the cluster does not allow it.
    """
    progress.phase("reading spec, data and weights")
    named = find_spec(request.spec, request.store, stand_in=request.stand_in)
    spec = named.spec
    address = cluster_address(request.address, spec)
    spec = spec.model_copy(update={"resources": spec.resources.model_copy(update={"address": address})})
    device = find_device(request.backend, address)
    with named.located():
        resolver = Resolver(spec, device=device.kind, device_model=device.model)
        asks = None if spec.search is None else _searcher(resolver, request.store)
        sweep = resolver.resolve(expand(spec)) if asks is None else asks.asked_before
    on_gpu = resolver.computes_on("cuda")
    store = open_store(request.store)
    if sweep.merged and asks is None:
        progress.note(merged_text(sweep.merged))
    if device.kind == "cpu" and not device.may_grow and spec.resources.gpu not in ("auto", 0):
        progress.note(f"resources.gpu is {spec.resources.gpu:g}, but there is no GPU here: trials run on the CPU")
    least = asked_share(store, spec.name)
    if least and on_gpu:
        progress.note(f"each trial gets at least {least:g} GPU, as `sweeper retry --gpu` asked")
    with ExitStack() as kept, stop_on_signals() as stop:
        backend = partial(_backend, request.backend, progress, address, kept if asks is not None else None)
        return run_sweep(
            Run(
                sweep=sweep,
                source=named.source,
                store=store,
                cache=None if request.cache is None else request.cache.absolute(),
                backend=cache(backend) if request.backend == "local" else backend,
                gpu=partial(gpus_per_trial, spec.resources.gpu, device, computes_there=on_gpu, least=least),
                tracker=_tracker(request.tracking_uri, spec, store, progress),
                progress=progress,
                stop=stop,
                wait=request.wait,
                max_failed=request.max_failed,
                searcher=asks,
            )
        )


def _searcher(resolver: Resolver, store: str) -> "Searcher":
    from sweeper.search.batches import Space
    from sweeper.search.searcher import Searcher

    return Searcher(Space(resolver), open_store(store))


def make_plan(spec_path: Path, store_path: str | Path, *, stand_in: bool, address: str | None = None) -> PlanSummary:
    """Returns what a run would do; writes nothing.

    Args:
        spec_path: the spec's file, or a sweep of the store.
        store_path: the store.
        stand_in: as for a run.
        address: Ray address; default: the spec's, else RAY_ADDRESS.

    Raises:
        SweeperError: the spec or the data does not allow a run.
    """
    named = find_spec(spec_path, store_path, stand_in=stand_in)
    device = find_device("ray", cluster_address(address, named.spec))
    store = find_store(store_path)
    with named.located():
        resolver = Resolver(named.spec, device=device.kind, device_model=device.model)
        if named.spec.search is not None:
            return _search_plan(resolver, store)
        return _plan(resolver.resolve(expand(named.spec)), store)


def _search_plan(resolver: Resolver, store: ObjectStore | None) -> PlanSummary:
    """Returns the plan of the points that were asked, with the most that can come."""
    from sweeper.search.batches import Space
    from sweeper.search.forecast import with_points_to_come

    space = Space(resolver)
    asked = () if store is None else read_points(store, space.study_id)
    return with_points_to_come(_plan(space.sweep_of(asked), store), space, len(asked))


def _plan(sweep: ResolvedSweep, store: ObjectStore | None) -> PlanSummary:
    first = given_to_come(store, sweep.trials, sweep.sources)
    return replace(_fresh_plan(sweep) if store is None else _plan_behind(sweep, store), first=first)


def _fresh_plan(sweep: ResolvedSweep) -> PlanSummary:
    return _summary(sweep, {}, Known(val_loss={}, failed=frozenset(), has_state=lambda state: False), [])


def _plan_behind(sweep: ResolvedSweep, store: ObjectStore) -> PlanSummary:
    """Returns the plan of what a store does not hold yet."""
    with readable_ledger(store) as ledger:
        lost = lost_states(store)
        measurable = measurable_records(sweep, ledger, store)
        records = {state: found for state, found in measurable.items() if state not in lost}
        recorded = ledger.val_losses()
        seconds = [row.seconds for row in ledger.records(sweep.items_by_state) if row.seconds is not None]
    known = Known(
        val_loss={state: val_loss_of(rows) for state, rows in records.items()},
        failed=read_failures(store, sweep.items_by_state).keys(),
        has_state=set(store.keys("states")).__contains__,
        partly={state: loss for state, loss in recorded.items() if state not in records},
    )
    changed = None if sweep.spec.search is not None else changed_since(store, sweep, recorded)
    return replace(_summary(sweep, recorded, known, seconds), changed=changed)


def _summary(
    sweep: ResolvedSweep, recorded: Mapping[str, float], known: Known, seconds: Iterable[float]
) -> PlanSummary:
    stock = StockTaker(sweep.trials, sweep.tree, known).stock
    rungs = sweep.spec.search.rungs if sweep.spec.search is not None else ()
    disk = disk_of(sweep.trials, sweep.tree, sweep.spec.evaluation, len(rungs))
    plan = summarize_plan(sweep.trials, sweep.tree, stock, recorded, seconds, sweep.spec.name, disk)
    return replace(plan, merged=sweep.merged)


@contextmanager
def readable_ledger(store: ObjectStore) -> Iterator[Ledger]:
    """Opens a store's ledger for reading; where there is none, or it is damaged, an index in memory takes its place."""
    with ExitStack() as opened:
        try:
            ledger = opened.enter_context(closing(Ledger(ledger_path(store), read_only=True)))
            ledger.verify()
        except (FileNotFoundError, DamagedLedger):
            ledger = opened.enter_context(closing(Ledger(None)))
            ledger.catch_up(store)
        yield ledger


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turns Ctrl-C and SIGTERM into a request to stop after the epoch in progress; a second one ends at once."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        os.write(2, _STOPPING)  # a handler may interrupt whoever holds the lock of sys.stderr

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _backend(name: str, progress: Progress, address: str | None, kept: ExitStack | None) -> Backend:
    """Returns a backend.

    Args:
        name: `local` or `ray`.
        progress: is told what takes long.
        address: of Ray.
        kept: keeps the first connection to Ray for all backends that are made later.
    """
    if name == "local":
        progress.phase("loading libraries, network and data")
        from sweeper.execution.local import LocalBackend

        return LocalBackend()
    progress.phase("starting Ray, which takes some 20 s")
    from sweeper.execution.ray_cluster import connected
    from sweeper.execution.ray_tune import RayBackend

    if kept is not None:
        kept.enter_context(connected(address))
    return RayBackend()


def retry_failed(
    name: str, store_path: str | Path, trial_ids: Iterable[str] = (), gpu: float | None = None
) -> list[Failure]:
    """Takes back the failures of a sweep, so that the next run tries again; nothing else is changed.

    Args:
        name: the sweep.
        store_path: its store.
        trial_ids: trials by their ids or the beginnings of these; default: all that failed.
        gpu: least share of a GPU that each trial of the sweep gets from now on; 0: what the spec says; None: as before.

    Returns:
        What was taken back.

    Raises:
        StoreError: a driver uses the store; no trial has such an id.
    """
    store = open_store(store_path, create=False)
    with held(store, name):
        view = open_view(store, name)
        states = {state for trial in trials_named(view, trial_ids) for state in trial.state_ids}
        taken = [failure for state, failure in view.failures.items() if state in states]
        for failure in taken:
            store.drop("failures", failure.state_id)
        if gpu is not None:
            ask_share(store, name, gpu)
    return taken


def sync_sweep(name: str, store_path: str | Path, asked: str | None) -> str:
    """Brings an MLflow server up to date with a sweep, which may be running; returns its URI.

    Raises:
        StoreError: there is no store, or no such sweep in it.
        SpecError: it is no tracking URI.
        TrackingError: the server cannot be reached.
    """
    from sweeper.tracking.mlflow_tracker import experiment_name, sync

    store = open_store(store_path, create=False)
    while True:
        is_running, view = driven_sweep(store) == name, open_view(store, name)
        uri = tracking_uri(asked, view.revision.spec, store)
        if uri == NO_TRACKING:
            remedy = "Name a server or a database with --tracking-uri"
            raise SpecError(Problem(where=name, rule="is tracked somewhere", got=NO_TRACKING, remedy=remedy))
        sync(view, uri, experiment_name(view), store, is_running=is_running)
        if (driven_sweep(store) == name) == is_running:  # else a driver that began or ended meanwhile knows more
            return uri


def tracking_uri(asked: str | None, spec: SweepSpec, store: ObjectStore) -> str:
    """Returns where a sweep is tracked: what was asked for, the spec, the environment, an SQLite file.

    Raises:
        SpecError: it is no tracking URI.
    """
    default = f"sqlite:///{store.local_folder / 'mlflow.db'}"
    named = {
        "--tracking-uri": asked,
        "tracking.uri": spec.tracking.uri,
        "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI"),
    }
    where, uri = next(((where, uri) for where, uri in named.items() if uri), ("", default))
    return uri if uri == NO_TRACKING else checked_uri(uri, where)


def _tracker(asked: str | None, spec: SweepSpec, store: ObjectStore, progress: Progress) -> Tracker:
    uri = tracking_uri(asked, spec, store)
    if uri == NO_TRACKING:
        return NullTracker()
    from sweeper.tracking.background import BackgroundTracker
    from sweeper.tracking.mlflow_tracker import MlflowTracker

    experiment = spec.tracking.experiment or spec.name
    tracker = MlflowTracker(uri, experiment, store)
    return BackgroundTracker(tracker, progress.note, finish_timeout_s=FINISH_TRACKING_S)
