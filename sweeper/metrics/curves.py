"""Curves over epochs, as recovery and summaries read them.

A curve maps 1-based epochs to values; epoch 0 is the untrained model. A missing epoch, None and NaN all mean "not
seen". A pandas Series works too if its index holds the epochs (not row numbers).
"""

import math
from collections.abc import Iterable
from typing import Any, Protocol


class Curve(Protocol):
    """Maps epochs to values, as a dict or a pandas Series does."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Returns pairs of an epoch and a value, or None."""


def seen_values(curve: Curve, first: int = 1, last: int | None = None) -> dict[int, float]:
    """Returns the values seen from epoch `first` to `last`, in the order of epochs.

    Args:
        curve: epoch -> value.
        first: 1 leaves out the untrained model, which the published tables do not hold.
        last: last epoch kept; None for no limit.

    Raises:
        ValueError: an epoch is not a whole number.
    """
    values: dict[int, float] = {}
    for key, value in curve.items():
        epoch = int(key)
        if epoch != key:
            raise ValueError(f"a curve's epochs must be whole numbers; got {key!r}")
        if epoch < first or (last is not None and epoch > last) or value is None or math.isnan(value):
            continue
        values[epoch] = float(value)
    return dict(sorted(values.items()))


def first_minimum_epoch(values: dict[int, float]) -> int:
    """Returns the epoch of the smallest value, the first one if several tie; `values` must not be empty."""
    return min(values, key=lambda epoch: (values[epoch], epoch))
