"""All figures of a sweep, as PNG files; the same results give the same bytes."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.reporting.curves import curves_info, draw_curves, draw_s_curve, s_curve_info
from sweeper.reporting.effects import delta_info, draw_delta, draw_tolerance, tolerance_info
from sweeper.reporting.maps import deviation_info, draw_deviation, draw_recovery, recovery_info
from sweeper.reporting.view import SweepView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110


def save_figures(view: SweepView, folder: Path) -> list[Path]:
    """Writes the figures that a sweep's axes allow.

    Args:
        view: the sweep.
        folder: where the PNG files go; made where it is absent.

    Returns:
        The files, the most telling first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures(view):
        path = folder / f"{name}.png"
        path.write_bytes(png(figure))
        paths.append(path)
    return paths


def png(figure: "Figure") -> bytes:
    """Returns a figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})  # a version there would change them
    return buffer.getvalue()


def figures(view: SweepView) -> "Iterator[tuple[str, Figure]]":
    """Yields name and figure, one after the other, so that only one is in memory."""
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
