"""Result tables: one row per trial, per trial and epoch, or per trial, comparator and tolerance.

Tables are lists of rows; all rows of a table have the same columns. What does not exist is None: empty in CSV,
null in JSON.
"""

from collections.abc import Sequence
from typing import Any

from sweeper.metrics.recovery import COMPARATORS
from sweeper.reporting.formats import write as write
from sweeper.reporting.summary import LOSS, Question, trial_row
from sweeper.reporting.view import SweepView, plain

Row = dict[str, Any]
TOLERANCES = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.03, 0.05)
"""Between "as good as the baseline" and five times the published tolerance; 1.25 % recovers every published run."""

_FIRST = ("train_loss", "val_loss", "rsa_behavioral")
_LAST = ("seconds", "measured_at")


def swept_fields(view: SweepView) -> tuple[str, ...]:
    """Returns the dotted names of all swept fields, in the order of the spec."""
    return tuple(dict.fromkeys(name for trial in view.trials.values() for name, _ in trial.swept))


def trial_rows(view: SweepView) -> list[Row]:
    """Returns one row per trial and baseline, in the order of the plan."""
    fields = swept_fields(view)
    common = {
        "comparator": view.revision.spec.recovery.comparator,
        "rsa_reference": view.references.get(view.rsa_column),
        "stand_in": view.revision.spec.stand_in,
        **objective_mark(view),
    }
    return [{**trial_row(view, trial, fields), **common} for trial in view.trials.values()]


def objective_mark(view: SweepView) -> Row:
    """Returns the column of a search's tables that says whether test stimuli chose what they show; else none."""
    search = view.revision.spec.search
    return {} if search is None else {"objective_sees_test_stimuli": search.sees_test_stimuli}


def curve_rows(view: SweepView) -> list[Row]:
    """Returns one row per trial and epoch, from epoch 0 (the untrained model) on."""
    columns, mark = curve_columns(view), objective_mark(view)
    return [
        {"trial_id": trial_id, "epoch": epoch, **{column: row.get(column) for column in columns}, **mark}
        for trial_id in view.trials
        for epoch, row in view.rows(trial_id).items()
    ]


def curve_columns(view: SweepView) -> tuple[str, ...]:
    """Returns the measured columns in a fixed order: losses, behavioural RSA, the rest by name, times."""
    found = {column for trial_id in view.trials for row in view.rows(trial_id).values() for column in row}
    middle = sorted(found - set(_FIRST) - set(_LAST))
    return (*_FIRST, *middle, *_LAST)


def tolerance_rows(view: SweepView, tolerances: Sequence[float] = TOLERANCES) -> list[Row]:
    """Returns the recovery of every windowed trial by comparator and tolerance: how far it hangs on the tolerance.

    A tolerance is relative for the loss and absolute for the RSA. Trials without a complete baseline have no row.
    """
    fields, persistence = swept_fields(view), view.revision.spec.recovery.persistence
    rows: list[Row] = []
    for trial in view.trials.values():
        end, loss = trial.config.window_end, view.curve(trial.trial_id, LOSS)
        if end is None or trial.baseline_id is None or view.status(trial.baseline_id) != "complete" or not loss:
            continue
        swept = dict(trial.swept)
        rsa, last = view.curve(trial.trial_id, view.rsa_column), max(loss)
        base_loss, base_rsa = view.curve(trial.baseline_id, LOSS), view.curve(trial.baseline_id, view.rsa_column)
        for comparator in COMPARATORS:
            ask = Question(
                window_end=end,
                window_length=trial.config.disturbed_epochs,
                persistence=persistence,
                comparator=comparator,
            )
            rows.extend(
                {
                    "trial_id": trial.trial_id,
                    **{field: plain(swept.get(field)) for field in fields},
                    "comparator": comparator,
                    "tolerance": tolerance,
                    "recovery_loss_epochs": ask.of_loss(loss, base_loss, tolerance),
                    "recovery_rsa_epochs": ask.of_rsa(rsa, base_rsa, base_loss, tolerance),
                    "last_epoch": last,
                    "epochs_seen_after_window": max(last - end, 0),
                }
                for tolerance in tolerances
            )
    return rows
