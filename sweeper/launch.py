"""The composition root of `run`: joins spec, store, backend, tracking and display."""

import os
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sweeper.addresses import cluster_address
from sweeper.driver import Outcome, Progress, Run, run_sweep
from sweeper.execution.base import Backend
from sweeper.execution.devices import find_device, gpus_per_trial
from sweeper.execution.doubts import doubts
from sweeper.execution.prepare import Resolver
from sweeper.plan.estimate import merged_text
from sweeper.sizes import require_room
from sweeper.spec.axes import expand
from sweeper.spec.schema import SweepSpec
from sweeper.specs import find_spec
from sweeper.store.objects import ObjectStore
from sweeper.store.opening import open_store
from sweeper.store.parents import require_parents
from sweeper.store.shares import asked_share
from sweeper.tracking.address import sqlite_file, without_password
from sweeper.tracking.base import NullTracker
from sweeper.tracking.sync import NO_TRACKING, tracking_uri

if TYPE_CHECKING:
    from sweeper.search.searcher import Searcher
    from sweeper.tracking.background import BackgroundTracker

_STOPPING = b"\nstopping after the epochs in progress, which takes some seconds; once more ends at once\n"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
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
    stand_in: bool = False
    backend: str = "ray"
    address: str | None = None
    cache: Path | None = None
    tracking_uri: str | None = None
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

    def sync_command(self, name: str) -> str:
        """Returns the command that brings MLflow up to date with the sweep; a password is left out."""
        return _tracking_command("sync", name, self.store, self.tracking_uri and without_password(self.tracking_uri))


def comparison(request: Request, outcome: Outcome) -> str | None:
    """Returns how the trials of a run are compared in MLflow from where it was typed; None where it is not tracked."""
    spec = outcome.view.revision.spec
    uri = tracking_uri(request.tracking_uri, spec, open_store(request.store, create=False))
    if uri == NO_TRACKING:
        return None
    is_sent, server, where = bool(request.typed), urlsplit(uri), ""
    named = request.tracking_uri or spec.tracking.uri or (os.environ.get("MLFLOW_TRACKING_URI") if is_sent else None)
    is_heads_file = is_sent and sqlite_file(uri) is not None
    if is_heads_file:  # `sync` makes it again for whoever sees the store
        where, named = ", on a machine that sees the store", None
    elif is_sent and server.hostname in _LOOPBACK:
        where = f", once the head's port is forwarded (`ray attach cluster.yaml -p {server.port}`)"
    words = spec.name, request.store, named and without_password(named)
    first = f"first {_tracking_command('sync', *words)}, then " if is_heads_file or not outcome.is_tracked else ""
    return f"compare in MLflow{where}: {first}{_tracking_command('ui', *words)}"


def _tracking_command(verb: str, name: str, store: str, uri: str | None) -> str:
    return shlex.join(["sweeper", verb, name, "--store", store, *(["--tracking-uri", uri] if uri else [])])


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
        require_room(sweep.trials, spec.evaluation, spec.resources.cache_gb)
    on_gpu = resolver.computes_on("cuda")
    store = open_store(request.store)
    with named.located():
        require_parents(store, sweep.trials, sweep.sources)
    for line in (*named.notes, *doubts(sweep if asks is None else asks.corners, store)):
        progress.note(line)
    if sweep.merged and asks is None:
        progress.note(merged_text(sweep.merged))
    if device.kind == "cpu" and not device.may_grow and spec.resources.gpu not in ("auto", 0):
        progress.note(f"resources.gpu is {spec.resources.gpu:g}, but there is no GPU here: trials run on the CPU")
    least = asked_share(store, spec.name)
    if least and on_gpu:
        progress.note(f"each trial gets at least {least:g} GPU, as `sweeper retry --gpu` asked")
    with ExitStack() as kept, stop_on_signals() as stop, named.located():
        backend = partial(_backend, request.backend, progress, address, kept if asks is not None else None)
        tracker = _tracker(request, spec, store, progress)
        outcome = run_sweep(
            Run(
                sweep=sweep,
                source=named.source,
                store=store,
                cache=None if request.cache is None else request.cache.absolute(),
                backend=cache(backend) if request.backend == "local" else backend,
                gpu=partial(gpus_per_trial, spec.resources.gpu, device, computes_there=on_gpu, least=least),
                tracker=tracker,
                progress=progress,
                stop=stop,
                wait=request.wait,
                max_failed=request.max_failed,
                searcher=asks,
            )
        )
        return replace(outcome, is_tracked=not tracker.is_behind)


def _searcher(resolver: Resolver, store: str) -> "Searcher":
    from sweeper.search.batches import Space
    from sweeper.search.searcher import Searcher

    return Searcher(Space(resolver), open_store(store))


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


def _tracker(
    request: Request, spec: SweepSpec, store: ObjectStore, progress: Progress
) -> "NullTracker | BackgroundTracker":
    uri = tracking_uri(request.tracking_uri, spec, store)
    if uri == NO_TRACKING:
        return NullTracker()
    from sweeper.tracking.background import BackgroundTracker
    from sweeper.tracking.mlflow_tracker import MlflowTracker

    experiment = spec.tracking.experiment or spec.name
    tracker = MlflowTracker(uri, experiment, store)
    catch_up = request.sync_command(spec.name)
    return BackgroundTracker(tracker, progress.note, catch_up=catch_up, finish_timeout_s=FINISH_TRACKING_S)
