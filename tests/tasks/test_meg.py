"""The MEG task: what an epoch does to the numbers, published ways beside the sound ones, perturbations, errors."""

import numpy as np
import pytest
import torch
from sweeper_models.clip_hba_meg import LAYER_WEIGHTS
from sweeper_models.errors import UndefinedLoss

from sweeper.data.split import split_pool
from sweeper.errors import DataError, SpecError
from sweeper.inputs import dataset_of
from sweeper.metrics.time_curves import time_curves
from sweeper.neural import curves_of, series_of, target_participants
from sweeper.spec.variants.clip_hba_meg import Losses
from sweeper.tasks.meg.losses import WeightedLosses
from sweeper.tasks.state import dump_state, load_state, state_bits


def trained(task, regime, epochs, state=None, first=1):
    """Returns a state some epochs on, as the loop trains it, and what was measured on the way."""
    state = state or task.init_state(1)
    seen = []
    for epoch in range(first, epochs + 1):
        values = task.train_epoch(state, regime, epoch)
        values |= task.evaluate(state).values
        seen.append({**values, **task.review(state, values, epoch)})
    return state, seen


def copied(state):
    return load_state(dump_state(state), "cpu")


@pytest.fixture(scope="module")
def task(meg_engine):
    return meg_engine.task()


@pytest.fixture(scope="module")
def regime(meg_engine):
    return meg_engine.regime()


# -- training -----------------------------------------------------------------------------------------------------


def test_the_untrained_model_has_the_sum_of_the_weights_as_its_loss(meg_engine, task):
    assert task.evaluate(task.init_state(1)).values["val_loss"] == pytest.approx(1.25, rel=1e-6)
    other = meg_engine.task(model={"loss": {"w1": 0.5, "w2": 2.0, "w3": 0.0}})
    measured = other.evaluate(other.init_state(1)).values
    assert measured["val_loss"] == pytest.approx(2.5, rel=1e-6)
    assert "val_loss_generalisation" not in measured, "a loss without weight is not computed"


def test_layer_weights_learn_first_and_adapters_with_them_then(task, regime):
    state = task.init_state(1)
    start = copied(state).parameters
    assert LAYER_WEIGHTS in start
    assert not any("magnitude" in name for name in start)
    state, seen = trained(task, regime, 2, state)
    moved = {name for name, tensor in state.parameters.items() if not torch.equal(tensor, start[name])}
    assert moved == {LAYER_WEIGHTS}
    state, more = trained(task, regime, 3, state, first=3)
    moved = {name for name, tensor in state.parameters.items() if not torch.equal(tensor, start[name])}
    assert moved == set(start), "every adapter tensor, once the first stage is over"
    assert [values["stage"] for values in seen + more] == [1, 1, 2]
    assert more[-1]["val_loss"] < 1.25


def test_six_epochs_are_three_saved_loaded_and_three_more(task, regime):
    whole, _ = trained(task, regime, 6)
    for cut in (1, 2, 4):  # before, at and after the change of stage
        part, _ = trained(task, regime, cut)
        part, _ = trained(task, regime, 6, copied(part), first=cut + 1)
        assert state_bits(dump_state(part)) == state_bits(dump_state(whole)), cut


def test_the_cached_prefix_is_the_full_forward(meg_engine):
    found = {}
    for prefix in ("cached", "full"):
        changes = {"numerics": {"prefix": prefix}, "model": {"adapter": {"init": "reference"}}}
        task = meg_engine.task(**changes)
        state, seen = trained(task, meg_engine.regime(**changes), 3)
        found[prefix] = state, seen[-1], task.evaluate(state)
    (ours, our_values, our_outputs), (theirs, their_values, their_outputs) = found["cached"], found["full"]
    for name in ("train_loss", "val_loss", "rsa_validation"):
        assert our_values[name] == pytest.approx(their_values[name], rel=1e-4), name
    for name, tensor in ours.parameters.items():
        assert torch.allclose(tensor, theirs.parameters[name], rtol=1e-3, atol=1e-4), name
    for key, outputs in our_outputs.outputs.items():
        np.testing.assert_allclose(outputs, their_outputs.outputs[key], rtol=1e-3, atol=1e-3)


