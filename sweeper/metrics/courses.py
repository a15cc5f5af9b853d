"""RSA over time: one RDM of the model at each time, against one reference or a reference at each time.

Shapes: T times, N stimuli, D dimensions, P = N (N - 1) / 2 pairs. A course is undefined (NaN) at times at which one of
its two RDMs is: nothing is put in its place.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sweeper.metrics.rdm import RESOLUTION, Array, RdmMetric, UndefinedMetric, compute_rdm, upper_triangle


@dataclass(frozen=True, kw_only=True, slots=True)
class CourseSummary:
    """What is said of a course in single numbers.

    Attributes:
        mean: over the times that count; nothing is chosen by it.
        peak: the largest value among them; as a maximum it is higher than its time deserves.
        peak_ms: its time, the first of equal ones.
        auc: area under the course by the trapezoid rule, in rho * ms (docs/methods.md 4).
        num_times: how many of the times that count have a value.
    """

    mean: float
    peak: float
    peak_ms: float
    auc: float
    num_times: int


def rdm_course(outputs: ArrayLike, metric: RdmMetric = "correlation") -> Array:
    """Returns the RDM at each time: float64 [T, P], NaN at times at which it is undefined.

    Args:
        outputs: [T, N, D].
        metric: as in `compute_rdm`.
    """
    slices = np.asarray(outputs)
    if slices.ndim != 3:
        raise ValueError(f"outputs must be [T, N, D]; got shape {slices.shape}")
    num_pairs = slices.shape[1] * (slices.shape[1] - 1) // 2
    course = np.full((len(slices), num_pairs), np.nan)
    for time, features in enumerate(slices):
        try:
            course[time] = upper_triangle(compute_rdm(features, metric))
        except UndefinedMetric:
            continue
    return course


def ranked(course: ArrayLike) -> Array:
    """Returns the centred mid-ranks of each row, scaled to unit length: float64 [..., P].

    The Spearman correlation of two rows is the product of theirs. A row that is constant or not finite gives NaN.
    """
    from scipy.stats import rankdata  # half a second to import, and a finished sweep ranks nothing

    values = np.asarray(course, dtype=np.float64)
    constant = np.ptp(values, axis=-1, keepdims=True) <= RESOLUTION  # NaN compares false and stays
    ranks = rankdata(values, axis=-1, nan_policy="propagate")
    ranks = ranks - ranks.mean(axis=-1, keepdims=True)
    norms = np.sqrt((ranks**2).sum(axis=-1, keepdims=True))
    norms = np.where(constant | (norms == 0), np.nan, norms)
    return np.asarray(ranks / norms)


def rsa_course(model: Array, reference_ranks: Array) -> Array:
    """Returns the Spearman correlation at each time: float64 [T].

    Args:
        model: [T, P], the model's RDMs.
        reference_ranks: [P] or [T, P], what `ranked` made of the reference.
    """
    return np.asarray((ranked(model) * reference_ranks).sum(axis=-1))


def nearest_before(wanted_ms: ArrayLike, times_ms: ArrayLike) -> NDArray[np.int64]:
    """Returns for each time wanted the index of the last time at or before it, clamped at the ends.

    Args:
        wanted_ms: [T'].
        times_ms: [T], ascending.
    """
    times = np.asarray(times_ms, dtype=np.float64)
    found = np.searchsorted(times, np.asarray(wanted_ms, dtype=np.float64) + 1e-6, side="right") - 1
    return np.asarray(np.clip(found, 0, len(times) - 1), dtype=np.int64)


def summarize_course(course: ArrayLike, times_ms: ArrayLike, counts: ArrayLike) -> CourseSummary:
    """Summarises a course over the times that count.

    Args:
        course: [T].
        times_ms: [T].
        counts: bool [T], e.g. the times after the stimulus began.

    Raises:
        UndefinedMetric: it is defined at none of them.
    """
    values, times = np.asarray(course, dtype=np.float64), np.asarray(times_ms, dtype=np.float64)
    defined = np.asarray(counts, dtype=bool) & np.isfinite(values)
    if not defined.any():
        raise UndefinedMetric(f"the model's RDM is undefined at each of the {int(np.sum(counts))} times that count")
    values, times = values[defined], times[defined]
    top = int(values.argmax())
    return CourseSummary(
        mean=float(values.mean()),
        peak=float(values[top]),
        peak_ms=float(times[top]),
        auc=float(np.trapezoid(values, times)) if len(values) > 1 else 0.0,
        num_times=len(values),
    )
