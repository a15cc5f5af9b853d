"""The Ray backend: the same numbers as in one process, under kills too; fractions of GPUs; errors and stops.

One Ray for all of them, with logical resources: one real worker at a time, or as many light ones as fit.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [
    # Ray leaves its log files to the garbage collector, and calls things that Python deprecates.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ALL = {"resources": {"cpu": 8}}  # the logical CPUs: one worker at a time, whose start is what takes long


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray with 8 logical CPUs and one logical GPU, whatever the machine has; ended by who started it."""
    from sweeper.execution import ray_cluster, ray_tune  # sets Ray's environment before Ray is loaded

    assert os.environ["RAY_AUTH_MODE"]
    ray_cluster.ray.init(
        address="local",
        num_cpus=8,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=128 * 2**20,
    )
    yield ray_tune
    assert ray_cluster.ray.is_initialized(), "who joins a Ray leaves it running"
    ray_cluster.ray.shutdown()


def workers() -> list[psutil.Process]:
    """Returns the processes of Tune's actors that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "Trainable" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_killed_worker_costs_nothing_and_changes_no_bit(cluster, engine, reading, tmp_path: Path):
    sweep = {
        **ALL,
        "training": {"max_epochs": 24},
        "stopping": {"horizon_after_window": 8},
        "perturbation": {"kind": "random_target", "start": 10},
        "axes": {"perturbation.length": [2, 4]},
    }
    assert engine.run(tmp_path / "local", **sweep).status == "done"
    killed: list[int] = []

    class Killer(cluster.RayBackend):  # type: ignore[name-defined, misc]
        def run(self, job: Any) -> None:
            super().run(replace(job, on_events=partial(self.kill_once, job.on_events)))

        def kill_once(self, pass_on: Callable[[Any], None], events: list[Any]) -> None:
            pass_on(events)
            if not killed and len(job_epochs(events)) and (busy := workers()):
                killed.append(busy[0].pid)
                os.kill(busy[0].pid, signal.SIGKILL)

    ran = engine.run(tmp_path / "ray", Killer, **sweep)
    assert ran.status == "done"
    assert killed
    assert not psutil.pid_exists(killed[0]) or psutil.Process(killed[0]).status() == psutil.STATUS_ZOMBIE
    assert reading.same(tmp_path / "local", tmp_path / "ray")
    assert not any("different" in note or "other tensors" in note for note in ran.watch.notes)
    for trial in ran.sweep.trials:
        assert set(ran.outcome.view.rows(trial.trial_id)) == set(range(trial.lineage.last_epoch + 1))
    assert engine.run(tmp_path / "ray", Killer, **sweep).backends == 0


def job_epochs(events: list[Any]) -> list[int]:
    """Returns the training epochs among some events."""
    return [event.epoch for event in events if getattr(event, "epoch", 0) > 0]


def with_gpu(backend: Any, gpu: float) -> Any:
    """Returns a backend whose trials ask for a share of a GPU, though they compute on the CPU."""

    class Asking:
        def run(self, job: Any) -> None:
            backend.run(replace(job, gpu=gpu, cpu=0.5))

    return Asking()


def test_a_search_asks_and_finds_what_it_does_in_one_process(cluster, light, engine, reading, tmp_path: Path):
    """Two batches, each with workers of its own, on one Ray."""
    from sweeper.store.local import LocalStore

    made_up = light(tmp_path / "log", lambda epoch: None)

    class Here:
        """Trains in this process what the trainable would."""

        def run(self, job: Any) -> None:
            worker = made_up.light_worker(LocalStore(tmp_path / "local"))
            while (order := job.dispatcher.next_order()) is not None:
                for event in worker.train(order):
                    job.dispatcher.note(order.segment_id, event)
                    job.on_events([event])
                job.dispatcher.finished(order.segment_id)

    search = {
        "space": {"training.optimizer.lr": {"low": 1e-3, "high": 1e-1, "log": True}},
        "sampler": {"name": "tpe", "options": {"n_startup_trials": 1}},
        "objectives": [{"metric": "val_loss"}],
        "batch": 2,
        "limits": {"points": 3},
    }
    changes = {**ALL, "training": {"max_epochs": 2}, "search": search}
    assert engine.run(tmp_path / "local", Here, **changes).status == "done"
    ran = engine.run(tmp_path / "ray", lambda: cluster.RayBackend(made_up), **changes)
    assert (ran.status, ran.backends, len(ran.outcome.view.revision.points)) == ("done", 2, 3)
    assert reading.records(tmp_path / "ray") == reading.records(tmp_path / "local")


def test_four_quarters_of_a_gpu_run_together_and_the_fifth_waits(cluster, light, engine, tmp_path: Path):
    here = tmp_path / "here"
    here.mkdir()

    def meet(epoch: int) -> None:
        """Waits until four are there, and then for a fifth to come, who must not."""
        own = here / str(os.getpid())
        own.touch()
        give_up_at = time.time() + 60
        while not (here / "met").exists() and len(list(here.iterdir())) < 4 and time.time() < give_up_at:
            time.sleep(0.05)
        time.sleep(3)
        present = len(list(here.glob("[0-9]*")))
        (here / "met").touch()
        with (tmp_path / "present").open("a") as file:
            file.write(f"{present}\n")
        time.sleep(0.5)
        own.unlink()

    backend = cluster.RayBackend(light(tmp_path / "log", meet))
    ran = engine.run(
        tmp_path / "store",
        lambda: with_gpu(backend, 0.25),
        axes={"training.optimizer.lr": [0.01, 0.02, 0.03, 0.04, 0.05]},
        training={"max_epochs": 1},
    )
    assert ran.epochs_trained == 5
    present = [int(line) for line in (tmp_path / "present").read_text().splitlines()]
    assert len(present) == 5
    assert max(present) == 4


def test_the_last_epochs_are_collected_where_tune_waits_for_another_trial() -> None:
    """All trials have ended, and what the last worker handed in has not been fetched: nothing is to be waited for."""
    from types import SimpleNamespace

    from ray import tune

    from sweeper.execution.ray_tune import _AsWideAsTheTree

    dispatcher = SimpleNamespace(is_done=False, num_usable=0, trial_status=lambda trial: "open")
    fetched: list[int] = []

    def collect() -> None:
        fetched.append(1)
        dispatcher.is_done = True

    job = SimpleNamespace(dispatcher=dispatcher, stop=lambda: False)
    asked = _AsWideAsTheTree(job, {"0000 a": ("a",)}, SimpleNamespace(collect=collect))
    assert asked.suggest("one") == tune.search.Searcher.FINISHED
    assert fetched == [1]
    dispatcher.is_done, dispatcher.num_usable = False, 1
    busy = _AsWideAsTheTree(job, {"0000 a": ("a",)}, SimpleNamespace(collect=lambda: None))
    assert busy.suggest("one") == {"trial": "0000 a"}
    assert busy.suggest("two") is None
    busy.on_trial_complete("one")
    job.stop = lambda: True
    stopped = _AsWideAsTheTree(job, {"0000 a": ("a",)}, SimpleNamespace(collect=lambda: None))
    assert stopped.suggest("one") == tune.search.Searcher.FINISHED


def test_workers_follow_the_width_of_the_tree_where_a_cluster_may_grow(
    cluster, light, engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A trunk of six epochs, four forks after it, and one of them goes on alone."""
    monkeypatch.setattr(cluster, "IDLE_S", 3.0)

    def slowly(epoch: int) -> None:
        with (tmp_path / "epochs").open("a") as file:
            file.write(f"{os.getpid()} {epoch} {time.time()}\n")
        time.sleep(1.0)
        asked_at = time.monotonic()  # a busy machine takes long to start them; forks leave them time to come
        while epoch >= 6 and len((tmp_path / "born").read_text().splitlines()) < 3 and time.monotonic() < asked_at + 60:
            time.sleep(0.1)

    class Light(light(tmp_path / "log", slowly)):  # type: ignore[misc]
        def make_worker(self, store: Any, cache: Path, gpu: float) -> Any:
            with (tmp_path / "born").open("a") as file:
                file.write(f"{os.getpid()} {time.time()}\n")
            return super().make_worker(store, cache, gpu)

    ran = engine.run(
        tmp_path / "store",
        lambda: cluster.RayBackend(Light),
        perturbation={"kind": "random_target"},
        axes={"perturbation.start": [6], "seeds.noise": [0, 100, 200, 300]},
        training={"max_epochs": 8},
        stopping={"horizon_after_window": 2},
        resources={"address": "auto", "cpu": 2},
    )
    assert ran.status == "done"
    assert ran.epochs_trained == 8 + 4 * 3
    epochs = [line.split() for line in (tmp_path / "epochs").read_text().splitlines()]
    assert len(epochs) == ran.epochs_trained, "each once"
    fork = min(float(when) for _, epoch, when in epochs if int(epoch) == 6)
    born = sorted(float(line.split()[1]) for line in (tmp_path / "born").read_text().splitlines())
    assert sum(when < fork - 3 for when in born) == 1, "one worker for a trunk"
    assert len(born) >= 3, "and more for the forks"
    assert born[2] - born[1] < 60, "asked for at once, whatever else the machine does"


