"""The Ray backend: one Tune experiment with one Tune trial per open trial.

The actor of a Tune trial pulls segments from an exchange, its own path first, any ready one rather than wait;
the Tune trial ends when its own path is complete, whoever trained it. A Tune trial per segment would be wrong:
finishing actors take pending trials and cancel the actors that are starting for them.

This module and `ray_jobs` alone import ray.
"""

import logging
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

for _name, _value in {
    "RAY_AUTH_MODE": "disabled",  # else a local cluster switches token authentication on by itself
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the death of a worker is no traceback, see `_Collector`
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own handler kills running steps
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nothing is ever restored from Tune's own files
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # ask for all slots at once: else an autoscaler adds one node at a time
}.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray._private.state import state as ray_state  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from sweeper.errors import ClusterError, Problem, SweeperError  # noqa: E402
from sweeper.execution.base import Job  # noqa: E402
from sweeper.execution.devices import Device  # noqa: E402
from sweeper.execution.exchange import Collected, Delivery, Exchange, Turn, all_epochs  # noqa: E402
from sweeper.execution.worker_log import capture, logged, process_name, setting  # noqa: E402
from sweeper.notices import heard_by  # noqa: E402
from sweeper.store.logs import LogWriter  # noqa: E402
from sweeper.store.objects import ObjectStore  # noqa: E402
from sweeper.store.opening import open_store  # noqa: E402
from sweeper.training.events import EpochDone, Event  # noqa: E402

REPORT_EVERY_S = 1.0
IDLE_S = 20.0  # without work, on a cluster that may shrink: then the slot is given back
WAIT_S = 0.1  # a worker with nothing to do asks again after this
COLLECT_EVERY_S = 0.3
MAX_RESTARTS = 10  # of one Tune trial; a segment fails earlier, see `Exchange`
LAST_WORDS_CHARS = 2_000
MAX_FAILED_STARTS = 3  # of workers, one after another, while nobody is at work
_MIB = 2**20
_OUT_OF_GPU_MEMORY = re.compile(r"torch\.OutOfMemoryError|CUDA out of memory")  # other than Ray's, of the node


class RayBackend:
    """Trains on a Ray cluster, by default one on this machine; see `Backend`."""

    def __init__(self, trainable: "type[SegmentTrainable] | None" = None) -> None:
        """Takes what runs in a Tune trial; tests hand in one that needs no torch."""
        self._trainable = trainable or SegmentTrainable

    def run(self, job: Job) -> None:
        """See `Backend.run`."""
        with connected(job.address), _scratch() as scratch:
            _refuse_infeasible(job)
            job.on_phase("workers load libraries, network and data")
            may_grow = job.address not in (None, "local")
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            exchange_type = ray.remote(num_cpus=0)(Exchange).options(
                scheduling_strategy=here
            )  # other nodes may go away
            exchange = exchange_type.remote(job.dispatcher)
            open_trials = [
                trial.trial_id
                for trial in job.dispatcher.trials.values()
                if job.dispatcher.trial_status(trial.trial_id) == "open"
            ]
            labels = [f"{index:04d} {job.dispatcher.trials[trial].name}" for index, trial in enumerate(open_trials)]
            trial_ids = dict(zip(labels, open_trials, strict=True))
            names = {label: job.dispatcher.trials[trial].short_id for label, trial in trial_ids.items()}
            collector = _Collector(job, exchange, trial_ids)
            trainable = tune.with_parameters(
                self._trainable,
                exchange=exchange,
                trial_ids=trial_ids,
                store=job.store,
                cache=None if job.cache is None else str(job.cache),
                gpu=job.gpu,
                run=job.log.run,
                patience_s=IDLE_S if may_grow else None,
            )
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"cpu": job.cpu, **({"gpu": job.gpu} if job.gpu else {})}),
                param_space={} if may_grow else {"trial": tune.grid_search(labels)},
                tune_config=tune.TuneConfig(
                    search_alg=_AsWideAsTheTree(job, labels, trial_ids) if may_grow else None,
                    num_samples=-1 if may_grow else 1,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: names[trial.config["trial"]],
                    trial_dirname_creator=_short_name,
                ),
                run_config=tune.RunConfig(
                    name=job.name,
                    storage_path=str(scratch),
                    verbose=0,
                    stop=_StopWhenAsked(collector),
                    callbacks=[collector],
                    failure_config=tune.FailureConfig(max_failures=MAX_RESTARTS),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            )
            grid = tuner.fit()
            collector.collect()
            if grid.errors and not job.dispatcher.is_done:
                job.on_warning(f"workers failed: {str(grid.errors[0]).strip().splitlines()[-1]}")


