"""A server over HTTP that is slow, refuses, hangs or goes away: one warning, training goes on, `sync` catches up."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import TrackingError
from sweeper.store.local import LocalStore
from sweeper.tracking.background import BackgroundTracker
from sweeper.tracking.mlflow_tracker import MlflowTracker, sync
from sweeper.tracking.mlflow_view import Server as Experiment

from .conftest import Server, Sweep
from .stub import TrackingServer

pytestmark = pytest.mark.usefixtures("empty_database")  # MLflow is imported: that is not what is looked at
TEN_S = 10.0


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingServer]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = TrackingServer(tmp_path / "artifacts")
    yield server
    server.stop()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def tracker(away: TrackingServer, store: LocalStore, warnings: list[str]) -> Iterator[BackgroundTracker]:
    behind = MlflowTracker(away.uri, "small", store)
    tracker = BackgroundTracker(behind, warnings.append, interval_s=0.01, finish_timeout_s=0.3)
    yield tracker
    tracker.close()


def wait_until(condition: Any, timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def train(sweep: Sweep, tracker: BackgroundTracker, last: int) -> None:
    """Trains every trial up to an epoch, and tells the tracker of each."""
    for epoch in range(last + 1):
        for trial in sweep.trials:
            sweep.train(trial, epoch)
        tracker.push(sweep.view(), [trial.trial_id for trial in sweep.trials])


def synced(away: TrackingServer, sweep: Sweep, store: LocalStore) -> dict[str, Any]:
    sync(sweep.view(), away.uri, "small", store)
    return away.content()


def assert_complete(away: TrackingServer, sweep: Sweep) -> None:
    assert len(away.content()) == 1 + len(sweep.trials), "a parent, and one run per trial"
    for trial in sweep.trials:
        assert away.curve(trial.trial_id, "val/loss") == sorted(sweep.view().curve(trial.trial_id, "val_loss").items())


def test_a_server_of_ten_seconds_a_call_delays_no_epoch(away, tracker, sweep, store, warnings) -> None:
    away.delay_s = TEN_S
    began = time.monotonic()
    tracker.start(sweep.view())
    train(sweep, tracker, 8)
    tracker.finish(sweep.view())
    assert time.monotonic() - began < TEN_S, "not even as long as one call"
    assert sum(away.calls.values()) <= 1
    assert len(warnings) == 1
    assert "`sweeper sync`" in warnings[0]
    away.delay_s = 0.0
    assert synced(away, sweep, store) == synced(away, sweep, store)
    assert_complete(away, sweep)


def test_what_waits_for_a_server_that_hangs_stays_small(away, tracker, sweep) -> None:
    away.answers.clear()
    tracker.start(sweep.view())
    wait_until(lambda: away.calls)
    for _ in range(300):
        train(sweep, tracker, 8)
    assert len(tracker._dirty) == len(sweep.trials), "trials and the newest view, however often it is told"
    assert sum(away.calls.values()) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_server_that_refuses_is_told_of_once(away, tracker, sweep, store, warnings, status) -> None:
    away.refuses_with = status
    tracker.start(sweep.view())
    train(sweep, tracker, 4)
    wait_until(lambda: sum(away.calls.values()) >= 3)  # it tries again
    train(sweep, tracker, 8)
    tracker.finish(sweep.view())
    assert len(warnings) == 1
    assert f"sweeper sync small --tracking-uri {away.uri}" in warnings[0]
    assert not away.content()
    away.refuses_with = None
    assert synced(away, sweep, store) == synced(away, sweep, store)
    assert_complete(away, sweep)


def test_a_server_that_goes_away_in_the_middle_is_caught_up_with(away, tracker, sweep, store, warnings) -> None:
    tracker.start(sweep.view())
    train(sweep, tracker, 3)
    wait_until(lambda: len(away.curve(sweep.trial(2).trial_id, "val/loss")) == 4)
    away.stop()
    train(sweep, tracker, 6)
    wait_until(lambda: warnings)
    away.start()
    train(sweep, tracker, 8)
    wait_until(lambda: len(away.curve(sweep.baseline.trial_id, "val/loss")) == 9)
    tracker.finish(sweep.view())
    assert len(warnings) == 1
    assert_complete(away, sweep)
    assert synced(away, sweep, store) == synced(away, sweep, store)
    assert_complete(away, sweep)


def test_two_syncs_at_once_and_a_driver_that_logs_make_nothing_twice(server: Server, sweep: Sweep) -> None:
    for trial in sweep.trials:
        sweep.train(trial, 1)
    half, errors = sweep.view(), []
    tracker = BackgroundTracker(server.tracker(), errors.append, interval_s=0.01)

    def catch_up() -> None:
        try:
            for _ in range(3):
                server.sync(half, is_running=True)
        except BaseException as error:
            errors.append(str(error))

    syncs = [threading.Thread(target=catch_up) for _ in range(2)]
    tracker.start(sweep.view())
    for each in syncs:
        each.start()
    train(sweep, tracker, 8)
    for each in syncs:
        each.join()
    tracker.finish(sweep.view())
    tracker.close()
    assert not errors
    assert server.counts()["runs"] == 1 + len(sweep.trials)
    for trial in sweep.trials:
        curve = server.curve(server.run(trial.trial_id), "val/loss")
        assert curve == sorted(sweep.view().curve(trial.trial_id, "val_loss").items()), "each point once"
    before = server.content()
    server.sync(sweep.view())
    assert server.content() == before


def test_runs_that_two_hosts_made_in_the_same_moment_are_one_again_after_a_sync(server: Server, sweep: Sweep) -> None:
    """Locks are files of a machine; whoever looks next mends what two machines did."""
    view = sweep.finish().view()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Experiment, "find", lambda self, sweep_id: [])  # each looked before the other made
        for _ in range(2):
            server.tracker().start(view)
    assert server.counts()["runs"] == 2 * (1 + len(sweep.trials))
    server.sync(view)
    active = "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'"
    assert server.rows(active) == [(1 + len(sweep.trials),)]
    orphans = (
        "SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE lifecycle_stage = 'active' AND "
        "key = 'mlflow.parentRunId' AND value NOT IN (SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active')"
    )
    assert server.rows(orphans) == [(0,)]
    before = server.content()
    server.sync(view)
    assert server.content() == before


def test_a_parent_run_that_is_deleted_in_the_middle_is_an_error_in_words(server: Server, sweep: Sweep) -> None:
    from mlflow import MlflowClient

    view, tracker = sweep.finish().view(), server.tracker()
    tracker.start(Sweep().view())
    MlflowClient(tracking_uri=server.uri).delete_run(server.parent())
    with pytest.raises(TrackingError, match=r"deleted.*sweeper sync small"):
        tracker.finish(view)
    server.sync(view)
    assert server.rows("SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'") == [(1 + len(sweep.trials),)]
