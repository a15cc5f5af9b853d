"""What the engine adds around training: start-up, segments, records, and sweeps of many trials. No torch is used but
where the start-up is measured, so every second here is the engine's or Ray's.

    python benchmarks/engine_overhead.py startup       from `import` to the first segment, against Ray's own way there
    python benchmarks/engine_overhead.py segments      64 empty segments through Ray, against Tune's own grid search
    python benchmarks/engine_overhead.py records       what the driver does with a record: CPU time and memory
    python benchmarks/engine_overhead.py trials 1000   so many trials of two epochs of 1 ms, then `status` and `results`

Each measurement is a process of its own. `--json` prints `{schema_version, rows}`.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from sweeper.driver import Run, run_sweep
from sweeper.execution.base import Backend, Job
from sweeper.execution.prepare import resolve_sweep
from sweeper.progress import progress_for
from sweeper.records import Record
from sweeper.spec.load import parse_spec
from sweeper.store.local import LocalStore
from sweeper.store.rows import write_records
from sweeper.tracking.base import NullTracker
from sweeper.training.events import EpochDone

SLOTS = 2
SPEC = {
    "name": "overhead",
    "data": {"manifest": "builtin:selfmade"},
    "model": {"backbone": "tiny-clip", "pretrained": "builtin"},
    "training": {"batch_size": 16, "max_epochs": 1},
    "stopping": {"rule": "horizon", "horizon_after_window": 1},
    "numerics": {"device": "cpu"},
    "evaluation": {"rsa": []},
}


def record_of(state_id: str, epoch: int) -> Record:
    """Makes up what training would have measured."""
    values = {"val_loss": 10.0 - 1e-4 * epoch, "train_loss": 1.0, "rsa": 0.5}
    return Record(state_id=state_id, epoch=epoch, item="training", values=values, reasons={}, measured_at=0.0)


class FakeWorker:
    """Hands in made-up epochs of `epoch_s` seconds each, and notes in `log` when it did."""

    def __init__(self, store: Any, epoch_s: float, log: Path) -> None:
        self._store, self._epoch_s, self._log = store, epoch_s, log

    def train(self, order: Any) -> Iterator[EpochDone]:
        for epoch, state_id in order.states.items():
            time.sleep(self._epoch_s)
            records = (record_of(state_id, epoch),)
            write_records(self._store, records)
            self._store.put("states", state_id, b"made up")
            yield EpochDone(state_id=state_id, epoch=epoch, records=records, seconds=self._epoch_s)
        note_time(self._log)


def note_time(log: Path) -> None:
    """Appends a line with the time, in one write."""
    with log.open("a") as file:
        file.write(f"{time.time()}\n")


def times_in(log: Path) -> list[float]:
    """Returns the times noted, sorted."""
    return sorted(float(line) for line in log.read_text().splitlines())


def ray_backend(make_worker: Callable[[Any], Any]) -> Backend:
    """Returns the Ray backend with workers of one's own."""
    from sweeper.execution.ray_tune import RayBackend
    from sweeper.execution.ray_worker import SegmentTrainable

    class Trainable(SegmentTrainable):
        def make_worker(self, store: Any, cache: Path, gpu: float) -> Any:
            return make_worker(store)

    return RayBackend(Trainable)


def sweep_of(changes: Mapping[str, Any]) -> Any:
    """Resolves the spec of these measurements, with some sections replaced."""
    return resolve_sweep(parse_spec(json.dumps({**SPEC, **changes}), "overhead.yaml"), device="cpu")


def run(sweep: Any, store: Path, backend: Backend) -> Any:
    """Runs a sweep without display and tracking."""
    return run_sweep(
        Run(
            sweep=sweep,
            source="benchmark",
            store=LocalStore(store),
            cache=store / "features",
            backend=lambda: backend,
            gpu=lambda measured: 0.0,
            tracker=NullTracker(),
            progress=progress_for(quiet=True),
            stop=threading.Event(),
        )
    )


