"""Recovery after a perturbation window: when is a disturbed curve back at its undisturbed baseline.

Rules and the proof that the comparator makes the published result: docs/methods.md 3.4. All epochs are 1-based;
epoch 0 (the
untrained model) of a curve or baseline is ignored, as the published tables begin at 1.
"""

from collections.abc import Callable, Iterable
from typing import Literal, get_args

from sweeper.metrics.curves import Curve, first_minimum_epoch, seen_values
from sweeper.metrics.rdm import UndefinedMetric

Comparator = Literal["published", "fixed", "clean"]
Direction = Literal["lower", "higher"]

# Which epoch of the baseline the disturbed epoch k is held against, given the length of the window (in disturbed
# epochs) and the trim epoch (the baseline's loss minimum), at which the baseline stands still.
COMPARATORS: dict[Comparator, Callable[[int, int, int], int]] = {
    "published": lambda epoch, length, trim: min(epoch, trim),
    "fixed": lambda epoch, length, trim: trim,
    "clean": lambda epoch, length, trim: min(epoch - length, trim),
}

_IS_BACK: dict[Direction, Callable[[float, float, float], bool]] = {
    "lower": lambda value, reference, tolerance: value <= (1.0 + tolerance) * reference,
    "higher": lambda value, reference, tolerance: value >= reference - tolerance,
}


def recovery_epochs(
    curve: Curve,
    baseline: Curve,
    window_end: int,
    *,
    window_length: int | None = None,
    tolerance: float = 0.01,
    persistence: int = 1,
    comparator: Comparator = "published",
    direction: Direction = "lower",
    trim_epoch: int | None = None,
) -> int | None:
    """Counts the epochs from the window's end to the first epoch at which the curve is back at its baseline.

    The first k > window_end counts at which all of k .. k + persistence - 1 are seen and back; each is held against its
    own reference: baseline(min(k, trim)) for `published`, baseline(trim) for `fixed`, baseline(min(k - window_length,
    trim)), i.e. after as many undisturbed epochs, for `clean`. Back means value <= (1 + tolerance) reference for
    `lower` (a loss), value >= reference - tolerance for `higher` (an alignment; ours, the study has no such rule).

    Args:
        curve: the disturbed trial, epoch -> value; its window and any epoch before it are ignored.
        baseline: the same quantity of the undisturbed trial, untrimmed, as far as its own stopping rule went.
        window_end: last disturbed epoch; with several windows the last window's.
        window_length: number of disturbed epochs, of all windows together; `clean` needs it.
        tolerance: relative for `lower`, absolute for `higher`.
        persistence: number of consecutive epochs that must be seen and back.
        comparator: one of `COMPARATORS`.
        direction: whether `lower` or `higher` is better.
        trim_epoch: epoch of the baseline's loss minimum; `higher` needs it, for `lower` it defaults to the first
            minimum of `baseline` from epoch 1 on.

    Returns:
        Recovery epoch - window_end, at least 1; None if not within the epochs seen (never "never": the curve may have
        been stopped too early). An epoch whose reference the baseline lacks cannot be judged and is not back.

    Raises:
        UndefinedMetric: the baseline has no value at the trim epoch, so nothing could ever be back.
        ValueError: an argument is out of range, missing or unknown.
    """
    _check(window_end, window_length, tolerance, persistence, comparator, direction, trim_epoch)
    references = seen_values(baseline)
    trim = _trim(references, trim_epoch)
    reference_epoch, is_back = COMPARATORS[comparator], _IS_BACK[direction]
    in_a_row, previous = 0, window_end
    for epoch, value in seen_values(curve, first=window_end + 1).items():
        reference = references.get(reference_epoch(epoch, window_length or 0, trim))
        if reference is None or not is_back(value, reference, tolerance):
            in_a_row = 0
        else:
            in_a_row = in_a_row + 1 if epoch == previous + 1 else 1
        previous = epoch
        if in_a_row == persistence:
            return epoch - persistence + 1 - window_end
    return None


def recovered_at_tolerances(
    curve: Curve,
    baseline: Curve,
    window_end: int,
    tolerances: Iterable[float],
    *,
    window_length: int | None = None,
    persistence: int = 1,
    comparator: Comparator = "published",
    direction: Direction = "lower",
    trim_epoch: int | None = None,
) -> dict[float, int | None]:
    """Computes `recovery_epochs` at each tolerance, to show how far "recovered" hangs on it.

    Returns:
        tolerance -> recovery in epochs, or None; never later at a larger tolerance.
    """
    return {
        tolerance: recovery_epochs(
            curve,
            baseline,
            window_end,
            window_length=window_length,
            tolerance=tolerance,
            persistence=persistence,
            comparator=comparator,
            direction=direction,
            trim_epoch=trim_epoch,
        )
        for tolerance in tolerances
    }


def epochs_seen_after(curve: Curve, window_end: int) -> int:
    """Counts the epochs from the window's end to the last one seen: where a missing recovery is censored."""
    return max(seen_values(curve, first=window_end + 1), default=window_end) - window_end


def _trim(references: dict[int, float], trim_epoch: int | None) -> int:
    if not references:
        raise UndefinedMetric("the baseline has no epoch with a value")
    trim = first_minimum_epoch(references) if trim_epoch is None else trim_epoch
    if trim not in references:
        raise UndefinedMetric(f"the baseline has no value at its trim epoch {trim}")
    return trim


def _check(
    window_end: int,
    window_length: int | None,
    tolerance: float,
    persistence: int,
    comparator: str,
    direction: str,
    trim_epoch: int | None,
) -> None:
    if comparator not in COMPARATORS:
        raise ValueError(f"comparator must be one of {', '.join(get_args(Comparator))}; got {comparator!r}")
    if direction not in _IS_BACK:
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}; got {direction!r}")
    if window_end < 1 or persistence < 1 or not tolerance >= 0:
        raise ValueError(
            "window_end and persistence must be at least 1, tolerance at least 0; "
            f"got {window_end}, {persistence}, {tolerance}"
        )
    if comparator == "clean" and window_length is None:
        raise ValueError("comparator 'clean' needs window_length, the number of disturbed epochs")
    # With this, k > window_end >= length makes k - length >= 1: `clean` never asks for an epoch before the first.
    if window_length is not None and not 1 <= window_length <= window_end:
        raise ValueError(f"window_length must be 1..window_end = {window_end}; got {window_length}")
    if direction == "higher" and trim_epoch is None:
        raise ValueError("direction 'higher' needs trim_epoch, the epoch of the baseline's loss minimum")
