"""Build a frozen open_clip network from located weights, without reading or moving the global random state."""

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from sweeper_models.adapter import Cut, prefix_names
from sweeper_models.configs import TINY_CLIP, TINY_CLIP_DIR, read_config
from sweeper_models.errors import WeightsMismatch
from sweeper_models.weights import Activation, WeightsFile
from torch import Tensor, nn

Tokenize = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Backbone:
    """Hold a pretrained CLIP, frozen, in eval mode and fp32.

    Attributes:
        clip: open_clip's CLIP with blocks of type `custom`; nobody may change it (models share its tensors).
        tokenize: texts to int64 [N, context], end-of-text being the highest id of a row.
        config: the open_clip model configuration.
        config_name, weights_sha256, activation: the identity of the network.
        image_size: height and width of the images in pixels.
        embed_dim: E, width of the joint space.
        logit_scale: the frozen parameter; outputs are scaled by its exponential.
        behind: the cuts of vision and text tower before which nothing was loaded; None: all is there.
    """

    clip: CLIP
    tokenize: Tokenize
    config: Mapping[str, Any]
    config_name: str
    weights_sha256: str
    activation: Activation
    image_size: int
    embed_dim: int
    logit_scale: float
    behind: tuple[Cut, Cut] | None = None


def load_backbone(
    weights: WeightsFile, *, tokenize: Tokenize | None = None, behind: tuple[Cut, Cut] | None = None
) -> Backbone:
    """Build the network of located weights on the CPU; every key of file and network must match.

    float32 files are mapped, not read: workers of a node share the pages, and blocks that nobody runs are never loaded.

    Args:
        weights: where they are.
        tokenize: of the text tower; default: the backbone's own.
        behind: cuts of vision and text tower: what only their prefixes need is left out, as tensors without values.
    """
    config = read_config(weights.config_name)
    if tokenize is None:
        tokenize = _tokenizer_of(weights.config_name, config)
    if weights.path is None:
        seed = int(weights.sha256.removeprefix("random:"))
        drawn = random_backbone(
            config, activation=weights.activation, seed=seed, tokenize=tokenize, config_name=weights.config_name
        )
        return drawn if behind is None else _without_prefix(drawn, behind)
    with torch.random.fork_rng(devices=[]):
        clip = build_clip(config, activation=weights.activation, device="meta")
    left_out = prefix_names(clip.state_dict(), *behind) if behind is not None else []
    _assign(clip, weights.path, left_out)
    backbone = _freeze(clip, tokenize, config, weights.config_name, weights.sha256, weights.activation)
    return replace(backbone, behind=behind)


def random_backbone(
    config: Mapping[str, Any],
    *,
    activation: Activation,
    seed: int,
    tokenize: Tokenize,
    config_name: str = "random",
) -> Backbone:
    """Build a network of any configuration with random weights, for tests and benchmarks."""
    with torch.random.fork_rng(devices=[]):
        # open_clip's constructors draw from the global generator; torch.manual_seed would touch CUDA's as well.
        torch.default_generator.manual_seed(seed)
        clip = build_clip(config, activation=activation)
        _soften(clip)
    return _freeze(clip, tokenize, config, config_name, f"random:{seed}", activation)


def build_clip(
    config: Mapping[str, Any], *, activation: Activation, block_type: str = "custom", device: str = "cpu"
) -> CLIP:
    """Construct open_clip's CLIP.

    In the default block type torch's fused attention reads `out_proj.weight` and never calls the module `out_proj`,
    so an adapter on it would be silently dead. The `custom` type has a real linear layer there and the same keys.
    """
    with torch.device(device):
        return CLIP(
            embed_dim=config["embed_dim"],
            vision_cfg={**config["vision_cfg"], "block_type": block_type},
            text_cfg={**config["text_cfg"], "block_type": block_type},
            quick_gelu=activation == "quick_gelu",
        )


