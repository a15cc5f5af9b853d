"""Describe the adapters and where they cut the towers; free of torch, so that planning can use it."""

import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sweeper_models.errors import AdapterMismatch

Dora = Literal["published", "peft"]
Init = Literal["reference", "zero"]
Magnitude = Literal["frozen", "trained"]
CutAt = Literal["attention", "mlp", "embedding"]
Target = Literal["attn.out_proj", "mlp.c_fc", "mlp.c_proj"]

SIGNATURE_VERSION = 1
"""Raised whenever the code of the frozen prefix changes its numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """Describe the DoRA adapters of one model (docs/methods.md 1.4).

    Attributes:
        rank: r, the width of the two factors.
        alpha: numerator of the factor alpha / r.
        vision_layers: how many of the last vision blocks are adapted, 0 to all.
        text_layers: how many of the last text blocks are adapted, 0 to all.
        dora: `published` (norm differentiated, Delta on unit columns) or `peft` (norm constant, Delta added to W).
        init: `reference` (both factors random) or `zero` (lora_B = 0: plain CLIP before the first step).
        targets: the linear layers of a block that carry an adapter.
    """

    rank: int = 32
    alpha: float = 16.0
    vision_layers: int = 2
    text_layers: int = 1
    dora: Dora = "published"
    init: Init = "zero"
    targets: tuple[Target, ...] = ("attn.out_proj",)

    def __post_init__(self) -> None:
        _require("rank", self.rank, self.rank >= 1, "at least 1")
        _require("alpha", self.alpha, self.alpha > 0, "above 0")
        _require("vision_layers", self.vision_layers, self.vision_layers >= 0, "0 or more")
        _require("text_layers", self.text_layers, self.text_layers >= 0, "0 or more")
        _require_one_of("dora", (self.dora,), Dora)
        _require_one_of("init", (self.init,), Init)
        _require_one_of("targets", self.targets, Target)
        _require("targets", self.targets, len(self.targets) > 0, "not empty")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Say where a tower's frozen part ends.

    Attributes:
        block: index of the first adapted block; `num_blocks` when none is adapted.
        num_blocks: depth of the tower.
        at: `attention` (before `out_proj` of that block), `mlp` (before its MLP), `embedding` (after the projection).
        rows: `all` tokens, or only the `one` that is read out (the cut lies in the last block or behind it).
    """

    block: int
    num_blocks: int
    at: CutAt
    rows: Literal["all", "one"]


def find_cut(num_blocks: int, num_adapted: int, targets: tuple[Target, ...], *, where: str) -> Cut:
    """Find the last point of a tower that no adapter can change."""
    if num_adapted > num_blocks:
        raise AdapterMismatch(
            where=where,
            rule=f"the tower has {num_blocks} blocks",
            got=str(num_adapted),
            remedy=f"Use 0 to {num_blocks}.",
        )
    block = num_blocks - num_adapted
    at: CutAt = "embedding" if num_adapted == 0 else "attention" if "attn.out_proj" in targets else "mlp"
    return Cut(block=block, num_blocks=num_blocks, at=at, rows="one" if num_adapted <= 1 else "all")


def vision_cut(config: Mapping[str, Any], adapter: AdapterConfig) -> Cut:
    """Find the cut of the vision tower; `config` is an open_clip model configuration."""
    layers = config["vision_cfg"]["layers"]
    return find_cut(layers, adapter.vision_layers, adapter.targets, where="adapter.vision_layers")


def text_cut(config: Mapping[str, Any], adapter: AdapterConfig) -> Cut:
    """Find the cut of the text tower; `config` is an open_clip model configuration."""
    layers = config["text_cfg"]["layers"]
    return find_cut(layers, adapter.text_layers, adapter.targets, where="adapter.text_layers")


_EMBEDDING_LAYER = ("class_embedding", "positional_embedding", "token_embedding.", "conv1.", "ln_pre.")


def lies_before(cut: Cut, name: str) -> bool:
    """Tell whether a tensor of a tower, by its name in it, is needed by the prefix alone."""
    found = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", name)
    if found is None:
        return name.startswith(_EMBEDDING_LAYER)
    block, part = int(found[1]), found[2]
    if block != cut.block:
        return block < cut.block
    return part.startswith(("ln_1.", "attn.in_proj", *(("attn.out_proj",) if cut.at == "mlp" else ())))


