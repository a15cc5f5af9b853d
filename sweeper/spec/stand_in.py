"""The stand-in: any spec, run on the self-made set with the tiny CLIP, so that every machine can try it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from sweeper.spec.document import Path
from sweeper.spec.fields import without_index
from sweeper.spec.naming import STAND_IN_SUFFIX, stand_in_name
from sweeper.spec.rewrite import rewrite
from sweeper.spec.schema import axis_values, names_several
from sweeper.spec.variants import DEFAULT_VARIANT, VARIANT_TYPES

STAND_IN_BATCH = 16
STAND_IN_LR = 2e-3
STAND_IN_POOL = 240
STAND_IN_PEOPLE = 12
STAND_IN_REFERENCE = "behavioral48"
STAND_IN_LAYERS = {"model.adapter.vision_layers": 5, "model.adapter.text_layers": 2}

_NUMBER = re.compile(r"(.*?)(\d+)")
_SMALLEST = 16
_BACKBONE = {"model.backbone": "tiny-clip", "model.pretrained": "builtin", "model.activation": None}
_LR = "training.optimizer.lr"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recipe:
    """What trains a variant on the self-made set within minutes.

    Attributes:
        replaced: dotted names of the fields that are replaced, with their values.
        most: the largest value of other fields.
        published_lr: what the published learning rate is, of which swept ones keep their multiples.
        batch: batch size, and the published one of which swept ones keep their share.
        epochs: the longest training.
    """

    replaced: Mapping[str, Any]
    most: Mapping[str, int]
    published_lr: float
    batch: tuple[int, int]
    epochs: int

    @property
    def lr(self) -> float:
        """Learning rate."""
        return float(self.replaced[_LR])


_IN_ROWS = _Recipe(
    replaced={**_BACKBONE, "data.manifest": "builtin:selfmade", _LR: STAND_IN_LR},
    most=STAND_IN_LAYERS,
    published_lr=3e-4,
    batch=(STAND_IN_BATCH, 64),
    epochs=160,
)
_OVER_TIME = _Recipe(
    replaced={
        **_BACKBONE,
        "data.manifest": "builtin:selfmade-meg",
        _LR: 4e-3,
        "model.stages.lr_layers": 1e-1,
        "model.targets.series": None,
        "model.targets.participants": None,
    },
    most={"model.adapter.vision_layers": 5, "model.stages.epochs": 8},
    published_lr=3e-5,
    batch=(48, 50),
    epochs=50,
)


def _recipe(raw: Mapping[str, Any]) -> _Recipe:
    model = raw.get("model")
    variant = model.get("variant", DEFAULT_VARIANT) if isinstance(model, Mapping) else DEFAULT_VARIANT
    return _OVER_TIME if VARIANT_TYPES[variant].over_time else _IN_ROWS


def stand_in(raw: Mapping[str, Any], *, pool_size: int = STAND_IN_POOL, last_start: int = 0) -> dict[str, Any]:
    """Returns a valid raw spec with data, backbone and learning rate replaced by the self-made set's.

    Axes over what is replaced are dropped, other swept values are brought into the range that the self-made
    set and the tiny CLIP have. Trials may thereby become equal: `expand` keeps each once.

    Args:
        raw: the spec, found to be valid.
        pool_size: stimuli of the self-made set outside its held-out set.
        last_start: the latest start of any window, which `max_epochs` must not cut off.
    """
    recipe, sizes, people = _recipe(raw), _train_sizes(raw, pool_size), _people(raw)
    batch, published_batch = recipe.batch
    max_epochs = max(recipe.epochs, last_start)

    def change(name: str, value: Any, path: Path) -> Any:
        if name == _LR and path[0] == "search":
            return float(f"{value * recipe.lr / recipe.published_lr:.6g}")
        if name in recipe.replaced:
            return recipe.replaced[name]
        if name in recipe.most and value is not None:
            return min(value, recipe.most[name])
        if name == "subject":
            return people.get(value, value)
        if name == "data.train_size" and value is not None:
            return sizes[value]
        if name == "training.batch_size":
            return max(2, round(value * batch / published_batch)) if path[0] != "training" else batch
        if name == "training.max_epochs":
            return min(value, max_epochs)
        if name == "numerics.device":
            return "auto"
        return value

    changed = rewrite(raw, change)
    fields = {leaf: (constant, True) for leaf, constant in recipe.replaced.items()}
    defaults = {"training.batch_size": batch, "training.max_epochs": max_epochs}
    defaults |= {} if recipe is _IN_ROWS else {"model.adapter.vision_layers": 5}
    fields |= {leaf: (default, False) for leaf, default in defaults.items()}
    for section in ("data", "model", "training"):
        changed[section] = _completed(section, changed.get(section) or {}, fields)
    changed = _without_dropped_axes(changed, fields)
    changed = _with_kept_search(changed, raw, recipe)
    changed["name"] = stand_in_name(raw["name"])
    return _elsewhere(changed)


Fields = Mapping[str, tuple[Any, bool]]
"""Values by dotted name, and whether they replace what is written or stand where nothing is."""


def _completed(name: str, value: Any, fields: Fields) -> Any:
    """Returns a section, or part of one, in which what is replaced is set, and what is left out has our defaults."""
    if not isinstance(value, Mapping):
        return value
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


def who_stands_in(raw: Mapping[str, Any]) -> str | None:
    """Says who of the self-made study stands in for the subjects that a spec names; None where nobody for others."""
    people = {str(name): other for name, other in _people(raw).items() if str(name) != other}
    if not people:
        return None
    unknown = [name for name, other in people.items() if other == "all" and _numbered(name) is None]
    why = f" (how many {', '.join(unknown)} means, only its own data say)" if unknown else ""
    pairs = ", ".join(f"{other} for {name}" for name, other in people.items())
    return f"subject: people of the self-made study stand in: {pairs}{why}"


def _people(raw: Mapping[str, Any]) -> dict[Any, str]:
    """Returns who stands in for each subject that is named, alone or in a range, in the order of their numbers.

    As many people as are named, up to those there are, so that a range gives what its list gives. `all` stays;
    where a range has no numbers, nobody knows without the data how many it means, so it becomes `all`.
    """
    named: dict[Any, tuple[_Numbered, ...]] = {}

    def collect(name: str, value: Any, path: Path) -> Any:
        if name == "subject" and value is not None:
            named[value] = _members(str(value))
        return value

    rewrite(raw, collect)
    order = sorted({person for people in named.values() for person in people})
    place = {person: min(1 + index, STAND_IN_PEOPLE) for index, person in enumerate(order)}
    return {name: _stand_ins(str(name), [place[person] for person in people]) for name, people in named.items()}


_Numbered: TypeAlias = tuple[str, int]
"""A participant's id as the text before its number, and the number; -1 without one."""


