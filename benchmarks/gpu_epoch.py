"""The published configuration on a GPU: seconds per epoch by precision, beside what the device could do at best.

1,444 drawn images train ViT-L-14 on random weights in batches of 64; every epoch ends with the evaluation of 362 and
48 images. Everything is the code that a worker runs: task, feature cache, training epoch, evaluation. The first
epochs warm up; the median of the others counts. In the same run and precision a large product of matrices and a large
copy are timed. One more epoch is counted, not timed: its arithmetic by torch's counter, its traffic as the bytes that
its operations read and write. Both, at the measured rates, give the limits: no epoch made of these operations can
take less than `arithmetic_limit_s`, and one that finds nothing in the caches takes no less than `memory_limit_s`.
`sweep_hours_extrapolated` is not measured: the epochs of the published sweep of 98 runs (64.04 h at 44 s each), none
shared between trials, at the seconds measured here.

Without a GPU it ends with exit code 2. `--device cpu` runs the same code, to be made small:

    python benchmarks/gpu_epoch.py --json
    python benchmarks/gpu_epoch.py --device cpu --backbone tiny-clip --images 64 --precision fp32 --json
"""

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sweeper.data.features import FeatureCache
from sweeper.execution.prepare import ResolvedSweep, resolve_sweep
from sweeper.spec.load import parse_spec
from sweeper.store.local import LocalStore
from sweeper.tasks import prepare
from sweeper.tasks.base import Task, TrainingState, Workbench

PUBLISHED_EPOCH_S, PUBLISHED_SWEEP_H = 44.0, 64.04  # docs/methods.md 1.8, experiments/single_epoch_sweep.yaml
STORAGE = {"fp32": "fp32", "tf32": "fp32", "bf16": "bf16"}
NEEDS = "gpu_epoch needs an NVIDIA GPU that torch can use (torch.cuda.is_available() is False here).\n"
REMEDY = "Run it where one is, or pass --device cpu with a small --backbone and --images to try the code."


