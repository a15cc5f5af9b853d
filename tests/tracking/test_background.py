import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from sweeper.reporting.view import SweepView
from sweeper.store.local import LocalStore
from sweeper.tracking.background import BackgroundTracker
from sweeper.tracking.mlflow_tracker import MlflowTracker

from .conftest import Sweep


class Recorder:
    """Remembers its calls; is slow, or fails, as told."""

    def __init__(self, *, delay_s: float = 0.0, failures: int = 0) -> None:
        self.calls: list[tuple[str, frozenset[str]]] = []
        self.views: list[SweepView] = []
        self.threads: set[str] = set()
        self.delay_s, self.failures = delay_s, failures
        self.closed = threading.Event()

    def start(self, view: SweepView) -> None:
        self._call("start", view)

    def push(self, view: SweepView, trial_ids: Iterable[str]) -> None:
        self._call("push", view, trial_ids)

    def finish(self, view: SweepView) -> None:
        self._call("finish", view)

    def close(self) -> None:
        self.closed.set()

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def _call(self, name: str, view: SweepView, trial_ids: Iterable[str] = ()) -> None:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.delay_s)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody there")
        self.calls.append((name, frozenset(trial_ids)))
        self.views.append(view)


@pytest.fixture
def view() -> SweepView:
    return Sweep().view()


def wait_until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_work_is_done_in_order_in_one_other_thread(view: SweepView) -> None:
    recorder, warnings = Recorder(), list[str]()
    tracker = BackgroundTracker(recorder, warnings.append, interval_s=0.01)
    tracker.start(view)
    wait_until(lambda: recorder.names() == ["start"])
    tracker.push(view, ["a"])
    wait_until(lambda: len(recorder.calls) == 2)
    tracker.finish(view)
    tracker.close()
    assert recorder.calls == [("start", frozenset()), ("push", frozenset("a")), ("finish", frozenset())]
    assert recorder.threads == {"sweeper-tracking"}
    assert recorder.closed.wait(1)
    assert not warnings


def test_pushes_that_wait_become_one_with_the_newest_view(view: SweepView) -> None:
    recorder = Recorder(delay_s=0.1)
    tracker = BackgroundTracker(recorder, [].append, interval_s=0.0)
    tracker.start(view)
    newest = view
    for index in range(50):
        newest = Sweep().view()
        tracker.push(newest, [f"trial{index}"])
    wait_until(lambda: sum(len(ids) for _, ids in recorder.calls) == 50)
    assert len(recorder.calls) <= 3
    assert recorder.views[-1] is newest
    tracker.close()


def test_pushes_are_rationed(view: SweepView) -> None:
    recorder = Recorder()
    tracker = BackgroundTracker(recorder, [].append, interval_s=0.1)
    tracker.start(view)
    end = time.monotonic() + 0.45
    while time.monotonic() < end:
        tracker.push(view, ["a"])
        time.sleep(0.002)
    assert recorder.names().count("push") <= 5
    tracker.close()


def test_a_slow_server_delays_nobody(view: SweepView) -> None:
    recorder, warnings = Recorder(delay_s=1.0), list[str]()
    catch_up = "sweeper sync small --store there"
    tracker = BackgroundTracker(recorder, warnings.append, catch_up=catch_up, finish_timeout_s=0.2)
    began = time.monotonic()
    tracker.start(view)
    for index in range(100):
        tracker.push(view, [str(index)])
    assert time.monotonic() - began < 0.2  # 100 calls
    began = time.monotonic()
    tracker.finish(view)
    assert 0.15 < time.monotonic() - began < 0.6
    assert len(warnings) == 1
    assert "`sweeper sync small --store there` does the rest" in warnings[0]
    assert tracker.is_behind
    tracker.close()


def test_what_failed_is_tried_again_and_told_once(view: SweepView) -> None:
    recorder, warnings = Recorder(failures=3), list[str]()
    tracker = BackgroundTracker(recorder, warnings.append, interval_s=0.01)
    tracker.push(view, ["a"])
    wait_until(lambda: ("push", frozenset("a")) in recorder.calls)
    tracker.push(view, ["b"])
    wait_until(lambda: ("push", frozenset("b")) in recorder.calls)
    tracker.finish(view)
    assert recorder.names() == ["start", "push", "push", "finish"]
    assert not tracker.is_behind
    assert len(warnings) == 1
    assert "nobody there" in warnings[0]


def test_a_warning_that_fails_harms_nobody(view: SweepView) -> None:
    def broken(message: str) -> None:
        raise ValueError(message)

    tracker = BackgroundTracker(Recorder(failures=1), broken, interval_s=0.01)
    tracker.start(view)
    tracker.finish(view)
    tracker.close()


def test_finish_works_without_a_start(view: SweepView) -> None:
    recorder = Recorder()
    BackgroundTracker(recorder, [].append).finish(view)
    assert recorder.names() == ["start", "finish"]


@pytest.mark.usefixtures("empty_database")  # MLflow is imported: that is not what is timed
def test_a_server_that_is_down_costs_nothing_and_is_told_of_once(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"  # bound, not listening: refused
        warnings: list[str] = []
        sweep = Sweep().finish()
        mlflow_tracker = MlflowTracker(uri, "small", LocalStore(tmp_path / "store"))
        tracker = BackgroundTracker(mlflow_tracker, warnings.append, interval_s=0.05)
        began = time.monotonic()
        tracker.start(sweep.view())
        for _ in range(20):
            tracker.push(sweep.view(), [trial.trial_id for trial in sweep.trials])
            time.sleep(0.01)
        wait_until(lambda: bool(warnings))
        tracker.finish(sweep.view())
        assert time.monotonic() - began < 2.0
        assert tracker.is_behind
    assert len(warnings) == 1
    assert f"sweeper sync small --tracking-uri {uri} --store {tmp_path / 'store'}" in warnings[0]
