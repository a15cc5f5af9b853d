"""Taking stock: what is pending, missing and to be rebuilt, given what exists; and the plan in numbers."""

import pytest

from sweeper.plan.estimate import Disk, summarize_plan
from sweeper.plan.stock import Known, StockTaker

VP = {"stopping": {"rule": "vp", "patience": 2}}
FLAT = {0: 9.0, 1: 5.0, 2: 6.0, 3: 6.0}  # under vp, patience 2, a baseline ends at epoch 3


DISK = Disk(features=1, states=2, records=3, mlflow=4)


def summary(shop, seconds=()):
    return summarize_plan(
        shop.trials,
        shop.tree,
        shop.stock,
        shop.val_loss,
        seconds,
        "sweep",
        Disk(features=1, states=2, records=3, mlflow=4),
    )


def measure_all(shop, *, keep=True) -> None:
    for trial in shop.trials:
        shop.measure(trial, range(trial.lineage.last_epoch + 1), keep=keep)


def check_sums(shop) -> None:
    numbers = summary(shop)
    assert numbers.epochs_in_ledger + numbers.epochs_to_run == numbers.epochs_distinct


def test_before_the_first_run_all_is_pending(hand) -> None:
    shop = hand.grid([3, 6], [1, 2])
    assert shop.stock.pending == tuple(shop.tree.segments)
    numbers = summary(shop)
    assert (numbers.trials, numbers.baselines, numbers.segments) == (4, 1, 11)
    assert numbers.epochs_requested == 12 + 7 + 8 + 10 + 11
    assert numbers.epochs_distinct == numbers.epochs_to_run == 12 + (2 + 4 + 4) + (2 + 4 + 4)
    assert (numbers.epochs_in_ledger, numbers.epochs_to_rebuild) == (0, 0)
    assert not numbers.is_upper_bound


def test_the_untrained_model_is_no_epoch(hand) -> None:
    shop = hand.grid([1], [1])
    assert shop.stock.missing == 12 + 1 + 4
    assert summary(shop).segments == 3


def test_a_finished_sweep_leaves_nothing(hand) -> None:
    shop = hand.grid([3, 6], [1, 2])
    measure_all(shop, keep=False)
    assert shop.stock.pending == ()
    numbers = summary(shop)
    assert (numbers.epochs_to_run, numbers.epochs_to_rebuild) == (0, 0)
    assert numbers.epochs_in_ledger == numbers.epochs_distinct == 32


def test_a_half_trained_segment_is_pending_for_what_it_lacks(hand) -> None:
    shop = hand.grid([3], [1])
    shop.measure(shop.baseline, range(8))
    assert shop.pending() == [(3, 12), (3, 3), (4, 7)]
    assert (shop.stock.missing, shop.stock.rebuilt) == (5 + 5, 0)
    check_sums(shop)


def test_extending_a_grid_leaves_the_new_trials_only(hand) -> None:
    shop = hand.grid([3], [1])
    measure_all(shop)
    larger = hand.grid([3], [1, 2])
    larger.val_loss, larger.states = shop.val_loss, shop.states
    assert larger.pending() == [(4, 4), (5, 8)]
    assert (summary(larger).epochs_in_ledger, summary(larger).epochs_to_run) == (17, 5)


def test_epochs_whose_states_were_dropped_are_rebuilt_for_a_new_fork(hand) -> None:
    shop = hand.grid([6], [1])
    shop.measure(shop.baseline, range(13), keep=False)
    shop.states.add(shop.baseline.lineage.state_ids[2])
    assert shop.pending() == [(0, 5), (6, 6), (7, 10)]
    numbers = summary(shop)
    assert (numbers.epochs_in_ledger, numbers.epochs_to_run, numbers.epochs_to_rebuild) == (12, 5, 3)


def test_nothing_is_rebuilt_that_nothing_needs(hand) -> None:
    shop = hand.grid([6], [1])
    shop.measure(shop.baseline, range(13), keep=False)
    shop.measure(shop.trial(6), range(11), keep=False)
    assert shop.stock.pending == ()


def test_segments_on_the_way_are_rebuilt_back_to_the_newest_state(hand) -> None:
    shop = hand.grid([3], [1, 3])
    measure_all(shop, keep=False)
    shop.states.add(shop.baseline.lineage.state_ids[2])
    del shop.val_loss[shop.trial(3, 3).lineage.state_ids[7]]
    assert shop.pending() == [(3, 3), (4, 5), (6, 9)]
    assert (shop.stock.missing, shop.stock.rebuilt) == (1, 3 + 3), "epochs 8 and 9 lie behind the gap"


def test_a_curve_that_ended_early_is_complete(hand) -> None:
    shop = hand.shop(hand.config(**VP))
    shop.measure(shop.trials[0], {0: 9.0, 1: 5.0, 2: 6.0})
    assert shop.pending() == [(0, 12)]
    assert summary(shop).is_upper_bound
    shop.measure(shop.trials[0], FLAT)
    assert shop.pending() == []
    numbers = summary(shop)
    assert (numbers.epochs_requested, numbers.epochs_distinct, numbers.epochs_to_run) == (3, 3, 0)
    assert not numbers.is_upper_bound


