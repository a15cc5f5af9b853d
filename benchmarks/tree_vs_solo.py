"""A grid through the tree against each of its trials alone: epochs, wall time, and whether every bit is the same.

Both sides run in this process on the local backend, with the frozen features cached beforehand. A trial is run
alone in a store of its own, with the baseline that it forks from and is compared with; what it would cost
without sharing is its own epochs from the first one on, at the seconds per epoch of those runs. With --ray the
grid is run through Ray as well and compared, too.

    python benchmarks/tree_vs_solo.py --ray --json
"""

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from sweeper.driver import Run, run_sweep
from sweeper.execution.base import Backend
from sweeper.execution.local import LocalBackend
from sweeper.execution.prepare import ResolvedSweep, resolve_sweep
from sweeper.launch import stop_on_signals
from sweeper.plan.trials import Trial
from sweeper.progress import progress_for
from sweeper.spec.load import load_spec
from sweeper.store.local import LocalStore
from sweeper.store.rows import read_records
from sweeper.tasks.state import state_bits
from sweeper.tracking.base import NullTracker


@dataclass
class Side:
    """What one way of running cost: epochs trained, and seconds of wall time."""

    epochs: int = 0
    seconds: float = 0.0


def run(sweep: ResolvedSweep, store: Path, cache: Path, backend: Backend, side: Side) -> LocalStore:
    """Runs a sweep into a store of its own and adds up what it cost."""
    store_of_run = LocalStore(store)
    with stop_on_signals() as stop:
        began = time.perf_counter()
        outcome = run_sweep(
            Run(
                sweep=sweep,
                source="benchmark",
                store=store_of_run,
                cache=cache,
                backend=lambda: backend,
                gpu=lambda measured: 0.0,
                tracker=NullTracker(),
                progress=progress_for(quiet=True),
                stop=stop,
            )
        )
        side.seconds += time.perf_counter() - began
    side.epochs += outcome.epochs_trained
    assert outcome.status == "done", outcome.status
    return store_of_run


def alone(sweep: ResolvedSweep, trial: Trial) -> ResolvedSweep:
    """Returns the sweep of one trial and its baseline."""
    trials = tuple(each for each in sweep.trials if each.trial_id in (trial.trial_id, trial.baseline_id))
    return replace(sweep, trials=trials)


def differences(one: LocalStore, other: LocalStore, trial: Trial) -> list[str]:
    """Returns where two stores differ along a trial: in a measured value, or in a bit of a state that both keep."""
    found = []
    for epoch, state in enumerate(trial.lineage.state_ids):
        values = [{record.item: dict(record.values) for record in read_records(store, state)} for store in (one, other)]
        if values[0] != values[1] or not values[0]:
            found.append(f"{trial.name}: values of epoch {epoch}")
        states = [store.get("states", state) for store in (one, other)]
        if states[0] and states[1] and state_bits(states[0]) != state_bits(states[1]):
            found.append(f"{trial.name}: tensors of epoch {epoch}")
    return found


def measure(spec: Path, folder: Path, *, with_ray: bool) -> dict[str, Any]:
    """Runs all sides and compares them."""
    sweep = resolve_sweep(load_spec(spec), device="cpu")
    cache, tree, solo, ray = folder / "features", Side(), Side(), Side()
    run(alone(sweep, sweep.trials[-1]), folder / "warm", cache, LocalBackend(), Side())
    whole = run(sweep, folder / "tree", cache, LocalBackend(), tree)
    differing: list[str] = []
    for trial in sweep.trials:
        store = run(alone(sweep, trial), folder / trial.short_id, cache, LocalBackend(), solo)
        differing += differences(whole, store, trial)
    requested = sum(trial.lineage.last_epoch for trial in sweep.trials)
    solo_s = solo.seconds / solo.epochs * requested
    result = {
        "trials": len(sweep.trials),
        "planned_epochs": sum(len(segment.epochs) for segment in sweep.tree.segments.values()),
        "tree_epochs": tree.epochs,
        "solo_epochs": requested,
        "tree_s": round(tree.seconds, 2),
        "solo_s": round(solo_s, 2),
        "ratio_epochs": round(requested / tree.epochs, 2),
        "ratio_seconds": round(solo_s / tree.seconds, 2),
        "differences": differing,
    }
    if with_ray:
        from sweeper.execution.ray_tune import RayBackend

        on_ray = run(sweep, folder / "ray", cache, RayBackend(), ray)
        result |= {"ray_epochs": ray.epochs, "ray_s": round(ray.seconds, 2)}
        result["ray_differences"] = [each for trial in sweep.trials for each in differences(whole, on_ray, trial)]
    return result


@click.command(help=__doc__)
@click.option("--spec", type=click.Path(path_type=Path, exists=True), default="experiments/demo_grid.yaml")
@click.option("--ray", "with_ray", is_flag=True, help="Compare a run through Ray as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(spec: Path, *, with_ray: bool, as_json: bool) -> None:
    """Prints what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        result = measure(spec, Path(folder), with_ray=with_ray)
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, value in result.items():
        click.echo(f"{name:<18} {value if value != [] else 'none'}")


if __name__ == "__main__":
    main()
