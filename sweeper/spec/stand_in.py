"""The stand-in: any spec, run on the self-made set with the tiny CLIP, so that every machine can try it."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from sweeper.spec.document import Path
from sweeper.spec.fields import without_index
from sweeper.spec.rewrite import rewrite

STAND_IN_MANIFEST = "builtin:selfmade"
STAND_IN_BACKBONE = "tiny-clip"
STAND_IN_PRETRAINED = "builtin"
STAND_IN_LR = 1e-2
STAND_IN_BATCH = 16
STAND_IN_EPOCHS = 160
STAND_IN_POOL = 480
STAND_IN_REFERENCE = "behavioral48"
STAND_IN_LAYERS = {"model.adapter.vision_layers": 5, "model.adapter.text_layers": 2}
STAND_IN_SUFFIX = "--stand-in"

_PUBLISHED_BATCH = 64
_SMALLEST = 16
_REPLACED: dict[str, Any] = {
    "data.manifest": STAND_IN_MANIFEST,
    "model.backbone": STAND_IN_BACKBONE,
    "model.pretrained": STAND_IN_PRETRAINED,
    "model.activation": None,
    "training.optimizer.lr": STAND_IN_LR,
}


def stand_in(raw: Mapping[str, Any], *, pool_size: int = STAND_IN_POOL, last_start: int = 0) -> dict[str, Any]:
    """Returns a valid raw spec with data, backbone and learning rate replaced by the self-made set's.

    Axes over what is replaced are dropped, other swept values are brought into the range that the self-made
    set and the tiny CLIP have. Trials may thereby become equal: `expand` keeps each once.

    Args:
        raw: the spec, found to be valid.
        pool_size: stimuli of the self-made set outside its held-out set.
        last_start: the latest start of any window, which `max_epochs` must not cut off.
    """
    sizes = _train_sizes(raw, pool_size)
    max_epochs = max(STAND_IN_EPOCHS, last_start)

    def change(name: str, value: Any, path: Path) -> Any:
        if name in _REPLACED:
            return _REPLACED[name]
        if name in STAND_IN_LAYERS:
            return min(value, STAND_IN_LAYERS[name])
        if name == "data.train_size" and value is not None:
            return sizes[value]
        if name == "training.batch_size":
            return max(2, round(value * STAND_IN_BATCH / _PUBLISHED_BATCH)) if path[0] != "training" else STAND_IN_BATCH
        if name == "training.max_epochs":
            return min(value, max_epochs)
        if name == "numerics.device":
            return "auto"
        return value

    changed = _without_dropped_axes(rewrite(raw, change))
    changed["name"] = raw["name"][: 100 - len(STAND_IN_SUFFIX)] + STAND_IN_SUFFIX
    _set(changed, "data", manifest=STAND_IN_MANIFEST)
    _set(changed, "model", backbone=STAND_IN_BACKBONE, pretrained=STAND_IN_PRETRAINED, activation=None)
    _set(changed, "training", batch_size=STAND_IN_BATCH)
    changed["training"].setdefault("max_epochs", max_epochs)
    changed["training"]["optimizer"] = {**changed["training"].get("optimizer", {}), "lr": STAND_IN_LR}
    return _elsewhere(changed)


def _set(changed: dict[str, Any], section: str, **fields: Any) -> None:
    changed[section] = {**(changed.get(section) or {}), **fields}


def _elsewhere(changed: dict[str, Any]) -> dict[str, Any]:
    """Changes what is measured and where it runs: no other manifests, no address, no GPU asked for."""
    if "evaluation" in changed:
        evaluation = {key: value for key, value in changed["evaluation"].items() if key != "sets"}
        names = ("targets" if name == "targets" else STAND_IN_REFERENCE for name in evaluation.get("rsa", ()))
        changed["evaluation"] = {**evaluation, "rsa": list(dict.fromkeys(names))}
    if "resources" in changed:
        kept = {key: value for key, value in changed["resources"].items() if key != "address"}
        changed["resources"] = {**kept, "gpu": "auto"}
    if changed.get("tracking", {}).get("experiment"):
        _set(changed, "tracking", experiment=changed["tracking"]["experiment"] + STAND_IN_SUFFIX)
    return changed


def _train_sizes(raw: Mapping[str, Any], pool_size: int) -> dict[int, int]:
    """Returns the scaled training-set sizes: in the same order, distinct, the largest the whole pool."""
    found: set[int] = set()
    folds: set[int] = set()

    def collect(name: str, value: Any, path: Path) -> Any:
        if isinstance(value, int):
            (found if name == "data.train_size" else folds if name == "data.folds" else set[int]()).add(value)
        return value

    rewrite(raw, collect)
    pool = pool_size - -(-pool_size // min(folds)) if folds else pool_size
    scale = min(1.0, pool / max(found, default=pool))
    sizes: dict[int, int] = {}
    for size in sorted(found):
        above = max(sizes.values(), default=_SMALLEST - 1) + 1
        sizes[size] = min(max(round(size * scale), above), pool)
    return sizes


def _without_dropped_axes(raw: dict[str, Any]) -> dict[str, Any]:
    axes = raw.pop("axes", {})
    blocks = [_kept_block(block) for block in (axes if isinstance(axes, list) else [axes])]
    names = {name for block in blocks for name in _names(block)}
    if names:
        raw["axes"] = blocks
    exclude = [entry for entry in raw.pop("exclude", []) if entry.keys() <= names]
    return {**raw, "exclude": exclude}


def _kept_block(block: Mapping[str, Any]) -> dict[str, Any]:
    product = block.get("product", {name: values for name, values in block.items() if name != "zip"})
    groups = block.get("zip", [])
    zipped = [_kept(group) for group in (groups if isinstance(groups, list) else [groups])]
    return {"product": _kept(product), "zip": [group for group in zipped if group]}


def _kept(axes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in axes.items() if without_index(name) not in _REPLACED}


def _names(block: Mapping[str, Any]) -> Iterator[str]:
    return chain(block["product"], chain.from_iterable(block["zip"]))
