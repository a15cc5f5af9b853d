"""How a sweep stands: counts, what is still open and how far it got, and why something failed."""

from collections.abc import Iterable, Sequence
from typing import Any

from sweeper.reporting.look import WRITTEN_AGAIN, LostSweep, look_at
from sweeper.reporting.standing import STATUSES, Standing
from sweeper.store.lease import driven_sweep
from sweeper.store.lost import lost_sweeps
from sweeper.store.objects import ObjectStore
from sweeper.store.pulse import AtWork, Pulse
from sweeper.store.revisions import sweep_names
from sweeper.wording import counted, duration

Row = dict[str, Any]
STAND_IN = "STAND-IN: self-made pictures and the tiny CLIP; these numbers say nothing about THINGS"
_MOST_LISTED = 12
_BAR = 20  # characters


def status_rows(standing: Standing, pulse: Pulse | None = None) -> list[Row]:
    """Returns one row per trial and baseline: status, epochs measured, the last epoch it can reach, its failure.

    Args:
        standing: of the sweep.
        pulse: of the run that trains it now; None where nobody does.
    """
    sees_test = standing.sees_test_stimuli
    marked = {} if sees_test is None else {"objective_sees_test_stimuli": sees_test}
    workers = {trial: each.process for each in (pulse.workers if pulse else ()) for trial in each.trial_ids}
    return [
        {
            "sweep": standing.sweep,
            "revision": standing.revision,
            "stand_in": standing.is_stand_in,
            **marked,
            "trial_id": trial_id,
            "name": trial.name,
            "role": trial.role,
            "status": standing.status(trial_id),
            "last_epoch": max(standing.losses(trial_id), default=None),
            "last_possible_epoch": trial.stop.last_epoch,
            "failure": standing.failure(trial_id),
            "worker": workers.get(trial_id),
        }
        for trial_id, trial in standing.trials.items()
    ]


def sweep_rows(store: ObjectStore) -> list[Row]:
    """Returns one row per sweep of a store: trials by status, baselines included, and whether it is run now.

    Revision and counts are None where the description of the sweep is damaged.
    """
    driven = driven_sweep(store)
    rows: list[Row] = []
    for name in sorted({*sweep_names(store), *lost_sweeps(store)}):
        revision, by_status = _standing_of(store, name)
        rows.append({"sweep": name, "revision": revision, **by_status, "is_running": name == driven})
    return rows


def _standing_of(store: ObjectStore, name: str) -> tuple[int | None, dict[str, int | None]]:
    try:
        standing = look_at(store, name).standing
    except LostSweep:
        return None, dict.fromkeys(map(str, STATUSES))
    counts = standing.counts()
    return standing.revision, {str(status): counts.get(status, 0) for status in STATUSES}


def sweeps_text(rows: Iterable[Row], where: str) -> str:
    """Returns the same for people."""
    lines = [
        f"{row['sweep']}: its description is damaged; {WRITTEN_AGAIN}"
        if row["revision"] is None
        else f"{row['sweep']} (revision {row['revision']}): "
        + ", ".join(f"{row[status]} {status}" for status in STATUSES if row[status])
        + (", running" if row["is_running"] else "")
        for row in rows
    ]
    return "\n".join(lines) if lines else f"{where} holds no sweep yet; `sweeper run SPEC` makes one"


def status_text(standing: Standing, pulse: Pulse | None = None, asked: str | None = None) -> str:
    """Returns the same for people: counts, the workers, the open trials, and the failures by reason.

    Args:
        standing: of the sweep.
        pulse: of the run that trains it now; None where nobody does.
        asked: how a search stands, in one line; None where the sweep is none.
    """
    still = [row for row in status_rows(standing) if row["status"] == "open"]
    lines = [*standing_lines(standing, asked), *(_running(standing, pulse) if pulse else ())]
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
    failures = failures_text(standing)
    return "\n".join([*lines, *(["Failed:", failures] if failures else [])])


def standing_lines(standing: Standing, asked: str | None) -> list[str]:
    """Returns name and counts of a sweep, how a search stands, and the stand-in's mark."""
    roles = [trial.role for trial in standing.trials.values()]
    counts = {role: roles.count(role) for role in ("trial", "control", "baseline") if role in roles}
    kinds = ", ".join(counted(number, role) for role, number in counts.items())
    by_status = ", ".join(f"{number} {status}" for status, number in standing.counts().items())
    first = f"{standing.sweep} (revision {standing.revision}): {kinds}; {by_status}"
    return [first, *([] if asked is None else [asked]), *([STAND_IN] if standing.is_stand_in else [])]


def failures_text(standing: Standing) -> str:
    """Returns a line per reason of failure, with the trials that it ended; empty where none failed."""
    reasons: dict[str, list[str]] = {}
    for trial_id, trial in standing.trials.items():
        reason = standing.failure(trial_id)
        if reason is not None:
            reasons.setdefault(reason, []).append(f"{trial.name} [{trial_id[:8]}]")
    return "\n".join(f"  {reason}: {_listed(names)}" for reason, names in reasons.items())


def _listed(names: Sequence[str], most: int = 4) -> str:
    rest = len(names) - most
    return "; ".join(names[:most]) + (f"; and {rest} more" if rest > 0 else "")


def _running(standing: Standing, pulse: Pulse) -> list[str]:
    """Returns how the run goes on, and what each worker does."""
    rate, left = pulse.epochs_per_second, pulse.seconds_left
    pace = f", {rate:.2g} per second" if rate is not None else ""
    eta = f", at most {duration(left)} to go" if left is not None else ""
    total = pulse.trained + pulse.pending
    lines = [f"Running: {_bar(pulse.trained, total)} {pulse.trained} of at most {total} epochs of this run{pace}{eta}"]
    lines += [f"  {_worker_text(standing, each)}" for each in pulse.workers[:_MOST_LISTED]]
    if len(pulse.workers) > _MOST_LISTED:
        lines.append(f"  and {len(pulse.workers) - _MOST_LISTED} more workers")
    return lines


def _worker_text(standing: Standing, worker: AtWork) -> str:
    trials = standing.trials
    names = [f"{trials[trial].name} [{trial[:8]}]" for trial in worker.trial_ids if trial in trials]
    shared = f" and {len(names) - 1} more" if len(names) > 1 else ""
    epoch = f"epoch {worker.epoch}" if worker.epoch is not None else f"before epoch {worker.first_epoch}"
    return f"{worker.process}: {epoch} of {worker.last_epoch}, {names[0] if names else worker.segment_id[:8]}{shared}"


def _bar(done: int | None, total: int) -> str:
    filled = round(_BAR * min((done or 0) / total, 1.0)) if total else _BAR
    return "█" * filled + "░" * (_BAR - filled)
