"""A trained state as files that plain peft and plain open_clip load (docs/methods.md 1.4)."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import Backbone, load_backbone
from sweeper_models.clip_hba import ClipHba, adapted_names
from sweeper_models.dora import adapter_layers, base_norms, effective_weight, to_peft, trainable_parameters
from sweeper_models.weights import WeightsFile

from sweeper.errors import ModelError, Problem
from sweeper.export import loading
from sweeper.spec.schema import TrialConfig
from sweeper.tasks.state import load_state

CLIP = "clip."  # where a ClipHba holds open_clip's network
PEFT = "base_model.model."  # where a PeftModel holds it
TOLERANCE = 1e-5
"""Largest accepted difference of the exported network's outputs from ours, relative to the largest output."""


class Trained:
    """Holds the network of one state."""

    def __init__(self, config: TrialConfig, weights: WeightsFile, state: bytes) -> None:
        """Builds the network of a configuration and puts a state's tensors into it."""
        self.weights = weights
        self.backbone: Backbone = load_backbone(weights)
        fields = config.model.adapter.model_dump()
        self.adapter = AdapterConfig(**fields)
        self.model = ClipHba(self.backbone, self.adapter)
        parameters = load_state(state, "cpu").parameters
        with torch.no_grad():
            for name, parameter in trainable_parameters(self.model).items():
                parameter.copy_(parameters[name])

    @property
    def tokens(self) -> list[list[int]]:
        """The dimensions' names as the text tower gets them: one row each."""
        tokens: list[list[int]] = self.model.tokens.tolist()
        return tokens

    def write_adapter(self, folder: Path) -> None:
        """Writes adapter_config.json and adapter_model.safetensors, in peft's form whatever the form of training.

        Raises:
            ModelError: nothing is adapted, or the backbone has no file that others could load.
        """
        names = adapted_names(self.backbone.config, self.adapter)
        if not names or self.weights.path is None:
            got = "no adapted layer" if not names else f"random weights ({self.weights.sha256})"
            rule = "an adapter changes some layers of a backbone whose weights are a file"
            raise ModelError(Problem(where="--what", rule=rule, got=got, remedy="Use --what merged"))
        tensors = {name: tensor.detach() for name, tensor in trainable_parameters(self.model).items()}
        if self.adapter.dora == "published":
            tensors = to_peft(tensors, base_norms(self.model))
        lora = peft.LoraConfig(
            r=self.adapter.rank,
            lora_alpha=self.adapter.alpha,
            use_dora=True,
            target_modules="|".join(re.escape(name) for name in names),
            base_model_name_or_path=str(self.weights.path),
            inference_mode=True,
        )
        lora.save_pretrained(folder)
        _save({_in_peft(name): tensor for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")

    def write_merged(self, folder: Path) -> None:
        """Writes open_clip_model.safetensors: open_clip's state dict with the effective weights in it."""
        tensors = dict(self.backbone.clip.state_dict())
        for name, layer in adapter_layers(self.model.clip):
            tensors[f"{name}.weight"] = effective_weight(layer).detach()
        _save(tensors, folder / "open_clip_model.safetensors")

    def write_config(self, folder: Path, *, block_type: str, preprocessing: Mapping[str, Any]) -> None:
        """Writes open_clip_config.json as open_clip's `local-dir:` reads it."""
        config = self.backbone.config
        towers = {name: {**config[name], "block_type": block_type} for name in ("vision_cfg", "text_cfg")}
        model = {"embed_dim": config["embed_dim"], **towers, "quick_gelu": self.backbone.activation == "quick_gelu"}
        pictures = {
            "mean": preprocessing["mean"],
            "std": preprocessing["std"],
            "interpolation": "bilinear",
            "resize_mode": "squash",
        }
        text = json.dumps({"model_cfg": model, "preprocess_cfg": pictures}, indent=2)
        (folder / "open_clip_config.json").write_text(f"{text}\n", encoding="utf-8")

    def largest_difference(self, folder: Path) -> float:
        """Loads what was written as its reader will, and compares the outputs of two random images with ours.

        Returns:
            The largest difference, relative to the largest output.

        Raises:
            ModelError: it is above `TOLERANCE`.
        """
        size = self.backbone.image_size
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            ours = self.model(images)
        theirs = loading.predict(loading.load(folder), images, loading.read(folder))
        difference = float((theirs - ours).abs().max() / ours.abs().max())
        if not difference <= TOLERANCE:
            rule = f"the exported network's outputs are those of the trained one to {TOLERANCE}"
            remedy = "Please report it, with the versions of peft and open_clip_torch"
            raise ModelError(Problem(where=str(folder), rule=rule, got=f"{difference:.2g}", remedy=remedy))
        return difference


def _in_peft(name: str) -> str:
    """Returns the name of a trained tensor in peft's files, without the adapter's own name."""
    layer, _, part = name.removeprefix(CLIP).rpartition(".default.weight")[0].rpartition(".")
    return f"{PEFT}{layer}.{part}" + ("" if part == "lora_magnitude_vector" else ".weight")


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(plain, path, metadata={"format": "pt"})
