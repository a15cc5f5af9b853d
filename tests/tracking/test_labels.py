from sweeper.tracking.labels import outcome_tags, params_of, run_name, sweep_tags, trial_tags
from sweeper.tracking.points import settled_summary

from .conftest import Sweep


def test_a_fork_tells_where_it_comes_from(sweep: Sweep) -> None:
    trial = sweep.trial(3)
    tags = trial_tags(sweep.view(), trial, "run0")
    assert tags["sweeper.fork_epoch"] == "2"
    assert tags["sweeper.fork_state"] == sweep.baseline.lineage.state_ids[2]
    assert tags["sweeper.trunk_run"] == "run0"
    assert tags["sweeper.role"] == "trial"
    assert tags["sweeper.tune_trial"] == trial.trial_id[:12]
    assert "sweeper.fork_epoch" not in trial_tags(sweep.view(), sweep.baseline, None)


def test_recovery_is_a_number_of_epochs_or_not_seen() -> None:
    sweep = Sweep(recovery={"comparator": "published"}).finish()
    tags = outcome_tags(sweep.view(), sweep.trial(2), settled_summary(sweep.view(), sweep.trial(2)))
    assert tags["sweeper.recovery"] == "NR (> 3)"
    sweep = sweep.changed(recovery={"comparator": "clean"})
    tags = outcome_tags(sweep.view(), sweep.trial(2), settled_summary(sweep.view(), sweep.trial(2)))
    assert tags["sweeper.recovery"] == "1"


def test_the_best_state_is_one_of_the_trials_own(sweep: Sweep) -> None:
    sweep.finish()
    trial = sweep.trial(2)
    tags = outcome_tags(sweep.view(), trial, settled_summary(sweep.view(), trial))
    assert tags["sweeper.best_state"] == f"states/{trial.lineage.state_ids[5]}"


def test_a_failure_has_place_and_reason(sweep: Sweep) -> None:
    sweep.fail(sweep.trial(2), 3)
    assert outcome_tags(sweep.view(), sweep.trial(2), {})["sweeper.failure"] == "epoch 3, batch 1: the loss is NaN"


def test_parameters_are_the_whole_configuration_without_what_is_absent(sweep: Sweep) -> None:
    params = params_of(sweep.trial(3))
    assert params["perturbation.start"] == "3"
    assert params["perturbation.kind"] == "random_target"
    assert params["training.optimizer.lr"] == "0.0003"
    assert params["data.manifest"] == "things.yaml"
    assert "data.folds" not in params
    assert "None" not in params.values()
    assert not [name for name in params_of(sweep.baseline) if name.startswith("perturbation")]


def test_several_windows_are_told_apart(sweep: Sweep) -> None:
    trial = sweep.trial(3)
    window = trial.config.perturbation[0]
    twice = trial.config.model_copy(update={"perturbation": (window, window.model_copy(update={"start": 5}))})
    object.__setattr__(trial, "config", twice)
    params = params_of(trial)
    assert (params["perturbation.0.start"], params["perturbation.1.start"]) == ("3", "5")


def test_names_for_people(sweep: Sweep) -> None:
    assert [run_name(trial) for trial in sweep.trials] == ["start=2", "start=3", "baseline"]
    assert sweep_tags(Sweep(stand_in=True).view())["sweeper.stand_in"] == "true"