class SegmentTrainable(tune.Trainable):
    """A worker that stands for one trial at a time and trains whatever is ready."""

    def setup(  # type: ignore[override]  # Tune hands the rest over by name, see `with_parameters`
        self,
        config: dict[str, Any],
        *,
        exchange: Any,
        trial_ids: dict[str, str],
        store: str,
        cache: str | None,
        gpu: float,
        run: str,
        patience_s: float | None,
    ) -> None:
        """Remembers where things are; data and network are loaded with the first segment.

        Where a cluster may shrink, a worker gives its slot back after `patience_s` without work.

        Tune may start two actors for one trial and keep one, so nothing is told to the exchange here.
        """
        logging.getLogger().setLevel(logging.WARNING)
        self._exchange, self._trial_ids = exchange, trial_ids
        opened = open_store(store)
        self._log = LogWriter(opened, run, process_name())
        capture(self._log)
        self._worker = self.make_worker(opened, None if cache is None else Path(cache), gpu)
        self._log.say(f"worker on {setting()}")
        self._patience_s = patience_s
        self._segment_id: str | None = None
        self._events: Generator[Event, None, None] | None = None
        self._notices: list[str] = []
        self._shown: dict[str, Any] = {"epoch": 0, "val_loss": float("nan"), "rsa_behavioral": float("nan")}
        self._enter(config)

    def make_worker(self, store: ObjectStore, cache: Path | None, gpu: float) -> Any:
        """Returns what trains; only workers load torch."""
        from sweeper.execution.worker import Worker, cap_gpu_memory

        cap_gpu_memory(gpu)
        return Worker(store, cache)

    def cleanup(self) -> None:
        """Writes what the log still lacks."""
        self._log.say("the worker ends")
        self._log.close()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Stands for another trial; what is loaded stays loaded."""
        self._enter(new_config)
        return True

    def _enter(self, config: dict[str, Any]) -> None:
        self._trial_id = self._trial_ids[config["trial"]]
        self._segment_id = None
        self._worked_at = time.monotonic()

    def step(self) -> dict[str, Any]:
        """Works for about a second and returns what Tune's table shows."""
        deadline = time.monotonic() + REPORT_EVERY_S
        try:
            while True:
                if self._segment_id is None:
                    turn: Turn = ray.get(self._exchange.turn.remote(self._trial_id, self._log.process))
                    if turn.done:
                        return {**self._shown, "segment": "", "done": True}
                    if turn.order is not None:
                        self._segment_id = turn.order.segment_id
                        self._events = logged(self._worker.train(turn.order), turn.order, self._log)
                if self._segment_id is not None:
                    self._advance(deadline)
                    self._worked_at = time.monotonic()
                elif self._patience_s is not None and time.monotonic() - self._worked_at > self._patience_s:
                    return {**self._shown, "segment": "", "done": True}
                elif time.monotonic() < deadline:
                    time.sleep(WAIT_S)
                if time.monotonic() >= deadline:
                    return {**self._shown, "segment": (self._segment_id or "waiting")[:8]}
        except SweeperError as error:
            ray.get(self._exchange.fail.remote(error))
            return {**self._shown, "segment": "", "done": True}

    def _advance(self, deadline: float) -> None:
        """Trains until the deadline or the segment's end, and hands in the epochs."""
        assert self._segment_id is not None
        assert self._events is not None
        events: list[Event] = []
        finished = True
        with heard_by(self._notices.append):
            for event in self._events:
                events.append(event)
                if isinstance(event, EpochDone):
                    self._show(event)
                if time.monotonic() >= deadline:
                    finished = False
                    break
        notices, self._notices = tuple(self._notices), []
        delivery = Delivery(segment_id=self._segment_id, events=tuple(events), finished=finished, notices=notices)
        if not ray.get(self._exchange.deliver.remote(self._trial_id, delivery)):
            self._events.close()  # saves the state reached, if the user stopped the run
            self._segment_id = None

    def _show(self, done: EpochDone) -> None:
        self._shown["epoch"] = done.epoch
        for record in done.records:
            for name in ("val_loss", "rsa"):
                if isinstance(value := record.values.get(name), float):
                    self._shown["rsa_behavioral" if name == "rsa" else name] = value
                    break


