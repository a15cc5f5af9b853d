"""A Tune trainable that needs no torch, for tests of what surrounds training."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def light() -> Callable[[Path, Callable[[Any], None]], type]:
    """Returns what makes a trainable from a log file and something to do in each epoch."""
    return _light


def _light(log: Path, act: Callable[[Any], None]) -> type:
    """Returns a trainable whose worker loads no torch: per segment it acts, and hands in made-up epochs."""
    from sweeper.execution.ray_worker import SegmentTrainable
    from sweeper.records import Record
    from sweeper.store.rows import write_records
    from sweeper.training.events import EpochDone

    def record(state_id: str, epoch: int) -> Record:
        values = {"val_loss": 10.0 - epoch, "train_loss": 1.0}
        return Record(state_id=state_id, epoch=epoch, item="training", values=values, reasons={}, measured_at=0.0)

    class Worker:
        def __init__(self, store: Any) -> None:
            self.store = store

        def train(self, order: Any) -> Iterator[Any]:
            for epoch, state_id in order.states.items():
                if epoch:
                    act(epoch)
                records = (record(state_id, epoch),)
                write_records(self.store, records)
                self.store.put("states", state_id, b"made up")
                with log.open("a") as file:
                    file.write(f"{epoch}\n")
                yield EpochDone(state_id=state_id, epoch=epoch, records=records, seconds=1.0)

    class Light(SegmentTrainable):
        def make_worker(self, store: Any, cache: Path, gpu: float) -> Any:
            return Worker(store)

    return Light