def test_held_out_outputs_are_there_at_every_time_and_without_noise(task, regime):
    state, _ = trained(task, regime, 1)
    (outputs,) = task.evaluate(state).outputs.values()
    assert outputs.shape == (40, 12, 66)
    assert not outputs[:5].any(), "up to the onset alpha is 0"
    assert (outputs[10:].std(axis=2) > 0).all()
    (again,) = task.evaluate(state).outputs.values()
    assert np.array_equal(outputs, again)


# -- curves and targets -------------------------------------------------------------------------------------------


def test_curves_come_from_what_is_trained_on(meg_engine):
    config = meg_engine.config()
    dataset = dataset_of(config)
    series = series_of(config, dataset)
    assert target_participants(config, series) == ("1", "2"), "the last is left for testing"
    split = split_pool("hashed", config.seeds.split, len(dataset.pool), 0.8)
    names = [dataset.pool.names[row] for row in split.train]
    rdms = [series.mean((person,), names).all() for person in ("1", "2")]
    expected = time_curves(rdms, 5)
    np.testing.assert_array_equal(curves_of(config, dataset).alpha, expected.alpha)
    published = meg_engine.config(model={"curves": {"stimuli": "all", "participants": "all"}})
    everything = time_curves([series.mean((person,), series.names).all() for person in ("1", "2", "3")], 5)
    np.testing.assert_array_equal(curves_of(published, dataset).beta, everything.beta)


PUBLISHED = {
    "all stimuli in the curves": {"model": {"curves": {"stimuli": "all"}}},
    "all participants in the curves": {"model": {"curves": {"participants": "all"}}},
    "frozen batches": {"training": {"batches": "frozen"}},
    "every time": {"model": {"loss": {"times": "all"}}},
    "noise in evaluation": {"model": {"evaluation_noise": "seeded"}},
    "random adapters": {"model": {"adapter": {"init": "reference"}}},
    "weights of zero stay": {"model": {"zero_weights": "stay"}},
    "validation in batches": {"training": {"batch_size": 4}, "model": {"loss": {"validation": "batches"}}},
    "magnitudes": {"model": {"adapter": {"magnitude": "trained"}}},
}


@pytest.mark.parametrize("changes", PUBLISHED.values(), ids=PUBLISHED)
def test_every_published_way_is_another_training(meg_engine, task, regime, changes):
    base = {"training": {"batch_size": 4}} if "training" in changes and "batch_size" in changes["training"] else {}
    sound = (meg_engine.task(**base), meg_engine.regime(**base)) if base else (task, regime)
    _, ours = trained(*sound, 3)
    _, theirs = trained(meg_engine.task(**changes), meg_engine.regime(**changes), 3)
    assert [values["val_loss"] for values in ours] != [values["val_loss"] for values in theirs]


def test_the_validation_rsa_counts_the_same_times_whatever_the_losses_count(meg_engine):
    """A window of 50 ms lends the times before the onset a signal, which losses over all times see."""
    models = [{"curves": {"window_ms": 50.0}, "loss": {"times": times}} for times in ("after_onset", "all")]
    tasks = [meg_engine.task(model=model) for model in models]
    measured = [task.evaluate(task.init_state(1)).values for task in tasks]
    assert measured[0]["val_loss_pearson"] != measured[1]["val_loss_pearson"]
    assert measured[0]["rsa_validation"] == measured[1]["rsa_validation"]