class _StaysHere:
    """Pickles as nothing: Tune writes its callbacks and stoppers into files from which nobody ever restores."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Collector(_StaysHere, tune.Callback):
    """Fetches what workers handed in, in the driver's thread, while Tune runs."""

    def __init__(self, job: Job, exchange: Any, trial_ids: dict[str, str]) -> None:
        self._job, self._exchange, self._trial_ids = job, exchange, trial_ids
        self._collected_at = 0.0
        self._stopped = False
        self._failed_starts: list[str] = []  # their reasons, since an epoch came in
        self.drained = False

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Collects now and then; passes on the user's wish to stop."""
        if self._job.stop() and not self._stopped:
            self._stopped = True
            ray.get(self._exchange.stop.remote())
        if time.monotonic() - self._collected_at >= COLLECT_EVERY_S:
            self.collect()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Puts the segment of a dead worker back at once."""
        self._lost(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Puts the segment of a worker that will not be started again back."""
        self._lost(trial)

    def _lost(self, trial: Any) -> None:
        text = _error_of(trial)
        last_words = _last_words(text)
        reason = _reason_in(text, last_words)
        segment_id = ray.get(self._exchange.lost.remote(self._trial_ids[trial.config["trial"]], reason))
        if _OUT_OF_GPU_MEMORY.search(text):
            self._job.on_short_of_memory()
        if segment_id is None:
            self._failed_starts.append(reason)
            self._job.log.say(f"a worker failed before it took work\n{text}\n{last_words}".rstrip(), level="error")
        else:
            self._job.on_warning(f"a worker is lost, and what it trained goes to another: {reason}")

    def collect(self) -> None:
        """Passes on everything that came in.

        Raises:
            SweeperError: a worker cannot get at data or weights, or no worker can start.
        """
        self._collected_at = time.monotonic()
        collected: Collected = ray.get(self._exchange.collect.remote())
        self.drained = self._stopped and collected.idle
        self._job.on_workers(collected.workers)
        for delivery in collected.deliveries:
            for event in delivery.events:
                self._job.dispatcher.note(delivery.segment_id, event)
            if delivery.finished and all_epochs(delivery.events):
                self._job.dispatcher.finished(delivery.segment_id)
            self._job.on_events(list(delivery.events))
            for text in delivery.notices:
                self._job.on_warning(text)
        if collected.deliveries:
            self._failed_starts.clear()
        if collected.error is not None:
            raise collected.error
        if collected.idle and len(self._failed_starts) >= MAX_FAILED_STARTS:
            raise _cannot_start(self._failed_starts[-1], self._job.name)


