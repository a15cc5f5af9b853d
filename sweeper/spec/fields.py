"""The fields of a trial by their dotted names, read from the types themselves."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args

from sweeper.spec.base import SpecModel
from sweeper.spec.schema import SweepSpec, TrialConfig

SECTIONS: tuple[str, ...] = tuple(TrialConfig.model_fields)
FILE_KEYS: tuple[str, ...] = (
    "name",
    *SECTIONS,
    *(name for name in SweepSpec.model_fields if name not in ("name", "base", "stand_in")),
)
WHY_NOT_SWEPT = {
    "name": "it names the whole sweep",
    "axes": "it is what is swept",
    "exclude": "it leaves trials out",
    "search": "it says what is searched",
    "allow_overlap": "it is a rule for the whole sweep",
    "evaluation": "every trial of a sweep is measured alike, and measuring more needs no training",
    "recovery": "all comparators are always recorded",
    "resources": "where a trial runs changes no number",
    "tracking": "where results are shown changes no number",
}

TAGS = ("kind", "variant")
"""Fields that say of which type a part is: a perturbation, a model."""


def models_in(annotation: Any) -> tuple[type[SpecModel], ...]:
    """Returns the spec types that a field's annotation holds."""
    if isinstance(annotation, type) and issubclass(annotation, SpecModel):
        return (annotation,)
    return tuple(model for part in get_args(annotation) for model in models_in(part))


def holds_list(name: str) -> bool:
    """Tells whether a section of a trial is a list of parts."""
    return name == "perturbation"


@cache
def known_keys(path: tuple[str, ...], kind: str | None = None, root: type[SpecModel] = TrialConfig) -> tuple[str, ...]:
    """Returns the fields that may stand at a path of names without indexes; () for a plain value.

    Args:
        path: names from the top, e.g. `("training", "optimizer")`; () for the sections.
        kind: the perturbation kind or the model variant on the way, where it is known.
        root: the type at the top.
    """
    models: tuple[type[SpecModel], ...] = (root,)
    for name in path:
        fields = [model.model_fields[name] for model in models if name in model.model_fields]
        if fields or len(path) == 1:  # else it is the key of a mapping, whose values are of the types found above it
            models = tuple(found for field in fields for found in models_in(field.annotation))
            models = tuple(model for model in models if kind is not None and kind in _kinds(model)) or models
    return tuple(dict.fromkeys(name for model in models for name in model.model_fields))


def _kinds(model: type[SpecModel]) -> tuple[Any, ...]:
    tags = (model.model_fields[name] for name in TAGS if name in model.model_fields)
    return tuple(kind for field in tags for kind in get_args(field.annotation))


@cache
def dotted_names(path: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Returns the dotted name of every field of a trial below a path, sections included."""
    return tuple(_names(path))


def _names(path: tuple[str, ...]) -> Iterator[str]:
    for name in known_keys(path):
        yield ".".join((*path, name))
        yield from _names((*path, name))


def without_index(name: str) -> str:
    """Returns a dotted name without the index of its perturbation."""
    parts = name.split(".")
    if len(parts) > 1 and holds_list(parts[0]) and parts[1].isdecimal():
        del parts[1]
    return ".".join(parts)


def suggest(name: str, known: tuple[str, ...], what: str = "Known keys", listed: tuple[str, ...] | None = None) -> str:
    """Returns the way out of a misspelling: the nearest known name, and all of them, or those listed."""
    same_end = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    near = get_close_matches(name, same_end, n=1, cutoff=0.0) or get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"{hint}{what}: {', '.join(listed or known or ('none',))}"
