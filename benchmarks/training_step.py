"""One training step three ways: the published style, the full towers with batched text, and the frozen prefix.

All three are the same network with the same adapters, loss and AdamW (docs/methods.md 1.3 to 1.5), on random
weights. The published style, written from docs/methods.md 1.8, pushes every image through the whole vision tower
and the 66 prompts one at a time through the whole text tower; the second takes the prompts as one batch; ours
starts behind the first adapter. Prompts have the tokenizer's 77 tokens in the first two ways, and a forward makes
the effective weights of DoRA anew for each pass of a tower, as the study's code does. Each way has a
process of its own, and they take turns within a repeat, so that a busy machine slows all of them; ours makes 8 steps
a turn, since its steps follow each other in training, too. Like a worker, the process of ours keeps the memory that it
frees; the others handle memory as the C library does by itself. Ratios are medians over repeats of CPU time. The losses
of all ways must agree. `arithmetic_vs_*` are the ratios of multiplications and additions, by torch's counter.

    python benchmarks/training_step.py --model ViT-B-32:64 --model ViT-L-14:16 --json
"""

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import click
import torch
from open_clip import SimpleTokenizer
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import random_backbone
from sweeper_models.clip_hba import ClipHba
from sweeper_models.configs import read_config
from sweeper_models.dora import trainable_parameters
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from sweeper.tasks.numerics import keep_freed_memory

Forward = Callable[[], Tensor]
STEPS = {"published": 1, "batched_text": 1, "ours": 8}
"""How many steps a way makes in its turn."""


def build(name: str) -> ClipHba:
    """Builds CLIP-HBA on an open_clip architecture with random weights and the published adapters."""
    config = read_config(name)
    tokenizer = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    backbone = random_backbone(config, activation="quick_gelu", seed=1, tokenize=tokenizer)
    return ClipHba(backbone, AdapterConfig(init="reference"), seed=1)


def published_style(model: ClipHba, images: Tensor) -> Tensor:
    """Scores images by the full vision tower and by one pass of the text tower for each prompt."""
    vision = functional.normalize(model.clip.encode_image(images), dim=-1)
    texts = [functional.normalize(model.clip.encode_text(prompt[None]), dim=-1) for prompt in model.tokens]
    return model.clip.logit_scale.exp() * (vision @ torch.cat(texts).T)


def ways(model: ClipHba, batch_size: int) -> tuple[dict[str, Forward], Tensor]:
    """Returns the forward pass of each way on one batch, and its targets."""
    generator = torch.Generator().manual_seed(2)
    size = model.clip.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    images = torch.randn(batch_size, 3, height, width, generator=generator)
    targets = 10 * torch.rand(batch_size, len(model.tokens), generator=generator)
    prefix = model.prefix(images)
    return {
        "published": lambda: published_style(model, images),
        "batched_text": lambda: model(images),
        "ours": lambda: model.forward_prefix(prefix),
    }, targets


def step(forward: Forward, targets: Tensor, optimizer: torch.optim.Optimizer) -> float:
    """Makes one training step; returns the loss before it."""
    loss = functional.mse_loss(forward(), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def serve(way: str, name: str, batch_size: int, threads: int, turns: Connection) -> None:
    """Makes the steps of one way in this process whenever it is its turn; sends CPU seconds per step and the loss."""
    torch.set_num_threads(threads)
    if way == "ours":
        keep_freed_memory()
    model = build(name)
    forwards, targets = ways(model, batch_size)
    parameters = list(trainable_parameters(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)  # the same numbers in every step
    with FlopCounterMode(display=False) as counter:
        step(forwards[way], targets, optimizer)
    for _ in range(STEPS[way] - 1):  # first calls allocate
        step(forwards[way], targets, optimizer)
    turns.send(counter.get_total_flops())
    while turns.recv():
        began = time.process_time()
        losses = [step(forwards[way], targets, optimizer) for _ in range(STEPS[way])]
        turns.send(((time.process_time() - began) / STEPS[way], losses[-1]))


def measure(name: str, batch_size: int, repeats: int, threads: int) -> dict[str, Any]:
    """Times all ways on one architecture."""
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {way: [] for way in STEPS}
    losses: dict[str, float] = {}
    operations: dict[str, int] = {}
    turns = {}
    for way in STEPS:
        turns[way], theirs = context.Pipe()
        context.Process(target=serve, args=(way, name, batch_size, threads, theirs), daemon=True).start()
        operations[way] = turns[way].recv()
    for _ in range(repeats):
        for way, turn in turns.items():
            turn.send(True)
            taken, losses[way] = turn.recv()
            seconds[way].append(taken)
    for turn in turns.values():
        turn.send(False)
    spread = (max(losses.values()) - min(losses.values())) / losses["batched_text"]
    assert spread < 1e-5, f"the ways differ: {losses}"

    def ratio(way: str) -> list[float]:
        return sorted(slow / fast for slow, fast in zip(seconds[way], seconds["ours"], strict=True))

    return {
        "model": name,
        "batch_size": batch_size,
        "repeats": repeats,
        "threads": threads,
        **{f"{way}_s": round(statistics.median(times), 3) for way, times in seconds.items()},
        "ratio_vs_batched_text": round(statistics.median(ratio("batched_text")), 1),
        "ratio_vs_published": round(statistics.median(ratio("published")), 1),
        "ratio_vs_batched_text_range": [
            round(value, 1) for value in (ratio("batched_text")[0], ratio("batched_text")[-1])
        ],
        "ratio_vs_published_range": [round(value, 1) for value in (ratio("published")[0], ratio("published")[-1])],
        "arithmetic_vs_batched_text": round(operations["batched_text"] / operations["ours"], 1),
        "arithmetic_vs_published": round(operations["published"] / operations["ours"], 1),
        "relative_loss_difference": spread,
    }


@click.command(help=__doc__)
@click.option("--model", "models", multiple=True, default=["ViT-B-32:64"], metavar="NAME:BATCH", show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(models: tuple[str, ...], repeats: int, threads: int, as_json: bool) -> None:
    """Prints a row per model."""
    rows = []
    for asked in models:
        name, _, batch = asked.partition(":")
        rows.append(measure(name, int(batch or 64), repeats, threads))
        if not as_json:
            click.echo("\n".join(f"{key:<28} {value}" for key, value in rows[-1].items()) + "\n")
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": rows}))


if __name__ == "__main__":
    main()
