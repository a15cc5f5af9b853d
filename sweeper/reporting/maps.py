"""Heat maps over windows (rows: start, columns: length): recovery by all comparators, extremes against the baseline."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sweeper.metrics.recovery import COMPARATORS
from sweeper.reporting.caption import Caption, caption, new_figure, titled
from sweeper.reporting.grids import Cell, Grid, grids
from sweeper.reporting.text import recovery_text
from sweeper.reporting.view import SweepView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Matrix = tuple[tuple[float | None, ...], ...]
Texts = tuple[tuple[str | None, ...], ...]
Measure = Literal["loss", "rsa"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Map:
    """Holds one heat map: rows are starts, columns are lengths; None where there is no trial or no value.

    Attributes:
        title: what is shown.
        values: [starts][lengths].
        texts: what stands in the cells.
        censored: cells without a recovery within the epochs seen.
    """

    title: str
    values: Matrix
    texts: Texts
    censored: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MapRow:
    """Holds the maps of one grid, side by side."""

    label: str
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    maps: tuple[Map, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MapsInfo:
    """Holds a figure of heat maps."""

    caption: Caption
    rows: tuple[MapRow, ...]


def recovery_info(view: SweepView, measure: Measure = "loss") -> MapsInfo | None:
    """Returns the recovery of loss or RSA by all comparators, start x length; None without such a grid."""
    shown = view.revision.spec.recovery.comparator

    def row(grid: Grid) -> tuple[Map, ...]:
        return tuple(
            _recovery_map(grid, f"{name} (the spec's)" if name == shown else name, measure, name)
            for name in COMPARATORS
        )

    return _maps(view, row)


def deviation_info(view: SweepView) -> MapsInfo | None:
    """Returns extremes against the baseline's (docs/methods.md 3.5), start x length; None without such a grid."""
    columns = {
        "max_rsa_deviation": "max RSA, minus the max of the\ntrimmed baseline (published)",
        "max_rsa_deviation_same_epochs": "max RSA, minus the baseline's\nmax from the start on",
        "min_val_loss_deviation": "min validation loss,\nminus the baseline's",
    }
    return _maps(view, lambda grid: tuple(_map(grid, title, column) for column, title in columns.items()))


def draw_recovery(info: MapsInfo, measure: Measure = "loss") -> "Figure":
    """Draws the recovery maps of loss or RSA with one colour scale for all comparators."""
    from matplotlib.colors import Normalize

    scale = Normalize(0, max(_values(info, slice(None)), default=1))
    figure = _draw(info, [Look(scale, "viridis", None), Look(scale, "viridis", None), Look(scale, "viridis", "epochs")])
    what, within = {
        "loss": ("validation loss", f"{100 * info.caption.tolerance:g} % of the comparator's baseline"),
        "rsa": (
            f"RSA against {info.caption.reference}",
            f"{info.caption.rsa_tolerance:g} of the comparator's baseline",
        ),
    }[measure]
    title = f"Recovery of the {what}, in epochs after the window, by three comparators"
    note = f"back: within {within}; NR: not within so many epochs seen after the window"
    return titled(figure, info.caption, title, note)


def draw_deviation(info: MapsInfo) -> "Figure":
    """Draws the deviations on diverging scales centred at 0: RSA on one, loss on its own; blue is better."""
    rsa, loss = _around_zero(_values(info, slice(0, 2))), _around_zero(_values(info, slice(2, 3)))
    figure = _draw(info, [Look(rsa, "RdBu", None), Look(rsa, "RdBu", "RSA"), Look(loss, "RdBu_r", "loss")])
    title = "Best values of each trial against its baseline (blue: better, red: worse)"
    note = (
        f"RSA against {info.caption.reference}; maxima over epochs are chosen on the test stimuli, hence too high; "
        "\na trial that ends before its baseline's best epoch lies behind it for that reason alone"
    )
    return titled(figure, info.caption, title, note)


def _maps(view: SweepView, maps_of: Any) -> MapsInfo | None:
    rows = tuple(
        MapRow(label=grid.label, starts=grid.starts, lengths=grid.lengths, maps=maps_of(grid))
        for grid in grids(view)
        if len(grid.cells) > 1
        and len(grid.lengths) > 1
        and any(cell.numbers["epochs_seen_after_window"] is not None for cell in grid.cells.values())
    )
    return MapsInfo(caption=caption(view), rows=rows) if rows else None


