"""Building the feature cache against a plain forward pass over the same pictures.

Both sides read the same JPEG files in chunks of 64 and push them through the same network on random weights: the plain
one by the whole vision tower (open_clip's `encode_image`), ours up to the first adapter, converted to the storage type,
written, hashed and opened. They take turns; the ratio is that of pictures per second of CPU time, which a busy machine
disturbs least; wall times stand beside it. Peak memory is that of the building beyond the loaded model, in a process
that does nothing else.

    python benchmarks/cache_build.py --model ViT-B-32:512 --json
"""

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from open_clip import SimpleTokenizer
from PIL import Image
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import random_backbone
from sweeper_models.clip_hba import ClipHba
from sweeper_models.configs import read_config

from sweeper.data.features import FeatureCache
from sweeper.data.images import ImageSet, Preprocessing
from sweeper.spec.schema import Numerics
from sweeper.tasks.stimuli import PrefixFeed

CHUNK = 64
SIDE = 400  # pixels of a picture's side, as in THINGS after its own cropping


Seconds = tuple[float, float]
"""CPU and wall time."""


def now() -> Seconds:
    """Returns both clocks."""
    return time.process_time(), time.perf_counter()


def since(began: Seconds) -> Seconds:
    """Returns what both clocks have counted."""
    cpu, wall = now()
    return cpu - began[0], wall - began[1]


def draw(folder: Path, count: int) -> ImageSet:
    """Writes pictures of smooth noise as JPEG files."""
    rng = np.random.default_rng(1)
    paths = []
    for index in range(count):
        coarse = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return ImageSet(names=tuple(path.name for path in paths), sources=tuple(paths))


def build(name: str) -> ClipHba:
    """Builds CLIP-HBA on an open_clip architecture with random weights and the published adapters."""
    config = read_config(name)
    tokenizer = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    backbone = random_backbone(config, activation="quick_gelu", seed=1, tokenize=tokenizer)
    return ClipHba(backbone, AdapterConfig(), seed=1)


@torch.no_grad()
def plain(model: ClipHba, images: ImageSet, size: int) -> Seconds:
    """Pushes all pictures through the whole tower."""
    began = now()
    for first in range(0, len(images), CHUNK):
        rows = range(first, min(first + CHUNK, len(images)))
        model.clip.encode_image(torch.from_numpy(images.pixels(rows, size, Preprocessing())))
    return since(began)


def cached(model: ClipHba, images: ImageSet, size: int, features: str, folder: Path) -> tuple[Seconds, int]:
    """Builds the cache entry in an empty folder; returns its bytes, too."""
    began = now()
    cache = FeatureCache(folder, chunk=CHUNK)
    PrefixFeed(model, lambda: model, size, Preprocessing(), Numerics(features=features), cache).stimuli(images)
    return since(began), sum(path.stat().st_size for path in folder.rglob("*.npy"))


def measure(name: str, count: int, features: str, repeats: int, threads: int) -> dict[str, Any]:
    """Times both sides on one architecture."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "pictures").mkdir()
        images = draw(Path(scratch) / "pictures", count)
        model = build(name)
        size = read_config(name)["vision_cfg"]["image_size"]
        plain(model, images.subset(range(CHUNK)), size)  # first calls allocate
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times, ratios, stored = [], [], 0
        for repeat in range(repeats):
            ours, stored = cached(model, images, size, features, Path(scratch) / f"cache{repeat}")
            if repeat == 0:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
            theirs = plain(model, images, size)
            times.append((ours, theirs))
            ratios.append(theirs[0] / ours[0])
    return {
        "model": name,
        "pictures": count,
        "features": features,
        "threads": threads,
        **{
            f"{side}_{clock}_s": round(statistics.median(pair[number][place] for pair in times), 2)
            for number, side in enumerate(("cache_build", "plain_forward"))
            for place, clock in enumerate(("cpu", "wall"))
        },
        "throughput_ratio": round(statistics.median(ratios), 2),
        "throughput_ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "megabytes_per_1854_pictures": round(stored / count * 1854 / 1e6),
        "peak_megabytes_beyond_model_and_forward": round(peak / 1e3),
    }


def _in_own_process(arguments: tuple[Any, ...]) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


@click.command(help=__doc__)
@click.option("--model", "models", multiple=True, default=["ViT-B-32:512"], metavar="NAME:PICTURES", show_default=True)
@click.option("--features", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp16", show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(models: tuple[str, ...], features: str, repeats: int, threads: int, as_json: bool) -> None:
    """Prints a row per model."""
    rows = []
    for asked in models:
        name, _, count = asked.partition(":")
        rows.append(_in_own_process((name, int(count or 512), features, repeats, threads)))
        if not as_json:
            click.echo("\n".join(f"{key:<42} {value}" for key, value in rows[-1].items()) + "\n")
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "rows": rows}))


if __name__ == "__main__":
    main()
