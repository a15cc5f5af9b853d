"""Pre-trains the tiny CLIP of the demo on captioned drawings, and writes it to models/tiny_clip/.

Command: OMP_NUM_THREADS=1 python scripts/pretrain_tiny_clip.py   (one core; models/tiny_clip/README.md says how long)
"""

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from sweeper_models.backbones import Tokenize, WordTokenizer, random_backbone
from sweeper_models.prompts import PROMPTS
from torch.nn.functional import cross_entropy

from sweeper.data.drawing import GROUPS, Attributes, Pixels, draw_attributes, draw_picture
from sweeper.data.synthetic import CAPTION_WORDS, caption, named_dimensions
from sweeper.randomness import stream

CONTEXT_LENGTH = 12  # the longest caption has 8 words, the longest name 7; and start and end
CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "quick_gelu": False,  # the activation is GELU
    "vision_cfg": {
        "image_size": 40,
        "patch_size": 8,
        "width": 96,
        "layers": 5,
        "head_width": 32,
        "block_type": "custom",  # its attention calls out_proj, so that an adapter on it acts
    },
    "text_cfg": {"context_length": CONTEXT_LENGTH, "width": 64, "heads": 2, "layers": 2, "block_type": "custom"},
}
MEAN = (0.52997664, 0.48070561, 0.41943838)  # THINGS, as in the published study; not CLIP's
STD = (0.27608301, 0.26593025, 0.28238822)
TRAINED_SCALE = 10.0  # of the logits: so soft that cosines must spread
STORED_SCALE = 100.0  # what CLIP-HBA multiplies cosines by; OpenAI's CLIP ends at it
WARMUP_STEPS = 100
WEIGHT_DECAY = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that a run of the pre-training depends on."""

    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    num_drawings: int
    naming: float
    wrong: float


@click.command(context_settings={"show_default": True})
@click.option("--seed", default=1, help="Seed of weights, drawings, captions and order.")
@click.option("--steps", default=5000, help="Optimiser steps.")
@click.option("--batch-size", default=64)
@click.option("--learning-rate", default=1e-3, help="Peak, after the warm-up; cosine to zero.")
@click.option("--num-drawings", default=50_000)
@click.option("--naming", default=0.3, help="Share of captions that are the name of a dimension.")
@click.option("--wrong", default=0.1, help="Share of these names that are any dimension's, not a fitting one's.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("models/tiny_clip"))
def main(out: Path, **options: Any) -> None:
    """Pre-trains the tiny CLIP contrastively and writes configuration, vocabulary, weights and log."""
    torch.set_num_threads(1)
    recipe = Recipe(**options)
    words = vocabulary()
    tokenize = WordTokenizer(words, context_length=CONTEXT_LENGTH)
    config = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": len(words)}}
    model = random_backbone(config, activation="gelu", seed=recipe.seed, tokenize=tokenize).clip.requires_grad_()
    out.mkdir(parents=True, exist_ok=True)
    with (out / "pretrain.log").open("w") as log:
        for line in chain([str(recipe)], train(model, tokenize, recipe)):
            click.echo(line)
            print(line, file=log, flush=True)
            save(model, config, words, out)


def vocabulary() -> dict[str, int]:
    """Numbers the words of captions and prompts; `<end>` comes last, since open_clip pools at the highest id."""
    found = set(CAPTION_WORDS) | {word for prompt in PROMPTS for word in re.findall(r"[a-z0-9]+", prompt.lower())}
    words = ["<pad>", "<unk>", "<start>", *sorted(found), "<end>"]
    return {word: index for index, word in enumerate(words)}


def pixels(images: Pixels) -> torch.Tensor:
    """Normalises pictures for the model: float32 [N, 3, 40, 40]."""
    scaled = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def make_drawings(count: int, seed: int, purpose: str) -> tuple[list[Attributes], Pixels]:
    """Draws pictures that share no random stream with any demo set: attributes and uint8 [N, 40, 40, 3]."""
    pictured, images = [], np.empty((count, 40, 40, 3), np.uint8)
    for index in range(count):
        rng = stream(seed, f"pretraining/{purpose}", 0, index)
        pictured.append(draw_attributes(rng))
        images[index] = draw_picture(pictured[-1], rng)
    return pictured, images


def describe(attributes: Attributes, rng: np.random.Generator, recipe: Recipe) -> str:
    """Captions a picture, at times by the name of a dimension, which at times is a wrong one."""
    if rng.random() >= recipe.naming:
        return caption(attributes, rng)
    wrong = rng.random() < recipe.wrong
    column = rng.integers(len(PROMPTS)) if wrong else rng.choice(named_dimensions(attributes))
    return PROMPTS[column]


def train(model: CLIP, tokenize: Tokenize, recipe: Recipe) -> Iterator[str]:
    """Trains with the symmetric contrastive loss, AdamW and a cosine schedule; yields a line every 250 steps."""
    begin = time.monotonic()
    pictured, images = make_drawings(recipe.num_drawings, recipe.seed, "drawing")
    check = make_drawings(1000, recipe.seed, "check")
    weights = [p for p in model.parameters() if p.ndim >= 2]
    offsets = [p for p in model.parameters() if p.ndim == 1]  # the logit scale, of no dimension, is not trained
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": offsets, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    right = torch.arange(recipe.batch_size)
    losses, hits = [], []
    for step in range(recipe.steps):
        rate = min((step + 1) / WARMUP_STEPS, 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        rng = stream(recipe.seed, "pretraining/batch", 0, step)
        chosen = rng.choice(len(images), recipe.batch_size, replace=False)
        shown = images[chosen][:, :, :: 1 - 2 * int(rng.integers(2))]  # every other batch mirrored
        texts = tokenize([describe(pictured[i], rng, recipe) for i in chosen])
        seen, read = (
            model.encode_image(pixels(shown), normalize=True),
            model.encode_text(texts, normalize=True),
        )
        logits = TRAINED_SCALE * seen @ read.T
        loss = (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        hits.append((logits.argmax(dim=1) == right).float().mean().item())
        if (step + 1) % 250 == 0:
            numbers = f"loss {np.mean(losses[-250:]):.4f}, own caption first {np.mean(hits[-250:]):.3f}"
            named = zero_shot(model, tokenize, *check)
            yield f"step {step + 1}: {numbers}, right kind named {named:.3f}, {time.monotonic() - begin:.0f} s"


@torch.no_grad()
def zero_shot(model: CLIP, tokenize: Tokenize, pictured: list[Attributes], images: Pixels) -> float:
    """Measures how often the word for the right kind of 24 is the nearest to a new drawing."""
    kinds = list(GROUPS)
    read = model.encode_text(tokenize([f"a {kind}" for kind in kinds]), normalize=True)
    nearest = (model.encode_image(pixels(images), normalize=True) @ read.T).argmax(dim=1)
    return float(np.mean([kinds[i] == attributes.kind for i, attributes in zip(nearest, pictured, strict=True)]))


def save(model: CLIP, config: dict[str, Any], words: dict[str, int], out: Path) -> None:
    """Writes weights, open_clip configuration and vocabulary."""
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    weights["logit_scale"] = torch.tensor(math.log(STORED_SCALE))
    save_file(weights, out / "weights.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "vocabulary.json").write_text(json.dumps(words, indent=1) + "\n")
    (out / "weights.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