def _recovery_map(grid: Grid, title: str, measure: Measure, comparator: str) -> Map:
    column = f"recovery_{measure}_epochs_{comparator}"

    def text(cell: Cell) -> str:
        row = {**cell.numbers, "status": cell.status}
        return recovery_text(row, comparator, measure).replace(" (>", "\n>").strip("()")

    censored = grid.by_start(lambda cell: cell.numbers[column] is None)
    return Map(
        title=title,
        values=grid.by_start(lambda cell: cell.numbers[column]),
        texts=grid.by_start(text),
        censored=tuple(tuple(bool(value) for value in row) for row in censored),
    )


def _map(grid: Grid, title: str, column: str) -> Map:
    values = grid.by_start(lambda cell: cell.numbers[column])
    return Map(
        title=title,
        values=values,
        texts=tuple(tuple("" if value is None else f"{value:+z.3f}" for value in row) for row in values),
        censored=tuple(tuple(False for _ in row) for row in values),
    )


class Look(NamedTuple):
    """How one column of maps is coloured; a colour bar is drawn where it has a unit."""

    scale: Any
    colors: str
    unit: str | None


def _values(info: MapsInfo, which: slice) -> list[float]:
    maps = (each for row in info.rows for each in row.maps[which])
    return [value for each in maps for line in each.values for value in line if value is not None]


def _around_zero(values: list[float]) -> Any:
    from matplotlib.colors import Normalize

    largest = max((abs(value) for value in values), default=0.0) or 1.0
    return Normalize(-largest, largest)


def _draw(info: MapsInfo, looks: list[Look]) -> "Figure":
    """Draws a row of axes per grid and a column per map."""
    from matplotlib.ticker import MaxNLocator

    widest = max(len(row.lengths) for row in info.rows)
    width = len(looks) * (1.2 + 0.5 * max(widest, 4)) + 0.6
    height = sum(0.75 + 0.34 * max(len(row.starts), 3) for row in info.rows) + 1.1
    figure, axes = new_figure(width, height, len(info.rows), len(looks))
    for row, line in zip(info.rows, axes, strict=True):
        for each, place, look in zip(row.maps, line, looks, strict=True):
            image = _heat_map(place, row, each, look.scale, look.colors)
            place.set_title("\n".join(part for part in (row.label, each.title) if part), fontsize=8.5)
            if look.unit is not None:
                bar = figure.colorbar(image, ax=place, pad=0.02)
                bar.locator = MaxNLocator(nbins=6, integer=look.unit == "epochs")
                bar.set_label(look.unit, fontsize=8)
                bar.ax.tick_params(labelsize=7)
        line[0].set_ylabel("start (epoch)", fontsize=8)
    for place in axes[-1]:
        place.set_xlabel("length of the window (epochs)", fontsize=8)
    return figure


def _heat_map(axes: "Axes", row: MapRow, each: Map, norm: Any, colors: str) -> Any:
    import numpy as np

    values = np.array([[np.nan if value is None else value for value in line] for line in each.values], dtype=float)
    image = axes.imshow(np.ma.masked_invalid(values), aspect="auto", norm=norm, cmap=colors, interpolation="nearest")
    for y, line in enumerate(each.texts):
        for x, text in enumerate(line):
            if each.censored[y][x]:
                axes.add_patch(_hatched(x, y))
            if text:
                shade = "black" if each.censored[y][x] else _readable_on(image, values[y, x])
                size = 6 if "\n" in text or len(text) > 4 else 8
                written = axes.text(x, y, text, ha="center", va="center", fontsize=size, color=shade, linespacing=0.9)
                if each.censored[y][x]:
                    written.set_bbox({"facecolor": "#eeeeee", "edgecolor": "none", "pad": 0.6})
    axes.set_xticks(range(len(row.lengths)), [str(length) for length in row.lengths], fontsize=8)
    axes.set_yticks(range(len(row.starts)), [str(start) for start in row.starts], fontsize=8)
    axes.tick_params(length=0)
    return image


def _hatched(x: int, y: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="#dddddd", edgecolor="#aaaaaa", hatch="////", linewidth=0)


def _readable_on(image: Any, value: float) -> str:
    red, green, blue, _ = image.cmap(image.norm(value))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
