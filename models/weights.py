"""Find the weights of a backbone and name their identity; free of torch, so that planning can use it."""

import functools
import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweeper_models.configs import TINY_CLIP, TINY_CLIP_DIR, read_config
from sweeper_models.errors import WeightsMismatch, WeightsUnavailable

Activation = Literal["quick_gelu", "gelu"]

HUB_FILE = "open_clip_model.safetensors"

# (backbone, pretrained) -> (Hugging Face repository, activation the weights were trained with), as in open_clip's
# registry (a test compares). OpenAI's weights need QuickGELU although open_clip's own `ViT-L-14` is built with GELU.
HUB_WEIGHTS: dict[tuple[str, str], tuple[str, Activation]] = {
    ("ViT-B-32", "openai"): ("timm/vit_base_patch32_clip_224.openai", "quick_gelu"),
    ("ViT-B-16", "openai"): ("timm/vit_base_patch16_clip_224.openai", "quick_gelu"),
    ("ViT-L-14", "openai"): ("timm/vit_large_patch14_clip_224.openai", "quick_gelu"),
    ("ViT-L-14-336", "openai"): ("timm/vit_large_patch14_clip_336.openai", "quick_gelu"),
    ("ViT-B-32", "laion2b_s34b_b79k"): ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "gelu"),
    ("ViT-B-16", "laion2b_s34b_b88k"): ("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "gelu"),
    ("ViT-L-14", "laion2b_s32b_b82k"): ("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "gelu"),
    ("ViT-H-14", "laion2b_s32b_b79k"): ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "gelu"),
}

_CONVERT = (
    'python -c "import torch, safetensors.torch as s; d = {load}; '
    "d = d.get('state_dict', d); s.save_file({{k: v.float().contiguous() for k, v in d.items() "
    "if k not in ('input_resolution', 'context_length', 'vocab_size')}}, '{target}')\""
)


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsFile:
    """Name the weights of a backbone.

    Attributes:
        path: the safetensors file; None for random weights.
        sha256: hash of the file, or `random:<seed>`; with `activation` and `config_name` the backbone's identity.
        activation: the activation the weights were trained with.
        config_name: open_clip's configuration without a `-quickgelu` suffix, or `tiny-clip`.
    """

    path: Path | None
    sha256: str
    activation: Activation
    config_name: str


def locate_weights(
    backbone: str, pretrained: str, *, activation: str | None = None, cache_dir: Path | None = None
) -> WeightsFile:
    """Find the weights on this machine, without downloading anything.

    Args:
        backbone: `tiny-clip` or an open_clip name such as `ViT-L-14`.
        pretrained: `builtin`, a tag such as `openai`, the path of a safetensors file, or `random[:<seed>]`.
        activation: `quick_gelu` or `gelu`; needed for a file, checked against the weights' own elsewhere.
        cache_dir: looked in before the Hugging Face cache.

    Raises:
        BackboneUnsupported, WeightsUnavailable, WeightsMismatch: each with place, rule, value and way out.
    """
    config_name = backbone.removesuffix("-quickgelu")
    config = read_config(config_name)
    asked = _asked_activation(backbone, activation)
    if pretrained == "random" or pretrained.startswith("random:"):
        return _random_weights(config_name, pretrained, asked or "quick_gelu")
    if pretrained == "builtin":
        return _builtin_weights(config_name, asked, "quick_gelu" if config.get("quick_gelu") else "gelu")
    if os.sep in pretrained or Path(pretrained).suffix in _FILE_SUFFIXES:
        return _local_weights(config_name, Path(pretrained).expanduser(), asked)
    return _hub_weights(config_name, pretrained, asked, cache_dir)


def _asked_activation(backbone: str, activation: str | None) -> Activation | None:
    if activation not in (None, "quick_gelu", "gelu"):
        raise WeightsMismatch(
            where="activation",
            rule="an activation is quick_gelu or gelu",
            got=repr(activation),
            remedy="Use one of the two.",
        )
    if not backbone.endswith("-quickgelu"):
        return activation  # type: ignore[return-value]  # narrowed by the check above
    _agree("quick_gelu", activation, f"the name {backbone}")
    return "quick_gelu"


def _agree(own: Activation, asked: str | None, source: str) -> Activation:
    """Return the weights' own activation; another one would be another network that loads without an error."""
    if asked not in (None, own):
        raise WeightsMismatch(
            where="activation",
            rule=f"{source} means {own} (the other activation loads without an error and is another network)",
            got=repr(asked),
            remedy=f"Leave the activation out or use {own}.",
        )
    return own


