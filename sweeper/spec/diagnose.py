"""All that is wrong with one trial, although pydantic stops at the first layer of errors."""

from collections.abc import Collection, Mapping
from copy import deepcopy
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

from pydantic import ValidationError

from sweeper.spec.document import Path
from sweeper.spec.fields import TAGS, without_index
from sweeper.spec.messages import Finding, dotted, findings, follow
from sweeper.spec.perturbations import KINDS
from sweeper.spec.schema import TrialConfig
from sweeper.spec.variants import DEFAULT_VARIANT, VARIANT_TYPES

_ROUNDS = 5
_FILLERS: dict[str, Any] = {
    "data": {"manifest": "x"},
    "model": {},
    "manifest": "x",
    "kind": "freeze",
    "variant": DEFAULT_VARIANT,
}
_OF_EVERY_KIND = ("start", "length")


def validate(raw: dict[str, Any]) -> tuple[TrialConfig | None, list[Finding]]:
    """Returns the configuration of a trial, or the first layer of what is wrong with it."""
    try:
        return TrialConfig.model_validate(raw), []
    except ValidationError as error:
        return None, findings(error, raw)


def mend(base: Mapping[str, Any]) -> tuple[dict[str, Any], set[str], list[Finding]]:
    """Takes what is wrong by itself out of the sections as written; what is missing may be swept.

    Returns:
        The mended sections, the names of what is no longer the user's, and what was wrong.
    """
    raw, told, mended = deepcopy(dict(base)), list[Finding](), set[str]()
    for _ in range(_ROUNDS):
        layer = [finding for finding in validate(raw)[1] if finding.kind in ("value", "unknown")]
        told += [finding for finding in layer if not _follows(finding, mended)]
        for finding in layer:
            mended |= _mend(raw, finding)
        if not layer:
            break
    return raw, mended, told


def diagnose(trial: Mapping[str, Any], mended: Collection[str] = ()) -> list[Finding]:
    """Returns all that is wrong: mends what is broken and looks again, so that rules between fields are seen.

    A finding that follows from mending is not told.

    Args:
        trial: the sections of one trial.
        mended: dotted names of what was mended before.
    """
    raw, told, mended = deepcopy(dict(trial)), list[Finding](), set(mended)
    for _ in range(_ROUNDS):
        layer = validate(raw)[1]
        told += [finding for finding in layer if not _follows(finding, mended)]
        for finding in layer:
            mended |= _mend(raw, finding)
        if not layer:
            break
    return told


def _follows(finding: Finding, mended: set[str]) -> bool:
    fields = [f"{without_index(field)}." for field in finding.fields]
    if any(field.startswith(f"{name}.") for field in fields for name in mended):
        return True
    of_other_kind = finding.path[:1] == ("perturbation",) and finding.path[-1] not in _OF_EVERY_KIND
    return of_other_kind and finding.kind != "rule" and "perturbation.kind" in mended


def _mend(raw: dict[str, Any], finding: Finding) -> set[str]:
    """Takes a broken value out, or puts a missing one in; returns the names that are no longer the user's."""
    if finding.kind == "missing" or finding.path[-1:] in (("kind",), ("variant",)):
        return {_fill(raw, finding)}
    if finding.kind != "rule":
        _take_out(raw, _whole(finding.path))
        return {without_index(dotted(_whole(finding.path)))}
    fields = [
        field for field in finding.fields if field.rpartition(".")[2] not in TAGS
    ]  # else all beside it is unknown
    for field in fields:
        path = _path_of(raw, field)
        if path[-1:] == tuple(field.split("."))[-1:]:
            _take_out(raw, path)
    return {without_index(field) for field in fields}


def _whole(path: Path) -> Path:
    """Returns what is taken out together: a list of numbers, but one perturbation of several."""
    if path[:1] == ("perturbation",):
        return path
    return tuple(takewhile(lambda part: isinstance(part, str), path))


def _path_of(raw: Mapping[str, Any], field: str) -> Path:
    path, _ = follow((int(part) if part.isdecimal() else part for part in field.split(".")), raw)
    return path


def _fill(raw: dict[str, Any], finding: Finding) -> str:
    path = finding.path if finding.kind == "missing" else finding.path[:-1]
    name = finding.fields[0].rsplit(".", 1)[-1] if finding.kind == "missing" else str(finding.path[-1])
    _, node = follow(path, raw)
    near = get_close_matches(str(node.get(name)), KINDS if name == "kind" else VARIANT_TYPES, n=1)
    node[name] = near[0] if near else deepcopy(_FILLERS.get(name, 1))
    return without_index(dotted((*path, name)))


def _take_out(raw: dict[str, Any], path: Path) -> None:
    found, node = follow(path[:-1], raw)
    if found == path[:-1] and isinstance(node, dict):
        node.pop(path[-1], None)
    elif found == path[:-1] and isinstance(node, list) and isinstance(path[-1], int):
        node[path[-1]] = {"kind": "freeze", "start": 1}
