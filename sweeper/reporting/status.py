"""How a sweep stands: counts, what is still open and how far it got, and why something failed."""

from sweeper.reporting.tables import Row
from sweeper.reporting.text import failures_text, first_lines
from sweeper.reporting.view import SweepView

_MOST_LISTED = 12


def status_rows(view: SweepView) -> list[Row]:
    """Returns one row per trial and baseline: status, epochs measured, the last epoch it can reach, its failure."""
    return [
        {
            "sweep": view.revision.spec.name,
            "revision": view.revision.number,
            "stand_in": view.revision.spec.stand_in,
            "trial_id": trial_id,
            "name": trial.name,
            "role": trial.role,
            "status": view.status(trial_id),
            "last_epoch": max(view.rows(trial_id), default=None),
            "last_possible_epoch": trial.stop.last_epoch,
            "failure": view.failure(trial_id),
        }
        for trial_id, trial in view.trials.items()
    ]


def status_text(view: SweepView) -> str:
    """Returns the same for people: counts, the open trials, and the failures by reason."""
    still = [row for row in status_rows(view) if row["status"] == "open"]
    lines = first_lines(view)
    if still:
        lines.append("Open:")
        lines.extend(
            f"  {row['name']} [{row['trial_id'][:8]}]: "
            f"{'nothing yet' if row['last_epoch'] is None else 'epoch ' + str(row['last_epoch'])}"
            f" of at most {row['last_possible_epoch']}"
            for row in still[:_MOST_LISTED]
        )
        if len(still) > _MOST_LISTED:
            lines.append(f"  and {len(still) - _MOST_LISTED} more")
    failures = failures_text(view)
    return "\n".join([*lines, *(["Failed:", failures] if failures else [])])
