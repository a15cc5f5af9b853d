"""The training loop: one segment, epoch by epoch. This is the experiment; read it top to bottom."""

import math
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace

from sweeper.evaluation import TRAINING_ITEM, Item, records_of
from sweeper.records import Failure, Record
from sweeper.store.objects import ObjectStore
from sweeper.store.rows import is_measured, read_records, write_outputs, write_records
from sweeper.tasks.base import OUT_OF_MEMORY, Measured, NonFiniteLoss, Task, TrainingState
from sweeper.training.events import EpochDone, Event, ParentMissing, SegmentFailed
from sweeper.training.keeping import Keeper
from sweeper.training.order import Order
from sweeper.training.state import dump_state, load_state, state_bits


def train_segment(order: Order, task: Task, items: tuple[Item, ...], store: ObjectStore) -> Iterator[Event]:
    """Trains a segment from the newest state that the store holds, and yields each of its epochs.

    What is written for an epoch, in this order: outputs, records, state. So a state in the store implies its
    records, and after a kill at any moment nothing that was reported is missing.

    Args:
        order: what to train.
        task: prepared for `order.config`.
        items: what is measured on held-out outputs.
        store: where states come from and go to.
    """
    found = _newest_state(order, task, items, store)
    if found is None:
        assert order.parent is not None
        yield ParentMissing(state_id=order.parent)
        return
    done_epoch, state = found
    val_loss = dict(order.val_loss)
    for epoch in range(order.first_epoch, done_epoch + 1):
        done = _found(order.states[epoch], epoch, store)
        val_loss[epoch] = done.val_loss
        yield done

    keeper = Keeper(order, store, time.monotonic())
    for epoch in range(max(done_epoch + 1, order.first_epoch), order.last_epoch + 1):
        if not order.wants(epoch, val_loss):
            return
        began = time.monotonic()
        try:
            trained = {} if epoch == 0 else task.train_epoch(state, order.regime or {}, epoch)
            measured = task.evaluate(state)
            values = _finite({**trained, **measured.values})
        except OUT_OF_MEMORY:
            raise  # an accident, not a result: tried again elsewhere
        except Exception as error:  # of code or data: a result, kept under the id of the state that cannot be made
            yield SegmentFailed(failure=_record_failure(order, epoch, error, store))
            return
        done = _write(order.states[epoch], epoch, values, measured, items, store, time.monotonic() - began)
        val_loss[epoch] = done.val_loss
        wants_more = epoch < order.last_epoch and order.wants(epoch + 1, val_loss)
        if keeper.due(epoch, val_loss, time.monotonic(), wants_more=wants_more):
            done = replace(done, warnings=done.warnings + _save(order.states[epoch], state, store))
            keeper.saved(epoch, val_loss, time.monotonic(), wants_more=wants_more)
        yield done


def _newest_state(
    order: Order, task: Task, items: tuple[Item, ...], store: ObjectStore
) -> tuple[int, TrainingState] | None:
    """Returns the newest state on the way, up to which all is measured, and its epoch; -1 with an untrained state.

    None when the segment's parent is not in the store.
    """
    recorded = order.first_epoch - 1
    while recorded < order.last_epoch and is_measured(store, order.states[recorded + 1], items):
        recorded += 1
    for epoch in range(recorded, order.first_epoch - 1, -1):
        data = store.get("states", order.states[epoch])
        if data is not None:
            return epoch, load_state(data, order.device)
    if order.parent is None:
        return -1, task.init_state(order.config.seeds.init)
    data = store.get("states", order.parent)
    return None if data is None else (order.first_epoch - 1, load_state(data, order.device))


def _found(state_id: str, epoch: int, store: ObjectStore) -> EpochDone:
    return EpochDone(state_id=state_id, epoch=epoch, records=read_records(store, state_id), seconds=None)


def _write(
    state_id: str,
    epoch: int,
    values: Mapping[str, float],
    measured: Measured,
    items: tuple[Item, ...],
    store: ObjectStore,
    seconds: float,
) -> EpochDone:
    """Writes the outputs and the records of an epoch."""
    now = time.time()
    for key, outputs in measured.outputs.items():
        write_outputs(store, state_id, key, outputs)
    training = Record(
        state_id=state_id,
        epoch=epoch,
        item=TRAINING_ITEM,
        values=dict(values),
        reasons={},
        measured_at=now,
        seconds=seconds,
    )
    records = (training, *records_of(items, state_id, epoch, measured.outputs, now))
    warnings = write_records(store, records)
    return EpochDone(state_id=state_id, epoch=epoch, records=records, seconds=seconds, warnings=warnings)


def _save(state_id: str, state: TrainingState, store: ObjectStore) -> tuple[str, ...]:
    """Writes a state; where the same id holds other tensors the first are kept, and the user is told."""
    data = dump_state(state)
    if store.put("states", state_id, data):
        return ()
    stored = store.get("states", state_id)
    if stored is None:  # was damaged and has been moved aside
        store.put("states", state_id, data)
        return ()
    if state_bits(stored) == state_bits(data):
        return ()
    store.put("conflicts", f"{state_id}.{state_bits(data)[:16]}", data)
    return (f"state {state_id[:12]} came out with other tensors than the stored one; the first is kept",)


def _record_failure(order: Order, epoch: int, error: Exception, store: ObjectStore) -> Failure:
    failure = Failure(
        state_id=order.states[epoch],
        epoch=epoch,
        place=f"epoch {epoch}",
        reason=str(error) if isinstance(error, NonFiniteLoss) else f"{type(error).__name__}: {error}",
        details="".join(traceback.format_exception(error)),
    )
    store.put("failures", failure.state_id, failure.to_json())
    return failure


def _finite(values: Mapping[str, float]) -> Mapping[str, float]:
    for name, value in values.items():
        if not math.isfinite(value):
            raise NonFiniteLoss(f"{name} is {value}")
    return values
