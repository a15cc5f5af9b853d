"""Result tables: one row per trial, or one row per trial and epoch."""

from typing import Any

from sweeper.reporting.summary import trial_row
from sweeper.reporting.view import SweepView

_FIRST = ("train_loss", "val_loss", "rsa_behavioral")
_LAST = ("seconds", "measured_at")


def swept_fields(view: SweepView) -> tuple[str, ...]:
    """Returns the dotted names of all swept fields, in the order of the spec."""
    return tuple(dict.fromkeys(name for trial in view.trials.values() for name, _ in trial.swept))


def trial_rows(view: SweepView) -> list[dict[str, Any]]:
    """Returns one row per trial and baseline, in the order of the plan."""
    fields = swept_fields(view)
    rows = []
    for trial in view.trials.values():
        row = trial_row(view, trial, fields)
        row["stand_in"] = view.revision.spec.stand_in
        row["rsa_reference"] = view.references.get("rsa_behavioral")
        rows.append(row)
    return rows


def curve_rows(view: SweepView) -> list[dict[str, Any]]:
    """Returns one row per trial and epoch, from epoch 0 (the untrained model) on."""
    columns = curve_columns(view)
    return [
        {"trial_id": trial_id, "epoch": epoch, **{column: row.get(column) for column in columns}}
        for trial_id in view.trials
        for epoch, row in view.rows(trial_id).items()
    ]


def curve_columns(view: SweepView) -> tuple[str, ...]:
    """Returns the measured columns in a fixed order: losses, behavioural RSA, the rest by name, times."""
    found = {column for trial_id in view.trials for row in view.rows(trial_id).values() for column in row}
    middle = sorted(found - set(_FIRST) - set(_LAST))
    return (*_FIRST, *middle, *_LAST)