def prefix_names(names: Iterable[str], vision: Cut, text: Cut) -> list[str]:
    """List which tensors of a CLIP, by their names in open_clip, are needed by the prefixes of both towers alone."""
    inside = "visual."
    return [
        name
        for name in names
        if (lies_before(vision, name.removeprefix(inside)) if name.startswith(inside) else lies_before(text, name))
    ]


def prefix_shapes(
    config: Mapping[str, Any], adapter: AdapterConfig, *, every_block: bool = False
) -> dict[str, tuple[int, ...]]:
    """Give the shape of one image's frozen prefix by tensor name, without the batch axis.

    With `every_block` the model reads the projected CLS row behind each block (CLIP-HBA-MEG), not the last one only.
    """
    cut, vision = vision_cut(config, adapter), config["vision_cfg"]
    if every_block:
        layers = {"layers": (cut.block, config["embed_dim"])} if cut.block else {}
        return layers if cut.at == "embedding" else layers | _split_shapes(cut, vision)
    return {"embedding": (config["embed_dim"],)} if cut.at == "embedding" else _split_shapes(cut, vision)


def _split_shapes(cut: Cut, vision: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    tokens = 1 if cut.rows == "one" else (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    names = ("context", "residual") if cut.at == "attention" else ("residual",)
    return dict.fromkeys(names, (tokens, vision["width"]))


def count_adapter_parameters(config: Mapping[str, Any], adapter: AdapterConfig, *, magnitude: bool = True) -> int:
    """Count what is trained, without building it: a factor pair and one magnitude per output of each adapted layer.

    Without `magnitude` the magnitudes are frozen and do not count.
    """
    count = 0
    for tower, num_adapted in (("vision_cfg", adapter.vision_layers), ("text_cfg", adapter.text_layers)):
        width = config[tower]["width"]
        hidden = int(width * config[tower].get("mlp_ratio", 4.0))
        shapes = {"attn.out_proj": (width, width), "mlp.c_fc": (width, hidden), "mlp.c_proj": (hidden, width)}
        for target in adapter.targets:
            into, out = shapes[target]
            count += num_adapted * (adapter.rank * (into + out) + out * magnitude)
    return count


def count_meg_parameters(
    config: Mapping[str, Any], adapter: AdapterConfig, *, num_times: int, magnitude: Magnitude = "frozen"
) -> int:
    """Count what CLIP-HBA-MEG trains, without building it: the vision adapters and one weight per time and block."""
    adapters = count_adapter_parameters(config, adapter, magnitude=magnitude == "trained")
    return adapters + num_times * int(config["vision_cfg"]["layers"])


def prefix_signature(
    config: Mapping[str, Any],
    *,
    weights_sha256: str,
    activation: str,
    adapter: AdapterConfig,
    every_block: bool = False,
) -> dict[str, Any]:
    """Describe everything in the model that can change an image's frozen prefix, for content addressing.

    Preprocessing, image bytes and storage dtype are the caller's to add. Rank, alpha, form and init of the adapters
    lie behind the cut and are not part of it. `every_block` as in `prefix_shapes`.
    """
    cut, shapes = vision_cut(config, adapter), prefix_shapes(config, adapter, every_block=every_block)
    return {
        "version": SIGNATURE_VERSION,
        "weights_sha256": weights_sha256,
        "activation": activation,
        "embed_dim": config["embed_dim"],
        "vision": {key: value for key, value in sorted(config["vision_cfg"].items()) if key != "block_type"},
        "cut": {"block": cut.block, "at": cut.at, "rows": cut.rows},
        "tensors": {name: list(shape) for name, shape in shapes.items()},
    }


def _require(field: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise AdapterMismatch(
            where=f"adapter.{field}", rule=f"{field} is {rule}", got=repr(value), remedy="Correct it."
        )


def _require_one_of(field: str, values: tuple[str, ...], closed_set: object) -> None:
    known = typing.get_args(closed_set)
    for value in values:
        _require(field, value, value in known, f"one of {', '.join(known)}")
