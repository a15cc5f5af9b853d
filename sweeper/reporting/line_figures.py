"""Figure of the RSA over time: a panel per measure, a line per trial at its best validation loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.errors import SweeperError
from sweeper.reporting.caption import COLORS, Caption, caption, new_figure, plain_axes, titled
from sweeper.reporting.grids import trial_label
from sweeper.reporting.time_lines import TimeLine, time_lines
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class LinesInfo:
    """Holds the courses of a sweep: by measure, then by trial."""

    caption: Caption
    panels: Mapping[str, Sequence[tuple[str, TimeLine]]]


def lines_info(view: SweepView, store: ObjectStore) -> LinesInfo | None:
    """Returns the courses of all trials; None where no model has a time axis, or the data's files are not here."""
    panels: dict[str, list[tuple[str, TimeLine]]] = {}
    try:
        for line in time_lines(view, store):
            panels.setdefault(line.column, []).append((trial_label(line.trial, view), line))
    except SweeperError:  # figures are drawn of what can be had
        return None
    return LinesInfo(caption=caption(view), panels=panels) if panels else None


def draw_lines(info: LinesInfo) -> "Figure":
    """Draws a panel per measure; many trials are thin lines with their mean, and have no legend."""
    figure, axes = new_figure(9, 2.6 * len(info.panels) + 0.9, len(info.panels), 1, sharex=True)
    for (column, lines), (place,) in zip(info.panels.items(), axes, strict=True):
        _draw_panel(place, lines)
        place.set_title(f"{column}: against {lines[0][1].reference}", fontsize=9, loc="left")
        place.set_ylabel("RSA (Spearman)", fontsize=8)
    axes[-1][0].set_xlabel("time (ms)", fontsize=8)
    note = "trials at their best validation loss; dashed: mean of the untrained models; held-out stimuli"
    return titled(figure, info.caption, "RSA over time", note)


def _draw_panel(place: "Axes", lines: Sequence[tuple[str, TimeLine]]) -> None:
    few = len(lines) <= len(COLORS)
    for index, (label, line) in enumerate(lines):
        look: dict[str, Any] = (
            {"color": COLORS[index], "linewidth": 1.2} if few else {"color": COLORS[0], "linewidth": 0.5}
        )
        place.plot(line.times_ms, line.trained, label=label if few else None, **look)
    times = lines[0][1].times_ms
    alike = [line for _, line in lines if np.array_equal(line.times_ms, times)]
    if not few:
        place.plot(times, np.mean([line.trained for line in alike], axis=0), color="black", linewidth=1.5, label="mean")
    if untrained := [line.untrained for line in alike if line.untrained is not None]:
        place.plot(times, np.mean(untrained, axis=0), color="#666666", linestyle="--", linewidth=1.0, label="untrained")
    place.axhline(0, color="black", linewidth=0.6)
    place.axvline(0, color="#888888", linewidth=0.6)
    place.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    plain_axes(place)
