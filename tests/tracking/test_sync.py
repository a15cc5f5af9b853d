"""`sweeper sync` beside a driver."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.errors import TrackingError
from sweeper.store.lease import held
from sweeper.store.local import LocalStore
from sweeper.tracking import mlflow_tracker
from sweeper.tracking.mlflow_view import Server as Experiment
from sweeper.tracking.projection import Run
from sweeper.tracking.sync import sync_sweep
from sweeper.tracking.ui import serve

from .conftest import Server, Sweep, put_state


@pytest.fixture
def half(sweep: Sweep, store: LocalStore) -> Sweep:
    """A sweep in the store, one trial of which is at its end."""
    sweep.train(sweep.baseline)
    sweep.train(sweep.trial(2))
    sweep.train(sweep.trial(3), 4)
    sweep.save(store)
    return sweep


@pytest.fixture
def kept(store: LocalStore) -> Sweep:
    """A finished grid whose states are in the store."""
    grid = Sweep(lengths=(1, 2)).finish()
    for trial in grid.trials:
        for state_id in trial.lineage.state_ids:
            put_state(store, state_id)
    return grid


def statuses(server: Server, sweep: Sweep) -> list[str]:
    runs = [server.parent(), *(server.run(sweep.trial(start).trial_id) for start in (2, 3))]
    return [server.status(run) for run in runs]


def test_what_a_driver_trains_stays_running(server: Server, half: Sweep) -> None:
    with held(server.store, "small"):
        sync_sweep("small", server.store.root, server.uri)
        assert statuses(server, half) == ["RUNNING", "FINISHED", "RUNNING"]
        sync_sweep("small", server.store.root, server.uri)
        assert statuses(server, half) == ["RUNNING", "FINISHED", "RUNNING"]
    sync_sweep("small", server.store.root, server.uri)
    assert statuses(server, half) == ["KILLED", "FINISHED", "KILLED"]
    with held(server.store, "small"):
        sync_sweep("small", server.store.root, server.uri)
        assert statuses(server, half) == ["RUNNING", "FINISHED", "RUNNING"]


def test_a_store_that_may_only_be_read_is_shown_from_a_folder_of_the_user(
    half: Sweep, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != store.root)
    before = sorted(store.root.rglob("*"))
    with pytest.raises(TrackingError, match="bring one here with `sweeper sync`"):
        serve(store.root, "small", port=1, tracking_uri=None)
    uri = sync_sweep("small", store.root, None)
    assert uri == f"sqlite:///{tmp_path / 'state' / store.store_id / 'mlflow.db'}"
    assert sync_sweep("small", store.root, None) == uri
    assert sorted(store.root.rglob("*")) == before


def test_what_another_sync_marked_meanwhile_is_running_again(server: Server, half: Sweep) -> None:
    tracker = mlflow_tracker.MlflowTracker(server.uri, "small", server.store, open_status="RUNNING")
    tracker.start(half.view())
    server.sync(half.view())
    assert statuses(server, half) == ["KILLED", "FINISHED", "KILLED"]
    tracker.finish(half.view())
    assert statuses(server, half) == ["RUNNING", "FINISHED", "RUNNING"]


def test_a_driver_of_another_sweep_keeps_nothing_running(server: Server, half: Sweep) -> None:
    with held(server.store, "other"):
        sync_sweep("small", server.store.root, server.uri)
    assert statuses(server, half) == ["KILLED", "FINISHED", "KILLED"]


def test_a_driver_that_ends_meanwhile_is_caught_up_with(
    server: Server, half: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, driver = mlflow_tracker.sync, held(server.store, "small")
    driver.__enter__()

    def slow(*args: object, is_running: bool, **options: object) -> None:
        if is_running:
            half.finish().save(server.store)
            driver.__exit__(None, None, None)
        sync(*args, is_running=is_running, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mlflow_tracker, "sync", slow)
    sync_sweep("small", server.store.root, server.uri)
    assert statuses(server, half) == ["FINISHED", "FINISHED", "FINISHED"]


def test_a_driver_puts_right_what_a_late_sync_wrote(server: Server, half: Sweep) -> None:
    before, tracker = half.view(), server.tracker()
    tracker.start(before)
    half.finish()
    tracker.push(half.view(), [trial.trial_id for trial in half.trials])
    server.sync(before, is_running=True)  # it read the store before the trial ended
    assert statuses(server, half) == ["RUNNING", "FINISHED", "RUNNING"]
    tracker.finish(half.view())
    assert statuses(server, half) == ["FINISHED", "FINISHED", "FINISHED"]


def test_two_syncs_at_once_make_nothing_twice(server: Server, kept: Sweep) -> None:
    assert not in_threads([lambda: server.sync(kept.view())] * 3)
    assert server.counts()["runs"] == 6
    before = server.content()
    server.sync(kept.view())
    assert server.content() == before


def test_two_syncs_in_turns_store_no_file_twice(server: Server, kept: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, store_file = list[str](), Experiment.store_file

    def counted(self: Experiment, run: Run, name: str, data: bytes) -> bool:
        stored.append(f"{run.run_id}/{name}")
        return store_file(self, run, name, data)

    monkeypatch.setattr(Experiment, "store_file", counted)
    first, second = server.tracker(), server.tracker()
    first.start(kept.view())
    second.start(kept.view())
    first.finish(kept.view())
    second.finish(kept.view())
    assert len(stored) == len(set(stored)) == 4 + 2 * 5  # spec and two maps; per trial a configuration and an adapter


def in_threads(works: list[Callable[[], None]]) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_a_driver_makes_the_runs_of_trials_that_came_since_it_began(server: Server, kept: Sweep) -> None:
    """As the later points of a search do; with and without a push for them."""
    early = kept.view().of(())
    tracker = server.tracker()
    tracker.start(early)
    tracker.push(kept.view(), [kept.trials[0].trial_id])
    assert server.curve(server.run(kept.trials[0].trial_id), "val/loss")
    tracker.finish(kept.view())
    tracker.close()
    assert [server.status(server.run(trial.trial_id)) for trial in kept.trials] == ["FINISHED"] * len(kept.trials)
    assert server.counts()["runs"] == 1 + len(kept.trials)


def test_what_a_search_pruned_has_ended_and_says_where_until_another_point_goes_on_with_it(
    server: Server, sweep: Sweep
) -> None:
    from mlflow import MlflowClient

    sweep.train(sweep.baseline)
    sweep.train(sweep.trial(2))
    sweep.train(sweep.trial(3), 4)
    view = sweep.view()
    trial, pruned = sweep.trial(3), sweep.trial(3).cut(4)
    server.sync(view.of(pruned if each.trial_id == trial.trial_id else each for each in sweep.trials))
    run = server.run(trial.trial_id)
    assert (server.status(run), server.tags(run)["sweeper.pruned_after_epoch"]) == ("FINISHED", "4")
    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`sweeper.pruned_after_epoch` LIKE '%'")
    assert [each.info.run_id for each in found] == [run], "as docs/mlflow.md says"
    server.sync(view)
    assert (server.status(run), "sweeper.pruned_after_epoch" in server.tags(run)) == ("KILLED", False)
