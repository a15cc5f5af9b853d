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
STAND_IN_LR = 2e-3
STAND_IN_BATCH = 16
STAND_IN_EPOCHS = 160
STAND_IN_POOL = 240
STAND_IN_REFERENCE = "behavioral48"
STAND_IN_LAYERS = {"model.adapter.vision_layers": 5, "model.adapter.text_layers": 2}
STAND_IN_SUFFIX = "--stand-in"

_PUBLISHED_BATCH = 64
_PUBLISHED_LR = 3e-4
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
        if name == "training.optimizer.lr" and path[0] == "search":
            return float(f"{value * STAND_IN_LR / _PUBLISHED_LR:.6g}")
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

    changed = rewrite(raw, change)
    defaults = {"training.batch_size": STAND_IN_BATCH, "training.max_epochs": max_epochs}
    for section in ("data", "model", "training"):
        changed[section] = _completed(section, changed.get(section) or {}, defaults)
    changed = _without_dropped_axes(changed, defaults)
    changed = _with_kept_search(changed, raw)
    changed["name"] = raw["name"][: 100 - len(STAND_IN_SUFFIX)] + STAND_IN_SUFFIX
    return _elsewhere(changed)


def _completed(name: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    """Returns a section, or part of one, in which what is replaced is set, and what is left out has our defaults."""
    if not isinstance(value, Mapping):
        return value
    fields = {leaf: (constant, True) for leaf, constant in _REPLACED.items()}
    fields |= {leaf: (default, False) for leaf, default in defaults.items()}
    changed = dict(value)
    for leaf, (constant, force) in fields.items():
        if not leaf.startswith(f"{name}."):
            continue
        *parents, last = leaf.removeprefix(f"{name}.").split(".")
        node = changed
        for parent in parents:
            node[parent] = dict(node.get(parent) or {})
            node = node[parent]
        if force or last not in node:
            node[last] = constant
    return changed


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
        experiment = changed["tracking"]["experiment"] + STAND_IN_SUFFIX
        changed["tracking"] = {**changed["tracking"], "experiment": experiment}
    return changed


def _train_sizes(raw: Mapping[str, Any], pool_size: int) -> dict[int, int]:
    """Returns the scaled training-set sizes: in the same order, distinct, the largest the whole pool."""
    found: set[int] = set()
    folds: set[int] = set()

    def collect(name: str, value: Any, path: Path) -> Any:
        if name == "data.train_size" and value is not None:
            found.add(value)
        if name == "data.folds" and value is not None:
            folds.add(value)
        return value

    rewrite(raw, collect)
    pool = pool_size - -(-pool_size // min(folds)) if folds else pool_size
    scale = min(1.0, pool / max(found, default=pool))
    sizes: dict[int, int] = {}
    for size in sorted(found):
        above = max(sizes.values(), default=_SMALLEST - 1) + 1
        sizes[size] = min(max(round(size * scale), above), pool)
    return sizes


def _without_dropped_axes(raw: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    axes = raw.pop("axes", {})
    blocks = [_kept_block(block, defaults) for block in (axes if isinstance(axes, list) else [axes])]
    names = {name for block in blocks for name in _names(block)}
    if names:
        raw["axes"] = blocks
    exclude = [entry for entry in raw.pop("exclude", []) if entry.keys() <= names]
    return {**raw, "exclude": exclude}


def _with_kept_search(changed: dict[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Takes out of a search what is replaced, except the learning rate, and what no longer fits."""
    search = changed.pop("search", None)
    if search is None:
        return changed
    kept = [name for name in search["space"] if without_index(name) not in _REPLACED or name.endswith(".lr")]
    space = {name: _kept_range(search["space"][name], raw["search"]["space"][name]) for name in kept}
    first = [{name: value for name, value in point.items() if name in kept} for point in search.get("first", [])]
    rest = {key: value for key, value in search.items() if key != "storage"}
    return {**changed, "search": {**rest, "space": space, "first": first}} if kept else changed


def _kept_range(written: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a range without a step that its new bounds do not fit, and without choices that became equal."""
    kept = {key: value for key, value in written.items() if key != "step" or written == before}
    if "choices" in kept:
        distinct: list[Any] = []
        distinct.extend(value for value in kept["choices"] if value not in distinct)
        kept["choices"] = distinct
    return kept


def _kept_block(block: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    product = block.get("product", {name: values for name, values in block.items() if name != "zip"})
    groups = block.get("zip", [])
    zipped = [_kept(group, defaults) for group in (groups if isinstance(groups, list) else [groups])]
    return {"product": _kept(product, defaults), "zip": [group for group in zipped if group]}


def _kept(axes: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [_completed(without_index(name), value, defaults) for value in values]
        for name, values in axes.items()
        if without_index(name) not in _REPLACED
    }


def _names(block: Mapping[str, Any]) -> Iterator[str]:
    return chain(block["product"], chain.from_iterable(block["zip"]))
