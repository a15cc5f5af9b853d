"""The behaviour task: what one epoch does to the numbers, and what each perturbation does to an epoch."""

import itertools
import random

import numpy as np
import pytest
import torch
from sweeper_models.backbones import load_backbone
from torch.nn import functional

from sweeper.data.split import batch_order, split_pool
from sweeper.inputs import dataset_of, preprocessing_of, weights_of
from sweeper.metrics.rdm import compute_rdm
from sweeper.tasks.base import NonFiniteLoss
from sweeper.tasks.state import dump_state, load_state

REFERENCE_INIT = {"adapter": {"init": "reference"}}


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm().clamp_min(1e-30))


def trained(task, regime, epochs=1, seed=1):
    """Returns a state some epochs on, and the losses on the way."""
    state = task.init_state(seed)
    losses = [task.train_epoch(state, regime, epoch)["train_loss"] for epoch in range(1, epochs + 1)]
    return state, losses


def copied(state):
    return load_state(dump_state(state), "cpu")


@pytest.fixture(scope="module")
def task(engine):
    return engine.task()


@pytest.fixture(scope="module")
def config(engine):
    return engine.config()


def plain_batches(config, epoch):
    dataset = dataset_of(config)
    split = split_pool("hashed", config.seeds.split, len(dataset.pool), config.data.train_fraction)
    order = batch_order("hashed", config.seeds.order, epoch, len(split.train))
    size = config.training.batch_size
    rows = [split.train[order[first : first + size]] for first in range(0, len(order), size)]
    return rows, split, dataset


# -- the frozen prefix against the whole network -------------------------------------------------------------------


def test_the_cached_prefix_is_the_full_forward(engine):
    results = {}
    for prefix in ("cached", "full"):
        numerics = {"prefix": prefix}
        evaluation = {"layers": ["output", "embedding"]}
        task = engine.task(numerics=numerics, evaluation=evaluation, model=REFERENCE_INIT)
        state, losses = trained(task, engine.regime(numerics=numerics, model=REFERENCE_INIT))
        results[prefix] = state, losses[0], task.evaluate(state)
    (ours, our_loss, our_values), (theirs, their_loss, their_values) = results["cached"], results["full"]
    assert our_loss == pytest.approx(their_loss, rel=1e-5)
    assert our_values.values["val_loss"] == pytest.approx(their_values.values["val_loss"], rel=1e-5)
    assert our_values.outputs.keys() == their_values.outputs.keys()
    assert len(our_values.outputs) == 2
    for key, outputs in our_values.outputs.items():
        assert relative(torch.from_numpy(outputs), torch.from_numpy(their_values.outputs[key])) < 1e-5
        rdms = [torch.from_numpy(compute_rdm(each)) for each in (outputs, their_values.outputs[key])]
        assert relative(*rdms) < 1e-5
    assert ours.parameters.keys() == theirs.parameters.keys()
    for name, tensor in ours.parameters.items():
        assert relative(tensor, theirs.parameters[name]) < 1e-5, name


@pytest.mark.parametrize("kind", ["image_noise", "blank_image"])
def test_replaced_images_go_through_the_prefix(engine, kind):
    window = {"kind": kind, "start": 1, "length": 1}
    losses = {}
    for prefix in ("cached", "full"):
        numerics = {"prefix": prefix}
        _, losses[prefix] = trained(engine.task(numerics=numerics), engine.regime(window, numerics=numerics))
    _, undisturbed = trained(engine.task(), engine.regime())
    assert losses["cached"] == pytest.approx(losses["full"], rel=1e-5)
    assert losses["cached"] != pytest.approx(undisturbed, rel=1e-3)


# -- against plain loops ---------------------------------------------------------------------------------------------


def test_losses_are_those_of_a_plain_loop(engine, task, config):
    state = task.init_state(1)
    frozen = copied(state)
    loss = task.train_epoch(frozen, engine.regime({"kind": "freeze", "start": 1, "length": 1}), 1)["train_loss"]
    rows, split, dataset = plain_batches(config, 1)
    assert len({len(batch) for batch in rows}) == 2, "the last batch is smaller, else weighting is not tested"
    outputs = plain_outputs(config, state)
    targets = torch.from_numpy(dataset.targets)
    per_item = (outputs - targets).double().square().mean(dim=1)
    samples = np.concatenate(rows)
    assert loss == pytest.approx(float(per_item[samples].mean()), rel=1e-6)
    assert task.evaluate(state).values["val_loss"] == pytest.approx(float(per_item[split.val].mean()), rel=1e-6)


def plain_model(config):
    from sweeper_models.adapter import AdapterConfig
    from sweeper_models.clip_hba import ClipHba

    adapter = config.model.adapter
    return ClipHba(load_backbone(weights_of(config.model)), AdapterConfig(**adapter.model_dump()), seed=1)


@torch.no_grad()
def plain_outputs(config, state):
    model = plain_model(config)
    model.load_state_dict(dict(state.parameters), strict=False)
    pool = dataset_of(config).pool
    size = load_backbone(weights_of(config.model)).image_size
    return model(torch.from_numpy(pool.pixels(range(len(pool)), size, preprocessing_of(config.data))))


