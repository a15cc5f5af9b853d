"""The driver: one at a time on a store, and what becomes of failures."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from sweeper.errors import DataError, OutOfMemory, Problem, SpecError, StoreError
from sweeper.execution.devices import Device, gpus_per_trial
from sweeper.execution.local import LocalBackend
from sweeper.execution.prepare import ResolvedSweep
from sweeper.execution.worker_log import process_name
from sweeper.records import GpuMemory
from sweeper.retry import retry_failed
from sweeper.store.ledger import LEDGER, remove_ledger
from sweeper.store.local import LocalStore
from sweeper.store.opening import open_store
from sweeper.store.pulse import read_pulse
from sweeper.tasks.behavior import BehaviorTask

TWO_RATES = {"axes": {"training.optimizer.lr": [1e30, 0.01]}, "training": {"max_epochs": 3}}


def test_a_loss_that_explodes_fails_its_trial_and_no_other(engine, tmp_path):
    ran = engine.run(tmp_path / "store", **TWO_RATES)
    assert ran.status == "failed"
    broken, sound = ran.trial(lr=1e30), ran.trial(lr=0.01)
    view = ran.outcome.view
    assert (view.status(broken.trial_id), view.status(sound.trial_id)) == ("failed", "complete")
    assert "epoch 1" in view.failure(broken.trial_id)
    assert "nan" in view.failure(broken.trial_id)
    assert len(view.rows(sound.trial_id)) == 4
    assert any("failed" in note and "epoch 1" in note for note in ran.watch.notes)
    again = engine.run(tmp_path / "store", **TWO_RATES)
    assert (again.status, again.epochs_trained, again.backends) == ("failed", 0, 0)
    assert again.outcome.view.failure(broken.trial_id) == view.failure(broken.trial_id)


def test_a_run_has_a_pulse(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("sweeper.store.pulse.BEAT_EVERY_S", 0.0)
    seen = []

    class Looking(LocalBackend):
        def run(self, job):
            def look(events):
                seen.append(read_pulse(open_store(tmp_path / "store"), "test"))
                job.on_events(events)

            super().run(replace(job, on_events=look))

    ran = engine.run(tmp_path / "store", Looking, training={"max_epochs": 3})
    trial = ran.sweep.trials[0]
    workers = [worker for pulse in seen if pulse for worker in pulse.workers]
    assert [worker.epoch for worker in workers] == [0, 1, 2, 3]
    assert {worker.process for worker in workers} == {process_name()}
    assert all(worker.trial_ids == (trial.trial_id,) for worker in workers)
    assert seen[-1].trained == 2, "of the epoch before"
    assert list(open_store(tmp_path / "store").keys("control")) == []


@pytest.mark.parametrize(
    ("setting", "first", "enough", "shares"),
    [
        ("auto", 0.2, 0.7, [0.2, 0.4, 0.8]),
        ("auto", 0.3, 9.0, [0.3, 0.6, 1.0]),
        (0.3, 0.3, 0.7, [0.3]),
        ("auto", 1.0, 9.0, [1.0]),
    ],
)
def test_the_share_of_a_gpu_grows_when_it_is_too_small(engine, tmp_path, setting, first, enough, shares):
    seen = []

    class Cramped(LocalBackend):
        def run(self, job):
            seen.append(job.gpu)
            if job.gpu < enough:
                job.on_short_of_memory()
                if job.stop():
                    return
            super().run(job)

    ran = engine.run(tmp_path / "store", Cramped, gpu=lambda measured: first, resources={"gpu": setting})
    assert seen == pytest.approx(shares)
    assert ran.status == "done"
    assert len(ran.watch.notes) == len(shares) - 1


RATES = {"axes": {"training.optimizer.lr": [1e30, 2e30, 3e30, 0.01]}, "training": {"max_epochs": 3}}


@pytest.mark.parametrize(("most", "failed"), [(0, 1), (1, 2), (2, 3), (3, 3), (None, 3)])
def test_a_run_ends_early_when_too_many_trials_fail(engine, tmp_path, most, failed):
    ran = engine.run(tmp_path / "store", max_failed=most, **RATES)
    counts = ran.outcome.view.standing.counts()
    assert counts["failed"] == failed
    assert (ran.status, "open" in counts) == (("failed", False) if most in (3, None) else ("gave up", True))
    again = engine.run(tmp_path / "store", max_failed=3 - failed, **RATES)
    assert again.status == "failed", "what failed in an earlier run does not count"
    assert "open" not in again.outcome.view.standing.counts()


def test_an_exception_in_the_task_is_a_failure_with_its_traceback(engine, grid_axes, tmp_path, monkeypatch):
    real = BehaviorTask.train_epoch

    def breaks(self, state, regime, epoch):
        if regime["perturbation"] and epoch == 3:
            raise IndexError("dimension 66")
        return real(self, state, regime, epoch)

    monkeypatch.setattr(BehaviorTask, "train_epoch", breaks)
    ran = engine.run(tmp_path / "store", **grid_axes)
    assert ran.status == "failed"
    statuses = {trial.name: ran.outcome.view.status(trial.trial_id) for trial in ran.sweep.trials}
    assert [name for name, status in statuses.items() if status == "failed"] == ["start=2 length=2"]
    (failure,) = ran.outcome.view.failures.values()
    assert (failure.place, failure.reason) == ("epoch 3", "IndexError: dimension 66")
    assert "in breaks" in failure.details
    assert list(LocalStore(tmp_path / "store").keys("failures")) == [failure.state_id]

    monkeypatch.undo()
    assert engine.run(tmp_path / "store", **grid_axes).epochs_trained == 0, "a result is not repeated"
    sound = ran.trial(start=4, length=1).trial_id
    assert retry_failed("test", tmp_path / "store", [sound[:8]]) == []
    with pytest.raises(StoreError, match="none has"):
        retry_failed("test", tmp_path / "store", ["xyz"])
    assert [taken.state_id for taken in retry_failed("test", tmp_path / "store")] == [failure.state_id]
    assert engine.run(tmp_path / "store", **grid_axes).status == "done"


@pytest.mark.parametrize("accident", [OSError(5, "Input/output error"), torch.AcceleratorError("an illegal access")])
def test_an_accident_is_no_result(engine, tmp_path, monkeypatch, accident):
    def fails(self, state, regime, epoch):
        raise accident

    monkeypatch.setattr(BehaviorTask, "train_epoch", fails)
    with pytest.raises(type(accident)):
        engine.run(tmp_path / "store")
    monkeypatch.undo()
    assert engine.run(tmp_path / "store").status == "done"


def test_out_of_memory_is_said_and_kept_as_no_result(engine, tmp_path, monkeypatch):
    def full(self, state, regime, epoch):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(BehaviorTask, "train_epoch", full)
    with pytest.raises(OutOfMemory, match=r"fits into memory\. Got no room"):
        engine.run(tmp_path / "store")
    monkeypatch.undo()
    assert engine.run(tmp_path / "store").status == "done"


def test_a_task_that_cannot_be_prepared_fails_for_this_run_only(engine, tmp_path, monkeypatch):
    def refuses(*args):
        raise RuntimeError("the cache folder is gone")

    monkeypatch.setattr("sweeper.execution.worker.prepare", refuses)
    ran = engine.run(tmp_path / "store")
    assert ran.status == "failed"
    (failure,) = ran.outcome.view.failures.values()
    assert failure.place == "preparing the task"
    assert "RuntimeError: the cache folder is gone" in failure.reason
    assert "in refuses" in failure.details
    monkeypatch.undo()
    assert engine.run(tmp_path / "store").status == "done"


def test_data_that_cannot_be_read_end_the_run(engine, tmp_path, monkeypatch):
    def refuses(*args):
        raise DataError(Problem(where="picture.png", rule="decodes"))

    monkeypatch.setattr("sweeper.execution.worker.prepare", refuses)
    with pytest.raises(DataError, match=r"picture\.png"):
        engine.run(tmp_path / "store")


def test_other_bytes_than_planned_are_refused(engine, tmp_path):
    sweep = other_data(engine.sweep())
    with pytest.raises(SpecError, match="other bytes"):
        engine.run(tmp_path / "store", sweep=sweep)


def other_data(sweep):
    """Returns a sweep whose plan was made for another data set."""
    from dataclasses import replace

    trials = tuple(replace(trial, inputs=replace(trial.inputs, data="another")) for trial in sweep.trials)
    return ResolvedSweep(
        spec=sweep.spec, trials=trials, items={trial.trial_id: sweep.items[trial.trial_id] for trial in trials}
    )


def test_a_worker_keeps_its_task_until_another_is_asked_for(engine, grid_axes, tmp_path, monkeypatch):
    from sweeper.execution import worker

    prepared = []
    real = worker.prepare
    monkeypatch.setattr(worker, "prepare", lambda config, *rest: prepared.append(config) or real(config, *rest))
    engine.run(tmp_path / "one", **grid_axes)
    assert len(prepared) == 1
    engine.run(tmp_path / "two", axes={"model.adapter.rank": [2, 4]}, training={"max_epochs": 1})
    assert len(prepared) == 3


def test_gpu_auto_measures_one_epoch_on_a_whole_gpu_and_then_packs(engine, grid_axes, tmp_path, monkeypatch):
    asked: list[tuple[float, int]] = []

    class Spy(LocalBackend):
        def run(self, job: Any) -> None:
            before = job.dispatcher.pending_epochs
            super().run(job)
            asked.append((job.gpu, before - job.dispatcher.pending_epochs))

    memory = GpuMemory(peak_bytes=10 * 2**30, total_bytes=80 * 2**30)
    monkeypatch.setattr("sweeper.training.loop.gpu_memory", lambda device: memory)
    share = partial(gpus_per_trial, "auto", Device(kind="cuda"))
    ran = engine.run(tmp_path / "store", Spy, gpu=share, **grid_axes)
    assert ran.status == "done"
    assert asked[0] == (1.0, 1)
    assert asked[1][0] == pytest.approx(0.15)
    assert sum(epochs for _, epochs in asked) == ran.epochs_trained
    remove_ledger(tmp_path / "store" / LEDGER)
    more = {"axes": {**grid_axes["axes"], "perturbation.start": [2, 3, 4]}}
    asked.clear()
    assert engine.run(tmp_path / "store", Spy, gpu=share, **{**grid_axes, **more}).status == "done"
    assert [gpu for gpu, _ in asked] == [pytest.approx(0.15)], "what was measured is known from the store"
