"""Checks of the section `search` that its types cannot make: names, values and objectives, each at its place."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from sweeper.spec.axes import Choice
from sweeper.spec.axis_checks import why_not_swept
from sweeper.spec.document import Path
from sweeper.spec.fields import SECTIONS, suggest, without_index
from sweeper.spec.messages import shown
from sweeper.spec.report import Report
from sweeper.spec.schema import TrialConfig
from sweeper.spec.search import Objective, Pruner, Range, corners, is_test

_WHY_NOT_SEARCHED = {
    "data": "points are compared on the same stimuli",
    "seeds": "search.seeds trains each point with several",
    "subject": "points are compared on the same people's data; make it an axis",
}
_FAIR = ("rsa_validation", "val_loss")
_COMPARABLE_ANYWAY = ("data.preprocessing",)


class SearchChecks:
    """Reads the section `search` of a raw spec; what its own types refuse is told elsewhere, and left out here.

    Attributes:
        dropped: sections that a searched field which cannot be used may have set.
    """

    def __init__(self, raw: Mapping[str, Any], report: Report) -> None:
        self._raw, self._report = raw, report
        self.dropped: set[str] = set()
        section = raw["search"]
        if not isinstance(section, Mapping):
            report.tell(("search",), "search must be a mapping", shown(section))
        self._section: Mapping[str, Any] = section if isinstance(section, Mapping) else {}
        if "axes" in raw:
            rule = "axes and search do not go together: what is trained would be the axes' trials or the points"
            report.tell(("search",), rule, remedy="Make it two specs in one store, which share what is equal", key=True)
        self._space = self._read_space()
        self._check_first()

    def tried(self) -> Iterator[tuple[Choice, ...]]:
        """Yields the assignments that are checked when a spec is read: the space's corners, and `first`."""
        ends = {name: self._ends(name, searched) for name, searched in self._space.items()}
        yield from (tuple(corner.values()) for corner in corners(ends))
        for index, point in self._first_points():
            given = {
                name: Choice(name, value, ("search", "first", index, name))
                for name, value in point.items()
                if name in self._space
            }
            yield tuple(given.get(name, choices[0]) for name, choices in ends.items())

    def check_metrics(self, config: TrialConfig | None) -> None:
        """Tells of objectives, and of what a pruner is told, that must not compare the points.

        Args:
            config: a point's; None where none is valid.
        """
        fair = () if config is None else [metric for metric in _FAIR if self._why_unfair(config, metric) is None]
        others = f"Take {' or '.join(fair)}" if fair else "Search other fields"
        for path, field, metric in self._metrics():
            reason = None if config is None or is_test(metric) else self._why_unfair(config, metric)
            if reason is not None:
                self._report.tell(
                    path, f"{field} must compare points fairly; {metric} does not: {reason}", remedy=others
                )
            elif is_test(metric) and self._section.get("allow_test_objective") is not True:
                rule = f"{field} must not be measured on test stimuli: what is chosen by them is not tested"
                named = others if fair else "Take what is measured on validation stimuli"
                self._report.tell(path, rule, metric, f"{named}, or say allow_test_objective: true and read it so")

    def check_rungs(self, last_epoch: int | None) -> None:
        """Tells of rungs after which no point has anything left to save.

        Args:
            last_epoch: of the longest training; None where no point is valid.
        """
        for index, rung in enumerate(pruner.epochs if (pruner := self._pruner) is not None else ()):
            if last_epoch is not None and rung >= last_epoch:
                rule = f"a rung comes before the last epoch, {last_epoch}: there is nothing to save after it"
                remedy = "Leave it out, or raise training.max_epochs"
                self._report.tell(("search", "pruner", "epochs", index), rule, str(rung), remedy)

    def _why_unfair(self, config: TrialConfig, metric: str) -> str | None:
        return config.model.incomparable(metric, tuple(self._space))

    def _metrics(self) -> Iterator[tuple[Path, str, str]]:
        """Yields what points are compared by: where it stands in the file, the field, the metric."""
        objectives = self._section.get("objectives", [{}])
        for index, raw in enumerate(objectives if isinstance(objectives, list) else ()):
            with suppress(ValidationError):  # told with the other types
                path = ("search", "objectives", index, "metric")
                yield path, "search.objectives", Objective.model_validate(raw).metric
        if self._pruner is not None:
            yield ("search", "pruner", "metric"), "search.pruner.metric", self._pruner.metric

    @property
    def _pruner(self) -> Pruner | None:
        with suppress(ValidationError):  # told with the other types
            return Pruner.model_validate(self._section["pruner"]) if self._section.get("pruner") is not None else None
        return None

    def _read_space(self) -> dict[str, Range]:
        space = self._section.get("space")
        found: dict[str, Range] = {}
        seen: set[str] = set()
        for name, written in space.items() if isinstance(space, Mapping) else ():
            path = ("search", "space", name)
            if self._may_be_searched(name, path, seen):
                with suppress(ValidationError):  # told with the other types
                    found[name] = Range.model_validate(written)
                    continue
            self.dropped |= {name.split(".")[0]} & set(SECTIONS) or set(SECTIONS)
        return found

    def _may_be_searched(self, name: str, path: Path, seen: set[str]) -> bool:
        section, plain = name.split(".")[0], without_index(name)
        wrong = why_not_swept(name, self._raw, "searched field")
        if section in _WHY_NOT_SEARCHED and name not in _COMPARABLE_ANYWAY:
            wrong = f"{name} cannot be searched: {_WHY_NOT_SEARCHED[section]}", None
        elif wrong is None and plain in seen and plain == name:
            wrong = f"a field must not be searched twice; {name} is", None
        seen.add(plain)
        if wrong is not None:
            self._report.tell(path, wrong[0], remedy=wrong[1], key=True)
        return wrong is None

    def _ends(self, name: str, searched: Range) -> list[Choice]:
        below = ("choices",) if searched.choices is not None else ()
        return [Choice(name, value, ("search", "space", name, *below, end)) for end, value in searched.ends()]

    def _first_points(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        points = self._section.get("first", ())
        for index, point in enumerate(points if isinstance(points, list) else ()):
            if isinstance(point, Mapping):
                yield index, point

    def _check_first(self) -> None:
        space = self._section.get("space")
        names = tuple(space) if isinstance(space, Mapping) else ()
        for index, point in self._first_points():
            for name, value in point.items():
                path = ("search", "first", index, name)
                if name not in names:
                    rule = f"a point to begin with must name searched fields; {name} is none"
                    self._report.tell(path, rule, remedy=suggest(name, names, "Searched fields"), key=True)
                elif name in self._space and not self._space[name].contains(value):
                    rule = f"a point to begin with must lie in the space; {name} does not"
                    remedy = "Widen its range, or add the value to its choices"
                    self._report.tell(path, rule, shown(value), remedy)
