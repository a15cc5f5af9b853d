"""The page that goes with an export: what it is, and the lines that load it."""

from collections.abc import Mapping, Sequence
from typing import Any

_ADAPTER = """\
    import open_clip, json
    from peft import PeftModel
    from safetensors.torch import load_file
    network = open_clip.CLIP(**json.load(open("open_clip_config.json"))["model_cfg"])   # block_type: custom
    network.load_state_dict(load_file("{path}"))
    network = PeftModel.from_pretrained(network, ".").eval()

On open_clip's default block type the adapter would load without a warning and do nothing.
"""
_MERGED = """\
    import open_clip
    network, _, transform = open_clip.create_model_and_transforms("local-dir:.")   # transform wants RGB images
    network.eval()

The adapters are merged into the weights, which fit open_clip's default block type.
"""
_PREDICTIONS = """
python load.py IMAGE ... prints the predictions of images. They are exp(logit_scale) times the cosines of
encode_image(pixels) and encode_text(tokens); `tokens`, one row per dimension, and the dimensions' names in the order
of the outputs are in export.json. Pixels: {preprocessing}.
"""
_NPZ = """\
    file = numpy.load("{name}"); file["outputs"], file["names"], file["dimensions"]
"""
_PARQUET = """\
    pandas.read_parquet("{name}")   # rows: images; columns: dimensions
"""


def readme(about: Mapping[str, Any], files: Sequence[str]) -> str:
    """Returns the page.

    Args:
        about: the content of export.json.
        files: names of the arrays, for embeddings.
    """
    facts = [
        ("sweep", about["sweep"]),
        ("trial", f"{about['trial_id']} ({about['trial']})"),
        ("epoch", f"{about['epoch']}, state {about['state_id']}"),
        ("validation loss", f"{_number(about['val_loss'])} at this epoch"),
        ("best", f"{_number(about['best_val_loss'])} at epoch {about['best_epoch']}"),
        ("backbone", f"{about['backbone']}, activation {about['activation']}"),
        ("weights", ", ".join(f"{name} {value}" for name, value in about["weights"].items() if value is not None)),
    ]
    lines = [f"{name + ':':<17}{value}" for name, value in facts]
    mark = ["STAND-IN: self-made pictures and a tiny CLIP, not the data and backbone that the spec names.", ""]
    title = {"adapter": "A DoRA adapter", "merged": "Merged weights", "embeddings": "Held-out outputs"}[about["what"]]
    head = [f"{title} of CLIP-HBA, exported by sweeper.", "", *(mark if about["stand_in"] else []), *lines, "", ""]
    return "\n".join(head) + _loading(about, files)


def _loading(about: Mapping[str, Any], files: Sequence[str]) -> str:
    if about["what"] == "embeddings":
        return "".join((_NPZ if name.endswith(".npz") else _PARQUET).format(name=name) for name in files)
    pictures = about["preprocessing"]
    shown = (
        f"RGB, stretched to {pictures['size']} x {pictures['size']} (bilinear, no crop), scaled to 0..1, "
        f"mean {tuple(pictures['mean'])}, std {tuple(pictures['std'])}"
    )
    lines = _ADAPTER.format(path=about["weights"]["path"]) if about["what"] == "adapter" else _MERGED
    return lines + _PREDICTIONS.format(preprocessing=shown)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"
