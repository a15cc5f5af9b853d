"""A trial in one row: its summary, its distance from the baseline, its recovery by every comparator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.metrics.curves import first_minimum_epoch, seen_values
from sweeper.metrics.recovery import COMPARATORS, Comparator, epochs_seen_after, recovery_epochs
from sweeper.metrics.summary import baseline_delta, heatmap_deviation, summarize_trial
from sweeper.plan.trials import Trial
from sweeper.reporting.view import SweepView, plain

LOSS = "val_loss"
Curve = Mapping[int, float]


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
    loss, rsa = view.curve(trial.trial_id, LOSS), view.curve(trial.trial_id, view.rsa_column)
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
        base_loss, base_rsa = view.curve(trial.baseline_id, LOSS), view.curve(trial.baseline_id, view.rsa_column)
        if any(epoch >= 1 for epoch in base_loss):
            numbers |= _delta(trial, loss, rsa, base_loss, base_rsa)
            if view.status(trial.baseline_id) == "complete":  # else its minimum may still move
                numbers |= _deviation(trial, loss, rsa, base_loss, base_rsa)
            if view.status(trial.baseline_id) == "complete" and view.status(trial.trial_id) != "failed":
                numbers |= _recovery(view, trial, loss, rsa, base_loss, base_rsa)
    return numbers


def _delta(trial: Trial, loss: Curve, rsa: Curve, base_loss: Curve, base_rsa: Curve) -> dict[str, Any]:
    delta = baseline_delta(loss, rsa, base_loss, base_rsa, epoch=trial.stop.start)
    return {"delta_val_loss": delta.val_loss, "delta_rsa_behavioral": delta.rsa}


def _deviation(trial: Trial, loss: Curve, rsa: Curve, base_loss: Curve, base_rsa: Curve) -> dict[str, Any]:
    deviation = heatmap_deviation(loss, rsa, base_loss, base_rsa, start=trial.stop.start)
    return {
        "max_rsa_deviation": deviation.max_rsa,
        "max_rsa_deviation_same_epochs": deviation.max_rsa_same_epochs,
        "min_val_loss_deviation": deviation.min_val_loss,
    }


def _recovery(
    view: SweepView, trial: Trial, loss: Curve, rsa: Curve, base_loss: Curve, base_rsa: Curve
) -> dict[str, Any]:
    rule, end = view.revision.spec.recovery, trial.config.window_end
    if end is None:
        return {}
    numbers: dict[str, Any] = {}
    for comparator in COMPARATORS:
        ask = Question(
            window_end=end,
            window_length=trial.config.disturbed_epochs,
            persistence=rule.persistence,
            comparator=comparator,
        )
        numbers[f"recovery_loss_epochs_{comparator}"] = ask.of_loss(loss, base_loss, rule.tolerance)
        numbers[f"recovery_rsa_epochs_{comparator}"] = ask.of_rsa(rsa, base_rsa, base_loss, rule.rsa_tolerance)
    shown = numbers[f"recovery_loss_epochs_{rule.comparator}"]
    seen = epochs_seen_after(loss, end)
    still_open = shown is None and view.status(trial.trial_id) == "open"
    return numbers | {
        "recovery_loss_epochs": shown,
        "recovery_rsa_epochs": numbers[f"recovery_rsa_epochs_{rule.comparator}"],
        "recovery_loss_epochs_at_least": seen if shown is None else shown,
        "recovered": None if still_open else int(shown is not None),
        "epochs_seen_after_window": seen,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Asks for the recovery of one trial by one comparator; see `sweeper.metrics.recovery`."""

    window_end: int
    window_length: int
    persistence: int
    comparator: Comparator

    def of_loss(self, loss: Curve, base_loss: Curve, tolerance: float) -> int | None:
        """Returns the recovery of the validation loss, None when it is not within the epochs seen."""
        return self._ask(loss, base_loss, tolerance=tolerance)

    def of_rsa(self, rsa: Curve, base_rsa: Curve, base_loss: Curve, tolerance: float) -> int | None:
        """Returns the recovery of the alignment; None, too, where the baseline has none at its loss minimum."""
        trim = first_minimum_epoch(seen_values(base_loss))
        if base_rsa.get(trim) is None:
            return None
        return self._ask(rsa, base_rsa, tolerance=tolerance, direction="higher", trim_epoch=trim)

    def _ask(self, curve: Curve, baseline: Curve, **options: Any) -> int | None:
        return recovery_epochs(
            curve,
            baseline,
            self.window_end,
            window_length=self.window_length,
            persistence=self.persistence,
            comparator=self.comparator,
            **options,
        )


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
