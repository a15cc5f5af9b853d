"""A trial in one row: its summary, its distance from the baseline, its recovery by every comparator."""

from collections.abc import Mapping
from typing import Any

from sweeper.metrics.recovery import recovery_epochs
from sweeper.metrics.summary import baseline_delta, heatmap_deviation, summarize_trial
from sweeper.plan.trials import Trial
from sweeper.reporting.view import SweepView, plain
from sweeper.spec.schema import COMPARATORS

LOSS, RSA = "val_loss", "rsa_behavioral"


def trial_row(view: SweepView, trial: Trial, swept_fields: tuple[str, ...]) -> dict[str, Any]:
    """Returns the table row of a trial; what does not exist is None."""
    swept = dict(trial.swept)
    row: dict[str, Any] = {
        "trial_id": trial.trial_id,
        "role": trial.role,
        "status": view.status(trial.trial_id),
        **{field: plain(swept.get(field)) for field in swept_fields},
        **summary_of(view, trial),
        "baseline_id": trial.baseline_id,
        "failure": view.failure(trial.trial_id),
    }
    return row


def summary_of(view: SweepView, trial: Trial) -> dict[str, Any]:
    """Returns the numbers of a trial over its own rows (from the window's start on)."""
    loss, rsa = view.curve(trial.trial_id, LOSS), view.curve(trial.trial_id, RSA)
    own = {epoch for epoch in loss if epoch >= trial.stop.start}
    if not own:
        return dict.fromkeys(_SUMMARY)
    summary = summarize_trial(loss, rsa, start=trial.stop.start)
    numbers: dict[str, Any] = dict.fromkeys(_SUMMARY) | {
        "best_val_loss": summary.best_val_loss,
        "best_epoch": summary.best_epoch,
        "final_val_loss": summary.final_val_loss,
        "rsa_at_best_val_loss": summary.rsa_at_best_val_loss,
        "final_rsa": summary.final_rsa,
        "max_rsa": summary.max_rsa,
        "last_epoch": summary.last_epoch,
        "rsa_untrained": rsa.get(0),
    }
    if trial.baseline_id is not None:
        base_loss, base_rsa = view.curve(trial.baseline_id, LOSS), view.curve(trial.baseline_id, RSA)
        if any(epoch >= 1 for epoch in base_loss):
            numbers |= _against_baseline(trial, loss, rsa, base_loss, base_rsa)
            if view.status(trial.baseline_id) == "complete":
                numbers |= _recovery(view, trial, loss, rsa, base_loss, base_rsa)
    return numbers


def _against_baseline(
    trial: Trial,
    loss: Mapping[int, float],
    rsa: Mapping[int, float],
    base_loss: Mapping[int, float],
    base_rsa: Mapping[int, float],
) -> dict[str, Any]:
    start = trial.stop.start
    delta = baseline_delta(loss, rsa, base_loss, base_rsa, epoch=start)
    deviation = heatmap_deviation(loss, rsa, base_loss, base_rsa, start=start)
    return {
        "delta_val_loss": delta.val_loss,
        "delta_rsa_behavioral": delta.rsa,
        "max_rsa_deviation": deviation.max_rsa,
        "max_rsa_deviation_same_epochs": deviation.max_rsa_same_epochs,
        "min_val_loss_deviation": deviation.min_val_loss,
    }


def _recovery(
    view: SweepView,
    trial: Trial,
    loss: Mapping[int, float],
    rsa: Mapping[int, float],
    base_loss: Mapping[int, float],
    base_rsa: Mapping[int, float],
) -> dict[str, Any]:
    rule, end = view.revision.spec.recovery, trial.config.window_end
    if end is None:
        return {}
    trained = {epoch: value for epoch, value in base_loss.items() if epoch >= 1}
    trim = min(trained, key=lambda epoch: (trained[epoch], epoch))
    numbers: dict[str, Any] = {}
    for comparator in COMPARATORS:
        common: dict[str, Any] = {
            "window_length": trial.config.disturbed_epochs,
            "persistence": rule.persistence,
            "comparator": comparator,
        }
        numbers[f"recovery_loss_epochs_{comparator}"] = recovery_epochs(
            loss, base_loss, end, tolerance=rule.tolerance, **common
        )
        numbers[f"recovery_rsa_epochs_{comparator}"] = (
            recovery_epochs(
                rsa, base_rsa, end, tolerance=rule.rsa_tolerance, direction="higher", trim_epoch=trim, **common
            )
            if base_rsa.get(trim) is not None
            else None
        )
    shown = numbers[f"recovery_loss_epochs_{rule.comparator}"]
    seen = max(max(loss) - end, 0)
    return numbers | {
        "recovery_loss_epochs": shown,
        "recovery_rsa_epochs": numbers[f"recovery_rsa_epochs_{rule.comparator}"],
        "recovery_loss_epochs_at_least": seen if shown is None else shown,
        "recovered": int(shown is not None),
        "epochs_seen_after_window": seen,
    }


_SUMMARY = (
    "best_val_loss",
    "best_epoch",
    "final_val_loss",
    "rsa_at_best_val_loss",
    "final_rsa",
    "max_rsa",
    "last_epoch",
    "rsa_untrained",
    "delta_val_loss",
    "delta_rsa_behavioral",
    "max_rsa_deviation",
    "max_rsa_deviation_same_epochs",
    "min_val_loss_deviation",
    "recovery_loss_epochs",
    "recovery_rsa_epochs",
    *(f"recovery_{what}_epochs_{comparator}" for what in ("loss", "rsa") for comparator in COMPARATORS),
    "recovery_loss_epochs_at_least",
    "recovered",
    "epochs_seen_after_window",
)