def test_an_error_of_a_worker_ends_the_run_in_its_own_words(cluster, light, engine, tmp_path: Path):
    from sweeper.errors import DataError, Problem

    def refuse(epoch: int) -> None:
        raise DataError(Problem(where="picture.png", rule="decodes"))

    backend = cluster.RayBackend(light(tmp_path / "log", refuse))
    with pytest.raises(DataError, match=r"picture\.png: decodes"):
        engine.run(tmp_path / "store", lambda: backend, **ALL)
    said = [line.text for line in logged(tmp_path / "store") if line.level == "error"]
    assert any("cannot train here" in text for text in said), "by the worker"
    assert any("the run ends: picture.png" in text for text in said), "and by the driver"


def test_of_very_many_trials_a_tune_trial_stands_for_several(
    cluster, light, engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made_up = light(tmp_path / "log", lambda epoch: None)
    labels: list[str] = []
    shares_of = cluster._shares

    def shares(dispatcher: Any) -> dict[str, tuple[str, ...]]:
        made = shares_of(dispatcher)
        labels.extend(made)
        return made

    monkeypatch.setattr(cluster, "MAX_TUNE_TRIALS", 2)
    monkeypatch.setattr(cluster, "_shares", shares)
    changes = {**ALL, "axes": {"seeds.init": [1, 2, 3, 4, 5]}, "training": {"max_epochs": 2}}
    ran = engine.run(tmp_path / "ray", lambda: cluster.RayBackend(made_up), **changes)
    assert ran.status == "done"
    assert labels == ["0000 init=1 and 2 more", "0001 init=4 and 1 more"]
    assert ran.outcome.view.standing.counts() == {"complete": 5}


def test_too_many_failures_drain_the_workers(cluster, light, engine, tmp_path: Path):
    from sweeper.records import Failure
    from sweeper.training.events import SegmentFailed

    class Light(light(tmp_path / "log", lambda epoch: None)):  # type: ignore[misc]
        def make_worker(self, store: Any, cache: Path, gpu: float) -> Any:
            return FailsAtOnce()

    class FailsAtOnce:
        def train(self, order: Any) -> Iterator[Any]:
            yield SegmentFailed(
                failure=Failure(state_id=order.segment_id, epoch=order.last_epoch, place="x", reason="nan", details="")
            )

    axes = {"seeds.init": list(range(1, 30))}  # which share nothing
    ran = engine.run(tmp_path / "store", lambda: cluster.RayBackend(Light), axes=axes, max_failed=2, **ALL)
    assert ran.status == "gave up"
    assert 2 < ran.outcome.view.standing.counts()["failed"] < 29


class OutOfMemoryError(Exception):
    """Named as torch names it."""


def test_out_of_gpu_memory_is_tried_again_with_a_larger_share(cluster, light, engine, tmp_path: Path):
    made_up = light(tmp_path / "log", lambda epoch: None)

    class Light(made_up):  # type: ignore[valid-type, misc]
        def make_worker(self, store: Any, cache: Path, gpu: float) -> Any:
            worker = super().make_worker(store, cache, gpu)
            return worker if gpu >= 0.5 else Cramped(worker)

    class Cramped:
        def __init__(self, worker: Any) -> None:
            self.worker = worker

        def train(self, order: Any) -> Iterator[Any]:
            yield next(self.worker.train(order))
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    ran = engine.run(
        tmp_path / "store",
        lambda: cluster.RayBackend(Light),
        gpu=lambda measured: 0.25,
        resources={"cpu": 8, "gpu": "auto"},
        training={"max_epochs": 3},
    )
    assert ran.status == "done"
    assert any("CUDA out of memory" in note for note in ran.watch.notes)
    assert [note for note in ran.watch.notes if "GPU memory" in note] == [
        "a trial ran out of GPU memory: from here on each gets 0.5 GPU"
    ]


def _cannot_import() -> None:
    raise ImportError("libcudart.so.13: cannot open shared object file")


def _dies() -> None:
    sys.stderr.write("the driver of CUDA is too old\n")
    sys.stderr.flush()
    os._exit(7)


@pytest.mark.parametrize(
    ("set_up", "reason"), [(_cannot_import, "ImportError: libcudart.so.13"), (_dies, "the driver of CUDA is too old")]
)
def test_workers_that_cannot_start_end_the_run_and_logs_say_why(
    cluster, light, engine, tmp_path: Path, set_up: Callable[[], None], reason: str
):
    from sweeper.errors import ClusterError

    class Light(light(tmp_path / "log", lambda epoch: None)):  # type: ignore[misc]
        def make_worker(self, store: Any, cache: Path, gpu: float) -> Any:
            set_up()

    with pytest.raises(ClusterError, match="worker can start") as caught:
        engine.run(tmp_path / "store", lambda: cluster.RayBackend(Light), **ALL)
    assert reason in str(caught.value)
    said = [line for line in logged(tmp_path / "store") if line.level == "error"]
    assert any(reason in line.text and "failed before it took work" in line.text for line in said)
    assert said[-1].text.startswith("the run ends: workers: ")


def logged(store: Path) -> list[Any]:
    """Returns what the newest run said."""
    from sweeper.reporting.said import Wanted, log_lines
    from sweeper.store.local import LocalStore

    (lines,) = log_lines(LocalStore(store), Wanted(sweep="test"))
    return lines


def test_what_a_worker_notices_is_a_line_of_the_run(cluster, light, engine, tmp_path: Path):
    def stumble(epoch: int) -> None:
        from sweeper.notices import notice

        notice(f"damaged: a file in epoch {epoch}")

    backend = cluster.RayBackend(light(tmp_path / "log", stumble))
    ran = engine.run(tmp_path / "store", lambda: backend, training={"max_epochs": 2}, **ALL)
    assert [note for note in ran.watch.notes if "damaged" in note] == [
        "damaged: a file in epoch 1",
        "damaged: a file in epoch 2",
    ]


def test_a_stop_keeps_every_finished_epoch(cluster, light, engine, tmp_path: Path):
    backend = cluster.RayBackend(light(tmp_path / "log", lambda epoch: time.sleep(0.3)))
    sweep = {**ALL, "training": {"max_epochs": 30}}
    first = engine.run(tmp_path / "store", lambda: backend, stop_after=3, **sweep)
    assert first.status == "interrupted"
    made = (tmp_path / "log").read_text().splitlines()
    assert 3 <= first.epochs_trained < 30
    assert len(made) == first.epochs_trained + 1, "every epoch that was made was handed in"


def test_more_than_the_machine_has_is_refused_at_once(cluster, light, engine, tmp_path: Path):
    from sweeper.errors import ClusterError

    began = time.monotonic()
    with pytest.raises(ClusterError, match="fits on this machine"):
        engine.run(tmp_path / "store", cluster.RayBackend, resources={"cpu": 64})
    assert time.monotonic() - began < 10
