"""How numbers and names are shown in rows: the first few of many, an undefined score as such."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIDEST_NAME = 16


def positions(numbers: Sequence[int] | NDArray[np.int64]) -> str:
    """Shows the first four positions."""
    return f"{', '.join(str(int(number)) for number in numbers[:4])}, ..."


def names(texts: Sequence[str]) -> str:
    """Shows the first three names, long ones cut."""
    return ", ".join(text if len(text) <= _WIDEST_NAME else f"{text[: _WIDEST_NAME - 2]}.." for text in texts[:3])


def numbers(values: Sequence[float] | NDArray[np.floating]) -> str:
    """Shows the first three numbers."""
    return ", ".join(f"{float(value):.4f}" for value in values[:3]) + ", ..."


def score(value: float | None) -> str:
    """Shows an RSA."""
    return "undefined" if value is None else f"{value:.4f}"
