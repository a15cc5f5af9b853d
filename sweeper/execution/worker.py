"""The worker: keeps its prepared task warm and trains one segment after another. It needs the store only."""

import math
from collections.abc import Generator
from pathlib import Path

import torch

from sweeper.data.features import FeatureCache, Tell, build_chunks, tell_nobody
from sweeper.errors import SweeperError
from sweeper.evaluation import Item, distinct, items_of
from sweeper.inputs import check_inputs, held_out_sets
from sweeper.store.chunks import SharedChunks
from sweeper.store.objects import ObjectStore
from sweeper.store.places import features_folder
from sweeper.tasks import prepare
from sweeper.tasks.base import ACCIDENTS, Task, Workbench
from sweeper.training.events import Event, SegmentFailed
from sweeper.training.loop import failure_of, train_segment
from sweeper.training.order import Order


def cap_gpu_memory(share: float) -> None:
    """Caps this process's memory at its share of a GPU: Ray places shares, it does not enforce them."""
    if 0 < share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)


class Worker:
    """Trains segments in this process."""

    def __init__(
        self,
        store: ObjectStore,
        cache: Path | None = None,
        *,
        cache_gb: float | None = None,
        cpu: float = 1.0,
        tell: Tell = tell_nobody,
    ) -> None:
        """Remembers where things are; nothing is loaded yet.

        Args:
            store: of the states.
            cache: folder of the frozen features; default: see `features_folder`.
            cache_gb: most that it keeps, in GB; None: no limit.
            cpu: CPUs that it may use while it computes features; training follows `numerics.threads`.
            tell: is told how far features are that are computed.
        """
        self._store = store
        chunks = SharedChunks(store) if store.is_shared else build_chunks
        limit_bytes = math.inf if cache_gb is None else 1e9 * cache_gb
        self._cache = FeatureCache(cache or features_folder(store), chunks=chunks, tell=tell, limit_bytes=limit_bytes)
        self._decoders = max(1, int(cpu))
        self._prepared: tuple[str, Task, tuple[Item, ...]] | None = None

    def train(self, order: Order) -> Generator[Event, None, None]:
        """Yields the epochs of a segment; see `train_segment`.

        Raises:
            SweeperError: data or weights cannot be had here, or differ from those of the plan.
        """
        try:
            task, items = self._task_for(order)
        except (SweeperError, *ACCIDENTS):
            raise
        except Exception as error:  # not kept in the store: the machine may be to blame, and the next run tries again
            yield SegmentFailed(failure=failure_of(order, order.first_epoch, error, place="preparing the task"))
            return
        yield from train_segment(order, task, items, self._store)

    def _task_for(self, order: Order) -> tuple[Task, tuple[Item, ...]]:
        key = order.task_key()
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = None  # lets go of the old one before the new one is loaded
            check_inputs(order.config, order.inputs, device=order.device)
            workbench = Workbench(cache=self._cache, store=self._store, device=order.device, decoders=self._decoders)
            task = prepare(order.config, order.evaluation, workbench)
            sets = held_out_sets(order.config, order.evaluation)
            items = distinct(items_of(order.evaluation, sets, order.config.data.preprocessing))
            self._prepared = key, task, items
        return self._prepared[1], self._prepared[2]
