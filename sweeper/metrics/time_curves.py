"""How much a neural RDM series says at each time: richness, generalisation over time, noise.

The three curves that modulate CLIP-HBA-MEG (docs/methods.md 4.2). Shapes: T times, N stimuli, P = N (N - 1) / 2 pairs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sweeper.metrics.rdm import Array, UndefinedMetric, rounding_floor

FEWEST_TIMES = 3  # with 2, both rows of the time-by-time matrix have the same mean: beta would be 0 / 0
_SMOOTHING = 3.0  # of the noise level, in samples
_CHUNK = 4_000_000  # pairs x times held at once in float64
_FLAT = 1e-12  # a curve that varies by less, relative to its size, is constant


class ConstantRdms(UndefinedMetric):
    """All pairs of a participant's RDM are equally dissimilar at some times.

    Attributes:
        participant: 0-based.
        times: 0-based.
        num_times: of the participant.
    """

    def __init__(self, participant: int, times: Sequence[int], num_times: int) -> None:
        self.participant, self.times, self.num_times = participant, tuple(times), num_times
        super().__init__(
            f"participant {participant} (0-based): {len(self.times)} of {num_times} RDMs are constant "
            f"(first: time {self.times[0]})"
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TimeCurves:
    """Holds the curves that modulate a model over time, each float64 [T].

    Attributes:
        alpha: richness (scales the visual signal), 0..1; 0 up to the onset.
        beta: generalisation (how much a time's geometry is that of other times), 0..1; 0 up to the onset.
        noise: level of the embedding's noise, 0..`noise_scale`.
    """

    alpha: Array
    beta: Array
    noise: Array


def constant_curves(num_times: int) -> TimeCurves:
    """Returns curves that modulate nothing: alpha and beta 1, no noise."""
    return TimeCurves(alpha=np.ones(num_times), beta=np.ones(num_times), noise=np.zeros(num_times))


def time_curves(rdms: Iterable[ArrayLike], onset: int, *, noise_scale: float = 1.0) -> TimeCurves:
    """Computes the curves of a group, or of one participant (docs/methods.md 4.2).

    Participants are visited once and one by one, so that a generator may read each from disk.

    Args:
        rdms: [T, N, N] of each participant.
        onset: number of first times at which alpha and beta are set to 0: those up to and including 0 ms.
        noise_scale: largest noise level.

    Raises:
        UndefinedMetric: there is no participant; fewer than 3 times or stimuli; a slice, or a curve, is constant.
        ValueError: a shape is not [T, N, N] or differs between participants, an entry is not finite, or `onset` is
            not 0..T.
    """
    richness: list[Array] = []
    generalisation: list[Array] = []
    for number, given in enumerate(rdms):
        rdm = _checked(given, number, len(richness[0]) if richness else None, onset)
        richness.append(_mean_of_slices(rdm))
        over_times = _correlate_times(rdm, number).mean(axis=1)
        generalisation.append(_rescaled(over_times, f"the generalisation of participant {number} (0-based)"))
    if not richness:
        raise UndefinedMetric("time curves need at least one participant")
    alpha = _rescaled(np.mean(richness, axis=0), "alpha, the mean dissimilarity over time,")
    beta = np.mean(generalisation, axis=0)
    alpha[:onset] = 0.0
    beta[:onset] = 0.0
    return TimeCurves(alpha=alpha, beta=beta, noise=noise_scale * _noise_level(beta))


def _noise_level(beta: Array) -> Array:
    from scipy.ndimage import gaussian_filter1d  # slow to import

    smoothed = gaussian_filter1d(1.0 - beta, sigma=_SMOOTHING, mode="reflect")
    return _rescaled(np.asarray(smoothed), "the noise level")


def _checked(given: ArrayLike, number: int, num_times: int | None, onset: int) -> NDArray[Any]:
    rdm = np.asanyarray(given)  # a map into a file stays one
    if rdm.ndim != 3 or rdm.shape[1] != rdm.shape[2]:
        raise ValueError(f"the RDMs of a participant must be [T, N, N]; got shape {rdm.shape}")
    if num_times is not None and len(rdm) != num_times:
        raise ValueError(f"participants must have the same times; got {num_times} and {len(rdm)}")
    if not 0 <= onset <= len(rdm):
        raise ValueError(f"onset must be 0..{len(rdm)}, a number of times; got {onset}")
    if len(rdm) < FEWEST_TIMES:
        raise UndefinedMetric(f"time curves need at least {FEWEST_TIMES} times; got {len(rdm)}")
    if rdm.shape[1] < 3:
        raise UndefinedMetric(f"time curves need at least 3 stimuli; participant {number} (0-based) has {rdm.shape[1]}")
    return rdm


def _mean_of_slices(rdm: NDArray[Any]) -> Array:
    """Averages all N x N entries of each slice, the diagonal included: float64 [T]."""
    means = np.array([np.mean(part, dtype=np.float64) for part in rdm])
    if not np.isfinite(means).all():
        raise ValueError(
            f"the RDM at time {int(np.argmin(np.isfinite(means)))} (0-based) has entries that are not finite"
        )
    return means


def _correlate_times(rdm: NDArray[Any], number: int) -> Array:
    """Correlates (Pearson) the triangles of all pairs of times: float64 [T, T], ones on the diagonal."""
    num_times, num_stimuli = rdm.shape[:2]
    num_pairs = num_stimuli * (num_stimuli - 1) // 2
    total, squares = np.zeros(num_times), np.zeros(num_times)
    for part in _triangles(rdm):
        total += part.sum(axis=1)
        squares += np.einsum("tp,tp->t", part, part)
    mean = total / num_pairs
    products = np.zeros((num_times, num_times))
    for part in _triangles(rdm):
        part -= mean[:, None]
        products += part @ part.T
    norms = np.sqrt(np.diagonal(products))
    flat = np.flatnonzero(norms <= _floor(rdm, squares))
    if flat.size:
        raise ConstantRdms(number, flat.tolist(), num_times)
    correlations = np.asarray(np.clip(products / np.outer(norms, norms), -1.0, 1.0))
    np.fill_diagonal(correlations, 1.0)
    return correlations


def _floor(rdm: NDArray[Any], squares: Array) -> Array:
    """Returns the norm of a slice below which, its mean removed, it is nothing but rounding."""
    return rounding_floor(np.sqrt(squares)[:, None].astype(rdm.dtype if rdm.dtype.kind == "f" else np.float64))


def _triangles(rdm: NDArray[Any]) -> Iterator[Array]:
    """Yields the entries above the diagonal in pieces: float64 [T, p]."""
    num_times, num_stimuli = rdm.shape[:2]
    rows = max(1, _CHUNK // (num_times * num_stimuli))
    for first in range(0, num_stimuli - 1, rows):
        last = min(first + rows, num_stimuli - 1)
        above = np.arange(num_stimuli) > np.arange(first, last)[:, None]
        yield rdm[:, first:last].astype(np.float64)[:, above]


def _rescaled(curve: Array, what: str) -> Array:
    """Maps a curve's minimum to 0 and its maximum to 1."""
    low, high = float(curve.min()), float(curve.max())
    if high - low <= _FLAT * max(abs(low), abs(high)):
        raise UndefinedMetric(f"{what} is the same at all {len(curve)} times")
    return np.asarray((curve - low) / (high - low))
