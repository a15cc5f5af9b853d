"""CLIP-HBA-MEG behind the tower, two ways: the published style and ours, forward, three losses and backward.

Both start from the CLS rows that the tower left behind its blocks (random here). The published style, written from
docs/methods.md 4.3 and 4.4, takes one time after another: it projects all blocks anew, mixes them, scores, and
makes one RDM. Ours projects once and mixes the scores of all times by one matrix product. In the row `adapters`
gradients also flow into the tower; in the row `layer_weights` the tower is frozen, and ours starts from projections
that are kept. The sides take turns within a repeat; ratios are medians over repeats of wall time, `ratio_cpu` of CPU
time. Loss, embeddings and the gradient of the layer weights are compared first. Peak memory: each side makes one step
in a process of its own; told is by how much its resident size at most exceeds the size before (VmHWM of Linux, reset
before the step).

    python benchmarks/meg_step.py --threads 2 --json
"""

import json
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import random_backbone
from sweeper_models.clip_hba_meg import ClipHbaMeg
from sweeper_models.rdm_losses import LOSSES, normalised_total, rdm_series
from torch import Tensor
from torch.nn import functional

TOWER_WIDTH, WIDTH, PROMPTS, HALF_WIDTH = 1024, 768, 66, 3  # of ViT-L-14 and of the published window
WEIGHTS = {"pearson": 1.0, "mse": 0.1, "time_generalisation": 0.15}
START = {"pearson": 0.9, "mse": 0.2, "time_generalisation": 0.8}
ROWS = ("adapters", "layer_weights")


class Setting(NamedTuple):
    """Everything that both sides are given."""

    model: ClipHbaMeg
    curves: dict[str, Tensor]
    text: Tensor
    projection: Tensor
    cls_rows: Tensor
    noise: Tensor
    jitter: Tensor
    target: Tensor


