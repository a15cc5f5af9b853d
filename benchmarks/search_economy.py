"""A search with pruning against a grid over the same fields: the epochs until it is as good as the grid's best.

All are run on the stand-in, a search once for each seed of its sampler, into one store, where equal states are trained
once. What each would have cost by itself is counted from the records: `alone` adds up every trial, one that is asked
for twice also; `trained` counts equal states of one sweep once. Good is the validation RSA; the test stimuli choose
nothing. One search asks for the grid's own combinations, the other for weights and ranks between.

    python benchmarks/search_economy.py --store FOLDER --json
"""

import json
import math
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from sweeper.launch import Request, launch
from sweeper.plan.trials import Trial
from sweeper.progress import progress_for
from sweeper.reporting.load import open_view
from sweeper.reporting.points import metrics_on_test_stimuli, own_trials, result_of, value_of
from sweeper.reporting.view import SweepView
from sweeper.spec.search import Objective, Search
from sweeper.spec.stand_in import STAND_IN_SUFFIX
from sweeper.store.opening import open_store


@dataclass
class Found:
    """What one search came to.

    Attributes:
        seed: of the sampler.
        points: asked.
        pruned: of these, given up.
        epochs_alone: of all trials.
        epochs_trained: distinct ones.
        points_to_goal: points until one is as good as the grid's best; None: none is.
        epochs_to_goal: epochs of these points, each trial by itself.
        best: value of the best point.
        chosen: its values.
        test: its metrics on the test stimuli.
    """

    seed: int
    points: int
    pruned: int
    epochs_alone: int
    epochs_trained: int
    points_to_goal: int | None
    epochs_to_goal: int | None
    best: float
    chosen: dict[str, Any]
    test: dict[str, float | None]


def run(spec: Path, store: Path) -> SweepView:
    """Runs a spec as a stand-in and returns what is known of it."""
    request = Request(spec=spec, store=str(store), stand_in=True, backend="local", tracking_uri="off")
    outcome = launch(request, progress_for(quiet=True))
    assert outcome.status == "done", outcome.status
    return open_view(open_store(store, create=False), outcome.view.revision.spec.name)


def with_seed(spec: Path, seed: int, folder: Path) -> Path:
    """Writes a spec of another name whose sampler has another seed; returns where."""
    raw = yaml.safe_load(spec.read_text())
    raw["name"] = f"{raw['name']}-seed{seed}"[: 100 - len(STAND_IN_SUFFIX)]
    raw["search"]["seed"] = seed
    path = folder / f"{raw['name']}.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def states_of(view: SweepView, trials: Iterable[Trial]) -> list[str]:
    """Returns the states that training made for some trials, in their order, as far as each of them goes."""
    return [
        trial.lineage.state_ids[epoch]
        for trial in trials
        for epoch in view.of([trial]).rows(trial.trial_id)
        if epoch >= 1
    ]


def tests_of(view: SweepView, trial: Trial) -> dict[str, float | None]:
    """Returns what a trial has on the test stimuli at its best validation loss."""
    return {metric: value_of(view, trial, Objective(metric=metric)) for metric in metrics_on_test_stimuli(view)}


def look(view: SweepView, search: Search, seed: int, goal: float) -> Found:
    """Returns what a search came to.

    Args:
        view: the search, at its end.
        search: its section.
        seed: of its sampler.
        goal: value that the best point of the grid has.
    """
    results = [result_of(view, point, search) for point in view.revision.points]
    good = (result.point.number for result in results if result.values is not None and result.values[0] >= goal)
    first = next(good, None)
    best = max((result for result in results if result.values is not None), key=lambda result: result.values or ())
    assert best.values is not None
    states = states_of(view, (trial for result in results for trial in result.point.trials))
    points = [result.point for result in results[: None if first is None else first + 1]]
    return Found(
        seed=seed,
        points=len(results),
        pruned=sum(result.status == "pruned" for result in results),
        epochs_alone=len(states),
        epochs_trained=len(set(states)),
        points_to_goal=None if first is None else first + 1,
        epochs_to_goal=None
        if first is None
        else len(states_of(view, (trial for point in points for trial in point.trials))),
        best=best.values[0],
        chosen=dict(best.point.values),
        test=tests_of(view, own_trials(best.point)[0]),
    )


def search(spec: Path, seeds: Iterable[int], store: Path, goal: float, grid_epochs: int) -> dict[str, Any]:
    """Runs a search once for each seed of its sampler; returns what came of it."""
    found: list[Found] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            view = run(with_seed(spec, seed, Path(folder)), store)
            assert view.revision.spec.search is not None
            found.append(look(view, view.revision.spec.search, seed, goal))
    epochs = [each.epochs_to_goal if each.epochs_to_goal is not None else math.inf for each in found]
    median = statistics.median(epochs)
    (published,) = own_trials(view.revision.points[0])
    return {
        "reached": sum(each.epochs_to_goal is not None for each in found),
        "median_epochs_to_goal": None if math.isinf(median) else median,
        "share_of_grid": None if math.isinf(median) else round(median / grid_epochs, 3),
        "first_point_test": tests_of(view, published),
        "searches": [asdict(each) for each in found],
    }


def measure(grid_spec: Path, search_specs: Iterable[Path], seeds: tuple[int, ...], store: Path) -> dict[str, Any]:
    """Runs the grid and the searches, and compares them."""
    grid = run(grid_spec, store)
    values = {trial_id: value_of(grid, trial, Objective()) for trial_id, trial in grid.trials.items()}
    goal, best_id = max((value, trial_id) for trial_id, value in values.items() if value is not None)
    states = states_of(grid, grid.trials.values())
    return {
        "grid_trials": len(grid.trials),
        "grid_epochs_alone": len(states),
        "grid_epochs_trained": len(set(states)),
        "grid_best": goal,
        "grid_chosen": dict(grid.trials[best_id].swept),
        "grid_test": tests_of(grid, grid.trials[best_id]),
        **{spec.stem: search(spec, seeds, store, goal, len(states)) for spec in search_specs},
    }


@click.command(help=__doc__)
@click.option("--grid", type=click.Path(path_type=Path, exists=True), default="experiments/loss_weights.yaml")
@click.option(
    "--search",
    "searches",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    default=("benchmarks/loss_weights_tpe.yaml", "experiments/loss_weights_search.yaml"),
    help="Whose objective is rsa_validation; several.",
)
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3, 4, 5), help="Of the sampler; several.")
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Goes on with what it holds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(grid: Path, searches: tuple[Path, ...], seeds: tuple[int, ...], store: Path, *, as_json: bool) -> None:
    """Prints what was measured."""
    result = measure(grid, searches, seeds, store)
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, value in result.items():
        if not isinstance(value, dict) or "searches" not in value:
            click.echo(f"{name:<22} {value}")
            continue
        click.echo(f"\n{name}")
        for key, found in value.items():
            for line in found if key == "searches" else [found]:
                click.echo(f"  {key:<22} {line}")


if __name__ == "__main__":
    main()
