"""Print the 66 predictions of images, with plain open_clip and peft: python load.py IMAGE ... [--weights FILE]."""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

FOLDER = Path(__file__).parent


def load(folder: Path = FOLDER, weights: str | None = None) -> Any:
    """Return the network; with `block_type: custom` for an adapter, since on the stock block it would do nothing."""
    about = read(folder)
    network = open_clip.CLIP(**json.loads((folder / "open_clip_config.json").read_text())["model_cfg"])
    if about["what"] == "merged":
        network.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    else:
        from peft import PeftModel

        file = Path(weights or about["weights"]["path"])
        if not file.is_file() or sha256(file) != about["weights"]["sha256"]:
            sys.exit(f"--weights: the backbone's own weights, {about['weights']}. Got {file}, absent or other bytes.")
        network.load_state_dict(load_file(file))
        network = PeftModel.from_pretrained(network, folder)
    return network.eval()


def pixels(files: list[str], about: dict[str, Any]) -> torch.Tensor:
    """Return float32 [N, 3, size, size]: stretched to the square, without a crop, and normalised."""
    size, mean, std = (about["preprocessing"][name] for name in ("size", "mean", "std"))
    pictures = [Image.open(file).convert("RGB").resize((size, size), Image.Resampling.BILINEAR) for file in files]
    batch = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return ((batch / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)


@torch.no_grad()
def predict(network: Any, images: torch.Tensor, about: dict[str, Any]) -> torch.Tensor:
    """Return float32 [N, 66]: scaled cosines of the images and the dimensions' names."""
    image = functional.normalize(network.encode_image(images), dim=-1)
    text = functional.normalize(network.encode_text(torch.tensor(about["tokens"])), dim=-1)
    scores: torch.Tensor = network.logit_scale.exp() * image @ text.T
    return scores


def read(folder: Path = FOLDER) -> dict[str, Any]:
    """Return what export.json says."""
    about: dict[str, Any] = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    return about


def sha256(file: Path) -> str:
    """Return the hash of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main() -> None:
    """Print a table: one row per dimension, one column per image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--weights", help="file of the backbone's own weights")
    asked, about = parser.parse_args(), read()
    scores = predict(load(weights=asked.weights), pixels(asked.images, about), about)
    print("dimension", *asked.images, sep="\t")
    for name, row in zip(about["dimensions"], scores.T.tolist(), strict=True):
        print(name, *row, sep="\t")


if __name__ == "__main__":
    main()
