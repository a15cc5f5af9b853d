import sqlite3
from pathlib import Path

import pytest

from sweeper.errors import TrackingError
from sweeper.store.local import LocalStore
from sweeper.tracking.address import damaged_database
from sweeper.tracking.mlflow_tracker import MlflowTracker, experiment_name

from .conftest import ITEM, NEURAL, Server, Sweep


def test_every_run_holds_its_complete_curve(server: Server, sweep: Sweep) -> None:
    server.sync(sweep.finish().view())
    for trial in sweep.trials:
        curve = server.curve(server.run(trial.trial_id), "val/loss")
        assert curve == sorted(sweep.view().curve(trial.trial_id, "val_loss").items())
        assert [step for step, _ in curve] == list(range(len(trial.lineage.state_ids)))


def test_a_sweep_is_a_parent_with_children(server: Server, sweep: Sweep) -> None:
    server.sync(sweep.finish().view())
    assert server.counts()["runs"] == 4
    parent, fork = server.parent(), server.run(sweep.trial(3).trial_id)
    tags = server.tags(fork)
    assert tags["mlflow.parentRunId"] == parent
    assert tags["mlflow.runName"] == "start=3"
    assert tags["sweeper.sweep_id"] == f"small@{server.store.store_id}"
    assert tags["sweeper.trunk_run"] == server.run(sweep.baseline.trial_id)
    assert tags["sweeper.recovery"] == "1"
    assert {server.status(run) for run in (parent, fork)} == {"FINISHED"}
    assert server.latest(fork)["recovery/loss_epochs_at_least"] == 1.0
    assert "recovery/loss_epochs_published" not in server.latest(fork)  # not recovered is absent


def test_spec_and_configuration_are_artifacts_beside_the_database(server: Server, sweep: Sweep) -> None:
    server.sync(sweep.finish().view())
    assert server.files(server.parent()) == {"spec.yaml": b"name: small\n"}
    assert b'"start": 2' in server.files(server.run(sweep.trial(2).trial_id))["config.json"]


def test_syncing_again_changes_nothing(server: Server, sweep: Sweep) -> None:
    view = sweep.finish().view()
    server.sync(view)
    before = server.content()
    server.sync(view)
    assert server.content() == before


def test_nothing_depends_on_what_a_run_says_of_itself(server: Server, sweep: Sweep) -> None:
    view = sweep.finish().view()
    server.sync(view)
    before = server.counts()
    with sqlite3.connect(server.uri.removeprefix("sqlite:///")) as connection:
        connection.execute("DELETE FROM tags WHERE key LIKE 'sweeper.logged%'")
        connection.execute("DELETE FROM metrics WHERE step = 4")
    connection.close()
    server.sync(view)
    assert server.counts() == before


def test_an_interrupted_sweep_goes_on_in_the_same_runs(server: Server, sweep: Sweep) -> None:
    first = server.tracker()
    first.start(sweep.view())
    run = server.run(sweep.trial(2).trial_id)
    assert server.status(run) == "RUNNING"
    sweep.train(sweep.baseline, 4)
    sweep.train(sweep.trial(2), 3)
    first.push(sweep.view(), [sweep.baseline.trial_id, sweep.trial(2).trial_id])
    assert [step for step, _ in server.curve(run, "val/loss")] == [0, 1, 2, 3]
    first.finish(sweep.view())
    assert server.status(run) == server.status(server.parent()) == "KILLED"
    assert "best_val_loss" not in server.latest(run)
    second = server.tracker()
    second.start(sweep.view())
    assert server.status(run) == server.status(server.parent()) == "RUNNING"
    sweep.finish()
    second.push(sweep.view(), [trial.trial_id for trial in sweep.trials])
    second.finish(sweep.view())
    assert server.status(run) == "FINISHED"
    resumed = server.counts()
    server.sync(sweep.view())
    assert server.counts() == resumed
    assert server.run(sweep.trial(2).trial_id) == run
    assert len(server.curve(run, "best_val_loss")) == 1


def test_a_killed_driver_leaves_nothing_that_is_logged_twice(server: Server, sweep: Sweep) -> None:
    for last in range(9):  # a new driver after every epoch, none of which ends in peace
        for trial in sweep.trials:
            sweep.train(trial, last)
        tracker = server.tracker()
        tracker.start(sweep.view())
        tracker.push(sweep.view(), [trial.trial_id for trial in sweep.trials])
    server.sync(sweep.view())
    piecewise = server.counts()
    at_once = Server(server.uri.replace("mlflow.db", "other.db"), server.store)
    empty = Path(server.uri.removeprefix("sqlite:///"))
    with sqlite3.connect(empty) as source, sqlite3.connect(empty.with_name("other.db")) as target:
        source.backup(target)
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            target.execute(f"DELETE FROM {table}")
    source.close()
    target.close()
    at_once.sync(sweep.view())
    assert at_once.counts() == piecewise


