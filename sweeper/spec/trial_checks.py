"""Checks of every trial of a spec, each broken rule told once, at the value that breaks it."""

from collections.abc import Mapping, Set
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from sweeper.spec.axes import Choice, Configs, Placed, assign, assignments
from sweeper.spec.axis_checks import AxisChecks
from sweeper.spec.diagnose import diagnose, mend, validate
from sweeper.spec.document import Path
from sweeper.spec.fields import SECTIONS, without_index
from sweeper.spec.messages import Finding
from sweeper.spec.overlap import batches_for_sure, overlap_problem, overlaps
from sweeper.spec.report import Report
from sweeper.spec.schema import TrialConfig
from sweeper.spec.search_checks import SearchChecks

_MAX_DIAGNOSED = 1000  # after so many broken trials only what is new at first sight is looked into


def check_trials(raw: Mapping[str, Any], report: Report) -> tuple[TrialConfig, ...]:
    """Checks axes, exclusions, and every trial they make; returns the configurations that are valid."""
    axes = AxisChecks(raw, report)
    exclude = axes.exclusions()
    search = SearchChecks(raw, report) if "search" in raw else None
    dropped = axes.dropped if search is None else axes.dropped | search.dropped
    base, mended, wrong = mend({section: raw[section] for section in SECTIONS if section in raw})
    for finding in wrong:
        report.tell_finding(finding, finding.path)
    trials = _Trials(raw, base, mended, dropped, report)
    asked = search.tried() if search is not None and not axes.blocks else assignments(axes.blocks, exclude)
    checked = [(choices, trials.check(choices)) for choices in asked]
    valid = [(choices, config) for choices, config in checked if config is not None]
    if exclude and not checked:
        report.tell(("exclude",), "exclusions must leave at least one trial", "all excluded")
    if search is not None:
        search.check_metrics(valid[0][1] if valid else None)
        search.check_rungs(max((config.training.max_epochs for _, config in valid), default=None))
    elif raw.get("allow_overlap") is not True:
        _check_overlap(raw, [choices for choices, _ in valid], [config for _, config in valid], report)
    return tuple(config for _, config in valid)


class _Trials:
    """Checks trial by trial; `mended` and `dropped` name what must not be told as missing or as not fitting."""

    def __init__(
        self, raw: Mapping[str, Any], base: Mapping[str, Any], mended: Set[str], dropped: Set[str], report: Report
    ) -> None:
        self._raw, self._base, self._mended, self._dropped, self._report = raw, base, mended, dropped, report
        self._num_diagnosed = 0
        self._configs = Configs(base)

    def check(self, choices: tuple[Choice, ...]) -> TrialConfig | None:
        """Returns the configuration of a trial if it is valid; what is new is told."""
        with suppress(ValidationError):
            return self._configs.of(choices)
        trial, placed = assign(self._base, choices)
        config, layer = validate(trial)
        many = self._num_diagnosed >= _MAX_DIAGNOSED
        if config is None and not (many and all(self._report.knows(f, self._locate(f, placed)) for f in layer)):
            self._diagnose(trial, choices, placed)
        return config

    def _diagnose(self, trial: Mapping[str, Any], choices: tuple[Choice, ...], placed: Placed) -> None:
        self._num_diagnosed += 1
        mended = self._mended - {without_index(choice.name) for choice in choices}
        for finding in diagnose(trial, mended):
            may_be_swept = finding.kind == "missing" and finding.fields[0].split(".")[0] in self._dropped
            if not may_be_swept:
                self._report.tell_finding(finding, self._locate(finding, placed))

    def _locate(self, finding: Finding, placed: Placed) -> Path:
        return _locate(self._raw, finding, placed)


def _locate(raw: Mapping[str, Any], finding: Finding, placed: Placed) -> Path:
    """Returns where in the file the value of a finding stands: in an axis if one set it."""
    for path, choice in reversed(placed):
        if finding.path[: len(path)] == path:
            rest = finding.path[len(path) :]
            origin = _origin(raw, choice)
            return origin[:-1] if finding.is_about_key and not rest else (*origin, *rest)
    for path, choice in placed:
        if finding.path and finding.path == path[: len(finding.path)] and finding.path[0] not in raw:
            return _origin(raw, choice)[:-1]
    return finding.path


def _origin(raw: Mapping[str, Any], choice: Choice) -> Path:
    """Returns the path of an axis value in the file, where `product` and lists of one may be left out."""
    block, part, *rest = choice.origin
    if block == "search":
        return choice.origin
    is_list = isinstance(raw["axes"], list)
    written = raw["axes"][block] if is_list else raw["axes"]
    path: Path = ("axes", block) if is_list else ("axes",)
    if part == "zip":
        return (*path, "zip", *(rest if isinstance(written["zip"], list) else rest[1:]))
    return (*path, "product", *rest) if "product" in written else (*path, *rest)


def _check_overlap(
    raw: Mapping[str, Any], choices: list[tuple[Choice, ...]], configs: list[TrialConfig], report: Report
) -> None:
    for found in overlaps(configs, batches_for_sure):
        problem = overlap_problem(found, "")
        report.tell(_seed_path(raw, choices[found.second]), problem.rule, problem.got, problem.remedy)


def _seed_path(raw: Mapping[str, Any], choices: tuple[Choice, ...]) -> Path:
    for name in ("seeds.noise", "seeds", "perturbation.start", "perturbation"):
        for choice in choices:
            if without_index(choice.name) == name:
                return _origin(raw, choice)
    return ("seeds", "noise")
