"""The terminal's table: what was asked, how it stands, what came out, and why something is missing."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sweeper.metrics.recovery import COMPARATORS
from sweeper.reporting.grids import Grid, grids, value_text
from sweeper.reporting.points import asked_text, points_text
from sweeper.reporting.remarks import remarks
from sweeper.reporting.status import failures_text, standing_lines
from sweeper.reporting.tables import swept_fields, trial_rows
from sweeper.reporting.view import SweepView

_UNLIMITED = 10_000
_STYLES = {"complete": "green", "pruned": "dim", "open": "yellow", "failed": "red"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """Describes one column of the table.

    Attributes:
        title: header, in up to two lines.
        cell: row -> text.
        keep: columns with the smallest number go first when a terminal is narrow.
    """

    title: str
    cell: Callable[[Mapping[str, Any]], str]
    keep: int = 9


def render(view: SweepView, *, width: int | None = None, color: bool = False) -> str:
    """Returns the results of a sweep for people.

    Args:
        view: the sweep.
        width: columns of the terminal; None, for a file or a pipe, gives every column in full.
        color: whether to colour the status.
    """
    file = io.StringIO()
    console = Console(
        file=file, width=width or _UNLIMITED, force_terminal=color, color_system="standard" if color else None
    )
    parts = [Text(header(view)), _table(view, console), *_matrices(view)]
    if best := points_text(view):
        parts.append(Text(best))
    failures = failures_text(view.standing)
    if failures:
        parts.append(Text(f"\nFailed:\n{failures}"))
    console.print(Group(*parts), soft_wrap=False)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def header(view: SweepView) -> str:
    """Returns the lines that say what the table shows: sweep, stand-in, reference, comparator, remarks."""
    lines = first_lines(view)
    reference, metric = view.references.get(view.rsa_column, "nothing"), view.revision.spec.evaluation.metric
    over_time = any(trial.config.model.over_time for trial in view.trials.values())
    mean = ", mean over times after 0 ms" if over_time else ""
    lines.append(f"RSA ({metric} RDM{mean}) against {reference}, at the best validation loss; {_untrained(view)}")
    if any(trial.config.perturbation for trial in view.trials.values()):
        lines.extend(_about_windows(view))
    lines.extend(remarks(view))
    return "\n".join(lines) + "\n"


def first_lines(view: SweepView) -> list[str]:
    """Returns name and counts of a sweep, the stand-in's mark, and what spoils comparisons."""
    return [*standing_lines(view.standing, asked_text(view)), *view.notes]


def recovery_text(row: Mapping[str, Any], comparator: str, what: str = "loss") -> str:
    """Returns a recovery as `13`, or `NR (> 60)` with the epochs seen; empty where the question does not arise."""
    seen = row.get("epochs_seen_after_window")
    if seen is None:
        return ""
    value = row[f"recovery_{what}_epochs_{comparator}"]
    if value is not None:
        return str(value)
    return f"(> {seen})" if row.get("status") == "open" else f"NR (> {seen})"


def _untrained(view: SweepView) -> str:
    found = [rows[0].get(view.rsa_column) for trial_id in view.trials if 0 in (rows := view.rows(trial_id))]
    values = sorted({f"{value:.3f}" for value in found if isinstance(value, float)})
    if values:
        return f"before training: {' to '.join(dict.fromkeys((values[0], values[-1])))}"
    reason = view.undefined(view.rsa_column)
    return "not measured yet" if reason is None else f"undefined, since {reason}"


def _about_windows(view: SweepView) -> list[str]:
    rule = view.revision.spec.recovery
    others = " and ".join(name for name in COMPARATORS if name != rule.comparator)
    tolerance = f"{100 * rule.tolerance:g} %"
    lasting = f", for {rule.persistence} epochs in a row" if rule.persistence > 1 else ""
    return [
        f"recovery: epochs after the window until the loss is within {tolerance} of the baseline{lasting}, judged by",
        f"  `{rule.comparator}`; {others} beside it; NR (> n): not within the n epochs seen; (> n): still running",
        "delta: at the first disturbed epoch, minus the baseline at the same epoch",
    ]