def test_each_subject_is_trained_on_their_own_data_from_the_same_start(meg_engine):
    tasks = [meg_engine.task(subject=subject) for subject in ("1", "2")]
    starts = [task.init_state(1) for task in tasks]
    for name, tensor in starts[0].parameters.items():
        assert torch.equal(tensor, starts[1].parameters[name])
    ends = [trained(task, meg_engine.regime(subject=subject), 1)[0] for task, subject in zip(tasks, "12", strict=True)]
    assert not torch.equal(ends[0].parameters[LAYER_WEIGHTS], ends[1].parameters[LAYER_WEIGHTS])


# -- perturbations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["random_target", "label_shuffle", "time_shuffle", "mean_target", "dim_mean_target", "image_noise",
             "blank_image", "reorder", "freeze"]
)  # fmt: skip
def test_a_perturbation_acts_on_its_epoch(meg_engine, task, regime, kind):
    window = {"kind": kind, "start": 1, "length": 1}
    plain, _ = trained(task, regime, 1)
    state, seen = trained(task, meg_engine.regime(window), 1)
    assert not torch.equal(plain.parameters[LAYER_WEIGHTS], state.parameters[LAYER_WEIGHTS])
    assert np.isfinite(seen[0]["train_loss"])
    again, _ = trained(task, meg_engine.regime(window), 1)
    assert torch.equal(again.parameters[LAYER_WEIGHTS], state.parameters[LAYER_WEIGHTS])


def test_a_perturbation_of_nothing_is_its_trunk(meg_engine, task, regime):
    window = {"kind": "learning_rate", "factor": 1.0, "start": 1, "length": 3}
    plain, _ = trained(task, regime, 3)
    state, _ = trained(task, meg_engine.regime(window), 3)
    assert state_bits(dump_state(state)) == state_bits(dump_state(plain))


# -- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"subject": "9"}, DataError, "subject: participants of meg, each named once. Got 9. Known: 1, 2, 3"),
        ({"model": {"targets": {"participants": ["1", "1"]}}}, DataError, "model.targets.participants: participants"),
        ({"model": {"targets": {"participants": ["1", "2", "3"]}}}, DataError, "evaluation.participants: `others`"),
        ({"model": {"targets": {"series": "eeg"}}}, DataError, "model.targets.series: .* Got 'eeg'. Known: meg"),
        ({"model": {"loss": {"w1": 0, "w2": 0, "w3": 0}}}, SpecError, "one of model.loss.w1, w2 and w3 must be"),
        ({"evaluation": {"layers": ["embedding"]}}, DataError, "evaluation.layers: outputs over time have one layer"),
        ({"data": {"manifest": "builtin:selfmade"}}, DataError, "an RDM series of the manifest"),
        ({"model": {"text_from": "0" * 32}}, SpecError, "model.text_from: names a trial of this store"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_told_at_its_field(meg_engine, changes, error, text):
    with pytest.raises(error, match=text):
        meg_engine.task(**changes)


def test_too_few_stimuli_are_told(meg_engine):
    with pytest.raises(DataError, match=r"RDMs need 3 validation stimuli or more\. Got 2 of 10"):
        meg_engine.task(data={"train_size": 10})


def test_only_times_that_are_all_alike_have_a_generalisation_loss_of_one():
    """A single constant RDM is no untrained model: it is told, as in the data."""
    losses = WeightedLosses(Losses(w1=1, w2=0, w3=1))
    target = torch.rand(4, 10, generator=torch.Generator().manual_seed(1))
    same = target[:1].expand(4, -1).clone()
    assert float(losses.between(same, target)["time_generalisation"]) == 1.0
    one_constant = target.flip(1).clone()
    one_constant[2] = 0.5
    with pytest.raises(UndefinedLoss, match="a constant at time index 2"):
        losses.between(one_constant, target)
    with pytest.raises(UndefinedLoss, match="a constant at time index 2"):
        losses.between(target, one_constant)
    assert float(losses.between(target, one_constant, lenient=True)["time_generalisation"]) == 1.0
