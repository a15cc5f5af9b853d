"""A Tune trainable that needs no torch, for tests of what surrounds training."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def light() -> Callable[[Path, Callable[[Any], None]], type]:
    """Returns what makes a trainable from a log file and something to do in each epoch."""
    return _light


def _light(log: Path, act: Callable[[Any], None]) -> type:
    """Returns a trainable whose worker loads no torch: it acts in each epoch that the store lacks, and makes it up.

    A made-up state is a hash of the one before it and of its own id, its loss the first bytes of that.
    """
    from sweeper.execution.ray_worker import SegmentTrainable
    from sweeper.records import Record
    from sweeper.store.rows import write_records
    from sweeper.training.events import EpochDone

    def record(state_id: str, epoch: int, state: bytes) -> Record:
        values = {"val_loss": int.from_bytes(state[:4], "big") / 2**32, "train_loss": 1.0}
        return Record(state_id=state_id, epoch=epoch, item="training", values=values, reasons={}, measured_at=0.0)

    class Worker:
        def __init__(self, store: Any) -> None:
            self.store = store

        def train(self, order: Any) -> Iterator[Any]:
            before = b"" if order.parent is None else self.store.get("states", order.parent)
            for epoch, state_id in order.states.items():
                found = self.store.get("states", state_id)
                if found is None and epoch:
                    act(epoch)
                before = found or sha256(before + state_id.encode()).digest()
                records = (record(state_id, epoch, before),)
                if found is None:
                    write_records(self.store, records)
                    self.store.put("states", state_id, before)
                    with log.open("a") as file:
                        file.write(f"{epoch}\n")
                yield EpochDone(state_id=state_id, epoch=epoch, records=records, seconds=None if found else 1.0)

    class Light(SegmentTrainable):
        light_worker = Worker

        def make_worker(self, store: Any, cache: Path, gpu: float) -> Any:
            return Worker(store)

    return Light
