"""How a sweep stands: counts, what is still open and how far it got, and why something failed."""

from collections.abc import Iterable

from sweeper.plan.estimate import duration
from sweeper.reporting.load import open_view
from sweeper.reporting.tables import Row
from sweeper.reporting.text import failures_text, first_lines
from sweeper.reporting.view import STATUSES, SweepView
from sweeper.store.lease import driven_sweep
from sweeper.store.objects import ObjectStore
from sweeper.store.pulse import AtWork, Pulse
from sweeper.store.sweeps import sweep_names

_MOST_LISTED = 12
_BAR = 20  # characters


def status_rows(view: SweepView, pulse: Pulse | None = None) -> list[Row]:
    """Returns one row per trial and baseline: status, epochs measured, the last epoch it can reach, its failure.

    Args:
        view: the sweep.
        pulse: of the run that trains it now; None where nobody does.
    """
    workers = {trial: each.process for each in (pulse.workers if pulse else ()) for trial in each.trial_ids}
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
            "worker": workers.get(trial_id),
        }
        for trial_id, trial in view.trials.items()
    ]


def sweep_rows(store: ObjectStore) -> list[Row]:
    """Returns one row per sweep of a store: trials by status, baselines included, and whether it is run now."""
    driven = driven_sweep(store)
    rows: list[Row] = []
    for name in sweep_names(store):
        view = open_view(store, name)
        counts = view.counts()
        by_status = {str(status): counts.get(status, 0) for status in STATUSES}
        rows.append({"sweep": name, "revision": view.revision.number, **by_status, "is_running": name == driven})
    return rows


def sweeps_text(rows: Iterable[Row], where: str) -> str:
    """Returns the same for people."""
    lines = [
        f"{row['sweep']} (revision {row['revision']}): "
        + ", ".join(f"{row[status]} {status}" for status in STATUSES if row[status])
        + (", running" if row["is_running"] else "")
        for row in rows
    ]
    return "\n".join(lines) if lines else f"{where} holds no sweep yet; `sweeper run SPEC` makes one"


def status_text(view: SweepView, pulse: Pulse | None = None) -> str:
    """Returns the same for people: counts, the workers, the open trials, and the failures by reason."""
    still = [row for row in status_rows(view) if row["status"] == "open"]
    lines = [*first_lines(view), *(_running(view, pulse) if pulse else ())]
    if still:
        lines.append("Open:")
        lines.extend(
            f"  {_bar(row['last_epoch'], row['last_possible_epoch'])} {row['name']} [{row['trial_id'][:8]}]: "
            f"{'nothing yet' if row['last_epoch'] is None else 'epoch ' + str(row['last_epoch'])}"
            f" of at most {row['last_possible_epoch']}"
            for row in sorted(still, key=lambda row: -(row["last_epoch"] or 0))[:_MOST_LISTED]
        )
        if len(still) > _MOST_LISTED:
            lines.append(f"  and {len(still) - _MOST_LISTED} more")
    failures = failures_text(view)
    return "\n".join([*lines, *(["Failed:", failures] if failures else [])])


def _running(view: SweepView, pulse: Pulse) -> list[str]:
    """Returns how the run goes on, and what each worker does."""
    rate, left = pulse.epochs_per_second, pulse.seconds_left
    pace = f", {rate:.2g} per second" if rate is not None else ""
    eta = f", at most {duration(left)} to go" if left is not None else ""
    total = pulse.trained + pulse.pending
    lines = [f"Running: {_bar(pulse.trained, total)} {pulse.trained} of at most {total} epochs of this run{pace}{eta}"]
    lines += [f"  {_worker_text(view, each)}" for each in pulse.workers[:_MOST_LISTED]]
    if len(pulse.workers) > _MOST_LISTED:
        lines.append(f"  and {len(pulse.workers) - _MOST_LISTED} more workers")
    return lines


def _worker_text(view: SweepView, worker: AtWork) -> str:
    names = [f"{view.trials[trial].name} [{trial[:8]}]" for trial in worker.trial_ids if trial in view.trials]
    shared = f" and {len(names) - 1} more" if len(names) > 1 else ""
    epoch = f"epoch {worker.epoch}" if worker.epoch is not None else f"before epoch {worker.first_epoch}"
    return f"{worker.process}: {epoch} of {worker.last_epoch}, {names[0] if names else worker.segment_id[:8]}{shared}"


def _bar(done: int | None, total: int) -> str:
    filled = round(_BAR * min((done or 0) / total, 1.0)) if total else _BAR
    return "█" * filled + "░" * (_BAR - filled)