@pytest.mark.parametrize(
    ("fields", "make"),
    [
        (
            {"name": "adamw", "lr": 0.01, "weight_decay": 0.05, "betas": [0.8, 0.99], "eps": 1e-6},
            lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.05, betas=(0.8, 0.99), eps=1e-6),
        ),
        (
            {"name": "adam", "lr": 0.01, "weight_decay": 0.001},
            lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.001),
        ),
        (
            {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.001},
            lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.001),
        ),
        ({"name": "sgd", "lr": 0.05, "weight_decay": 0.0}, lambda p: torch.optim.SGD(p, lr=0.05)),
    ],
    ids=["adamw", "adam", "momentum", "sgd"],
)
def test_optimisers_go_on_as_one_uninterrupted_torch_loop(engine, fields, make):
    training = {"optimizer": fields}
    config, task, regime = (
        engine.config(training=training),
        engine.task(training=training),
        engine.regime(training=training),
    )
    state = task.init_state(1)
    model = plain_model(config)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    parameters = dict(model.named_parameters())
    optimizer = make([parameters[name] for name in state.parameters])
    assert sorted(names) == list(state.parameters)
    for epoch in (1, 2, 3):
        task.train_epoch(state, regime, epoch)
        state = copied(state)
        rows, _, dataset = plain_batches(config, epoch)
        features = task._pool
        for batch in rows:
            optimizer.zero_grad()
            outputs = model.forward_prefix(features.batch(batch))
            functional.mse_loss(outputs, torch.from_numpy(dataset.targets[batch])).backward()
            optimizer.step()
    for name, tensor in state.parameters.items():
        assert torch.equal(tensor, parameters[name].detach()), name


# -- what stays untouched ---------------------------------------------------------------------------------------------


def test_only_adapters_learn_and_the_module_stays_as_it_is(engine):
    task = engine.task(model=REFERENCE_INIT)
    before = {name: tensor.clone() for name, tensor in task._model.state_dict().items()}
    start = task.init_state(1)
    state, _ = trained(task, engine.regime(model=REFERENCE_INIT))
    after = task._model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert state.parameters.keys() == start.parameters.keys()
    assert all(not torch.equal(tensor, start.parameters[name]) for name, tensor in state.parameters.items())
    assert list(state.parameters) == sorted(state.parameters)
    assert all("out_proj" in name for name in state.parameters)


def test_no_global_generator_is_read_or_moved(engine):
    regimes = [
        engine.regime({"kind": kind, "start": 1, "length": 1, **noise})
        for kind, noises in (
            ("random_target", [{"noise": "published"}, {"noise": "fresh"}]),
            ("label_shuffle", [{"noise": "published"}, {"noise": "fresh"}]),
            ("image_noise", [{"noise": "published"}, {"noise": "fresh"}]),
            ("reorder", [{}]),
        )
        for noise in noises
    ]

    def run():
        task = engine.task()
        return [dump_state(trained(task, regime)[0]) for regime in regimes]

    def generators():
        return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state())

    before = generators()
    first = run()
    assert generators() == before
    torch.manual_seed(77)
    random.seed(77)
    np.random.seed(77)
    assert run() == first


def test_evaluation_changes_nothing(engine, task):
    state, _ = trained(task, engine.regime())
    before = dump_state(state)
    first, second = task.evaluate(state), task.evaluate(state)
    assert dump_state(state) == before
    assert first.values == second.values
    assert all(np.array_equal(first.outputs[key], second.outputs[key]) for key in first.outputs)


def test_the_distance_from_the_start(engine, task):
    state, _ = trained(task, engine.regime())
    start = task.init_state(1)
    assert task.evaluate(start).values["adapter_distance"] == 0.0
    flat = torch.cat(
        [(state.parameters[name] - start.parameters[name]).double().flatten() for name in start.parameters]
    )
    assert task.evaluate(state).values["adapter_distance"] == pytest.approx(float(flat.norm()), rel=1e-9)


# -- perturbations ----------------------------------------------------------------------------------------------------

CHANGING = [
    {"kind": "random_target"},
    {"kind": "random_target", "distribution": "normal"},
    {"kind": "random_target", "noise": "published"},
    {"kind": "label_shuffle"},
    {"kind": "label_shuffle", "noise": "published"},
    {"kind": "image_noise"},
    {"kind": "image_noise", "noise": "published"},
    {"kind": "image_noise", "distribution": "target"},
    {"kind": "blank_image"},
    {"kind": "blank_image", "value": -1.0},
    {"kind": "mean_target"},
    {"kind": "dim_mean_target"},
    {"kind": "freeze"},
    {"kind": "reorder"},
    {"kind": "reset_optimizer"},
    {"kind": "learning_rate", "factor": 0.5},
    {"kind": "weight_decay", "value": 0.5},
]


