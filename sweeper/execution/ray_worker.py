"""The actor of a Tune trial: trains whatever is ready, and hands it in."""

import logging
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from sweeper.errors import SweeperError
from sweeper.execution.exchange import Delivery, Turn
from sweeper.execution.ray_cluster import ray, tune
from sweeper.execution.worker_log import capture, logged, process_name, setting
from sweeper.notices import heard_by
from sweeper.store.logs import LogWriter
from sweeper.store.objects import ObjectStore
from sweeper.store.opening import open_store
from sweeper.training.events import EpochDone, Event

REPORT_EVERY_S = 1.0
WAIT_S = 0.1  # a worker with nothing to do asks again after this


class SegmentTrainable(tune.Trainable):
    """A worker that stands for one trial at a time, or a few of them, and trains whatever is ready."""

    def setup(  # type: ignore[override]  # Tune hands the rest over by name, see `with_parameters`
        self,
        config: dict[str, Any],
        *,
        exchange: Any,
        store: str,
        cache: str | None,
        cache_gb: float | None,
        gpu: float,
        cpu: float,
        run: str,
        patience_s: float | None,
    ) -> None:
        """Remembers where things are; data and network are loaded with the first segment.

        Where a cluster may shrink, a worker gives its slot back after `patience_s` without work.

        Tune may start two actors for one trial and keep one, so nothing is told to the exchange here.
        """
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("ray.tune").setLevel(logging.ERROR)  # a slow start would stand as a dead worker's last words
        self._exchange, self._cpu, self._cache_gb, self._told_at = exchange, cpu, cache_gb, 0.0
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
        return Worker(store, cache, cache_gb=self._cache_gb, cpu=self._cpu, tell=self._tell)

    def _tell(self, done: int, total: int) -> None:
        """Tells the exchange how far features are: it is asked meanwhile, while this worker hands nothing in."""
        if done == total or time.monotonic() - self._told_at > REPORT_EVERY_S:
            self._told_at = time.monotonic()
            self._exchange.features.remote(self._log.process, done, total)

    def cleanup(self) -> None:
        """Writes what the log still lacks."""
        self._log.say("the worker ends")
        self._log.close()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Stands for another trial; what is loaded stays loaded."""
        self._enter(new_config)
        return True

    def _enter(self, config: dict[str, Any]) -> None:
        self._share: str = config["trial"]
        self._segment_id = None
        self._worked_at = time.monotonic()

    def step(self) -> dict[str, Any]:
        """Works for about a second and returns what Tune's table shows."""
        deadline = time.monotonic() + REPORT_EVERY_S
        try:
            while True:
                if self._segment_id is None:
                    turn: Turn = ray.get(self._exchange.turn.remote(self._share, self._log.process))
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
        if not ray.get(self._exchange.deliver.remote(self._share, delivery)):
            self._events.close()  # saves the state reached, if the user stopped the run
            self._segment_id = None

    def _show(self, done: EpochDone) -> None:
        self._shown["epoch"] = done.epoch
        for record in done.records:
            for name in ("val_loss", "rsa"):
                if isinstance(value := record.values.get(name), float):
                    self._shown["rsa_behavioral" if name == "rsa" else name] = value
                    break
