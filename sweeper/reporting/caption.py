"""What every figure must say, and how all figures look."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.reporting.view import SweepView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")
"""Okabe and Ito's palette, told apart by colour-blind people; black is the baseline's."""


SEES_TEST = "(THE OBJECTIVE SEES TEST STIMULI)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """Says what every figure must say.

    Attributes:
        sweep: name of the sweep, with the marks of a stand-in and of a search that sees test stimuli.
        reference: the RDM that RSA is taken against.
        comparator: the comparator that the spec shows first.
        tolerance: relative tolerance of the loss's recovery.
        rsa_tolerance: absolute tolerance of the RSA's.
    """

    sweep: str
    reference: str
    comparator: str
    tolerance: float
    rsa_tolerance: float


def caption(view: SweepView) -> Caption:
    """Returns what every figure of a sweep must say."""
    spec = view.revision.spec
    sees_test = spec.search is not None and spec.search.sees_test_stimuli
    return Caption(
        sweep=" ".join([spec.name, *["(STAND-IN data and model)"] * spec.stand_in, *[SEES_TEST] * sees_test]),
        reference=view.references.get(view.rsa_column, "no reference"),
        comparator=spec.recovery.comparator,
        tolerance=spec.recovery.tolerance,
        rsa_tolerance=spec.recovery.rsa_tolerance,
    )


def new_figure(
    width: float, height: float, rows: int, columns: int, *, sharex: bool = False
) -> "tuple[Figure, list[list[Axes]]]":
    """Returns a figure of so many inches with a grid of axes, apart from any window or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, sharex=sharex, squeeze=False).tolist()


def titled(figure: "Figure", caption: Caption, title: str, note: str = "") -> "Figure":
    """Writes title and caption above a figure."""
    lines = [title, caption.sweep, *([note] if note else [])]
    figure.suptitle("\n".join(lines), fontsize=10, x=0.01, ha="left")
    return figure


def plain_axes(axes: "Axes") -> None:
    """Takes off the frame that carries nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
