"""The local backend: one worker in this process, for debugging and short work."""

from contextlib import closing
from pathlib import Path

from sweeper.errors import OutOfMemory, Problem
from sweeper.execution.base import Job
from sweeper.execution.worker import Worker
from sweeper.execution.worker_log import logged, process_name
from sweeper.store.opening import open_store
from sweeper.tasks.base import OUT_OF_MEMORY
from sweeper.training.events import EpochDone, ParentMissing, SegmentFailed
from sweeper.training.order import Order


class LocalBackend:
    """Trains one segment after another; see `Backend`. Jobs of one store share a worker, and so its prepared task."""

    def __init__(self) -> None:
        """Begins without a worker."""
        self._workers: dict[tuple[str, Path | None], Worker] = {}

    def run(self, job: Job) -> None:
        """See `Backend.run`."""
        place = job.store, job.cache
        if place not in self._workers:
            self._workers[place] = Worker(
                open_store(job.store), job.cache, cache_gb=job.cache_gb, cpu=job.cpu, tell=job.on_features
            )
        worker = self._workers[place]
        while not job.stop():
            order = job.dispatcher.next_order()
            if order is None:
                return
            _train(worker, order, job)


def _train(worker: Worker, order: Order, job: Job) -> None:
    try:
        _train_in_memory(worker, order, job)
    except OUT_OF_MEMORY as error:
        problem = Problem(
            where=f"epochs {order.first_epoch} to {order.last_epoch} of {job.name}",
            rule="a trial fits into memory",
            got=str(error).partition("\n")[0] or type(error).__name__,
            remedy="Make room, or a smaller training.batch_size, and run the same command: finished epochs are kept",
        )
        raise OutOfMemory(problem) from error


def _train_in_memory(worker: Worker, order: Order, job: Job) -> None:
    with closing(logged(worker.train(order), order, job.log, process_name())) as events:
        for event in events:
            epoch = event.epoch if isinstance(event, EpochDone) else None
            job.on_workers((job.dispatcher.at_work(order.segment_id, process_name(), epoch),))
            job.dispatcher.note(order.segment_id, event)
            job.on_events([event])
            if isinstance(event, SegmentFailed | ParentMissing):
                return
            if job.stop():
                job.dispatcher.requeue(order.segment_id)
                return
    job.dispatcher.finished(order.segment_id)