def _members(subject: str) -> tuple[_Numbered, ...]:
    """Returns whom a subject means; nobody for `all`, and for ranges without numbers or of everybody there is."""
    if names_several(subject):
        numbers = _numbered(subject)
        return (
            () if numbers is None or len(numbers[1]) > STAND_IN_PEOPLE else tuple((numbers[0], n) for n in numbers[1])
        )
    found = _NUMBER.fullmatch(subject)
    return ((subject, -1),) if found is None else ((found[1], int(found[2])),)


def _numbered(subject: str) -> tuple[str, range] | None:
    """Returns the text and the numbers of a range such as `S01..S06`; None where it is another."""
    found = [_NUMBER.fullmatch(end.strip()) for end in subject.split("..", 1)]
    if len(found) != 2 or found[0] is None or found[1] is None or found[0][1] != found[1][1]:
        return None
    numbers = range(int(found[0][2]), int(found[1][2]) + 1)
    return (found[0][1], numbers) if numbers else None


def _stand_ins(subject: str, places: Sequence[int]) -> str:
    if not places:
        return "all"
    return f"{places[0]}..{places[-1]}" if names_several(subject) else str(places[0])


def _without_dropped_axes(raw: dict[str, Any], fields: Fields) -> dict[str, Any]:
    axes = raw.pop("axes", {})
    blocks = [_kept_block(block, fields) for block in (axes if isinstance(axes, list) else [axes])]
    names = {name for block in blocks for name in _names(block)}
    if names:
        raw["axes"] = blocks
    exclude = [entry for entry in raw.pop("exclude", []) if entry.keys() <= names]
    return {**raw, "exclude": exclude}


def _with_kept_search(changed: dict[str, Any], raw: Mapping[str, Any], recipe: _Recipe) -> dict[str, Any]:
    """Takes out of a search what is replaced, except the learning rate, and what no longer fits."""
    search = changed.pop("search", None)
    if search is None:
        return changed
    kept = [name for name in search["space"] if without_index(name) not in recipe.replaced or name == _LR]
    space = {name: _kept_range(search["space"][name], raw["search"]["space"][name]) for name in kept}
    first = [{name: value for name, value in point.items() if name in kept} for point in search.get("first", [])]
    rest = {key: value for key, value in search.items() if key != "storage"}
    if "pruner" in rest:
        rest["pruner"] = _kept_pruner(rest["pruner"], changed["training"]["max_epochs"])
    return {**changed, "search": {**rest, "space": space, "first": first}} if kept else changed


def _kept_pruner(pruner: Mapping[str, Any] | None, last_epoch: int) -> dict[str, Any] | None:
    """Returns a pruner with the rungs that a shorter training reaches; None where it reaches none."""
    rungs = [rung for rung in pruner["epochs"] if rung < last_epoch] if pruner is not None else []
    return {**pruner, "epochs": rungs} if pruner is not None and rungs else None


def _kept_range(written: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a range without a step that its new bounds do not fit, and without choices that became equal."""
    kept = {key: value for key, value in written.items() if key != "step" or written == before}
    if "choices" in kept:
        distinct: list[Any] = []
        distinct.extend(value for value in kept["choices"] if value not in distinct)
        kept["choices"] = distinct
    return kept


def _kept_block(block: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    product = block.get("product", {name: values for name, values in block.items() if name != "zip"})
    groups = block.get("zip", [])
    zipped = [_kept(group, fields) for group in (groups if isinstance(groups, list) else [groups])]
    return {"product": _kept(product, fields), "zip": [group for group in zipped if group]}


def _kept(axes: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    kept = {name: values for name, values in axes.items() if not fields.get(without_index(name), (None, False))[1]}
    return {
        name: [_completed(without_index(name), value, fields) for value in axis_values(name, values)]
        for name, values in kept.items()
    }


def _names(block: Mapping[str, Any]) -> Iterator[str]:
    return chain(block["product"], chain.from_iterable(block["zip"]))