def rates(count: int) -> dict[str, Any]:
    """Returns an axis of so many distinct trials without a baseline."""
    return {"axes": {"training.optimizer.lr": [round(1e-3 + 1e-6 * index, 9) for index in range(count)]}}


# -- one measurement each, in a process of its own ---------------------------------------------------------------------


def our_startup(folder: Path) -> None:
    """Runs one trial; its worker imports what every worker imports, and notes when it has its first segment."""
    log = folder / "ours"

    class First(FakeWorker):
        def train(self, order: Any) -> Iterator[EpochDone]:
            import sweeper.execution.worker  # noqa: F401  # torch, open_clip, peft

            note_time(log)
            return super().train(order)

    run(sweep_of({}), folder / "store", ray_backend(lambda store: First(store, 0.0, folder / "done")))


def tune_startup(folder: Path) -> None:
    """Does the same by Tune alone: the driver's and the worker's imports, and an empty step."""
    log = folder / "tune"
    from sweeper.execution.ray_cluster import connected, ray, tune  # with the same settings of Ray

    class Empty(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            import sweeper.execution.worker  # noqa: F401

        def step(self) -> dict[str, Any]:
            note_time(log)
            return {"done": True}

    with connected(None):
        assert ray.is_initialized()
        nothing_kept = tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False)
        quiet = tune.RunConfig(storage_path=str(folder), verbose=0, checkpoint_config=nothing_kept)
        tune.Tuner(tune.with_resources(Empty, {"cpu": 1}), run_config=quiet).fit()


def our_segments(folder: Path) -> dict[str, Any]:
    """Runs 64 trials of one epoch that takes no time."""
    log = folder / "ours"
    run(sweep_of(rates(64)), folder / "store", ray_backend(lambda store: FakeWorker(store, 0.0, log)))
    return {"segments": len(times_in(log)), "seconds_each": spacing(log)}