def test_the_trunk_part_waits_for_the_trials_own_first_epoch(server: Server, sweep: Sweep) -> None:
    sweep.train(sweep.baseline, 3)
    tracker = server.tracker()
    tracker.start(sweep.view())
    tracker.push(sweep.view(), [trial.trial_id for trial in sweep.trials])
    run = server.run(sweep.trial(3).trial_id)
    assert server.curve(run, "val/loss") == []
    tracker.finish(sweep.view())
    assert [step for step, _ in server.curve(run, "val/loss")] == [0, 1, 2]


def test_recoveries_follow_when_the_baseline_ends(server: Server, sweep: Sweep) -> None:
    sweep.train(sweep.baseline, 6)
    sweep.train(sweep.trial(2))
    tracker = server.tracker()
    tracker.start(sweep.view())
    run = server.run(sweep.trial(2).trial_id)
    assert "best_val_loss" in server.latest(run)
    assert "recovered" not in server.latest(run)
    sweep.train(sweep.baseline)
    tracker.push(sweep.view(), [sweep.baseline.trial_id])
    assert server.latest(run)["recovered"] == 1.0


def test_trials_that_do_not_recover_stay_in_every_comparison(server: Server) -> None:
    sweep = Sweep(recovery={"comparator": "published"}).finish()
    server.sync(sweep.view())
    run = server.run(sweep.trial(2).trial_id)
    latest = server.latest(run)
    assert server.tags(run)["sweeper.recovery"] == "NR (> 3)"
    assert "recovery/loss_epochs" not in latest
    assert (latest["recovery/loss_epochs_at_least"], latest["recovered"]) == (3.0, 0.0)


def test_a_failed_trial_says_why_until_it_is_retried(server: Server, sweep: Sweep) -> None:
    sweep.train(sweep.baseline)
    sweep.train(sweep.trial(3))
    sweep.fail(sweep.trial(2), 4)
    server.sync(sweep.view())
    run = server.run(sweep.trial(2).trial_id)
    assert server.status(run) == server.status(server.parent()) == "FAILED"
    assert server.tags(run)["sweeper.failure"] == "epoch 4, batch 1: the loss is NaN"
    sweep.failures.clear()
    server.sync(sweep.finish().view())
    assert server.status(run) == server.status(server.parent()) == "FINISHED"
    assert "sweeper.failure" not in server.tags(run)


def test_an_extended_grid_adds_runs_only(server: Server, sweep: Sweep) -> None:
    server.sync(sweep.finish().view())
    before = server.content()
    extended = sweep.changed(starts=(2, 3, 4)).finish()
    server.sync(extended.view())
    after = server.content()
    assert len(after["runs"]) == len(before["runs"]) + 1
    assert set(before["metrics"]) <= set(after["metrics"])
    new = server.run(extended.trial(4).trial_id)
    assert all(new in row for row in set(after["metrics"]) - set(before["metrics"]))


def test_an_item_measured_later_reaches_old_epochs(server: Server, sweep: Sweep) -> None:
    server.sync(sweep.finish().view())
    later = sweep.changed(items=(ITEM, NEURAL)).finish()
    server.sync(later.view())
    run = server.run(sweep.trial(2).trial_id)
    assert [step for step, _ in server.curve(run, "rsa/neural/late")] == [0, 1, 2, 3, 4, 5]
    assert len(server.curve(run, "val/loss")) == 6


def test_a_column_that_means_something_else_gets_runs_of_its_own(server: Server, sweep: Sweep) -> None:
    """Another reference under the same name: two curves in one would show whichever is larger."""
    server.sync(sweep.finish().view())
    trial_id = sweep.trial(2).trial_id
    old = server.run(trial_id)
    server.sync(sweep.changed(items=({**ITEM, "item": "item9", "reference": "targets"},)).finish().view())
    active = server.rows(
        "SELECT run_uuid FROM runs JOIN tags USING (run_uuid) "
        "WHERE key = 'sweeper.trial_id' AND value = ? AND lifecycle_stage = 'active'",
        trial_id,
    )
    assert len(active) == 1
    assert active[0][0] != old
    assert [step for step, _ in server.curve(active[0][0], "rsa/behavioral")] == [0, 1, 2, 3, 4, 5]
    assert "targets, correlation, item9" in server.tags(active[0][0])["sweeper.measures"]


def test_an_item_measured_late_in_a_session_is_logged_at_its_end(server: Server, sweep: Sweep) -> None:
    sweep = Sweep(items=(ITEM, NEURAL))
    for trial in sweep.trials:
        sweep.train(trial, items=(ITEM,))
    tracker = server.tracker()
    tracker.start(sweep.view())
    tracker.finish(sweep.finish().view())
    assert len(server.curve(server.run(sweep.baseline.trial_id), "rsa/neural/late")) == 9


def test_a_new_rule_of_recovery_wins_over_the_old_one(server: Server) -> None:
    sweep = Sweep(recovery={"comparator": "clean"}).finish()
    server.sync(sweep.view())
    run = server.run(sweep.trial(2).trial_id)
    assert server.latest(run)["recovered"] == 1.0
    stricter = sweep.changed(recovery={"comparator": "published"})
    stricter.number = 10_000  # the revision was made long after the measurements
    server.sync(stricter.view())
    assert server.latest(run)["recovered"] == 0.0
    assert server.tags(run)["sweeper.recovery"] == "NR (> 3)"


