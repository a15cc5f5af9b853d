"""Curves over epochs: loss and RSA with their windows, and loss against RSA (the S-curve)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.metrics.curves import first_minimum_epoch, seen_values
from sweeper.plan.trials import Trial
from sweeper.reporting.caption import COLORS, Caption, caption, new_figure, plain_axes, titled
from sweeper.reporting.grids import Grid, grids, trial_label
from sweeper.reporting.summary import LOSS
from sweeper.reporting.view import SweepView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Mapping[int, float]
"""Epoch -> value."""
PANELS_PER_PAGE = 5
_MOST_SHADED = 20
_EARLY = 3  # epochs before this one may be cut off the loss axis
_FAR = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Holds the curves of one trial.

    Attributes:
        label: the swept fields that tell it apart within its panel.
        order: the number that the label stands for, None for a category.
        val_loss: by epoch, own rows only.
        rsa: by epoch, own rows only.
        window: first and last disturbed epoch.
    """

    label: str
    order: float | None
    val_loss: Points
    rsa: Points
    window: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePanel:
    """Holds trials that are drawn together, with their baseline."""

    title: str
    legend: str
    lines: tuple[Line, ...]
    baseline: Line | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvesInfo:
    """Holds the curves of a sweep."""

    caption: Caption
    panels: tuple[CurvePanel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SCurveInfo:
    """Holds loss and RSA of the undisturbed trials up to their loss minimum (docs/methods.md 3.1)."""

    caption: Caption
    lines: tuple[Line, ...]


def curves_info(view: SweepView) -> CurvesInfo | None:
    """Returns loss and RSA by epoch: a panel per start with a line per length, or per window with a line per kind."""
    panels = (*_grid_panels(view), *_undisturbed_panel(view))
    return CurvesInfo(caption=caption(view), panels=panels) if panels else None


def s_curve_info(view: SweepView) -> SCurveInfo | None:
    """Returns loss against RSA of every undisturbed trial, up to its loss minimum."""
    lines = []
    for trial in view.trials.values():
        line = _line(view, trial, label=trial_label(trial, view))
        losses = seen_values(line.val_loss)
        if not trial.config.perturbation and losses and line.rsa:
            last = first_minimum_epoch(losses)
            kept = {epoch: value for epoch, value in line.rsa.items() if epoch <= last and epoch in losses}
            lines.append(Line(label=line.label, order=None, val_loss=losses, rsa=kept, window=None))
    return SCurveInfo(caption=caption(view), lines=tuple(lines)) if any(len(line.rsa) > 1 for line in lines) else None


def draw_curves(info: CurvesInfo) -> "Iterator[Figure]":
    """Draws a row of two axes (loss, RSA) per panel, a few panels a page."""
    last = max((epoch for panel in info.panels for line in _all_lines(panel) for epoch in line.val_loss), default=1)
    for first in range(0, len(info.panels), PANELS_PER_PAGE):
        panels = info.panels[first : first + PANELS_PER_PAGE]
        figure, axes = new_figure(11, 2.3 * len(panels) + 0.9, len(panels), 2, sharex=True)
        for panel, (left, right) in zip(panels, axes, strict=True):
            _draw_panel(figure, panel, left, right)
            left.set_title(panel.title, fontsize=9, loc="left")
        for place, text in zip(axes[0], ("validation loss", f"RSA against {info.caption.reference}"), strict=True):
            place.set_title(text, fontsize=9)
        for place in axes[-1]:
            place.set_xlabel("epoch (0: untrained)", fontsize=8)
            place.set_xlim(0, last)
        pages = -(-len(info.panels) // PANELS_PER_PAGE)
        page = f", page {first // PANELS_PER_PAGE + 1} of {pages}" if pages > 1 else ""
        yield titled(figure, info.caption, f"Trials and their baseline by epoch; windows shaded{page}")


def draw_s_curve(info: SCurveInfo) -> "Figure":
    """Draws loss (falling to the right) against RSA, epochs 1, 5, 10, 15 and the last one marked."""
    figure, axes = new_figure(6.5, 4.8, 1, 1)
    place = axes[0][0]
    for line, color in zip(info.lines, _colors(info.lines), strict=True):
        epochs = sorted(line.rsa)
        x, y = [line.val_loss[epoch] for epoch in epochs], [line.rsa[epoch] for epoch in epochs]
        place.plot(x, y, color=color, linewidth=1.2, marker=".", markersize=3, label=line.label)
        if len(info.lines) == 1:
            for epoch in sorted({1, 5, 10, 15, epochs[-1]} & set(epochs)):
                point = (line.val_loss[epoch], line.rsa[epoch])
                place.plot(*point, "o", color=color, markersize=5)
                place.annotate(str(epoch), point, (4, -10), textcoords="offset points", fontsize=8)
    place.invert_xaxis()
    place.set_xlabel("validation loss (axis inverted: training runs to the right)", fontsize=8)
    place.set_ylabel(f"RSA against {info.caption.reference}", fontsize=8)
    plain_axes(place)
    if 1 < len(info.lines) <= len(COLORS):
        place.legend(fontsize=7, frameon=False)
    return titled(figure, info.caption, "Alignment against loss while training, undisturbed, up to the loss minimum")


def _grid_panels(view: SweepView) -> tuple[CurvePanel, ...]:
    found = grids(view)
    by_kind = len(found) > 1 and all(_sweeps_kind(cell.trial) for grid in found for cell in grid.cells.values())
    if by_kind:
        windows = sorted({window for grid in found for window in grid.cells})
        return tuple(_kind_panel(view, found, window) for window in windows)
    return tuple(panel for grid in found for panel in _length_panels(view, grid))


def _kind_panel(view: SweepView, found: tuple[Grid, ...], window: tuple[int, int]) -> CurvePanel:
    cells = [(grid.label, grid.cells[window].trial) for grid in found if window in grid.cells]
    start, length = window
    return CurvePanel(
        title=f"start {start}, length {length}",
        legend="",
        lines=tuple(_line(view, trial, label=label) for label, trial in cells),
        baseline=_baseline(view, cells[0][1]),
    )


def _length_panels(view: SweepView, grid: Grid) -> tuple[CurvePanel, ...]:
    if len(grid.lengths) == 1:
        cells = [(start, grid.cells[start, grid.lengths[0]].trial) for start in grid.starts]
        title = f"length {grid.lengths[0]}"
        return (_panel(view, grid, title, "start", cells),)
    return tuple(
        _panel(view, grid, f"start {start}", "length", [(n, cell.trial) for (s, n), cell in sorted_cells if s == start])
        for sorted_cells in [sorted(grid.cells.items(), key=lambda item: item[0])]
        for start in grid.starts
    )


def _panel(view: SweepView, grid: Grid, title: str, legend: str, cells: list[tuple[int, Trial]]) -> CurvePanel:
    return CurvePanel(
        title=", ".join(part for part in (title, grid.label) if part),
        legend=legend,
        lines=tuple(_line(view, trial, label=str(number), order=number) for number, trial in cells),
        baseline=_baseline(view, cells[0][1]),
    )


def _undisturbed_panel(view: SweepView) -> tuple[CurvePanel, ...]:
    trials = [trial for trial in view.trials.values() if not trial.config.perturbation and trial.role != "baseline"]
    lines = tuple(_line(view, trial, label=trial_label(trial, view)) for trial in trials)
    return (CurvePanel(title="undisturbed", legend="", lines=lines, baseline=None),) if lines else ()


def _baseline(view: SweepView, trial: Trial) -> Line | None:
    return None if trial.baseline_id is None else _line(view, view.trials[trial.baseline_id], label="baseline")


def _line(view: SweepView, trial: Trial, *, label: str, order: float | None = None) -> Line:
    first = trial.config.start if trial.config.perturbation else 0
    window = (trial.config.start, trial.config.window_end) if trial.config.window_end is not None else None
    return Line(
        label=label,
        order=order,
        val_loss=seen_values(view.curve(trial.trial_id, LOSS), first=first),
        rsa=seen_values(view.curve(trial.trial_id, view.rsa_column), first=first),
        window=window,
    )


def _sweeps_kind(trial: Trial) -> bool:
    return any(name.split(".")[0] == "perturbation" and name.rsplit(".", 1)[-1] in _KINDS for name, _ in trial.swept)


def _all_lines(panel: CurvePanel) -> tuple[Line, ...]:
    return panel.lines if panel.baseline is None else (*panel.lines, panel.baseline)


def _draw_panel(figure: "Figure", panel: CurvePanel, left: "Axes", right: "Axes") -> None:
    for place in (left, right):
        plain_axes(place)
        windows = dict.fromkeys(line.window for line in panel.lines if line.window is not None)
        for window in windows if len(windows) <= _MOST_SHADED else ():
            alpha = max(0.03, 0.25 / len(panel.lines))
            place.axvspan(window[0] - 0.5, window[1] + 0.5, color="#888888", alpha=alpha, linewidth=0)
    if panel.baseline is not None:
        left.plot(*_points(panel.baseline.val_loss), color="black", linewidth=1.4, label="baseline", zorder=3)
        right.plot(*_points(panel.baseline.rsa), color="black", linewidth=1.4, label="baseline", zorder=3)
    for line, color in zip(panel.lines, _colors(panel.lines), strict=True):
        left.plot(*_points(line.val_loss), color=color, linewidth=0.9, label=line.label)
        right.plot(*_points(line.rsa), color=color, linewidth=0.9, label=line.label)
    left.set_ylim(*_loss_range(panel))
    if len(panel.lines) <= len(COLORS):
        title = f"{panel.legend} (epochs)" if panel.legend == "length" else panel.legend or None
        legend = right.legend(fontsize=7, title=title, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        legend.get_title().set_fontsize(7)
    elif orders := [line.order for line in panel.lines if line.order is not None]:
        figure.colorbar(_scale(orders), ax=right, pad=0.01).set_label(f"{panel.legend} (epoch)", fontsize=8)


def _loss_range(panel: CurvePanel) -> tuple[float | None, float | None]:
    """Returns the limits of the loss axis: first epochs far above all that follows are cut off."""
    first = min((line.window[0] for line in panel.lines if line.window is not None), default=_EARLY)
    everything = [value for line in _all_lines(panel) for value in line.val_loss.values()]
    later = [
        value for line in _all_lines(panel) for epoch, value in line.val_loss.items() if epoch >= min(first, _EARLY)
    ]
    if not later or max(later) == min(later) or max(everything) - min(later) <= _FAR * (max(later) - min(later)):
        return None, None
    margin = 0.15 * (max(later) - min(later))
    return min(later) - margin, max(later) + margin


def _colors(lines: tuple[Line, ...]) -> list[Any]:
    """Returns a palette's colours for categories, a scale's for numbers: by rank where a legend names them."""
    if any(line.order is None for line in lines):
        return [COLORS[index % len(COLORS)] for index in range(len(lines))]
    orders = [line.order for line in lines if line.order is not None]
    ranks: list[float] = [sorted(orders).index(order) for order in orders]
    values = ranks if len(lines) <= len(COLORS) else orders
    scale = _scale(values)
    return [scale.to_rgba(value) for value in values]


def _scale(values: Sequence[float]) -> Any:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    darker = ListedColormap(colormaps["plasma"](range(210)))  # its last colours are too light on white
    return ScalarMappable(Normalize(min(values), max(max(values), min(values) + 1)), darker)


def _points(curve: Points) -> tuple[list[int], list[float]]:
    return list(curve), list(curve.values())


_KINDS = ("perturbation", "kind", "noise", "distribution", "value")