class Traffic(TorchDispatchMode):
    """Adds up the bytes that operations read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and counts its tensors."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not func.is_view:
            self.bytes += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
        return result


def pool_size(images: int) -> int:
    """Returns the number of images of which the published 80 % are so many, rounded down: 1,806 for 1,444."""
    return math.ceil((images + 0.5) / 0.8)


def resolved(folder: Path, backbone: str, images: int, device: str, precision: str) -> ResolvedSweep:
    """Returns one undisturbed trial of the published configuration on drawn images."""
    manifest = folder / "drawn.yaml"
    generator = f"{{name: drawings, num_train: {pool_size(images)}, num_test: 48, seed: 1}}"
    manifest.write_text(f"name: drawn\nsource: drawn here\nlicence: none\ngenerator: {generator}\n")
    spec = {
        "name": "gpu_epoch",
        "data": {"manifest": str(manifest), "train_fraction": 0.8},
        "model": {"backbone": backbone, "pretrained": "random:1", "adapter": {"init": "reference"}},
        "training": {"optimizer": {"name": "adamw", "lr": 3e-4}, "batch_size": 64, "max_epochs": 500},
        "numerics": {"device": device, "precision": precision, "features": STORAGE[precision]},
    }
    return resolve_sweep(parse_spec(json.dumps(spec), "gpu_epoch.yaml"), device=device)


def waited(device: str) -> None:
    """Waits until the device has done all that was launched."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], device: str, repeats: int) -> float:
    """Returns the median wall time of some work."""
    times = []
    for _ in range(repeats + 1):
        waited(device)
        began = time.perf_counter()
        work()
        waited(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def rates(device: str, precision: str) -> tuple[float, float]:
    """Returns operations per second of a large product of matrices, and bytes per second of a large copy."""
    side, numbers = (8192, 2**28) if device == "cuda" else (1024, 2**24)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    product = seconds(lambda: one @ other, device, 5)
    copy = seconds(lambda: target.copy_(source), device, 5)
    return 2 * side**3 / product, 2 * source.nbytes / copy


def counted(epoch: Callable[[], Any]) -> tuple[int, int]:
    """Returns operations of products and bytes of all operations in an epoch."""
    with Traffic() as traffic, FlopCounterMode(display=False) as counter:
        epoch()
    return counter.get_total_flops(), traffic.bytes


def measure(sweep: ResolvedSweep, folder: Path, epochs: int) -> dict[str, Any]:
    """Trains some epochs as a worker does, and holds them against the limits of the device."""
    trial = sweep.trials[0]
    config, device = trial.config, trial.inputs.device
    bench = Workbench(cache=FeatureCache(folder / "features"), store=LocalStore(folder / "store"), device=device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    task: Task = prepare(config, sweep.spec.evaluation, bench)
    prepared_s = time.perf_counter() - began
    regime = trial.lineage.stretches[0].regime.fields
    state: TrainingState = task.init_state(config.seeds.init)
    at = iter(range(1, 10**6))

    def train() -> None:
        task.train_epoch(state, regime, next(at))

    training_s, evaluation_s = seconds(train, device, epochs), seconds(lambda: task.evaluate(state), device, epochs)

    def whole() -> None:
        train()
        task.evaluate(state)

    epoch_s = seconds(whole, device, epochs)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    operations, moved = counted(whole)
    flops, bandwidth = rates(device, config.numerics.precision)
    limits = operations / flops, moved / bandwidth
    return {
        "precision": config.numerics.precision,
        "features": config.numerics.features,
        "epoch_s": round(epoch_s, 4),
        "training_s": round(training_s, 4),
        "evaluation_s": round(evaluation_s, 4),
        "prepared_s": round(prepared_s, 2),
        "epoch_teraflop": round(operations / 1e12, 4),
        "epoch_gigabytes": round(moved / 1e9, 3),
        "matmul_teraflop_per_s": round(flops / 1e12, 3),
        "copy_gigabytes_per_s": round(bandwidth / 1e9, 1),
        "arithmetic_limit_s": round(limits[0], 4),
        "memory_limit_s": round(limits[1], 4),
        "share_of_limit": round(max(limits) / epoch_s, 3),
        "peak_gigabytes": peak and round(peak / 1e9, 2),
    }


@click.command(help=__doc__)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--backbone", default="ViT-L-14", show_default=True)
@click.option("--images", type=click.IntRange(min=64), default=1444, show_default=True, help="Images to train on.")
@click.option("--epochs", type=click.IntRange(min=1), default=5, show_default=True, help="Epochs timed each way.")
@click.option("--precision", "precisions", multiple=True, type=click.Choice(list(STORAGE)), default=list(STORAGE))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def main(
    context: click.Context,
    device: str,
    backbone: str,
    images: int,
    epochs: int,
    precisions: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Prints a row per precision."""
    if device == "cuda" and not torch.cuda.is_available():
        click.echo(NEEDS + REMEDY, err=True)
        context.exit(2)
    rows = []
    for precision in precisions:
        with tempfile.TemporaryDirectory() as name:
            row = measure(resolved(Path(name), backbone, images, device, precision), Path(name), epochs)
        row["device"] = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        if (backbone, images, device) == ("ViT-L-14", 1444, "cuda"):
            row["ratio_vs_published"] = round(PUBLISHED_EPOCH_S / row["epoch_s"], 1)
            row["sweep_hours_extrapolated"] = round(PUBLISHED_SWEEP_H / PUBLISHED_EPOCH_S * row["epoch_s"], 3)
        rows.append(row)
        if not as_json:
            click.echo("\n".join(f"{key:<26} {value}" for key, value in row.items()) + "\n")
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "backbone": backbone, "images": images, "rows": rows}))


if __name__ == "__main__":
    main()
