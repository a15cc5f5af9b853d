"""One trial in a few numbers, alone and against its baseline.

Curves map 1-based epochs to values (see `curves`); a value that does not exist is None. A trial's own rows run from its
perturbation's `start` on, window included, as published; those of an unperturbed trial from epoch 1. The *trimmed*
baseline is its rows up to and including its (first) loss minimum (docs/methods.md 3).
"""

from dataclasses import dataclass

from sweeper.metrics.curves import Curve, first_minimum_epoch, seen_values
from sweeper.metrics.rdm import UndefinedMetric


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSummary:
    """Holds a trial's summary over its own rows.

    Attributes:
        best_val_loss: smallest validation loss.
        best_epoch: its epoch, the first if several tie.
        final_val_loss: validation loss at `last_epoch`.
        rsa_at_best_val_loss: RSA at `best_epoch`, the one to compare trials by; None where it is undefined.
        final_rsa: RSA at `last_epoch`; None where it is undefined.
        max_rsa: largest RSA: chosen on the test stimuli, hence too high (docs/methods.md 1.7); None if none is defined.
        last_epoch: last epoch with a validation loss.
    """

    best_val_loss: float
    best_epoch: int
    final_val_loss: float
    rsa_at_best_val_loss: float | None
    final_rsa: float | None
    max_rsa: float | None
    last_epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineDelta:
    """Holds trial minus baseline at one epoch; None where either side has no value.

    Attributes:
        val_loss: positive is worse.
        rsa: positive is better.
    """

    val_loss: float | None
    rsa: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatmapDeviation:
    """Holds a trial's extremes minus its baseline's (the cells of the study's heat maps, docs/methods.md 3.5).

    Attributes:
        max_rsa: maximum over the trial's rows minus that of the trimmed baseline (published).
        max_rsa_same_epochs: the same against the trimmed baseline from `start` on, as no fork can contain a peak that
            lies before it; None for a start beyond the trimmed baseline.
        min_val_loss: minimum over the trial's rows minus the baseline's.
    """

    max_rsa: float | None
    max_rsa_same_epochs: float | None
    min_val_loss: float


def summarize_trial(val_loss: Curve, rsa: Curve, *, start: int = 1) -> TrialSummary:
    """Summarises a trial over its own rows.

    Args:
        val_loss: epoch -> validation loss; epochs before `start` (the trunk's) are ignored.
        rsa: epoch -> RSA.
        start: first perturbed epoch; 1 for an unperturbed trial.

    Raises:
        UndefinedMetric: the trial has no validation loss from `start` on.
    """
    losses = _losses(val_loss, start)
    alignments = seen_values(rsa, first=start)
    best_epoch, last_epoch = first_minimum_epoch(losses), max(losses)
    return TrialSummary(
        best_val_loss=losses[best_epoch],
        best_epoch=best_epoch,
        final_val_loss=losses[last_epoch],
        rsa_at_best_val_loss=alignments.get(best_epoch),
        final_rsa=alignments.get(last_epoch),
        max_rsa=max(alignments.values(), default=None),
        last_epoch=last_epoch,
    )


def baseline_delta(
    val_loss: Curve, rsa: Curve, baseline_val_loss: Curve, baseline_rsa: Curve, *, epoch: int
) -> BaselineDelta:
    """Subtracts the trimmed baseline from a trial at one epoch (docs/methods.md 3.2, 3.3).

    delta(k) = trial(k) - baseline(k) for k up to the baseline's loss minimum. The study uses k = `start`, the first
    perturbed epoch.

    Args:
        val_loss: the trial's, epoch -> value.
        rsa: the trial's.
        baseline_val_loss: the baseline's, untrimmed.
        baseline_rsa: the baseline's, untrimmed.
        epoch: k.

    Returns:
        Both differences; None beyond the trimmed baseline, or where either side has no value at k.

    Raises:
        UndefinedMetric: the baseline has no validation loss.
    """
    trim_epoch = first_minimum_epoch(_losses(baseline_val_loss, 1))
    return BaselineDelta(
        val_loss=_difference(val_loss, baseline_val_loss, epoch, trim_epoch),
        rsa=_difference(rsa, baseline_rsa, epoch, trim_epoch),
    )


def heatmap_deviation(
    val_loss: Curve, rsa: Curve, baseline_val_loss: Curve, baseline_rsa: Curve, *, start: int
) -> HeatmapDeviation:
    """Computes a trial's cells of the heat maps.

    Args:
        val_loss: the trial's, epoch -> value; epochs before `start` are ignored, the window counts.
        rsa: the trial's.
        baseline_val_loss: the baseline's, untrimmed.
        baseline_rsa: the baseline's, untrimmed.
        start: first perturbed epoch.

    Raises:
        UndefinedMetric: the trial, from `start` on, or the baseline has no validation loss.
    """
    losses, baseline_losses = _losses(val_loss, start), _losses(baseline_val_loss, 1)
    trim_epoch = first_minimum_epoch(baseline_losses)
    peak = _peak(rsa, start)
    return HeatmapDeviation(
        max_rsa=_minus(peak, _peak(baseline_rsa, 1, trim_epoch)),
        max_rsa_same_epochs=_minus(peak, _peak(baseline_rsa, start, trim_epoch)),
        min_val_loss=min(losses.values()) - baseline_losses[trim_epoch],
    )


def _losses(val_loss: Curve, start: int) -> dict[int, float]:
    losses = seen_values(val_loss, first=start)
    if not losses:
        raise UndefinedMetric(f"there is no validation loss from epoch {start} on")
    return losses


def _peak(rsa: Curve, first: int, last: int | None = None) -> float | None:
    return max(seen_values(rsa, first=first, last=last).values(), default=None)


def _difference(curve: Curve, baseline: Curve, epoch: int, trim_epoch: int) -> float | None:
    own = seen_values(curve, first=epoch, last=epoch).get(epoch)
    return _minus(own, seen_values(baseline, last=trim_epoch).get(epoch))


def _minus(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference
