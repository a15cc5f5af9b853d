import math

from sweeper.tracking.points import (
    curve_points,
    first_own_start_ms,
    last_measured_ms,
    logged_of,
    settled_summary,
    summary_points,
)

from .conftest import CREATED_AT, ITEM, NEURAL, Sweep


def test_a_curve_is_complete_from_the_untrained_model_on(sweep: Sweep) -> None:
    sweep.finish()
    trial = sweep.trial(3)
    points = [p for p in curve_points(sweep.view(), trial) if p.name == "val/loss"]
    assert [p.step for p in points] == [0, 1, 2, 3, 4, 5, 6]
    assert points[2].value == 10.0 / 3
    assert points[2].timestamp_ms == int((CREATED_AT + 102) * 1000)


def test_absent_is_no_point(sweep: Sweep) -> None:
    sweep.finish()
    points = list(curve_points(sweep.view(), sweep.baseline))
    assert not [p for p in points if p.name == "rsa/behavioral_se"]
    assert min(p.step for p in points if p.name == "train/loss") == 1
    assert all(math.isfinite(p.value) for p in points)


def test_points_behind_an_epoch(sweep: Sweep) -> None:
    sweep.finish()
    assert {p.step for p in curve_points(sweep.view(), sweep.baseline, after=6)} == {7, 8}


def test_what_is_logged_is_the_same_at_once_and_in_parts(sweep: Sweep) -> None:
    sweep.finish()
    view, trial = sweep.view(), sweep.trial(2)
    whole = logged_of(view, trial)
    assert whole.epoch == 5
    assert logged_of(view, trial, before=logged_of(view, trial, 3)) == whole
    assert logged_of(view, trial, before=whole) == whole


def test_an_item_measured_later_changes_what_is_to_be_logged(sweep: Sweep) -> None:
    sweep.finish()
    before = logged_of(sweep.view(), sweep.baseline)
    later = sweep.changed(items=(ITEM, NEURAL)).finish()
    assert logged_of(later.view(), later.baseline) != before


def test_an_open_trial_has_no_summary(sweep: Sweep) -> None:
    sweep.train(sweep.baseline)
    sweep.train(sweep.trial(2), 4)
    assert settled_summary(sweep.view(), sweep.trial(2)) == {}


def test_what_needs_the_baseline_waits_for_it(sweep: Sweep) -> None:
    sweep.train(sweep.baseline, 6)
    sweep.train(sweep.trial(2))
    summary = settled_summary(sweep.view(), sweep.trial(2))
    assert summary["last_epoch"] == 5
    assert not [name for name in summary if name.startswith(("delta", "recover"))]
    sweep.train(sweep.baseline)
    assert settled_summary(sweep.view(), sweep.trial(2))["recovered"] == 1


def test_a_summary_stands_at_the_last_epoch(sweep: Sweep) -> None:
    sweep.finish()
    points = summary_points(sweep.view(), sweep.trial(2), {"best_val_loss": 1.5, "recovery_loss_epochs": None})
    assert [(p.name, p.value, p.step) for p in points] == [("best_val_loss", 1.5, 5)]
    assert points[0].timestamp_ms == last_measured_ms(sweep.view(), sweep.trial(2))


def test_times_of_a_trial(sweep: Sweep) -> None:
    sweep.train(sweep.baseline, 1)
    assert first_own_start_ms(sweep.view(), sweep.trial(2)) is None
    sweep.train(sweep.trial(2), 2)
    assert first_own_start_ms(sweep.view(), sweep.trial(2)) == int((CREATED_AT + 102 + 1 - 0.5) * 1000)
    assert last_measured_ms(Sweep().view(), sweep.baseline) is None
