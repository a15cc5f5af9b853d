"""From a file to a validated spec: all problems at once, each at its place."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from sweeper.errors import Problem, SpecError
from sweeper.spec.circles import refuse_circles
from sweeper.spec.document import Document, parse_document
from sweeper.spec.fields import FILE_KEYS, SECTIONS, dotted_names, suggest
from sweeper.spec.messages import findings, shown
from sweeper.spec.report import Report
from sweeper.spec.rewrite import absolute_paths
from sweeper.spec.schema import SweepSpec, TrialConfig
from sweeper.spec.stand_in import stand_in as stand_in_for
from sweeper.spec.trial_checks import check_trials

_MAX_BYTES = 5_000_000


def load_spec(path: str | os.PathLike[str], *, stand_in: bool = False) -> SweepSpec:
    """Reads, checks and resolves a spec file.

    Args:
        path: the YAML file; errors name it as given here.
        stand_in: replace data, backbone and learning rate by the self-made set's (`--stand-in`).

    Raises:
        SpecError: with every problem of the file.
    """
    name = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(name))
    return parse_spec(_read(name), name, folder=folder, stand_in=stand_in)


def written_in(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what a spec file says, unchecked.

    Raises:
        SpecError: it cannot be read, or is no mapping.
    """
    name = os.fspath(path)
    return _mapping(parse_document(_read(name), name))


def parse_spec(
    text: str, name: str, *, folder: str | os.PathLike[str] | None = None, stand_in: bool = False
) -> SweepSpec:
    """Checks and resolves the text of a spec.

    Args:
        text: YAML.
        name: file name that errors show.
        folder: what relative paths start from; default: the working folder.
        stand_in: as in `load_spec`.

    Raises:
        SpecError: with every problem of the text.
    """
    document = parse_document(text, name)
    raw = _mapping(document)
    unset: list[tuple[tuple[str | int, ...], str]] = []
    raw = absolute_paths(raw, os.fspath(folder or os.getcwd()), lambda path, variable: unset.append((path, variable)))
    report = Report(document)
    for path, variable in unset if not stand_in else ():
        remedy = f"Set it, or give a default: ${{{variable}:-/some/folder}}"
        report.tell(path, f"environment variable {variable} must be set", remedy=remedy)
    configs = _check(raw, report)
    refuse_circles(raw, name, written_in, report)
    if report.problems:
        raise SpecError(report.problems)
    if stand_in:
        raw = stand_in_for(raw, last_start=max(config.start for config in configs))
    return _spec(raw, stand_in)


def _check(raw: Mapping[str, Any], report: Report) -> tuple[TrialConfig, ...]:
    for key in raw:
        if key not in FILE_KEYS:
            nested = f"Nest it in its section, or sweep it under axes. Known keys: {', '.join(FILE_KEYS)}"
            remedy = nested if key in dotted_names() else suggest(key, FILE_KEYS)
            report.tell((key,), f"{key} is not a known key", remedy=remedy, key=True)
    try:
        SweepSpec.model_validate(_without_trials(raw))
    except ValidationError as error:
        for finding in findings(error, raw, SweepSpec):
            report.tell_finding(finding, finding.path)
    return check_trials(raw, report)


def _without_trials(raw: Mapping[str, Any]) -> dict[str, Any]:
    rest = (key for key in FILE_KEYS if key not in (*SECTIONS, "axes", "exclude"))
    return {"base": {}, **{key: raw[key] for key in rest if key in raw}}


def _spec(raw: Mapping[str, Any], stand_in: bool) -> SweepSpec:
    base = {section: raw[section] for section in SECTIONS if section in raw}
    rest = {key: value for key, value in raw.items() if key not in SECTIONS}
    spec = SweepSpec.model_validate({**rest, "base": base, "stand_in": stand_in})
    if spec.search is None or not spec.search.needs_validation_rsa:
        return spec
    return spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"validation": True})})


def _mapping(document: Document) -> dict[str, Any]:
    value = document.root.value if document.root is not None else None
    if isinstance(value, dict):
        return value
    rule = "a spec must be a mapping with the keys name, data, model and so on"
    got = "an empty file" if value is None else shown(value)
    problem = Problem(where=document.where(), rule=rule, got=got, remedy=f"Known keys: {', '.join(FILE_KEYS)}")
    raise SpecError((*document.problems, problem))


def _read(name: str) -> str:
    try:
        with open(name, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except IsADirectoryError:
        specs = ", ".join(_specs_beside(os.path.join(name, "x"))) or "none"
        problem = Problem(where=name, rule="a spec must be a file", got="a folder", remedy=f"Specs in it: {specs}")
        raise SpecError(problem) from None
    except FileNotFoundError:
        raise SpecError(Problem(where=name, rule="the spec must exist", remedy=nearest_file(name))) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(Problem(where=name, rule=f"the spec must be readable: {reason}")) from None
    if len(data) > _MAX_BYTES:
        raise SpecError(Problem(where=f"{name}:1:1", rule=f"a spec must be at most {_MAX_BYTES} bytes long"))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        got = f"the byte 0x{data[error.start]:02x}"
        raise SpecError(Problem(where=f"{name}:{line}:{column}", rule="a spec must be UTF-8 text", got=got)) from None


def _specs_beside(name: str) -> list[str]:
    try:
        files = os.listdir(os.path.dirname(name) or ".")
    except OSError:
        return []
    return sorted(file for file in files if file.endswith((".yaml", ".yml")))


def nearest_file(name: str, besides: str | None = None) -> str:
    """Says which spec may be meant by a name that is none.

    Args:
        name: its path.
        besides: the spec that names it, which is not meant.
    """
    own = None if besides is None else os.path.abspath(besides)
    beside = [file for file in _specs_beside(name) if os.path.abspath(os.path.join(os.path.dirname(name), file)) != own]
    near = get_close_matches(os.path.basename(name), beside, n=1)
    if near:
        return f"Nearest: {os.path.join(os.path.dirname(name), near[0])}"
    return f"Specs in that folder: {', '.join(beside) or 'none'}"
