"""RSA as the doctor needs it: with the behavioural reference, and None where it is undefined."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sweeper.metrics.rdm import RdmMetric, UndefinedMetric, compute_rdm
from sweeper.metrics.rsa import rsa_score


class _OfAKind(Protocol):
    @property
    def kind(self) -> str: ...


R = TypeVar("R", bound=_OfAKind)


def behavioral(references: Iterable[R]) -> R | None:
    """Returns the first behavioural reference; None where there is none."""
    return next((reference for reference in references if reference.kind == "behavioral"), None)


def alignment(
    features: NDArray[np.float32], rdm: NDArray[np.float64], metric: RdmMetric = "correlation"
) -> float | None:
    """Returns Spearman's correlation of the RDM of features [M, D] with an RDM [M, M]; None where undefined."""
    try:
        return rsa_score(compute_rdm(features, metric), rdm)
    except UndefinedMetric:
        return None
