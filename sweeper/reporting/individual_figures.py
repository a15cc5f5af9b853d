"""Figures of a sweep over participants: distances of models beside those of people, and agreement over time."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.metrics.rdm import upper_triangle
from sweeper.reporting.caption import COLORS, Caption, new_figure, plain_axes, titled
from sweeper.reporting.individuals import BOUND, OWN, TARGETS, UNTRAINED, Asked, Individuals, Missing, common_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    OWN: ("own model", {"color": COLORS[0], "linewidth": 1.6}),
    UNTRAINED: ("{start}", {"color": COLORS[7], "linewidth": 1.2}),
    TARGETS: ("target embedding", {"color": COLORS[2], "linewidth": 1.2}),
    BOUND: ("lower noise bound", {"color": "black", "linewidth": 1.2, "linestyle": "--"}),
}


_BARS: dict[Asked, str] = {
    "trained": "these models",
    "geometry": "ranked at each time",
    "untrained": "{start}",
    "noisy": "{start}, with noise",
}


def individual_figures(found: Sequence[Individuals | Missing], caption: Caption) -> "Iterator[tuple[str, Figure]]":
    """Yields name and figure, two for each group that has individual differences."""
    groups = [one for one in found if isinstance(one, Individuals)]
    for number, one in enumerate(groups, start=1):
        yield f"individuals_{number}", draw_individuals(one, common_curves(one, found), caption)
        yield f"individuals_over_time_{number}", draw_over_time(one, caption)


def draw_individuals(one: Individuals, common: Individuals | None, caption: Caption) -> "Figure":
    """Draws both distance matrices, the one's distances over the other's, and the agreement beside its controls."""
    figure, ((models, data, pairs, bars),) = new_figure(14, 3.9, 1, 4)
    _draw_matrix(models, one, "trained", "models")
    _draw_matrix(data, one, "data", "participants")
    _draw_pairs(pairs, one)
    _draw_controls(bars, one, common)
    people = one.people
    note = (
        f"{len(people.subjects)} participants, {len(people.stimuli)} held-out stimuli, "
        f"{int(people.compared.sum())} times; 1 - Pearson of all RDMs end to end; at the best validation loss"
    )
    return titled(figure, caption, f"Individual differences: {one.group.label}", note)


def draw_over_time(one: Individuals, caption: Caption) -> "Figure":
    """Draws the mean RSA of models with their own participants over time, with what it is held against."""
    figure, ((place,),) = new_figure(8, 4, 1, 1)
    for name, (label, look) in _LINES.items():
        if name in one.courses:
            place.plot(one.people.times_ms, one.courses[name], label=label.format(start=one.group.start), **look)
    place.axhline(0, color="black", linewidth=0.6)
    place.axvline(0, color="#888888", linewidth=0.6)
    place.set_xlabel("time (ms)", fontsize=8)
    place.set_ylabel("RSA with the participant (Spearman)", fontsize=8)
    plain_axes(place)
    place.legend(fontsize=8, frameon=False)
    note = f"means over {len(one.people.subjects)} participants; models at their best validation loss"
    return titled(figure, caption, f"Models and participants over time: {one.group.label}", note)


def _draw_matrix(place: "Axes", one: Individuals, which: str, title: str) -> None:
    distances, names = one.distances[which], one.people.subjects
    shown = np.where(np.eye(len(names), dtype=bool), np.nan, distances)
    image = place.imshow(shown, cmap="viridis", interpolation="nearest")
    place.set_title(f"distances of {title}", fontsize=9)
    place.set_xticks(range(len(names)), names, fontsize=6, rotation=90)
    place.set_yticks(range(len(names)), names, fontsize=6)
    place.figure.colorbar(image, ax=place, pad=0.02, shrink=0.75).ax.tick_params(labelsize=7)


def _draw_pairs(place: "Axes", one: Individuals) -> None:
    data, models = (upper_triangle(one.distances[which]) for which in ("data", "trained"))
    place.plot(data, models, "o", markersize=3.5, color=COLORS[0], alpha=0.7, markeredgewidth=0)
    place.set_xlabel("distance of two participants", fontsize=8)
    place.set_ylabel("distance of their models", fontsize=8)
    agreement = one.agreements["trained"]
    rho = "" if agreement is None else f", Spearman {agreement.rho:.3f}"
    place.set_title(f"{len(data)} pairs{rho}", fontsize=9)
    plain_axes(place)


def _draw_controls(place: "Axes", one: Individuals, common: Individuals | None) -> None:
    found = {label.format(start=one.group.start): one.agreements[asked] for asked, label in _BARS.items()}
    found |= {} if common is None else {"common curves": common.agreements["trained"]}
    for row, agreement in enumerate(found.values()):
        if agreement is not None:
            place.barh(row, agreement.rho, height=0.6, color=(COLORS[0], COLORS[5], *[COLORS[7]] * 3)[row])
    labels = [label if agreement is not None else f"{label}\n(do not differ)" for label, agreement in found.items()]
    if (trained := one.agreements["trained"]) is not None:
        place.errorbar(trained.shuffled_mean, len(labels), xerr=2 * trained.shuffled_sd, fmt="o", color="black", ms=3)
        labels.append("shuffled participants\n(mean, 2 SD)")
    for (over, ceiling), style in zip(one.ceilings.items(), ("--", ":"), strict=True):
        if ceiling is not None:
            place.axvline(ceiling.rho, color="black", linestyle=style, linewidth=0.9, label=f"halves of the {over}")
    place.axvline(0, color="black", linewidth=0.6)
    place.set_xlim(right=1.05)
    place.set_yticks(range(len(labels)), labels, fontsize=7)
    place.invert_yaxis()
    place.set_xlabel("agreement of the distances", fontsize=8)
    place.legend(
        fontsize=7,
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.3, 1.0),
        ncols=2,
        title="the data with themselves",
        title_fontsize=7,
    )
    plain_axes(place)