def tune_segments(folder: Path) -> dict[str, Any]:
    """Lets Tune run an empty function 64 times."""
    log = folder / "tune"
    from sweeper.execution.ray_cluster import connected, tune

    def empty(config: dict[str, Any]) -> None:
        note_time(log)

    with connected(None):
        tune.Tuner(
            tune.with_resources(empty, {"cpu": 1}),
            param_space={"index": tune.grid_search(list(range(64)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=SLOTS),
            run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
        ).fit()
    return {"segments": len(times_in(log)), "seconds_each": spacing(log)}


def spacing(log: Path) -> float:
    """Returns the seconds between two ends, from the first one on: start-up is left out."""
    times = times_in(log)
    return round((times[-1] - times[0]) / (len(times) - 1), 4)


def records(folder: Path, total: int = 100_000, batch: int = 50) -> dict[str, Any]:
    """Hands the driver made-up epochs of trials of 1,000 epochs, as fast as it takes them."""
    memory_mb: list[float] = []
    spent: list[float] = []

    class Feeding:
        def run(self, job: Job) -> None:
            done, began = 0, time.process_time()
            while (order := job.dispatcher.next_order()) is not None:
                states = list(order.states.items())
                for first in range(0, len(states), batch):
                    events = [
                        EpochDone(state_id=state, epoch=epoch, records=(record_of(state, epoch),), seconds=1.0)
                        for epoch, state in states[first : first + batch]
                    ]
                    for event in events:
                        job.dispatcher.note(order.segment_id, event)
                    job.on_events(list(events))
                    done += len(events)
                job.dispatcher.finished(order.segment_id)
                memory_mb.append(rss_mb())
            spent.append((time.process_time() - began) / done)

    training = {
        "training": {"batch_size": 16, "max_epochs": 1000},
        "stopping": {"rule": "horizon", "horizon_after_window": 1},
    }
    sweep = sweep_of({**training, **rates(total // 1000)})
    run(sweep, folder / "store", Feeding())
    return {
        "records": total,
        "cores_at_500_per_second": round(500 * spent[0], 3),
        "memory_mb_at_start": memory_mb[0],
        "memory_mb_at_end": memory_mb[-1],
    }


def trials(folder: Path, count: int) -> dict[str, Any]:
    """Runs so many trials of an epoch of 1 ms; then asks for status and results as a user does."""
    log = folder / "done"
    sweep = sweep_of(rates(count))
    began = time.perf_counter()
    run(sweep, folder / "store", ray_backend(lambda store: FakeWorker(store, 0.001, log)))
    wall_s = time.perf_counter() - began
    row: dict[str, Any] = {
        "trials": count,
        "run_s": round(wall_s, 1),
        "seconds_per_trial": spacing(log),
        "driver_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    for verb in ("status", "results"):
        began = time.perf_counter()
        words = [sys.executable, "-m", "sweeper.cli", verb, "overhead", "--store", str(folder / "store"), "--json"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        row[f"{verb}_s"] = round(time.perf_counter() - began, 2)
    return row


def rss_mb() -> float:
    """Returns what this process holds, in MB."""
    import psutil

    return round(psutil.Process().memory_info().rss / 2**20, 1)


# -- the command -------------------------------------------------------------------------------------------------------


def in_own_process(what: str, *words: str) -> dict[str, Any]:
    """Runs one measurement and returns its row."""
    command = [sys.executable, __file__, "measure", what, *words]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


@click.group()
def main() -> None:
    """Measures what the engine adds around training."""


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Prints rows."""
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": rows}))
        return
    for row in rows:
        click.echo("  ".join(f"{name} {value}" for name, value in row.items()))


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@main.command()
@click.option("--repeats", default=3, show_default=True)
@as_json_option
def startup(repeats: int, as_json: bool) -> None:
    """Seconds from `import` to the first segment, against Tune alone with the same imports; by turns."""
    rows = []
    for _ in range(repeats):
        seconds = {}
        for side in ("tune", "ours"):
            began = time.time()
            with tempfile.TemporaryDirectory() as folder:
                in_own_process(f"{side}_startup", "--folder", folder)
                seconds[side] = times_in(Path(folder) / side)[0] - began
        ratio = seconds["ours"] / seconds["tune"]
        rows.append({**{k: round(v, 1) for k, v in seconds.items()}, "ratio": round(ratio, 2)})
    show(rows, as_json)


@main.command()
@as_json_option
def segments(as_json: bool) -> None:
    """Seconds for each of 64 empty segments, after start-up."""
    rows = [{"side": side, **in_own_process(f"{side}_segments")} for side in ("ours", "tune")]
    show(rows, as_json)


@main.command(name="records")
@as_json_option
def records_verb(as_json: bool) -> None:
    """CPU time and memory of the driver over 100,000 records."""
    show([in_own_process("records")], as_json)


@main.command(name="trials")
@click.argument("counts", type=click.IntRange(min=1), nargs=-1, required=True)
@as_json_option
def trials_verb(counts: tuple[int, ...], as_json: bool) -> None:
    """Cost per trial, driver memory, and how long `status` and `results` take, for each of COUNTS."""
    show([in_own_process("trials", "--count", str(count)) for count in counts], as_json)


@main.command(hidden=True)
@click.argument("what")
@click.option("--folder", type=click.Path(path_type=Path))
@click.option("--count", type=int)
def measure(what: str, folder: Path | None, count: int | None) -> None:
    """Runs one measurement in this process."""
    measurements: dict[str, Callable[..., dict[str, Any] | None]] = {
        "ours_startup": our_startup,
        "tune_startup": tune_startup,
        "ours_segments": our_segments,
        "tune_segments": tune_segments,
        "records": records,
        "trials": trials,
    }
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as scratch:
        row = measurements[what](folder or Path(scratch), **({} if count is None else {"count": count}))
    click.echo(json.dumps(row or {}))


if __name__ == "__main__":
    main()
