"""What a held-out set is compared with, for models whose outputs have a time axis."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WITHOUT_CONSTANT = "Correct these RDMs, or hold out other stimuli"
"""The way out where reference RDMs are the same for all pairs of held-out stimuli."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CourseReference:
    """Holds reference RDMs over time.

    Attributes:
        name: what metrics call it.
        rdms: float32 [T', P], upper triangles in the order of the held-out images.
        times_ms: float64 [T'].
        participants: whose mean it is.
        where: the manifest's place.
    """

    name: str
    rdms: NDArray[np.float32]
    times_ms: NDArray[np.float64]
    participants: tuple[str, ...]
    where: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OverTime:
    """Holds the time axis of a model's outputs, and what they are compared with.

    Attributes:
        times_ms: float64 [T], of the outputs.
        after_onset: bool [T], the times that summaries count.
        references: neural RDMs over time.
    """

    times_ms: NDArray[np.float64]
    after_onset: NDArray[np.bool_]
    references: tuple[CourseReference, ...]
