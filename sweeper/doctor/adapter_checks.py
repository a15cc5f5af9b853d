"""Checks that need no published figure: every adapter learns and acts, the cached prefix equals the full forward."""

from collections.abc import Iterator

from sweeper.doctor.judge import Cause, Figure
from sweeper.doctor.measure import Measurements

_PREFIX_TOLERANCE = 1e-2  # of outputs within +-100: rounding of another order of sums
_BYPASSED = Cause(
    text="an adapter that the forward pass goes round (torch's fused attention never calls `out_proj`)",
    remedy="Install the pinned versions of open_clip, peft and torch",
)


def check_adapters(measured: Measurements) -> Iterator[Figure]:
    """Compares gradients and effect of the adapters with none."""
    total = measured.num_adapter_tensors
    dead = f" (dead: {', '.join(measured.dead[:3])})" if measured.dead else ""
    none = "the spec asks for no adapters" if total == 0 else None
    yield Figure(
        name="adapters alive: tensors with a gradient",
        expected=f"{total} of {total}",
        found=f"{total - len(measured.dead)} of {total}{dead}",
        holds=not measured.dead,
        inapplicable=none,
        likely=_BYPASSED,
    )
    yield Figure(
        name="adapters alive: change of an output by a random start",
        expected="above 0",
        found=f"up to {measured.output_change:.3g}",
        holds=measured.output_change > 1e-4,
        inapplicable=none,
        likely=_BYPASSED,
    )


def check_prefix(measured: Measurements) -> Figure:
    """Compares outputs computed through the cached prefix with those of the whole network."""
    return Figure(
        name="cached prefix against full forward",
        expected=f"within {_PREFIX_TOLERANCE}",
        found=f"up to {measured.prefix_error:.2g}",
        holds=measured.prefix_error <= _PREFIX_TOLERANCE,
        likely=Cause(text="reduced precision on this device, or another open_clip", remedy="Use numerics.prefix: full"),
    )