def test_a_start_right_after_the_baselines_end_is_trained(hand) -> None:
    shop = hand.grid([4], [1], **VP)
    shop.measure(shop.baseline, FLAT)
    assert shop.pending() == [(4, 4), (5, 12)]


def test_a_start_beyond_the_baselines_end_is_never_pending(hand) -> None:
    shop = hand.grid([6], [1], **VP)
    shop.measure(shop.baseline, FLAT)
    assert shop.pending() == []
    numbers = summary(shop)
    assert (numbers.epochs_requested, numbers.epochs_distinct, numbers.epochs_to_run) == (6, 3, 0)


def test_nor_where_another_sweep_went_on_longer(hand) -> None:
    """What a sweep trains is decided by its own rule, not by what else is in the store."""
    shop = hand.grid([6], [1], **VP)
    shop.measure(shop.baseline, {**FLAT, **dict.fromkeys(range(4, 13), 7.0)})
    assert shop.pending() == []


def test_trials_that_end_elsewhere_leave_the_longest(hand) -> None:
    impatient, patient = ({"stopping": {"rule": "vp", "patience": patience}} for patience in (2, 5))
    shop = hand.shop(hand.config(**impatient), hand.config(**patient))
    shop.measure(shop.trials[0], FLAT)
    assert shop.pending() == [(0, 12)]
    assert summary(shop).epochs_requested == 3 + 12
    check_sums(shop)


def test_nothing_behind_a_failure_is_pending(hand) -> None:
    shop = hand.grid([3, 6], [1])
    shop.measure(shop.baseline, range(4))
    shop.failed.add(shop.baseline.lineage.state_ids[4])
    assert shop.pending() == [(3, 3), (4, 7)]
    shop.failed.add(shop.trial(3).lineage.state_ids[3])
    assert shop.pending() == []
    assert summary(shop).epochs_requested == 3 + 2 + 3
    check_sums(shop)


def test_what_was_made_after_all_is_no_failure(hand) -> None:
    shop = hand.grid([6], [1])
    shop.measure(shop.baseline, range(6))
    shop.failed.add(shop.baseline.lineage.state_ids[5])
    assert shop.pending() == [(6, 12), (6, 6), (7, 10)]


def test_a_damaged_record_in_the_middle_is_made_again(hand) -> None:
    shop = hand.grid([6], [1])
    measure_all(shop)
    del shop.val_loss[shop.baseline.lineage.state_ids[3]]
    assert shop.pending() == [(0, 5)]
    assert (shop.stock.missing, shop.stock.rebuilt, shop.stock.remeasured) == (1, 0, 2), "4 and 5 have their states"


@pytest.mark.parametrize("done", range(13))
def test_the_sums_hold_wherever_a_run_was_cut(hand, done) -> None:
    shop = hand.grid([3, 6], [1, 2])
    for trial in shop.trials:
        shop.measure(trial, range(min(done, trial.lineage.last_epoch) + 1))
    check_sums(shop)


def test_time_is_measured_quartiles_times_epochs(hand) -> None:
    shop = hand.grid([3], [1])
    numbers = summary(shop, seconds=[4.0, 1.0, 2.0, 3.0, 5.0])
    assert numbers.seconds_per_epoch == (2.0, 3.0, 4.0)
    assert numbers.seconds_to_run == (34.0, 51.0, 68.0)
    assert "51 s (34 s to 1 min 08 s; from measured epochs of 3 s)" in numbers.to_text()
    assert "unknown" in summary(shop).to_text()
    assert summary(shop, seconds=[2.0]).seconds_per_epoch == (2.0, 2.0, 2.0)


def test_the_plan_has_the_names_that_others_build_on(hand) -> None:
    fields = summary(hand.grid([3], [1])).to_json()
    whole = {name for name, value in fields.items() if isinstance(value, int)}
    assert {
        "trials",
        "baselines",
        "segments",
        "epochs_requested",
        "epochs_in_ledger",
        "epochs_to_run",
        "epochs_to_rebuild",
        "is_upper_bound",
    } <= whole


@pytest.mark.parametrize("kept", [True, False])
def test_a_new_layer_wants_no_epoch_behind_the_stop(hand, kept) -> None:
    """All is recorded, but nothing measures what is wanted since; early stopping ended the curve long ago."""
    shop = hand.shop(hand.config(**VP))
    shop.measure(shop.trials[0], FLAT, keep=kept)
    known = Known(val_loss={}, failed=set(), has_state=shop.states.__contains__, partly=dict(shop.val_loss))
    stock = StockTaker(shop.trials, shop.tree, known).stock
    trained = len(FLAT) - 1  # epoch 0 is the untrained model
    assert (stock.missing, stock.rebuilt, stock.remeasured) == ((0, 0, trained) if kept else (0, trained, 0))
