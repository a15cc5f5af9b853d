"""Changes single fields of a raw spec wherever they stand: in a section, an axis, an exclusion, a search."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from sweeper.spec.document import Path
from sweeper.spec.fields import SECTIONS, holds_list, without_index

Change = Callable[[str, Any, Path], Any]
"""Gets the dotted name (without index), the value and its path in the file; returns the new value."""

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
"""`${NAME}` or `${NAME:-default}` in a path."""


def rewrite(raw: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Returns a raw spec with every field changed; what does not have the right shape is left as it is."""
    changed = dict(raw)
    for name in (*SECTIONS, "evaluation"):
        if name in raw:
            changed[name] = _value(name, raw[name], change, (name,))
    if isinstance(raw.get("axes"), Mapping):
        changed["axes"] = _block(raw["axes"], change, ("axes",))
    elif isinstance(raw.get("axes"), list):
        changed["axes"] = [_block(block, change, ("axes", index)) for index, block in enumerate(raw["axes"])]
    if isinstance(raw.get("exclude"), list):
        changed["exclude"] = [
            {name: _value(without_index(name), value, change, ("exclude", index, name)) for name, value in part.items()}
            if isinstance(part, Mapping)
            else part
            for index, part in enumerate(raw["exclude"])
        ]
    if isinstance(raw.get("search"), Mapping):
        changed["search"] = _search(raw["search"], change)
    return changed


def _search(search: Mapping[str, Any], change: Change) -> dict[str, Any]:
    changed = dict(search)
    if isinstance(search.get("space"), Mapping):
        changed["space"] = {name: _range(name, written, change) for name, written in search["space"].items()}
    if isinstance(search.get("first"), list):
        changed["first"] = [
            {
                name: _value(without_index(name), value, change, ("search", "first", i, name))
                for name, value in p.items()
            }
            if isinstance(p, Mapping)
            else p
            for i, p in enumerate(search["first"])
        ]
    return changed


def _range(name: str, written: Any, change: Change) -> Any:
    if not isinstance(written, Mapping):
        return written
    path, changed = ("search", "space", name), dict(written)
    for end in ("low", "high"):
        if end in written:
            changed[end] = _value(without_index(name), written[end], change, (*path, end))
    if isinstance(written.get("choices"), list):
        values = enumerate(written["choices"])
        changed["choices"] = [_value(without_index(name), v, change, (*path, "choices", i)) for i, v in values]
    return changed


def _value(name: str, value: Any, change: Change, path: Path) -> Any:
    if isinstance(value, Mapping):
        return {key: _value(f"{name}.{key}", part, change, (*path, key)) for key, part in value.items()}
    if holds_list(name) and isinstance(value, list):
        return [_value(name, part, change, (*path, index)) for index, part in enumerate(value)]
    return change(name, value, path)


def _block(block: Any, change: Change, path: Path) -> Any:
    if isinstance(block, list):
        return [_block(part, change, (*path, index)) for index, part in enumerate(block)]
    if not isinstance(block, Mapping):
        return block
    return {
        name: _block(values, change, (*path, name))
        if name in ("product", "zip")
        else [_value(without_index(name), value, change, (*path, name, i)) for i, value in enumerate(values)]
        if isinstance(values, list)
        else change(name, values, (*path, name))
        if name == "subject"  # which may stand without a list
        else values
        for name, values in block.items()
    }


def is_local_weights(pretrained: Any) -> bool:
    """Tells whether `model.pretrained`, or `model.text_from`, names a file."""
    return isinstance(pretrained, str) and pretrained.endswith(".safetensors")


GIVEN = ("text_from", "start_from")
"""Fields of a model that name a finished trial, or its spec, to take a state from."""


_GIVEN_NAMES = tuple(f"model.{field}" for field in GIVEN)


def is_spec(name: Any) -> bool:
    """Tells whether a field of `GIVEN` names a spec file, not a trial."""
    return isinstance(name, str) and name.endswith((".yaml", ".yml"))


def absolute_paths(raw: Mapping[str, Any], folder: str, unset: Callable[[Path, str], None]) -> dict[str, Any]:
    """Returns a raw spec whose paths are absolute: manifests, evaluation sets, local weights.

    Args:
        raw: the spec.
        folder: what relative paths start from.
        unset: is told the path in the file and the name of every environment variable that is missing.
    """

    def resolve(value: Any, path: Path) -> Any:
        if not isinstance(value, str) or not value or value.startswith("builtin:"):
            return value
        for variable in VARIABLE.finditer(value):
            if variable[2] is None and not os.environ.get(variable[1]):
                unset(path, variable[1])
                return value
        filled = VARIABLE.sub(lambda variable: os.environ.get(variable[1]) or variable[2], value)
        return os.path.normpath(os.path.join(folder, os.path.expanduser(filled)))

    def change(name: str, value: Any, path: Path) -> Any:
        if name == "data.manifest" or (name == "model.pretrained" and is_local_weights(value)):
            return resolve(value, path)
        if name in _GIVEN_NAMES and (is_spec(value) or is_local_weights(value)):
            return resolve(value, path)
        if name == "evaluation.sets" and isinstance(value, list):
            return [resolve(item, (*path, index)) for index, item in enumerate(value)]
        return value

    return rewrite(raw, change)
