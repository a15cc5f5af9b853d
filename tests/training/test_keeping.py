"""Which states of a whole sweep remain."""

from sweeper.store.local import LocalStore


def test_trunk_and_windows_keep_all_and_elsewhere_best_end_and_branch_points(engine, tmp_path):
    ran = engine.run(
        tmp_path / "store",
        training={"max_epochs": 9, "optimizer": {"lr": 0.3}},
        stopping={"horizon_after_window": 5},
        perturbation={"kind": "random_target", "start": 2, "length": 2},
    )
    fork, trunk = ran.sweep.trials
    kept = set(LocalStore(tmp_path / "store").keys("states"))
    assert set(trunk.lineage.state_ids) <= kept, "windows may fork from any of them"
    assert set(fork.lineage.state_ids[2:4]) <= kept, "the window"
    assert kept_epochs(fork, kept, after=3) == {best_epoch(ran, fork, first=2), fork.lineage.last_epoch} - {2, 3}


def test_an_undisturbed_sweep_keeps_best_and_end(engine, tmp_path):
    ran = engine.run(tmp_path / "store", training={"max_epochs": 8, "optimizer": {"lr": 0.3}})
    (trial,) = ran.sweep.trials
    kept = set(LocalStore(tmp_path / "store").keys("states"))
    best = best_epoch(ran, trial, first=1)
    assert kept_epochs(trial, kept, after=-1) == {0, best, 8}


def kept_epochs(trial, kept, *, after):
    return {epoch for epoch, state in enumerate(trial.lineage.state_ids) if state in kept and epoch > after}


def best_epoch(ran, trial, *, first):
    curve = ran.outcome.view.curve(trial.trial_id, "val_loss")
    return min((epoch for epoch in curve if epoch >= first), key=lambda epoch: (curve[epoch], epoch))
