"""The loop with a task of one number: order of writing, stopping, failing, keeping."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from sweeper.plan.stopping import Stop
from sweeper.records import FinalLoss
from sweeper.spec.schema import Evaluation
from sweeper.store.local import LocalStore
from sweeper.store.rows import read_records
from sweeper.tasks.base import OUT_OF_MEMORY, Measured, NonFiniteLoss, TrainingState
from sweeper.training import keeping
from sweeper.training.events import EpochDone, ParentMissing, SegmentFailed
from sweeper.training.loop import train_segment
from sweeper.training.order import Order

NEVER = 1e9


class Toy:
    """Counts epochs; the validation loss of an epoch is given."""

    def __init__(self, losses: Mapping[int, float], *, raises: Mapping[int, Exception] | None = None) -> None:
        self.losses, self.raises = losses, dict(raises or {})
        self.trained: list[int] = []
        self.ends_at: int | None = None

    def init_state(self, seed: int) -> TrainingState:
        return TrainingState(parameters={"count": torch.zeros(1)})

    def train_epoch(self, state: TrainingState, regime: object, epoch: int) -> dict[str, float]:
        if epoch in self.raises:
            raise self.raises[epoch]
        assert int(state.parameters["count"]) == epoch - 1, "it goes on from the epoch before"
        state.parameters = {"count": state.parameters["count"] + 1}
        self.trained.append(epoch)
        return {"train_loss": 1.0}

    def evaluate(self, state: TrainingState) -> Measured:
        epoch = int(state.parameters["count"])
        return Measured(values={"val_loss": float(self.losses[epoch])}, outputs={})

    def review(self, state: TrainingState, values: Mapping[str, float], epoch: int) -> dict[str, float]:
        assert values["val_loss"] == self.losses[epoch]
        return {"ended": 1.0} if epoch == self.ends_at else {}


def stop(last: int, *, rule: str = "horizon", patience: int | None = None, start: int = 1) -> Stop:
    return Stop(rule=rule, patience=patience, start=start, windows=(), last_epoch=last)


def name(epoch: int) -> str:
    return f"{epoch:032x}"


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def order(engine):
    """A segment from the untrained model to epoch 8, of one trial."""
    return Order(
        config=engine.config(),
        inputs={},
        evaluation=Evaluation(),
        device="cpu",
        regime={},
        parent=None,
        states={epoch: name(epoch) for epoch in range(9)},
        keep_all=False,
        stops={"trial": stop(8)},
        val_loss={},
    )


FALLING = {epoch: 10.0 - epoch for epoch in range(9)}
RISING = {epoch: 10.0 + epoch for epoch in range(9)}
DIP = {0: 9.0, 1: 8.0, 2: 7.0, 3: 3.0, 4: 5.0, 5: 6.0, 6: 5.5, 7: 6.5, 8: 6.0}


def run(order, task, store):
    return list(train_segment(order, task, (), store))


def kept(store) -> list[int]:
    return sorted(int(key, 16) for key in store.keys("states"))


# -- which states remain --------------------------------------------------------------------------------------------


def test_best_end_and_the_untrained_model_are_kept(order, store):
    run(order, Toy(DIP), store)
    assert kept(store) == [0, 3, 8]


def test_every_state_of_a_trunk_is_kept(order, store):
    run(replace(order, keep_all=True), Toy(DIP), store)
    assert kept(store) == list(range(9))


def test_the_end_of_every_trial_is_kept(order, store):
    run(replace(order, stops={"long": stop(8), "short": stop(5)}), Toy(DIP), store)
    assert kept(store) == [0, 3, 5, 8]


def test_every_ten_seconds_one_passing_state(order, store, monkeypatch):
    seconds = iter(range(0, 10**6, 3))
    monkeypatch.setattr("sweeper.training.loop.time.monotonic", lambda: float(next(seconds)))
    seen = [kept(store) for _ in train_segment(order, Toy(RISING), (), store)]
    most = max(len(states) for states in seen)
    assert any(set(states) - {0, 1, 8} for states in seen), "a passing state was saved"
    assert most <= 4, "and the older one dropped"
    assert kept(store) == [0, 1, 8]


def test_a_passing_state_that_another_sweep_made_is_not_dropped(order, store, monkeypatch):
    run(replace(order, states={e: name(e) for e in range(5)}, stops={"trial": stop(4)}), Toy(RISING), store)
    assert kept(store) == [0, 1, 4]
    for epoch in range(9):
        store.drop("records", name(epoch))  # so that all is trained again
    monkeypatch.setattr(keeping, "SAVE_EVERY_S", 0.0)
    run(order, Toy(RISING), store)
    assert kept(store) == [0, 1, 4, 8]


# -- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 5, 8])
def test_who_stops_early_finds_the_last_state(order, store, epochs):
    task = Toy(RISING)
    events = train_segment(order, task, (), store)
    for _ in range(epochs + 1):
        next(events)
    events.close()
    assert epochs in kept(store)
    again = Toy(RISING)
    found = run(order, again, store)
    assert task.trained + again.trained == list(range(1, 9))
    assert [event.epoch for event in found] == list(range(9))
    assert [event.seconds is None for event in found] == [epoch <= epochs for epoch in range(9)]


def test_a_state_is_never_in_the_store_before_its_records(order, store):
    puts: list[tuple[str, str]] = []
    real = store.put

    def put(kind, key, payload):
        puts.append((kind, key))
        return real(kind, key, payload)

    store.put = put
    run(replace(order, keep_all=True), Toy(FALLING), store)
    for epoch in range(9):
        kinds = [kind for kind, key in puts if key == name(epoch)]
        assert kinds == ["records", "states"]


def test_a_kill_between_records_and_state_repeats_that_epoch_with_the_same_numbers(order, store):
    events = train_segment(replace(order, keep_all=True), Toy(FALLING), (), store)
    for _ in range(5):
        next(events)
    store.drop("states", name(4))
    again = Toy(FALLING)
    found = run(replace(order, keep_all=True), again, store)
    assert again.trained == [4, 5, 6, 7, 8]
    assert not [event.warnings for event in found if event.warnings]


def test_it_goes_on_from_its_parent(order, store):
    run(replace(order, states={e: name(e) for e in range(4)}), Toy(FALLING), store)
    rest = replace(order, parent=name(3), states={e: name(e) for e in range(4, 9)}, val_loss={3: 7.0})
    task = Toy(FALLING)
    assert [event.epoch for event in run(rest, task, store)] == [4, 5, 6, 7, 8]
    assert task.trained == [4, 5, 6, 7, 8]


def test_a_missing_parent_is_said(order, store):
    rest = replace(order, parent=name(3), states={e: name(e) for e in range(4, 9)})
    assert run(rest, Toy(FALLING), store) == [ParentMissing(state_id=name(3))]


def test_a_rule_ends_the_segment_once_no_trial_wants_more(order, store):
    stops = {"first": stop(8, rule="vp", patience=2), "second": stop(8, rule="vp", patience=4)}
    events = run(replace(order, stops=stops), Toy(DIP), store)
    assert [event.epoch for event in events] == list(range(8)), "3 is the best; patience 4 ends at 7"
    assert 7 in kept(store)
    assert 5 in kept(store), "the end of the first trial"


def test_training_that_has_nothing_more_to_do_ends_the_segment_and_keeps_its_end(order, store):
    task = Toy(FALLING)
    task.ends_at = 5
    events = run(order, task, store)
    assert [event.epoch for event in events] == list(range(6))
    assert isinstance(events[-1].val_loss, FinalLoss)
    assert not any(isinstance(event.val_loss, FinalLoss) for event in events[:-1])
    assert 5 in kept(store)
    again = Toy(FALLING)
    assert [event.val_loss for event in run(order, again, store)] == [event.val_loss for event in events]
    assert again.trained == [], "the end is known from its record"


def test_other_tensors_under_the_same_id_are_kept_aside_and_reported(order, store):
    run(replace(order, keep_all=True), Toy(FALLING), store)
    for epoch in range(3, 9):
        store.drop("records", name(epoch))

    class Other(Toy):
        def train_epoch(self, state, regime, epoch):
            values = super().train_epoch(state, regime, epoch)
            state.parameters = {**state.parameters, "other": torch.ones(1)}
            return values

    events = run(replace(order, keep_all=True), Other(FALLING), store)
    warned = [event.epoch for event in events if event.warnings]
    assert warned == [3, 4, 5, 6, 7, 8]
    assert len(list(store.keys("conflicts"))) == 6


# -- failing ---------------------------------------------------------------------------------------------------------


def test_an_exception_is_a_result_with_place_reason_and_traceback(order, store):
    events = run(order, Toy(FALLING, raises={4: KeyError("no such dimension")}), store)
    failed = events[-1]
    assert isinstance(failed, SegmentFailed)
    assert [event.epoch for event in events[:-1]] == [0, 1, 2, 3]
    assert failed.failure.place == "epoch 4"
    assert failed.failure.state_id == name(4)
    assert failed.failure.reason == "KeyError: 'no such dimension'"
    assert "test_loop.py" in failed.failure.details
    stored = json.loads(store.get("failures", name(4)))
    assert stored["reason"] == failed.failure.reason
    assert not read_records(store, name(4))


def test_a_loss_that_is_not_finite_is_a_result_in_its_own_words(order, store):
    events = run(order, Toy({**FALLING, 3: float("nan")}), store)
    assert events[-1].failure.reason == "val_loss is nan"
    assert events[-1].failure.place == "epoch 3"
    events = run(order, Toy(FALLING, raises={2: NonFiniteLoss("training loss is inf at batch 7")}), store)
    assert isinstance(events[2], EpochDone), "epoch 2 was measured before, and is found"


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_out_of_memory_is_an_accident(order, store, kind):
    with pytest.raises(kind):
        run(order, Toy(FALLING, raises={4: kind("out of memory")}), store)
    assert not list(store.keys("failures"))
    again = Toy(FALLING)
    run(order, again, store)
    assert again.trained[-1] == 8


# -- orders ----------------------------------------------------------------------------------------------------------


def test_an_order_survives_its_journey(engine, grid_axes):
    from sweeper.execution.dispatcher import Dispatcher

    sweep = engine.sweep(**grid_axes, stopping={"rule": "vp", "patience": 3, "horizon_after_window": None})
    dispatcher = Dispatcher(
        trials=sweep.trials,
        tree=sweep.tree,
        evaluation=sweep.spec.evaluation,
        val_loss={},
        failures={},
        has_state=lambda state: False,
    )
    order = dispatcher.next_order()
    again = Order.from_json(order.to_json())
    assert again.to_json() == order.to_json()
    assert replace(again, regime=order.regime) == order, "a regime's tuples are lists in JSON; all else is equal"


def test_one_task_serves_all_forks_of_a_sweep(engine, grid_axes):
    sweep = engine.sweep(**grid_axes)
    trials = {trial.trial_id: trial for trial in sweep.trials}
    orders = [Order.of(segment, trials, sweep.spec.evaluation, {}) for segment in sweep.tree.segments.values()]
    assert len(orders) > 5
    assert all(a.task_key() == b.task_key() for a, b in pairwise(orders))
    other = engine.sweep(**grid_axes, model={"adapter": {"rank": 2}})
    others = {trial.trial_id: trial for trial in other.trials}
    segment = next(iter(other.tree.segments.values()))
    assert Order.of(segment, others, other.spec.evaluation, {}).task_key() != orders[0].task_key()


def test_arrays_stay_out_of_states():
    from sweeper.tasks.state import dump_state, load_state

    state = TrainingState(
        parameters={"a": torch.arange(6.0).view(2, 3).T},
        moments={"step/a": torch.tensor(3.0), "exp_avg/a": torch.ones(3, 2)},
        counters={"stage": 2},
    )
    again = load_state(dump_state(state), "cpu")
    assert again.counters == {"stage": 2}
    assert np.array_equal(again.parameters["a"], state.parameters["a"])
    assert again.moments.keys() == state.moments.keys()
    assert again.moments["step/a"].shape == ()