def test_equal_names_of_two_stores_stay_apart(server: Server, sweep: Sweep, tmp_path: Path) -> None:
    server.sync(sweep.finish().view())
    server.sync(sweep.view(), store=LocalStore(tmp_path / "other"))
    assert server.counts()["runs"] == 8
    assert server.counts()["experiments"] == 2  # MLflow's own default one, and ours


def test_a_run_that_somebody_deletes_stops_nobody(server: Server, sweep: Sweep) -> None:
    from mlflow import MlflowClient

    tracker = server.tracker()
    tracker.start(sweep.view())
    gone = server.run(sweep.trial(2).trial_id)
    MlflowClient(tracking_uri=server.uri).delete_run(gone)
    tracker.push(sweep.finish().view(), [trial.trial_id for trial in sweep.trials])
    tracker.finish(sweep.view())
    assert server.status(server.run(sweep.trial(3).trial_id)) == "FINISHED"
    server.sync(sweep.view())
    query = "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active' AND name = 'start=2'"
    assert server.rows(query) == [(1,)]


def test_a_deleted_experiment_is_named_with_the_way_out(server: Server, sweep: Sweep) -> None:
    from mlflow import MlflowClient

    server.sync(sweep.view())
    client = MlflowClient(tracking_uri=server.uri)
    client.delete_experiment(client.get_experiment_by_name("small").experiment_id)
    with pytest.raises(TrackingError, match=r"It was deleted|it was deleted.*tracking\.experiment"):
        server.sync(sweep.view())


def test_artifacts_that_cannot_be_stored_cost_no_metric(server: Server, sweep: Sweep) -> None:
    obstacle = Path(server.uri.removeprefix("sqlite:///")).parent / "mlflow-artifacts"
    obstacle.write_text("in the way")
    with pytest.raises(TrackingError, match="artifact store"):
        server.sync(sweep.finish().view())
    assert len(server.curve(server.run(sweep.baseline.trial_id), "val/loss")) == 9
    assert server.status(server.parent()) == "FINISHED"
    obstacle.unlink()
    server.sync(sweep.view())
    assert "config.json" in server.files(server.run(sweep.baseline.trial_id))


def test_more_points_than_a_batch_holds(server: Server) -> None:
    sweep = Sweep(starts=(290,), max_epochs=300, horizon=5, items=(ITEM, NEURAL)).finish()
    server.sync(sweep.view())
    run = server.run(sweep.trial(290).trial_id)
    assert [step for step, _ in server.curve(run, "rsa/neural/late")] == list(range(296))


def test_mlflow_says_nothing(server: Server, sweep: Sweep, capfd: pytest.CaptureFixture[str]) -> None:
    server.sync(sweep.finish().view())
    assert capfd.readouterr() == ("", "")


def test_an_unreachable_server_is_an_error_with_a_remedy(sweep: Sweep, store: LocalStore) -> None:
    tracker = MlflowTracker("http://lab:secret@127.0.0.1:9", "small", store)
    with pytest.raises(TrackingError, match="sweeper sync small --tracking-uri 'http://lab:") as caught:
        tracker.start(sweep.view())
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("part", ["all", "half", "pages"])
def test_a_damaged_database_is_named_with_what_cures_it(
    server: Server, sweep: Sweep, tmp_path: Path, part: str
) -> None:
    view, file = sweep.finish().view(), tmp_path / "damaged.db"  # not the server's, which this process keeps open
    server.sync(view)
    data, other = Path(server.uri.removeprefix("sqlite:///")).read_bytes(), Server(f"sqlite:///{file}", server.store)
    damaged = {"all": b"x" * 5000, "half": data[: len(data) // 2], "pages": data[:8192] + b"x" * (len(data) - 8192)}
    file.write_bytes(damaged[part])
    with pytest.raises(TrackingError, match=r"only a view of the store: move or delete this file") as caught:
        other.sync(view)
    assert str(caught.value).startswith(f"{file}: ")
    assert f"`sweeper sync small --tracking-uri {other.uri} --store {server.store.address}`" in str(caught.value)
    file.unlink()
    assert damaged_database(other.uri, "") is None


def test_the_experiment_is_the_specs_name_unless_it_names_one(sweep: Sweep) -> None:
    assert experiment_name(sweep.view()) == "small"


def test_a_sweep_tracked_in_full_is_left_alone_until_something_changes(server: Server, sweep: Sweep) -> None:
    view = sweep.finish().view()
    server.sync(view)
    with sqlite3.connect(server.uri.removeprefix("sqlite:///")) as connection:
        connection.execute("DELETE FROM tags WHERE key = 'sweeper.recovery'")
    connection.close()
    tracker = server.tracker()
    tracker.start(view)
    tracker.finish(view)
    run = server.run(sweep.trial(2).trial_id)
    assert "sweeper.recovery" not in server.tags(run)  # nobody looked
    tracker.push(view, [sweep.trial(2).trial_id])
    assert server.tags(run)["sweeper.recovery"] == "1"
