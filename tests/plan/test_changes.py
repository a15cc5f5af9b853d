"""Why nothing is reused, in one line."""

from dataclasses import replace

import pytest

from sweeper.plan.changes import why_not_reused

FILES = (("training images", "a" * 64), ("targets", "b" * 64))


def why(before, now, recorded=None):
    if recorded is None:
        recorded = {state for trial in before for state in trial.lineage.state_ids}
    return why_not_reused(before, 3, 1_780_000_000.0, now, recorded)


@pytest.fixture
def trials(hand):
    """Makes a window at epoch 2 under some inputs and sections; the baseline goes with it."""

    def make(inputs=hand.inputs, window=None, **sections):
        return hand.trials([hand.config(window or hand.window(2), **sections)], inputs)

    return make


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ((("training images", "c" * 64), FILES[1]), "the training images (other bytes);"),
        ((FILES[0], ("targets", "c" * 64)), "the targets (other bytes);"),
    ],
)
def test_a_changed_data_file_is_named(hand, trials, now, says) -> None:
    before = trials(replace(hand.inputs, files=FILES))
    line = why(before, trials(replace(hand.inputs, data="other pool", files=now)))
    assert line.startswith("changed since revision 3 (2026-0")
    assert says in line
    epochs = len({state for trial in before for state in trial.lineage.state_ids[1:]})
    assert line.endswith(f"none of its {epochs} epochs is reused")


def test_a_revision_of_an_older_version_knows_less(hand, trials) -> None:
    line = why(trials(), trials(replace(hand.inputs, data="other pool", files=FILES)))
    assert "the training images or targets (other bytes)" in line


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"training": {"max_epochs": 12, "optimizer": {"lr": 0.5}}}, "training.optimizer.lr 0.0003 -> 0.5;"),
        ({"training": {"max_epochs": 12, "batch_size": 7}}, "training.batch_size 64 -> 7;"),
        ({"seeds": {"init": 9}}, "seeds.init 1 -> 9;"),
        ({"numerics": {"threads": 2}}, "numerics.threads 1 -> 2;"),
        ({"model": {"adapter": {"rank": 3}}}, "model.adapter.rank 32 -> 3;"),
    ],
)
def test_a_changed_field_is_named_with_its_values(trials, sections, says) -> None:
    assert f": {says} none of its" in why(trials(), trials(**sections))


def test_another_kind_of_window_keeps_the_trunk(hand, trials) -> None:
    line = why(trials(), trials(window=hand.window(2, kind="label_shuffle")))
    assert ": perturbation; " in line
    assert " of its " in line


def test_other_weights_are_named_without_their_digest(hand, trials) -> None:
    model = (("activation", "quick_gelu"), ("weights", "0" * 64))
    line = why(
        trials(replace(hand.inputs, model=(model[0], ("weights", "1" * 64)))), trials(replace(hand.inputs, model=model))
    )
    assert ": the weights of the network; " in line


def test_a_longer_grid_or_a_shorter_one_says_nothing(hand) -> None:
    small, large = hand.grid([2], [1]).trials, hand.grid([2, 5], [1, 2]).trials
    assert why(small, large) is None
    assert why(large, small) is None
    assert why(small, small) is None


def test_nothing_measured_is_nothing_lost(trials) -> None:
    assert why(trials(), trials(seeds={"init": 9}), recorded=set()) is None


def test_with_other_axes_the_first_trials_are_compared(hand) -> None:
    before = hand.grid([2], [1]).trials
    now = hand.grid([5], [2], training={"max_epochs": 12, "batch_size": 7}).trials
    assert ": training.batch_size 64 -> 7; " in why([before[0]], [now[0]])