def make(times: int, blocks: int, batch: int) -> Setting:
    """Draws inputs; the tower of the model is a narrow one, since only what follows it is run."""
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    vision = {"image_size": 16, "patch_size": 16, "layers": blocks, "width": 32, "head_width": 16}
    text_tower = {"context_length": 4, "vocab_size": 8, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text_tower}
    backbone = random_backbone(config, activation="quick_gelu", seed=1, tokenize=lambda _: torch.zeros(1, 4).long())
    curves = {"alpha": uniform(times), "beta": uniform(times), "noise": uniform(times)}
    text = normal(PROMPTS, WIDTH)
    model = ClipHbaMeg(
        backbone, AdapterConfig(vision_layers=0, text_layers=0), text=text, half_width=HALF_WIDTH, **curves
    )
    model.layer_weights.data.copy_(normal(times, blocks))
    return Setting(
        model=model,
        curves=curves,
        text=functional.normalize(text, dim=-1),
        projection=normal(TOWER_WIDTH, WIDTH) * TOWER_WIDTH**-0.5,
        cls_rows=normal(batch, blocks, TOWER_WIDTH),
        noise=normal(times, batch, PROMPTS),
        jitter=1e-6 + 1e-5 * uniform(times, batch, PROMPTS),
        target=uniform(times, batch * (batch - 1) // 2),
    )


def published_embeddings(setting: Setting, cls_rows: Tensor) -> Tensor:
    """Computes E_t one time after another, every block projected at every time, [T, B, D]."""
    model, curves, weights = setting.model, setting.curves, setting.model.layer_weights
    series = []
    for i in range(len(weights)):
        window = slice(max(0, i - HALF_WIDTH), min(len(weights), i + HALF_WIDTH + 1))
        w = weights[window].mean(dim=0)
        w = (w - w.min()) / (w.max() - w.min() + 1e-10)
        w = w / (w.sum() + 1e-10)
        f = torch.zeros(())
        for block in range(weights.shape[1]):
            f = f + w[block] * (cls_rows[:, block] @ setting.projection)
        f = curves["alpha"][window].mean() * f
        r = torch.relu(model.scale * f @ setting.text.T)
        r = r + curves["noise"][i] * setting.noise[i] * r.std(dim=0)
        series.append(torch.relu(curves["beta"][window].mean() * r) + setting.jitter[i])
    return torch.stack(series)


def published_loss(embeddings: Tensor, target: Tensor) -> Tensor:
    """Computes one RDM after another, then the three losses with the full time by time matrix."""
    size = embeddings.shape[1]
    upper = torch.triu(torch.ones(size, size, dtype=torch.bool), diagonal=1)
    model = torch.stack([(1 - torch.corrcoef(e))[upper] for e in embeddings])
    pearson = 1 - torch.corrcoef(torch.stack([model.flatten(), target.flatten()]))[0, 1]
    mse = torch.stack([functional.mse_loss(x, y) for x, y in zip(model, target, strict=True)]).mean()
    profiles = []
    for series in (model, target):
        z = (series - series.mean(1, keepdim=True)) / series.std(1, correction=0, keepdim=True)
        profiles.append((z @ z.T / (z.shape[1] - 1)).mean(1))
    generalisation = 1 - torch.corrcoef(torch.stack(profiles))[0, 1]
    return normalised_total(dict(zip(WEIGHTS, (pearson, mse, generalisation), strict=True)), START, WEIGHTS)


def our_embeddings(setting: Setting, cls_rows: Tensor) -> Tensor:
    """Computes E_t of all times together, [T, B, D]."""
    return setting.model.embeddings(cls_rows @ setting.projection, noise=setting.noise, jitter=setting.jitter)


def our_loss(embeddings: Tensor, target: Tensor) -> Tensor:
    """Computes the three losses of all RDMs together."""
    model = rdm_series(embeddings)
    return normalised_total({name: loss(model, target) for name, loss in LOSSES.items()}, START, WEIGHTS)


def step(side: str, row: str, setting: Setting, kept: Tensor | None = None) -> tuple[float, Tensor, Tensor]:
    """Runs forward and backward; returns loss, embeddings and the gradient of the layer weights."""
    weights = setting.model.layer_weights
    cls_rows = setting.cls_rows.clone().requires_grad_(row == "adapters")
    if side == "published":
        embeddings = published_embeddings(setting, cls_rows)
        loss = published_loss(embeddings, setting.target)
    else:
        if kept is None:
            embeddings = our_embeddings(setting, cls_rows)
        else:
            embeddings = setting.model.embeddings(kept, noise=setting.noise, jitter=setting.jitter)
        loss = our_loss(embeddings, setting.target)
    weights.grad = None
    loss.backward()
    assert weights.grad is not None
    return float(loss.detach()), embeddings.detach(), weights.grad


def memory_of(side: str, row: str, sizes: tuple[int, int, int], threads: int, answer: Any) -> None:
    """Puts by how many MB the largest resident size exceeds the size before one step; runs in a process of its own."""
    torch.set_num_threads(threads)
    step(side, row, make(3, 3, 4))  # what libraries take with their first call is not the step's
    setting = make(*sizes)
    kept = kept_of(setting, row)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # peak := present; the imports' peak is larger
    before = peak_kib()
    step(side, row, setting, kept)
    answer.put((peak_kib() - before) * 1024 / 1e6)


def peak_kib() -> int:
    """Returns this process's largest resident size since the last reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def kept_of(setting: Setting, row: str) -> Tensor | None:
    """Returns the projections that stage 1 keeps, None where the tower learns."""
    return setting.cls_rows @ setting.projection if row == "layer_weights" else None


def peak_mb(side: str, row: str, sizes: tuple[int, int, int], threads: int) -> float:
    """Returns the peak memory of one step of one side."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    child = context.Process(target=memory_of, args=(side, row, sizes, threads, answer))
    child.start()
    peak: float = answer.get()
    child.join()
    return peak


def measure(row: str, sizes: tuple[int, int, int], repeats: int, threads: int) -> dict[str, Any]:
    """Times both sides by turns, after comparing them."""
    setting = make(*sizes)
    kept = kept_of(setting, row)
    seconds: dict[str, list[tuple[float, float]]] = {"published": [], "ours": []}
    results = {side: step(side, row, setting, kept) for side in seconds}  # first calls allocate
    for _ in range(repeats):
        for side, times in seconds.items():
            cpu, wall = time.process_time(), time.perf_counter()
            step(side, row, setting, kept)
            times.append((time.process_time() - cpu, time.perf_counter() - wall))
    names = ("loss", "embeddings", "gradient")
    differences = {
        f"relative_{name}_difference": float((torch.as_tensor(b) - torch.as_tensor(a)).abs().max())
        / float(torch.as_tensor(a).abs().max())
        for name, a, b in zip(names, results["published"], results["ours"], strict=True)
    }
    assert max(differences.values()) <= 1e-5, differences
    cpu, wall = (
        sorted(slow[clock] / fast[clock] for slow, fast in zip(seconds["published"], seconds["ours"], strict=True))
        for clock in (0, 1)
    )
    return {
        "row": row,
        "times": sizes[0],
        "blocks": sizes[1],
        "batch_size": sizes[2],
        "repeats": repeats,
        "threads": threads,
        **{f"{side}_s": round(statistics.median(w for _, w in times), 4) for side, times in seconds.items()},
        "ratio": round(statistics.median(wall), 1),
        "ratio_range": [round(wall[0], 1), round(wall[-1], 1)],
        "ratio_cpu": round(statistics.median(cpu), 1),
        **differences,
        **{f"{side}_peak_mb": round(peak_mb(side, row, sizes, threads)) for side in seconds},
    }


@click.command(help=__doc__)
@click.option("--times", type=click.IntRange(min=3), default=281, show_default=True)
@click.option("--blocks", type=click.IntRange(min=2), default=24, show_default=True)
@click.option("--batch", type=click.IntRange(min=3), default=50, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(times: int, blocks: int, batch: int, repeats: int, threads: int, *, as_json: bool) -> None:
    """Prints what was measured."""
    torch.set_num_threads(threads)
    rows = []
    for row in ROWS:
        rows.append(measure(row, (times, blocks, batch), repeats, threads))
        if not as_json:
            click.echo("\n".join(f"{key:<32} {value}" for key, value in rows[-1].items()) + "\n")
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": rows}))


if __name__ == "__main__":
    main()