def columns_of(view: SweepView, rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Returns the columns for people, fitting the sweep: its swept fields, and what windows add."""
    names = swept_fields(view)
    columns = [Column(title=title, cell=_swept(name)) for name, title in zip(names, _titles(names), strict=True)]
    columns += [
        Column(title="role", cell=lambda row: row["role"], keep=7),
        Column(title="status", cell=lambda row: row["status"]),
        Column(title="best\nval loss", cell=_number("best_val_loss", "#.4g")),
        Column(title="RSA at\nbest loss", cell=_number("rsa_at_best_val_loss", ".3f")),
        Column(title="max\nRSA", cell=_number("max_rsa", ".3f"), keep=3),
        Column(title="last\nepoch", cell=_number("last_epoch", "d"), keep=2),
    ]
    if all(row["epochs_seen_after_window"] is None for row in rows):
        return columns
    columns += [
        Column(title="delta\nval loss", cell=_number("delta_val_loss", "+#.3g"), keep=5),
        Column(title="delta\nRSA", cell=_number("delta_rsa_behavioral", "+.3f"), keep=4),
    ]
    shown = view.revision.spec.recovery.comparator
    for name in (shown, *(name for name in COMPARATORS if name != shown)):
        title = f"recovery\n{name}" if name == shown else f"by\n{name}"
        columns.append(Column(title=title, cell=_recovery(name), keep=9 if name == shown else 6))
    return columns


def _table(view: SweepView, console: Console) -> RenderableType:
    rows = trial_rows(view)
    columns = columns_of(view, rows)
    table = _filled(columns, rows)
    while Measurement.get(console, console.options.update(width=_UNLIMITED), table).maximum > console.width:
        least = min(columns, key=lambda column: column.keep)
        if least.keep == 9:
            break
        columns.remove(least)
        table = _filled(columns, rows)
    return table


def _filled(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        left = column.title in ("role", "status")
        table.add_column(column.title, no_wrap=True, justify="left" if left else "right", vertical="bottom")
    for row in rows:
        cells = [column.cell(row) for column in columns]
        styled = [Text(cell, style=_STYLES.get(cell, "")) for cell in cells]
        table.add_row(*styled)
    return table


def _matrices(view: SweepView) -> list[RenderableType]:
    """Returns start x length tables of the recovery by all comparators, where a sweep spans such a grid."""
    shown: list[RenderableType] = []
    for grid in grids(view):
        if len(grid.starts) > 1 and len(grid.lengths) > 1:
            title = f"\nRecovery in epochs after the window; rows: start, columns: length. {grid.label}".rstrip(" .")
            shown.extend((Text(title), _matrix(grid)))
    return shown


def _matrix(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("start", justify="right")
    for index, name in enumerate(COMPARATORS):
        if index:
            table.add_column("|")
        for place, length in enumerate(grid.lengths):
            table.add_column(
                f"{name if place == 0 else ''}\n{length}", justify="right", vertical="bottom", no_wrap=True
            )
    for start in grid.starts:
        line = [str(start)]
        for index, name in enumerate(COMPARATORS):
            line += ["|"] * (index > 0)
            line += [_cell_text(grid, start, length, name) for length in grid.lengths]
        table.add_row(*line)
    return table


def _cell_text(grid: Grid, start: int, length: int, comparator: str) -> str:
    cell = grid.cells.get((start, length))
    if cell is None or cell.numbers["epochs_seen_after_window"] is None:
        return ""
    text = recovery_text({**cell.numbers, "status": cell.status}, comparator)
    return text.partition(" ")[0].replace("(>", "..")


def _titles(names: Sequence[str]) -> list[str]:
    """Returns the shortest ends of dotted names that tell them apart, over two lines where they have two parts."""
    titles = []
    for name in names:
        parts = name.split(".")
        ends = (".".join(parts[-size:]) for size in range(1, len(parts) + 1))
        unique = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other in names) == 1)
        titles.append(next(unique, name).replace(".", ".\n", 1))
    return titles


def _swept(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row[name] is None else value_text(row[name])


def _number(name: str, form: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row[name] is None else format(row[name], form).removesuffix(".")


def _recovery(comparator: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: recovery_text(row, comparator)