class WordTokenizer:
    """Split lower-cased text at everything but letters and digits, one id per word."""

    def __init__(self, vocabulary: Mapping[str, int], *, context_length: int) -> None:
        self.vocabulary = dict(vocabulary)
        self.context_length = context_length
        self.start, self.end = self.vocabulary["<start>"], self.vocabulary["<end>"]
        self.padding, self.unknown = self.vocabulary["<pad>"], self.vocabulary["<unk>"]
        if self.end != max(self.vocabulary.values()):
            raise ValueError("the end of text must have the highest id: the text tower is read out at the largest id")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Encode texts as int64 [N, context], cut to the context with the end of text kept."""
        rows = torch.full((len(texts), self.context_length), self.padding, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            words = re.findall(r"[a-z0-9]+", text.lower())[: self.context_length - 2]
            ids = [self.start, *(self.vocabulary.get(word, self.unknown) for word in words), self.end]
            row[: len(ids)] = torch.tensor(ids)
        return rows


def share(module: nn.Module) -> Any:
    """Copy the modules of a frozen network but not its tensors.

    Parameter objects are new, since moving a module to a device changes its parameter objects in place.
    """
    memo: dict[int, Any] = {id(p): nn.Parameter(p.data, requires_grad=False) for p in module.parameters()}
    memo |= {id(buffer): buffer.detach() for buffer in module.buffers()}
    return copy.deepcopy(module, memo)


def _tokenizer_of(config_name: str, config: Mapping[str, Any]) -> Tokenize:
    context_length = config["text_cfg"]["context_length"]
    if config_name == TINY_CLIP:
        vocabulary = json.loads((TINY_CLIP_DIR / "vocabulary.json").read_text(encoding="utf-8"))
        return WordTokenizer(vocabulary, context_length=context_length)
    return SimpleTokenizer(context_length=context_length)


def _without_prefix(backbone: Backbone, behind: tuple[Cut, Cut]) -> Backbone:
    """Replace what only the prefixes need by tensors without values, in place: random weights are drawn in one row."""
    clip = backbone.clip
    for name in prefix_names(clip.state_dict(), *behind):
        owner, _, leaf = name.rpartition(".")
        empty = torch.empty_like(clip.get_parameter(name), device="meta")
        setattr(clip.get_submodule(owner), leaf, nn.Parameter(empty, requires_grad=False))
    return replace(backbone, behind=behind)


def _assign(clip: CLIP, path: Path, left_out: Sequence[str]) -> None:
    """Put the tensors of a file into a network on the meta device, as they lie (no second copy in memory)."""
    expected = clip.state_dict()
    with safetensors.safe_open(path, framework="pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
        _require_keys(expected, shapes, where=str(path))
        state = {key: file.get_tensor(key).float() for key in shapes if key not in set(left_out)}
    clip.load_state_dict(state, assign=True, strict=False)
    clip.attn_mask = torch.full(clip.attn_mask.shape, float("-inf")).triu_(1)  # not in the file: rebuilt


def _require_keys(expected: Mapping[str, Tensor], found: Mapping[str, tuple[int, ...]], *, where: str) -> None:
    """Refuse a file whose tensors are not exactly those of the network, by name and shape."""
    problems = [f"missing {key}" for key in expected if key not in found]
    problems += [f"unexpected {key}" for key in found if key not in expected]
    problems += [
        f"{key} is {found[key]}, not {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key] != tuple(tensor.shape)
    ]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise WeightsMismatch(
            where="pretrained",
            rule="the tensors of the file are exactly those of the network",
            got=f"{where}: {shown}",
            remedy="Name the backbone these weights belong to.",
        )


def _freeze(
    clip: CLIP, tokenize: Tokenize, config: Mapping[str, Any], name: str, sha256: str, activation: Activation
) -> Backbone:
    clip.eval().requires_grad_(False)
    return Backbone(
        clip=clip,
        tokenize=tokenize,
        config=config,
        config_name=name,
        weights_sha256=sha256,
        activation=activation,
        image_size=config["vision_cfg"]["image_size"],
        embed_dim=config["embed_dim"],
        logit_scale=clip.logit_scale.item(),
    )


def _soften(clip: CLIP) -> None:
    """Draw the vision blocks as open_clip draws the text blocks; its own default saturates the attention."""
    tower = clip.visual.transformer
    width, depth = tower.width, tower.layers
    for block in tower.resblocks:
        nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * depth) ** -0.5)
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * depth) ** -0.5)
