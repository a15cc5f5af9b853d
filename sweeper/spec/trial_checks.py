"""Checks of every trial of a spec, each broken rule told once, at the value that breaks it."""

from collections.abc import Mapping
from typing import Any

from sweeper.spec.axes import Choice, Placed, assign, assignments
from sweeper.spec.axis_checks import AxisChecks
from sweeper.spec.diagnose import diagnose, validate
from sweeper.spec.document import Path
from sweeper.spec.fields import SECTIONS, without_index
from sweeper.spec.messages import Finding
from sweeper.spec.overlap import PUBLISHED_BATCHES, overlap_problem, overlaps
from sweeper.spec.report import Report
from sweeper.spec.schema import TrialConfig


def check_trials(raw: Mapping[str, Any], report: Report) -> tuple[TrialConfig, ...]:
    """Checks axes, exclusions, and every trial they make; returns the configurations that are valid."""
    axes = AxisChecks(raw, report)
    exclude = axes.exclusions()
    base = {section: raw[section] for section in SECTIONS if section in raw}
    for finding in diagnose(base):
        if finding.kind in ("value", "unknown"):  # what is missing or does not go together may be swept
            report.tell_finding(finding, finding.path)
    checked = [
        (choices, _check_trial(raw, base, choices, axes, report)) for choices in assignments(axes.blocks, exclude)
    ]
    valid = [(choices, config) for choices, config in checked if config is not None]
    if exclude and not checked:
        report.tell(("exclude",), "exclusions must leave at least one trial", "all excluded")
    if raw.get("allow_overlap") is not True:
        _check_overlap(raw, [choices for choices, _ in valid], [config for _, config in valid], report)
    return tuple(config for _, config in valid)


def _check_trial(
    raw: Mapping[str, Any], base: Mapping[str, Any], choices: tuple[Choice, ...], axes: AxisChecks, report: Report
) -> TrialConfig | None:
    trial, placed = assign(base, choices)
    config, layer = validate(trial)
    if config is None and not all(report.knows(finding, _locate(raw, finding, placed)) for finding in layer):
        for finding in diagnose(trial):
            may_be_swept = finding.kind == "missing" and finding.fields[0].split(".")[0] in axes.dropped
            if not may_be_swept:
                report.tell_finding(finding, _locate(raw, finding, placed))
    return config


def _locate(raw: Mapping[str, Any], finding: Finding, placed: Placed) -> Path:
    """Returns where in the file the value of a finding stands: in an axis if one set it."""
    for path, choice in reversed(placed):
        if finding.path[: len(path)] == path:
            rest = finding.path[len(path) :]
            origin = _origin(raw, choice)
            return origin[:-1] if finding.kind == "unknown" and not rest else (*origin, *rest)
    for path, choice in placed:
        if finding.path and finding.path == path[: len(finding.path)] and finding.path[0] not in raw:
            return _origin(raw, choice)[:-1]
    return finding.path


def _origin(raw: Mapping[str, Any], choice: Choice) -> Path:
    """Returns the path of an axis value in the file, where `product` and lists of one may be left out."""
    block, part, *rest = choice.origin
    is_list = isinstance(raw["axes"], list)
    written = raw["axes"][block] if is_list else raw["axes"]
    path: Path = ("axes", block) if is_list else ("axes",)
    if part == "zip":
        return (*path, "zip", *(rest if isinstance(written["zip"], list) else rest[1:]))
    return (*path, "product", *rest) if "product" in written else (*path, *rest)


def _check_overlap(
    raw: Mapping[str, Any], choices: list[tuple[Choice, ...]], configs: list[TrialConfig], report: Report
) -> None:
    for found in overlaps(configs, PUBLISHED_BATCHES):
        problem = overlap_problem(found, PUBLISHED_BATCHES, "")
        report.tell(_seed_path(raw, choices[found.second]), problem.rule, problem.got, problem.remedy)


def _seed_path(raw: Mapping[str, Any], choices: tuple[Choice, ...]) -> Path:
    for name in ("seeds.noise", "seeds", "perturbation.start", "perturbation"):
        for choice in choices:
            if without_index(choice.name) == name:
                return _origin(raw, choice)
    return ("seeds", "noise")
