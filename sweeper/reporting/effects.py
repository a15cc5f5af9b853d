"""Two summaries of all windows: the effect of the first disturbed epoch by start, and recovery by tolerance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.metrics.recovery import COMPARATORS
from sweeper.reporting.caption import COLORS, Caption, caption, new_figure, plain_axes, titled
from sweeper.reporting.grids import Cell, grids
from sweeper.reporting.tables import TOLERANCES, tolerance_rows
from sweeper.reporting.view import SweepView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Mapping[int, float]
"""Start -> value."""
_MARKERS = "osD^vPX*"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaInfo:
    """Holds, by start, trial minus baseline at the first disturbed epoch (docs/methods.md 3.2, 3.3).

    Attributes:
        caption: what every figure says.
        val_loss: series label -> start -> difference.
        rsa: the same for the RSA.
    """

    caption: Caption
    val_loss: Mapping[str, Points]
    rsa: Mapping[str, Points]


@dataclass(frozen=True, kw_only=True, slots=True)
class ToleranceInfo:
    """Holds, by comparator and relative tolerance, how many trials have no recovery of the loss in the epochs seen."""

    caption: Caption
    num_trials: int
    not_recovered: Mapping[str, Mapping[float, int]]


def delta_info(view: SweepView) -> DeltaInfo | None:
    """Returns the effect of the first disturbed epoch by start; None with fewer than two starts."""
    val_loss: dict[str, Points] = {}
    rsa: dict[str, Points] = {}
    for grid in grids(view):
        first = {start: grid.cells[start, min(n for s, n in grid.cells if s == start)] for start in grid.starts}
        val_loss[grid.label] = _defined(first, "delta_val_loss")
        rsa[grid.label] = _defined(first, "delta_rsa_behavioral")
    if not any(len(points) > 1 for points in val_loss.values()):
        return None
    return DeltaInfo(caption=caption(view), val_loss=val_loss, rsa=rsa)


def tolerance_info(view: SweepView) -> ToleranceInfo | None:
    """Returns how many complete trials have no recovery, by tolerance; None without windows."""
    done = [row for row in tolerance_rows(view) if view.status(row["trial_id"]) == "complete"]
    if not done:
        return None
    counts: dict[str, dict[float, int]] = {
        name: {
            tolerance: sum(
                row["recovery_loss_epochs"] is None
                for row in done
                if row["comparator"] == name and row["tolerance"] == tolerance
            )
            for tolerance in TOLERANCES
        }
        for name in COMPARATORS
    }
    num_trials = len({row["trial_id"] for row in done})
    return ToleranceInfo(caption=caption(view), num_trials=num_trials, not_recovered=counts)


def draw_delta(info: DeltaInfo) -> "Figure":
    """Draws both differences over the start, one line per series."""
    figure, axes = new_figure(10, 3.8, 1, 2)
    units = ("validation loss, minus the baseline's", f"RSA ({info.caption.reference}), minus the baseline's")
    for place, series, unit in zip(axes[0], (info.val_loss, info.rsa), units, strict=True):
        place.axhline(0, color="black", linewidth=0.8)
        for index, (label, points) in enumerate(series.items()):
            color, marker = COLORS[index % len(COLORS)], _MARKERS[index % len(_MARKERS)]
            starts = sorted(points)
            values = [points[start] for start in starts]
            place.plot(starts, values, color=color, marker=marker, markersize=3.5, linewidth=1, label=label or "trials")
        place.set_xlabel("start: first disturbed epoch", fontsize=8)
        place.set_ylabel(unit, fontsize=8)
        plain_axes(place)
    if 1 < len(info.val_loss) <= 2 * len(COLORS):
        axes[0][1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    note = "at the first disturbed epoch, against the baseline at the same epoch, up to its loss minimum"
    return titled(figure, info.caption, "What one disturbed epoch does, by its moment", note)


def draw_tolerance(info: ToleranceInfo) -> "Figure":
    """Draws how many trials have not recovered over the tolerance, one line per comparator."""
    figure, axes = new_figure(6.5, 3.8, 1, 1)
    place = axes[0][0]
    for index, (name, counts) in enumerate(info.not_recovered.items()):
        label = f"{name} (the spec's)" if name == info.caption.comparator else name
        x, y = [100 * tolerance for tolerance in counts], list(counts.values())
        place.plot(x, y, color=COLORS[index], marker=_MARKERS[index], markersize=5, label=label)
    place.axvline(100 * info.caption.tolerance, color="#888888", linestyle="--", linewidth=0.8)
    place.set_xlabel("tolerance (% of the comparator's baseline loss; dashed: the spec's)", fontsize=8)
    place.set_ylabel(f"not recovered, of {info.num_trials} trials", fontsize=8)
    place.set_ylim(-0.02 * info.num_trials - 0.1, info.num_trials * 1.02 + 0.1)
    plain_axes(place)
    place.legend(fontsize=8, frameon=False)
    return titled(figure, info.caption, "Trials without a recovery of the loss within the epochs seen")


def _defined(cells: Mapping[int, Cell], column: str) -> Points:
    return {start: cell.numbers[column] for start, cell in cells.items() if cell.numbers[column] is not None}
