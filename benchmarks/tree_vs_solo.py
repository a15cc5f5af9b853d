"""A grid through the tree against each of its trials alone and against the published style: epochs and wall time.

All sides run in this process, tree and trials on the local backend with the frozen features cached beforehand, and
every bit of the two is compared. A trial is run alone in a store of its own, with the baseline that it forks from and
is compared with; what it would cost without sharing is its own epochs from the first one on, at the seconds per epoch
of those runs. The published style trains every trial from its first epoch by the full towers, one pass of the text
tower for each prompt, in training and in every evaluation (docs/methods.md 1.8); decoding is left out. Its first epochs
are those of the baseline: their validation losses must agree with the tree's, and their seconds stand for all. With
--ray the grid is run through Ray as well and compared, too.

    python benchmarks/tree_vs_solo.py --ray --json
"""

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import load_backbone
from sweeper_models.clip_hba import ClipHba
from sweeper_models.dora import trainable_parameters
from torch import Tensor
from torch.nn import functional
from training_step import published_style

from sweeper.data.dataset import Dataset
from sweeper.data.split import split_pool
from sweeper.driver import Run, run_sweep
from sweeper.execution.base import Backend
from sweeper.execution.local import LocalBackend
from sweeper.execution.prepare import ResolvedSweep, resolve_sweep
from sweeper.inputs import dataset_of, preprocessing_of, weights_of
from sweeper.launch import stop_on_signals
from sweeper.plan.trials import Trial
from sweeper.progress import progress_for
from sweeper.records import TRAINING_ITEM
from sweeper.spec.load import load_spec
from sweeper.store.local import LocalStore
from sweeper.store.rows import read_records
from sweeper.tasks.batches import training_batches
from sweeper.tasks.numerics import set_numerics
from sweeper.tasks.state import state_bits
from sweeper.tracking.base import NullTracker

PUBLISHED_EPOCHS = 3  # of the baseline, trained in the published style


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


def validation_losses(store: LocalStore, trial: Trial, epochs: int) -> list[float]:
    """Returns what the first epochs of a trial measured."""
    training = [
        next(record for record in read_records(store, trial.lineage.state_ids[epoch]) if record.item == TRAINING_ITEM)
        for epoch in range(1, epochs + 1)
    ]
    return [float(record.values["val_loss"] or 0.0) for record in training]


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


def published(trial: Trial, epochs: int, side: Side) -> list[float]:
    """Trains the first epochs of an undisturbed trial in the published style; returns the validation losses."""
    config = trial.config
    set_numerics(config.numerics, "cpu")
    backbone = load_backbone(weights_of(config.model))
    model = ClipHba(backbone, AdapterConfig(**config.model.adapter.model_dump()), seed=config.seeds.init)
    data: Dataset = dataset_of(config)
    targets = torch.from_numpy(data.targets)
    split = split_pool(config.data.split, config.seeds.split, len(data.pool), config.data.train_fraction)
    sets = [data.pool, *([] if data.held_out is None else [data.held_out.images])]
    pixels, *held_out = [
        torch.from_numpy(images.pixels(range(len(images)), backbone.image_size, preprocessing_of(config.data)))
        for images in sets
    ]
    fields = config.training.optimizer
    optimizer = torch.optim.AdamW(
        trainable_parameters(model).values(), lr=fields.lr, weight_decay=fields.weight_decay, betas=fields.betas
    )
    size, losses = config.training.batch_size, []
    for epoch in range(1, epochs + 1):
        began = time.perf_counter()
        for rows in training_batches(config.training, config.seeds.order, epoch, split.train):
            loss = functional.mse_loss(published_style(model, pixels[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(_validation_loss(model, pixels, targets, split.val, size))
        for images in held_out:
            _scores(model, images, size)
        side.seconds += time.perf_counter() - began
        side.epochs += 1
    return losses


@torch.no_grad()
def _scores(model: ClipHba, images: Tensor, size: int) -> Tensor:
    return torch.cat([published_style(model, part) for part in images.split(size)])


def _validation_loss(model: ClipHba, pixels: Tensor, targets: Tensor, rows: NDArray[np.int64], size: int) -> float:
    return float(functional.mse_loss(_scores(model, pixels[rows], size), targets[rows]))


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
    plain = Side()
    baseline = next(trial for trial in sweep.trials if not trial.config.perturbation)
    ours = validation_losses(whole, baseline, PUBLISHED_EPOCHS)
    off = max(abs(a / b - 1) for a, b in zip(published(baseline, PUBLISHED_EPOCHS, plain), ours, strict=True))
    assert off < 1e-4, f"the published style is another training: {off}"
    published_s = plain.seconds / plain.epochs * requested
    result = {
        "trials": len(sweep.trials),
        "planned_epochs": sum(len(segment.epochs) for segment in sweep.tree.segments.values()),
        "tree_epochs": tree.epochs,
        "solo_epochs": requested,
        "tree_s": round(tree.seconds, 2),
        "solo_s": round(solo_s, 2),
        "ratio_epochs": round(requested / tree.epochs, 2),
        "ratio_seconds": round(solo_s / tree.seconds, 2),
        "published_epochs": requested,
        "published_epochs_timed": plain.epochs,
        "published_epoch_s": round(plain.seconds / plain.epochs, 3),
        "published_s_extrapolated": round(published_s, 1),
        "ratio_seconds_vs_published": round(published_s / tree.seconds, 1),
        "published_loss_difference": off,
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
        click.echo(f"{name:<28} {value if value != [] else 'none'}")


if __name__ == "__main__":
    main()
