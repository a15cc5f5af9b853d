"""The Ray backend: one Tune experiment with one Tune trial per open trial; of very many, per a few of them.

The actor of a Tune trial pulls segments from an exchange, its own path first, any ready one rather than wait;
the Tune trial ends when its own path is complete, whoever trained it. A Tune trial per segment would be wrong:
finishing actors take pending trials and cancel the actors that are starting for them.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeper.execution.base import Job
from sweeper.execution.dispatcher import Dispatcher
from sweeper.execution.exchange import Collected, Exchange, all_epochs
from sweeper.execution.ray_cluster import connected, ray, refuse_infeasible, scheduling_strategies, tune
from sweeper.execution.ray_deaths import MAX_FAILED_STARTS, cannot_start, error_of, last_words_of, reason_in
from sweeper.execution.ray_worker import SegmentTrainable

IDLE_S = 20.0  # without work, on a cluster that may shrink: then the slot is given back
COLLECT_EVERY_S = 0.3
MAX_TUNE_TRIALS = 1000  # above it, one stands for several trials of the sweep
MAX_RESTARTS = 10  # of one Tune trial; a segment fails earlier, see `Exchange`
_OUT_OF_GPU_MEMORY = re.compile(r"torch\.OutOfMemoryError|CUDA out of memory")  # other than Ray's, of the node


class RayBackend:
    """Trains on a Ray cluster, by default one on this machine; see `Backend`."""

    def __init__(self, trainable: type[SegmentTrainable] | None = None) -> None:
        """Takes what runs in a Tune trial; tests hand in one that needs no torch."""
        self._trainable = trainable or SegmentTrainable

    def run(self, job: Job) -> None:
        """See `Backend.run`."""
        with connected(job.address), _scratch() as scratch:
            refuse_infeasible(address=job.address, cpu=job.cpu, gpu=job.gpu)
            job.on_phase("workers load libraries, network and data")
            may_grow = job.address not in (None, "local")
            shares = _shares(job.dispatcher)
            exchange = _started(job, shares)
            names = {label: job.dispatcher.trials[trials[0]].short_id for label, trials in shares.items()}
            collector = _Collector(job, exchange)
            trainable = tune.with_parameters(
                self._trainable,
                exchange=exchange,
                store=job.store,
                cache=None if job.cache is None else str(job.cache),
                cache_gb=job.cache_gb,
                gpu=job.gpu,
                cpu=job.cpu,
                run=job.log.run,
                patience_s=IDLE_S if may_grow else None,
            )
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"cpu": job.cpu, **({"gpu": job.gpu} if job.gpu else {})}),
                param_space={} if may_grow else {"trial": tune.grid_search(list(shares))},
                tune_config=tune.TuneConfig(
                    search_alg=_AsWideAsTheTree(job, shares, collector) if may_grow else None,
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


class _StaysHere:
    """Pickles as nothing: Tune writes its callbacks and stoppers into files from which nobody ever restores."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Collector(_StaysHere, tune.Callback):
    """Fetches what workers handed in, in the driver's thread, while Tune runs."""

    def __init__(self, job: Job, exchange: Any) -> None:
        self._job, self._exchange = job, exchange
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
        text = error_of(trial)
        last_words = last_words_of(text)
        reason = reason_in(text, last_words)
        segment_id = ray.get(self._exchange.lost.remote(trial.config["trial"], reason))
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
        if collected.features is not None:
            self._job.on_features(*collected.features)
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
            raise cannot_start(self._failed_starts[-1], self._job.name)


class _AsWideAsTheTree(_StaysHere, tune.search.Searcher):
    """Gives Tune as many trials as the tree has segments for, so that an autoscaling cluster follows its width.

    A trial whose worker gave its slot back for lack of work is given again when there is work for it.
    """

    def __init__(self, job: Job, shares: Mapping[str, Sequence[str]], collector: _Collector) -> None:
        super().__init__()
        self._dispatcher, self._shares = job.dispatcher, shares
        self._stops, self._collector = job.stop, collector
        self._waiting = dict.fromkeys(shares)
        self._running: dict[str, str] = {}  # label by Tune's id

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial; None while the tree has no use for another worker.

        Once all trials have ended Tune asks here for ten minutes, without a step in which their last epochs would be
        collected; so they are collected here.
        """
        if not self._running and not self._dispatcher.is_done:
            self._collector.collect()
        if self._dispatcher.is_done or (not self._running and self._stops()):
            return str(tune.search.Searcher.FINISHED)
        if len(self._running) >= self._dispatcher.num_usable:
            return None
        for label in list(self._waiting):
            del self._waiting[label]
            if any(self._dispatcher.trial_status(trial) == "open" for trial in self._shares[label]):
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


def _shares(dispatcher: Dispatcher) -> dict[str, tuple[str, ...]]:
    """Returns the open trials by the label of the Tune trial that stands for them: one each, or a few of very many.

    Tune's own cost for each of its trials grows with their number.
    """
    trials = dispatcher.trials.values()
    open_trials = [trial for trial in trials if dispatcher.trial_status(trial.trial_id) == "open"]
    size = max(-(-len(open_trials) // MAX_TUNE_TRIALS), 1)
    shares = [open_trials[first : first + size] for first in range(0, len(open_trials), size)]
    return {
        f"{index:04d} {share[0].name}{f' and {len(share) - 1} more' if len(share) > 1 else ''}": tuple(
            trial.trial_id for trial in share
        )
        for index, share in enumerate(shares)
    }


def _started(job: Job, shares: Mapping[str, Sequence[str]]) -> Any:
    """Starts the exchange beside the driver: other nodes may go away."""
    node = ray.get_runtime_context().get_node_id()
    here = scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0)(Exchange).options(scheduling_strategy=here).remote(job.dispatcher, shares)


@contextmanager
def _scratch() -> Iterator[Path]:
    """Gives Tune a folder for its own files, which nobody reads; it is removed."""
    folder = Path(tempfile.mkdtemp(prefix="sweeper-tune-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short_name(trial: Any) -> str:
    return str(trial.trial_id)
