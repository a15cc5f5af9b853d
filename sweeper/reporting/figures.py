"""All figures of a sweep, as PNG files; the same results give the same bytes."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.reporting.caption import caption
from sweeper.reporting.curves import curves_info, draw_curves, draw_s_curve, s_curve_info
from sweeper.reporting.effects import delta_info, draw_delta, draw_tolerance, tolerance_info
from sweeper.reporting.individual_figures import individual_figures
from sweeper.reporting.individuals import Individuals, Missing, individuals_of
from sweeper.reporting.line_figures import draw_lines, lines_info
from sweeper.reporting.maps import deviation_info, draw_deviation, draw_recovery, recovery_info
from sweeper.reporting.subject_pair import draw_pair, pairs_of
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110


def save_figures(
    view: SweepView, folder: Path, store: ObjectStore | None = None, subjects: tuple[str, str] | None = None
) -> list[Path]:
    """Writes the figures that a sweep's axes allow.

    Args:
        view: the sweep.
        folder: where the PNG files go; made where it is absent.
        store: where held-out outputs lie; without it what is computed from them is not drawn.
        subjects: two subjects whose difference is drawn, too.

    Returns:
        The files, the most telling first.

    Raises:
        StoreError: there are no such subjects.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    pair = _of_subjects(view, store, subjects) if store is not None and subjects is not None else ()
    for name, figure in (*pair, *figures(view, store)):
        path = folder / f"{name}.png"
        path.write_bytes(png(figure))
        paths.append(path)
    return paths


def png(figure: "Figure") -> bytes:
    """Returns a figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})  # a version there would change them
    return buffer.getvalue()


def figures(
    view: SweepView, store: ObjectStore | None = None, individuals: Sequence[Individuals | Missing] | None = None
) -> "Iterator[tuple[str, Figure]]":
    """Yields name and figure, one after the other, so that only one is in memory.

    Args:
        view: the sweep.
        store: where held-out outputs lie; without it what is computed from them is left out.
        individuals: `individuals_of(view, store)`, where it is known already.
    """
    if store is not None:
        found = individuals_of(view, store) if individuals is None else individuals
        yield from individual_figures(found, caption(view))
        if (lines := lines_info(view, store)) is not None:
            yield "over_time", draw_lines(lines)
    if (recovery := recovery_info(view)) is not None:
        yield "recovery", draw_recovery(recovery)
    if (recovery_rsa := recovery_info(view, "rsa")) is not None:
        yield "recovery_rsa", draw_recovery(recovery_rsa, "rsa")
    if (tolerance := tolerance_info(view)) is not None:
        yield "recovery_by_tolerance", draw_tolerance(tolerance)
    if (delta := delta_info(view)) is not None:
        yield "delta_by_start", draw_delta(delta)
    if (deviation := deviation_info(view)) is not None:
        yield "deviation", draw_deviation(deviation)
    if (s_curve := s_curve_info(view)) is not None:
        yield "s_curve", draw_s_curve(s_curve)
    if (curves := curves_info(view)) is not None:
        for number, page in enumerate(draw_curves(curves), start=1):
            yield f"curves_{number}", page


def _of_subjects(view: SweepView, store: ObjectStore, subjects: tuple[str, str]) -> "Iterator[tuple[str, Figure]]":
    for number, pair in enumerate(pairs_of(view, store, subjects), start=1):
        yield f"subjects_{number}", draw_pair(view, pair)
