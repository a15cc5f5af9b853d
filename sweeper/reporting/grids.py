"""Trials laid out by their windows: start x length, one grid for each combination of the other swept fields."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.plan.trials import Trial
from sweeper.reporting.summary import summary_of
from sweeper.reporting.view import SweepView, plain


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Holds the summary of the trial of one window.

    Attributes:
        trial: the trial.
        numbers: its summary by column.
        status: `complete`, `open` or `failed`.
    """

    trial: Trial
    numbers: Mapping[str, Any]
    status: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Holds the trials that differ in their window only.

    Attributes:
        label: the other swept fields, empty where there are none.
        starts: first disturbed epochs, ascending.
        lengths: numbers of disturbed epochs, ascending.
        cells: by (start, length); a window that was not asked for is absent.
    """

    label: str
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    cells: Mapping[tuple[int, int], Cell]

    def by_start(self, read: Callable[[Cell], Any]) -> tuple[tuple[Any, ...], ...]:
        """Returns one row per start and one column per length; None where there is no trial."""
        return tuple(
            tuple(read(self.cells[start, length]) if (start, length) in self.cells else None for length in self.lengths)
            for start in self.starts
        )


def grids(view: SweepView) -> tuple[Grid, ...]:
    """Returns the grids of a sweep, in the order of its axes; trials with several windows are left out."""
    kinds = _short_sections(view)
    found: dict[str, dict[tuple[int, int], Cell]] = {}
    for trial in view.trials.values():
        if len(trial.config.perturbation) == 1:
            numbers, status = summary_of(view, trial), view.status(trial.trial_id)
            cell = Cell(trial=trial, numbers=numbers, status=status)
            window = (trial.config.start, sum(window.length for window in trial.config.perturbation))
            found.setdefault(group_label(trial, kinds), {})[window] = cell
    return tuple(_grid(label, cells) for label, cells in found.items())


def group_label(trial: Trial, sections: Mapping[str, str]) -> str:
    """Returns the swept fields of a trial but its window's, for people."""
    parts = ((name, value) for name, value in trial.swept if not is_window(name))
    return ", ".join(f"{short_name(name)} {value_text(value, sections)}" for name, value in parts)


def trial_label(trial: Trial, view: SweepView) -> str:
    """Returns all swept fields of a trial, for people; its role where there are none."""
    sections = _short_sections(view)
    parts = [f"{short_name(name)} {value_text(value, sections)}" for name, value in trial.swept]
    return ", ".join(parts) or trial.role


def is_window(name: str) -> bool:
    """Tells whether a dotted name says where a window lies."""
    return name.startswith("perturbation.") and name.rsplit(".", 1)[-1] in ("start", "length")


def short_name(name: str) -> str:
    """Returns the last part of a dotted name."""
    return name.rsplit(".", 1)[-1]


def value_text(value: Any, sections: Mapping[str, str] | None = None) -> str:
    """Returns a swept value for people."""
    shown = plain(value)
    if isinstance(shown, float):
        return f"{shown:g}"
    return (sections or {}).get(str(shown), str(shown))


def _short_sections(view: SweepView) -> dict[str, str]:
    """Returns a short text for swept sections (`{kind: ...}`): the kind, where it tells them apart."""
    texts = {
        text: value["kind"]
        for trial in view.trials.values()
        for _, value in trial.swept
        if isinstance(value, Mapping) and "kind" in value and isinstance(text := plain(value), str)
    }
    return texts if len(set(texts.values())) == len(texts) else {text: _readable(text) for text in texts}


def _readable(text: str) -> str:
    fields = json.loads(text)
    return " ".join([fields.pop("kind"), *(f"{name}={value}" for name, value in fields.items())])


def _grid(label: str, cells: Mapping[tuple[int, int], Cell]) -> Grid:
    def ascending(values: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(set(values)))

    return Grid(
        label=label,
        starts=ascending(start for start, _ in cells),
        lengths=ascending(length for _, length in cells),
        cells=cells,
    )