def _random_weights(config_name: str, pretrained: str, activation: Activation) -> WeightsFile:
    seed = pretrained.partition(":")[2] or "0"
    if not seed.isdecimal():
        raise WeightsUnavailable(
            where="pretrained",
            rule="random weights are named random or random:<seed>",
            got=repr(pretrained),
            remedy="Use a whole number as seed, e.g. random:0.",
        )
    return WeightsFile(path=None, sha256=f"random:{int(seed)}", activation=activation, config_name=config_name)


def _builtin_weights(config_name: str, asked: str | None, own: Activation) -> WeightsFile:
    if config_name != TINY_CLIP:
        raise WeightsUnavailable(
            where="pretrained",
            rule=f"only {TINY_CLIP} comes with weights",
            got=f"builtin for {config_name}",
            remedy=f"Use pretrained: openai, the path of a safetensors file, or backbone: {TINY_CLIP}.",
        )
    path = TINY_CLIP_DIR / "weights.safetensors"
    activation = _agree(own, asked, TINY_CLIP)
    return WeightsFile(path=path, sha256=_sha256_of(path), activation=activation, config_name=config_name)


_FILE_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".jit", ".pkl"}


def _local_weights(config_name: str, path: Path, asked: Activation | None) -> WeightsFile:
    if not path.is_file():
        raise WeightsUnavailable(
            where="pretrained",
            rule="a path names an existing safetensors file",
            got=str(path),
            remedy=f"Put the file there (absolute: {path.absolute()}) or correct the path.",
        )
    _refuse_pickle(path)
    if asked is None:
        raise WeightsMismatch(
            where="activation",
            rule="a weights file does not say which activation it was trained with, so the configuration must",
            got="none",
            remedy="Set activation: quick_gelu (OpenAI's weights) or gelu (most others).",
        )
    return WeightsFile(path=path, sha256=_sha256_of(path), activation=asked, config_name=config_name)


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) == 9 and head[8:] == b"{":  # safetensors: 8 bytes of header length, then JSON
        return
    source, target = str(path), str(path.with_suffix(".safetensors"))
    archive = zipfile.is_zipfile(path) and any("/code/" in name for name in zipfile.ZipFile(path).namelist())
    load = "torch.jit.load('{}', map_location='cpu').state_dict()" if archive else "torch.load('{}', weights_only=True)"
    raise WeightsMismatch(
        where="pretrained",
        rule="weights are read from safetensors only; a TorchScript archive or a pickle can run code when it is opened",
        got=f"{path.name}, {'a TorchScript archive' if archive else 'not a safetensors file'}",
        remedy=f"Convert it once: {_CONVERT.format(load=load.format(source), target=target)}",
    )


def _hub_weights(config_name: str, tag: str, asked: str | None, cache_dir: Path | None) -> WeightsFile:
    if (config_name, tag) not in HUB_WEIGHTS:
        known = [name for backbone, name in HUB_WEIGHTS if backbone == config_name]
        raise WeightsUnavailable(
            where="pretrained",
            rule=f"known weights of {config_name}: {', '.join(known) or 'none'}",
            got=repr(tag),
            remedy="Use one of these, the path of a safetensors file (with its activation), or random.",
        )
    repository, own = HUB_WEIGHTS[config_name, tag]
    activation = _agree(own, asked, f"{config_name} {tag}")
    roots = [root for root in (cache_dir, _hub_cache()) if root is not None]
    for root in roots:
        for path in _candidates(root, repository):
            if path.is_file():
                return WeightsFile(path=path, sha256=_sha256_of(path), activation=activation, config_name=config_name)
    folder = roots[0] / repository
    raise WeightsUnavailable(
        where="pretrained",
        rule=f"the weights {config_name} {tag} lie on this machine; nothing is downloaded unasked",
        got=f"no {HUB_FILE} of {repository} under {' or '.join(map(str, roots))}",
        remedy=f"Download https://huggingface.co/{repository}/resolve/main/{HUB_FILE} to {folder / HUB_FILE} "
        f"(or: hf download {repository} {HUB_FILE} --local-dir {folder}).",
    )


def _hub_cache() -> Path:
    """Find the Hugging Face cache by the rule of huggingface_hub, whose import is slow."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser() / "hub"


def _candidates(root: Path, repository: str) -> list[Path]:
    """List where a repository's file may lie: the plain folder, then the cache's snapshots, `main` first."""
    cached = root / f"models--{repository.replace('/', '--')}"
    main = cached / "refs" / "main"
    revisions = [main.read_text(encoding="utf-8").strip()] if main.is_file() else []
    snapshots = [cached / "snapshots" / revision for revision in revisions] + sorted(cached.glob("snapshots/*"))
    return [folder / HUB_FILE for folder in (root / repository, *snapshots)]


def _sha256_of(path: Path) -> str:
    stat = path.stat()
    return _sha256(str(path.absolute()), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    # Size and time are part of the key only: a file that changed is hashed again.
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