def test_each_kind_makes_an_epoch_of_its_own(engine, task):
    start, _ = trained(task, engine.regime())
    results = {"undisturbed": dump_state(after(task, start, engine.regime()))}
    for fields in CHANGING:
        window = {**fields, "start": 2, "length": 1}
        results[str(fields)] = dump_state(after(task, start, engine.regime(window)))
    same = [(a, b) for a, b in itertools.combinations(results, 2) if results[a] == results[b]]
    assert not same


def after(task, state, regime, epoch=2):
    state = copied(state)
    task.train_epoch(state, regime, epoch)
    return state


def test_freeze_keeps_tensors_while_the_clock_runs(engine, task):
    start, _ = trained(task, engine.regime())
    frozen = engine.regime({"kind": "freeze", "start": 2, "length": 2})
    held = after(task, start, frozen, epoch=2)
    assert dump_state(held) == dump_state(start)
    on = after(task, held, engine.regime(), epoch=3)
    assert dump_state(on) == dump_state(after(task, start, engine.regime(), epoch=3))
    assert dump_state(on) != dump_state(after(task, start, engine.regime(), epoch=2))


def test_a_frozen_epoch_still_has_a_loss(engine, task):
    start = task.init_state(1)
    loss = task.train_epoch(start, engine.regime({"kind": "freeze", "start": 1, "length": 1}), 1)["train_loss"]
    assert np.isfinite(loss)
    assert loss > 0


def test_learning_rate_zero_moves_moments_only(engine, task):
    start, _ = trained(task, engine.regime())
    result = after(task, start, engine.regime({"kind": "learning_rate", "factor": 0.0, "start": 2, "length": 1}))
    assert all(torch.equal(tensor, start.parameters[name]) for name, tensor in result.parameters.items())
    assert any(not torch.equal(tensor, start.moments[name]) for name, tensor in result.moments.items())


def test_learning_rate_factors_are_learning_rates(engine, task):
    half = {"optimizer": {"lr": 0.005}}
    start, _ = trained(task, engine.regime())
    factor = after(task, start, engine.regime({"kind": "learning_rate", "factor": 0.5, "start": 2, "length": 1}))
    assert dump_state(factor) == dump_state(after(task, start, engine.regime(training=half)))


def test_weight_decay_is_that_of_the_window(engine, task):
    start, _ = trained(task, engine.regime())
    window = after(task, start, engine.regime({"kind": "weight_decay", "value": 0.5, "start": 2, "length": 1}))
    assert dump_state(window) == dump_state(
        after(task, start, engine.regime(training={"optimizer": {"weight_decay": 0.5}}))
    )


def test_reset_forgets_the_moments_once(engine, task):
    start, _ = trained(task, engine.regime())
    forgetful = copied(start)
    forgetful.moments.clear()
    reset = after(task, start, engine.regime({"kind": "reset_optimizer", "start": 2, "length": 3}))
    assert dump_state(reset) == dump_state(after(task, forgetful, engine.regime()))
    trial = engine.sweep(perturbation={"kind": "reset_optimizer", "start": 2, "length": 3}).trials[0]
    active = [s.regime.fields["perturbation"] is not None for s in trial.lineage.stretches]
    assert active == [False, True, False]
    assert (trial.lineage.stretches[1].first_epoch, trial.lineage.stretches[1].last_epoch) == (2, 2)


def test_reorder_sees_the_same_items(engine, task):
    reorder = engine.regime({"kind": "reorder", "start": 1, "length": 2})
    frozen = engine.regime({"kind": "reorder", "start": 1, "length": 2}, {"kind": "freeze", "start": 1, "length": 2})
    plain = engine.regime({"kind": "freeze", "start": 1, "length": 2})
    state, _ = trained(task, engine.regime())
    before = task.train_epoch(copied(state), plain, 1)["train_loss"]
    assert task.train_epoch(copied(state), frozen, 1)["train_loss"] == pytest.approx(before, rel=1e-6)
    first, second = after(task, state, reorder, epoch=1), after(task, state, reorder, epoch=2)
    assert dump_state(first) != dump_state(second), "every epoch has an order of its own"


def test_published_noise_repeats_in_a_window_and_fresh_noise_does_not(engine, task):
    for noise, repeats in (("published", True), ("fresh", False)):
        fields = {"kind": "random_target", "noise": noise, "start": 1, "length": 2}
        frozen = engine.regime(fields, {"kind": "freeze", "start": 1, "length": 2})
        targets = [next(task._steps(_disturbance(frozen), epoch))[2] for epoch in (1, 2)]
        assert torch.equal(*targets) is repeats


def _disturbance(regime):
    from sweeper.perturbations import Disturbance

    return Disturbance.of(regime)


def test_a_loss_that_is_not_finite_is_named_with_its_batch(engine, task):
    regime = engine.regime(training={"optimizer": {"lr": 1e30}})
    state = task.init_state(1)
    with pytest.raises(NonFiniteLoss, match=r"training loss is (nan|inf) at batch [12]"):
        task.train_epoch(state, regime, 1)
