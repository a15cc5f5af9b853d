"""The training loop: one segment, epoch by epoch. This is the experiment; read it top to bottom."""

import math
import time
import traceback
from collections.abc import Generator, Mapping
from dataclasses import replace

from sweeper.evaluation import Item, records_of
from sweeper.records import TRAINING_ITEM, Failure, Record
from sweeper.store.objects import ObjectStore
from sweeper.store.outputs import read_outputs, write_outputs
from sweeper.store.rows import is_measured, read_records, write_records
from sweeper.tasks.base import ACCIDENTS, Measured, NonFiniteLoss, Task, TrainingState
from sweeper.tasks.state import dump_state, load_state, state_bits
from sweeper.training.events import EpochDone, Event, ParentMissing, SegmentFailed
from sweeper.training.keeping import Keeper
from sweeper.training.memory import gpu_memory
from sweeper.training.order import Order


def train_segment(
    order: Order, task: Task, items: tuple[Item, ...], store: ObjectStore
) -> Generator[Event, None, None]:
    """Trains a segment from the newest state that the store holds, and yields each of its epochs.

    What is written for an epoch, in this order: outputs, records, state. So a state in the store implies its
    records, and after a kill at any moment nothing that was reported is missing. Who stops early closes the
    generator; the last state is then saved.

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
        done = _found(order.states[epoch], epoch, items, store)
        val_loss[epoch] = done.val_loss
        yield done

    keeper = Keeper(order, store, time.monotonic())
    for epoch in range(max(done_epoch + 1, order.first_epoch), order.last_epoch + 1):
        if not order.wants(epoch, val_loss):
            return
        began = time.monotonic()
        kept = _kept_state(order, epoch, store)
        try:
            if kept is None:
                values, measured = _train(task, state, order, epoch)
            else:  # trained before; something was not measured then
                state, trained = kept
                measured = task.evaluate(state)
                values = _finite({**trained, **measured.values})
        except ACCIDENTS:
            raise  # no result: tried again elsewhere
        except Exception as error:  # of code or data: a result, kept under the id of the state that cannot be made
            failure = failure_of(order, epoch, error, place=f"epoch {epoch}")
            store.put("failures", failure.state_id, failure.to_json())
            yield SegmentFailed(failure=failure)
            return
        seconds = None if kept else time.monotonic() - began
        training = _training_record(order, epoch, values, seconds)
        done = _write(training, measured, items, store)
        val_loss[epoch] = done.val_loss
        wants_more = epoch < order.last_epoch and order.wants(epoch + 1, val_loss)
        is_due = keeper.due(epoch, val_loss, time.monotonic(), wants_more=wants_more)
        if is_due:
            is_new, warnings = _save(order.states[epoch], state, store)
            done = replace(done, warnings=done.warnings + warnings)
            keeper.saved(epoch, val_loss, time.monotonic(), is_new=is_new, wants_more=wants_more)
        try:
            yield done
        except GeneratorExit:  # asked to stop here: the next run goes on from this state
            if not is_due:
                _save(order.states[epoch], state, store)
            raise


def _train(task: Task, state: TrainingState, order: Order, epoch: int) -> tuple[Mapping[str, float], Measured]:
    """Takes a state through an epoch, 0 being the untrained one, and returns what is recorded and measured of it."""
    trained = {} if epoch == 0 else task.train_epoch(state, order.regime or {}, epoch)
    measured = task.evaluate(state)
    values = _finite({**trained, **measured.values})
    return {**values, **(task.review(state, values, epoch) if epoch > 0 else {})}, measured


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


def _kept_state(order: Order, epoch: int, store: ObjectStore) -> tuple[TrainingState, Mapping[str, float]] | None:
    """Returns a state that the store holds with what its training measured; None: it is to be trained."""
    if not store.has("states", order.states[epoch]):
        return None
    training = [record for record in read_records(store, order.states[epoch]) if record.item == TRAINING_ITEM]
    data = store.get("states", order.states[epoch]) if training else None
    return None if data is None else (load_state(data, order.device), training[0].values)  # type: ignore[return-value]


def _found(state_id: str, epoch: int, items: tuple[Item, ...], store: ObjectStore) -> EpochDone:
    """Returns an epoch that the store holds, with the items that were asked for since it was trained."""
    records = read_records(store, state_id)
    known = {record.item for record in records}
    for item in items:
        if item.item_id not in known and (outputs := read_outputs(store, state_id, item.outputs)) is not None:
            records = (*records, item.record(state_id, epoch, outputs, records[0].measured_at))
    return EpochDone(state_id=state_id, epoch=epoch, records=records, seconds=None)


def _training_record(order: Order, epoch: int, values: Mapping[str, float], seconds: float | None) -> Record:
    return Record(
        state_id=order.states[epoch],
        epoch=epoch,
        item=TRAINING_ITEM,
        values=dict(values),
        reasons={},
        measured_at=time.time(),
        seconds=seconds,
        gpu=gpu_memory(order.device),
    )


def _write(training: Record, measured: Measured, items: tuple[Item, ...], store: ObjectStore) -> EpochDone:
    """Writes the outputs and the records of an epoch; returns what the store then holds of it."""
    state_id, epoch = training.state_id, training.epoch
    for key, outputs in measured.outputs.items():
        write_outputs(store, state_id, key, outputs)
    records = (training, *records_of(items, state_id, epoch, measured.outputs, training.measured_at))
    warnings = write_records(store, records)
    first = {record.item: record for record in read_records(store, state_id)}
    kept = tuple(first.get(record.item, record) for record in records)  # of a rebuilt epoch the first result stays
    return EpochDone(state_id=state_id, epoch=epoch, records=kept, seconds=training.seconds, warnings=warnings)


def _save(state_id: str, state: TrainingState, store: ObjectStore) -> tuple[bool, tuple[str, ...]]:
    """Writes a state; where the same id holds other tensors the first are kept.

    Returns:
        Whether this call wrote it, and what the user should know.
    """
    data = dump_state(state)
    if store.put("states", state_id, data):
        return True, ()
    stored = store.get("states", state_id)
    if stored is None:  # was damaged and has been moved aside
        return store.put("states", state_id, data), ()
    if state_bits(stored) == state_bits(data):
        return False, ()
    store.put("conflicts", f"{state_id}.{state_bits(data)[:16]}", data)
    return False, (f"state {state_id[:12]} came out with other tensors than the stored one; the first is kept",)


def failure_of(order: Order, epoch: int, error: Exception, *, place: str) -> Failure:
    """Returns an exception as the failure of the state at the end of an epoch."""
    return Failure(
        state_id=order.states[epoch],
        epoch=epoch,
        place=place,
        reason=str(error) if isinstance(error, NonFiniteLoss) else f"{type(error).__name__}: {error}",
        details="".join(traceback.format_exception(error)),
    )


def _finite(values: Mapping[str, float]) -> Mapping[str, float]:
    for name, value in values.items():
        if not math.isfinite(value):
            raise NonFiniteLoss(f"{name} is {value}")
    return values
