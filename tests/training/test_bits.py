"""The science of sharing: what is trained once must be, bit for bit, what would have been trained alone."""

from pathlib import Path

import pytest

from sweeper.tasks.state import dump_state, load_state, state_bits

OPTIMIZERS = {
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.05},
    "adam": {"name": "adam", "lr": 0.01, "weight_decay": 0.001},
    "sgd": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.001},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_six_epochs_are_three_saved_loaded_and_three(engine, name):
    task = engine.task(training={"optimizer": OPTIMIZERS[name]})
    regime = engine.regime(training={"optimizer": OPTIMIZERS[name]})
    through, halves = task.init_state(1), task.init_state(1)
    losses = [task.train_epoch(through, regime, epoch) for epoch in range(1, 7)]
    first = [task.train_epoch(halves, regime, epoch) for epoch in range(1, 4)]
    again = load_state(dump_state(halves), "cpu")
    second = [task.train_epoch(again, regime, epoch) for epoch in range(4, 7)]
    assert first + second == losses
    assert dump_state(again) == dump_state(through)
    assert task.evaluate(again).values == task.evaluate(through).values


def test_a_forgotten_moment_would_be_noticed(engine):
    task, regime = engine.task(), engine.regime()
    through, halves = task.init_state(1), task.init_state(1)
    for epoch in range(1, 3):
        task.train_epoch(through, regime, epoch)
    task.train_epoch(halves, regime, 1)
    halves.moments.clear()
    task.train_epoch(halves, regime, 2)
    assert dump_state(halves) != dump_state(through)


def test_the_same_state_is_the_same_bytes(engine):
    task, regime = engine.task(), engine.regime()
    state = task.init_state(1)
    task.train_epoch(state, regime, 1)
    data = dump_state(state)
    assert dump_state(load_state(data, "cpu")) == data
    first = next(iter(state.parameters))
    state.parameters[first].view(-1)[0] += 1e-6
    assert state_bits(dump_state(state)) != state_bits(data)


def test_a_fork_without_an_effect_is_its_trunk(engine, reading, tmp_path: Path):
    window = {"kind": "learning_rate", "factor": 1.0, "start": 3, "length": 2}
    ran = engine.run(tmp_path / "store", perturbation=window)
    fork, trunk = ran.sweep.trials
    states, records = reading.states(tmp_path / "store"), reading.records(tmp_path / "store")
    item = next(item.item_id for item in ran.sweep.all_items())
    compared = 0
    for epoch in range(3, 7):
        ours, theirs = fork.lineage.state_ids[epoch], trunk.lineage.state_ids[epoch]
        assert ours != theirs
        for kind in ("training", item):
            assert records[ours, kind] == records[theirs, kind]
        if ours in states and theirs in states:
            compared += 1
            assert states[ours] == states[theirs]
    assert compared >= 3


def test_a_fork_with_an_effect_is_not(engine, reading, tmp_path: Path):
    window = {"kind": "learning_rate", "factor": 1.0001, "start": 3, "length": 1}
    ran = engine.run(tmp_path / "store", perturbation=window)
    fork, trunk = ran.sweep.trials
    states = reading.states(tmp_path / "store")
    assert states[fork.lineage.state_ids[3]] != states[trunk.lineage.state_ids[3]]


@pytest.mark.parametrize(("start", "length"), [(2, 2), (4, 1)])
def test_a_trial_of_the_tree_is_the_trial_alone(engine, grid, reading, tmp_path: Path, start, length):
    ran = engine.run(tmp_path / "alone", perturbation={"kind": "random_target", "start": start, "length": length})
    alone_states, grid_states = reading.states(tmp_path / "alone"), reading.states(grid)
    alone, in_tree = reading.records(tmp_path / "alone"), reading.records(grid)
    assert alone.keys() <= in_tree.keys()
    assert {key: in_tree[key] for key in alone} == alone
    shared = alone_states.keys() & grid_states.keys()
    assert set(ran.sweep.trials[0].lineage.state_ids[:start]) <= shared
    assert ran.sweep.trials[0].lineage.state_ids[-1] in shared
    assert {key: grid_states[key] for key in shared} == {key: alone_states[key] for key in shared}
