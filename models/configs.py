"""Read the configuration of a backbone; free of torch, so that planning can use it."""

import difflib
import importlib.util
import json
from pathlib import Path
from typing import Any

from sweeper_models.errors import BackboneUnsupported

TINY_CLIP = "tiny-clip"
TINY_CLIP_DIR = Path(__file__).parent / "tiny_clip"

# What both towers may set; anything else (other pooling, norms, gates, tokenizers) is another kind of network.
_PLAIN_VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "block_type", "norm_kwargs"}
_PLAIN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "block_type", "norm_kwargs"}


def read_config(config_name: str) -> dict[str, Any]:
    """Read the open_clip model configuration of a backbone (embed_dim, vision_cfg, text_cfg)."""
    folder = _open_clip_configs()
    path = TINY_CLIP_DIR / "config.json" if config_name == TINY_CLIP else folder / f"{config_name}.json"
    if not path.is_file():
        known = [TINY_CLIP, *sorted(p.stem for p in folder.glob("ViT-*.json") if not p.stem.endswith("-quickgelu"))]
        near = difflib.get_close_matches(config_name, known, n=3, cutoff=0.4) or known[:3]
        raise BackboneUnsupported(
            where="backbone",
            rule=f"a backbone is {TINY_CLIP} or an open_clip ViT",
            got=repr(config_name),
            remedy=f"Nearest: {', '.join(near)}.",
        )
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    _require_plain_vit(config_name, config)
    return config


def _open_clip_configs() -> Path:
    # find_spec of a top-level package does not import it: `import open_clip` takes seconds and pulls torch in.
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("open_clip is not installed", name="open_clip")
    return Path(spec.submodule_search_locations[0]) / "model_configs"


def _require_plain_vit(config_name: str, config: dict[str, Any]) -> None:
    top = set(config) - {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
    vision, text = set(config["vision_cfg"]) - _PLAIN_VISION, set(config["text_cfg"]) - _PLAIN_TEXT
    odd = sorted(top) + sorted(f"vision_cfg.{key}" for key in vision) + sorted(f"text_cfg.{key}" for key in text)
    if odd or not isinstance(config["vision_cfg"].get("layers"), int):
        raise BackboneUnsupported(
            where="backbone",
            rule="both towers are plain pre-norm transformers read out at one token",
            got=f"{config_name} with {', '.join(odd) or 'a convolutional tower'}",
            remedy="Use a ViT-B, ViT-L or ViT-H configuration of open_clip, or tiny-clip.",
        )
