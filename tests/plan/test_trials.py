"""Trials: roles, baselines, and that the same trial is trained once whoever asks."""

from sweeper.plan.trials import farthest, resolve, trial_id


def test_every_window_gets_one_baseline_behind_the_trials(hand) -> None:
    trials = hand.grid([2, 4], [1, 2]).trials
    assert [trial.role for trial in trials] == ["trial"] * 4 + ["baseline"]
    assert {trial.baseline_id for trial in trials[:4]} == {trials[4].trial_id}
    assert trials[4].baseline_id is None


def test_a_baseline_that_was_asked_for_is_not_added(hand) -> None:
    trials = hand.trials([hand.config(hand.window(2)), hand.config()])
    assert [trial.role for trial in trials] == ["trial", "trial"]
    assert trials[0].baseline_id == trials[1].trial_id


def test_each_way_of_training_has_its_own_baseline(hand) -> None:
    configs = [hand.config(hand.window(2), seeds=seed) for seed in (1, 2)]
    trials = hand.trials(configs)
    baselines = [trial for trial in trials if trial.role == "baseline"]
    assert [trial.baseline_id for trial in trials[:2]] == [trial.trial_id for trial in baselines]
    assert len(baselines) == 2


def test_noise_seeds_share_their_baseline(hand) -> None:
    trials = hand.trials([hand.config(hand.window(2), seeds={"noise": seed}) for seed in (1, 2)])
    assert [trial.role for trial in trials] == ["trial", "trial", "baseline"]


def test_only_a_trial_of_nothing_but_controls_is_a_control(hand) -> None:
    windows = {
        "control": [hand.window(2, kind="freeze")],
        "trial": [hand.window(2, kind="freeze"), hand.window(5)],
    }
    for role, those in windows.items():
        assert hand.trials([hand.config(*those)])[0].role == role


def test_the_same_trial_asked_for_twice_is_one(hand) -> None:
    assert len(hand.trials([hand.config(hand.window(2))] * 2)) == 2  # and its baseline


def test_a_baseline_is_named_by_what_is_not_its_perturbation(hand) -> None:
    swept = (("seeds.noise", 1), ("perturbation.start", 2), ("training.batch_size", 32))
    trials = resolve([(swept, hand.config(hand.window(2)))], lambda config: hand.inputs)
    assert [trial.name for trial in trials] == ["noise=1 start=2 batch_size=32", "batch_size=32"]


def test_the_horizon_makes_no_other_baseline(hand) -> None:
    """It counts after a window; a baseline goes to max_epochs."""
    short, long = (
        hand.config(hand.window(4, 2, "freeze"), stopping={"rule": "horizon", "horizon_after_window": horizon})
        for horizon in (3, 4)
    )
    assert trial_id(short, hand.inputs) != trial_id(long, hand.inputs)
    assert trial_id(short.baseline(), hand.inputs) == trial_id(long.baseline(), hand.inputs)


def test_a_cut_trial_is_the_same_one_as_far_as_it_goes(hand) -> None:
    (whole, baseline) = hand.trials([hand.config(hand.window(4, 2))])
    for trial, last in ((whole, 5), (whole, 2), (baseline, 3)):
        cut = trial.cut(last)
        assert (cut.trial_id, cut.config, cut.name) == (trial.trial_id, trial.config, trial.name)
        assert cut.lineage.state_ids == trial.lineage.state_ids[: last + 1]
        assert (cut.stop.last_epoch, cut.own_stop) == (last, trial.stop)
        assert cut.cut(last + 1) == cut, "what is cut does not grow"
    assert whole.cut(1000).lineage == whole.lineage


def test_of_equal_trials_the_one_that_goes_farthest_stays_in_its_place(hand) -> None:
    one, baseline = hand.trials([hand.config(hand.window(4, 2))])
    cut = [baseline.cut(3), one.cut(4), baseline.cut(5), one, one.cut(5), baseline.cut(2)]
    assert farthest(cut) == (baseline.cut(5), one)
