"""The worker: keeps its prepared task warm and trains one segment after another. It needs the store only."""

from collections.abc import Iterator
from pathlib import Path

from sweeper.data.features import FeatureCache
from sweeper.evaluation import Item, items_of
from sweeper.inputs import check_inputs, held_out_sets
from sweeper.store.objects import ObjectStore
from sweeper.tasks import prepare
from sweeper.tasks.base import Task
from sweeper.training.events import Event
from sweeper.training.loop import train_segment
from sweeper.training.order import Order


class Worker:
    """Trains segments in this process."""

    def __init__(self, store: ObjectStore, cache_dir: Path) -> None:
        """Remembers where states and frozen features lie; nothing is loaded yet."""
        self._store = store
        self._cache = FeatureCache(cache_dir)
        self._prepared: tuple[str, Task, tuple[Item, ...]] | None = None

    def train(self, order: Order) -> Iterator[Event]:
        """Yields the epochs of a segment; see `train_segment`.

        Raises:
            SweeperError: data or weights cannot be had here, or differ from those of the plan.
        """
        task, items = self._task_for(order)
        yield from train_segment(order, task, items, self._store)

    def _task_for(self, order: Order) -> tuple[Task, tuple[Item, ...]]:
        key = order.task_key()
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = None  # lets go of the old one before the new one is loaded
            check_inputs(order.config, order.inputs, device=order.device)
            task = prepare(order.config, order.evaluation, self._cache, order.device)
            sets = held_out_sets(order.config, order.evaluation)
            items = items_of(order.evaluation, sets, order.config.data.preprocessing)
            self._prepared = key, task, items
        return self._prepared[1], self._prepared[2]