class _AsWideAsTheTree(_StaysHere, Searcher):
    """Gives Tune as many trials as the tree has segments for, so that an autoscaling cluster follows its width.

    A trial whose worker gave its slot back for lack of work is given again when there is work for it.
    """

    def __init__(self, job: Job, labels: list[str], trial_ids: dict[str, str]) -> None:
        super().__init__()
        self._dispatcher, self._trial_ids = job.dispatcher, trial_ids
        self._waiting = dict.fromkeys(labels)
        self._running: dict[str, str] = {}  # label by Tune's id

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial; None while the tree has no use for another worker."""
        if self._dispatcher.is_done:
            return str(Searcher.FINISHED)
        if len(self._running) >= self._dispatcher.num_usable:
            return None
        for label in list(self._waiting):
            del self._waiting[label]
            if self._dispatcher.trial_status(self._trial_ids[label]) == "open":
                self._running[trial_id] = label
                return {"trial": label}
        return None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Puts a trial back that is not at its end."""
        label = self._running.pop(trial_id, None)
        if label is not None:
            self._waiting[label] = None


class _StopWhenAsked(_StaysHere, tune.Stopper):
    """Ends the experiment once the user wants it and the workers have handed in the epochs in progress."""

    def __init__(self, collector: "_Collector") -> None:
        self._collector = collector

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._collector.drained


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connects to a cluster, or starts one on this machine; leaves it as it was.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    if ray.is_initialized():  # by the caller, who ends it
        yield
        return
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
        problem = Problem(
            where="address",
            rule="a Ray cluster answers there",
            got=f"{address}: {str(error).splitlines()[0]}",
            remedy="Start it with `ray up` or `ray start --head`, leave --address out for Ray on this machine, "
            "or use --backend local",
        )
        raise ClusterError(problem) from error
    for number, handler in handlers.items():  # ray.init puts its own handler in
        signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_infeasible(job: Job) -> None:
    """Refuses a trial that asks for more than this machine has: Tune would wait for ever.

    Another cluster may grow, so there nothing is refused.
    """
    if job.address not in (None, "local"):
        return
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, asked in (("CPU", job.cpu), ("GPU", job.gpu)):
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


@contextmanager
def _scratch() -> Iterator[Path]:
    """Gives Tune a folder for its own files, which nobody reads; it is removed."""
    folder = Path(tempfile.mkdtemp(prefix="sweeper-tune-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _error_of(trial: Any) -> str:
    """Returns the last error of a Tune trial, as Tune wrote it down, without the colours of a terminal."""
    file = Path(trial.error_file or "absent")
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "no reason is known"
    last = text.rpartition("Failure # ")[2]  # Tune appends
    return re.sub(r"\x1b\[[0-9;]*m", "", last).strip()


def _reason_in(text: str, last_words: str) -> str:
    """Returns the one line of a traceback, or of what Ray says of a dead actor, that names the reason."""
    died = re.search(r"The actor is dead because (.*)", text)
    if died is None:
        return text.splitlines()[-1].strip()
    if "connection error" not in died[1]:  # e.g. the node has gone, or ran out of memory
        return died[1].strip()
    said = last_words.splitlines()[-1].strip() if last_words else "killed, out of memory, or a crash?"
    return f"its process died ({said})"


def _last_words(text: str) -> str:
    """Returns what a dead worker of this machine wrote to its standard error last, as far as Ray kept it."""
    pid, node = re.search(r"pid[:=] ?(\d+)", text), ray._private.worker._global_node
    if pid is None or node is None:
        return ""
    files = sorted(Path(node.get_logs_dir_path()).glob(f"worker-*-{pid[1]}.err"))
    return "\n".join(file.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS_CHARS:].strip() for file in files)


def _cannot_start(reason: str, sweep: str) -> ClusterError:
    problem = Problem(
        where="workers",
        rule="a worker can start where Ray places it",
        got=f"{MAX_FAILED_STARTS} that failed one after another: {reason}",
        remedy=f"`sweeper logs {sweep}` has the whole text; mend it and run the same command again",
    )
    return ClusterError(problem)


def _short_name(trial: Any) -> str:
    return str(trial.trial_id)
