"""What of a trial becomes parameters and tags of its run."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweeper.plan.trials import Trial
from sweeper.reporting.tables import objective_mark
from sweeper.reporting.view import SweepView
from sweeper.tracking.base import legal_name

SWEEP_ID, TRIAL_ID, ROLE = "sweeper.sweep_id", "sweeper.trial_id", "sweeper.role"
PARENT_RUN, USER = "mlflow.parentRunId", "mlflow.user"
FAILURE, LOGGED_EPOCH, LOGGED_DIGEST = "sweeper.failure", "sweeper.logged_epoch", "sweeper.logged_digest"
ARTIFACTS, HEAT_MAPS = "sweeper.artifacts", "sweeper.heat_maps"
BEST_STATE, BEST_BITS = "sweeper.best_state", "sweeper.best_state_sha256"
MEASURES, PRUNED = "sweeper.measures", "sweeper.pruned_after_epoch"
MAY_PASS = (FAILURE, PRUNED)
"""Tags of outcomes that a later run may change."""
SWEEP_ROLE = "sweep"

_MAX_PARAM, _MAX_TAG = 6000, 5000


def run_name(trial: Trial) -> str:
    """Returns what people see of a trial: its swept fields, behind its role unless it is a plain trial."""
    return trial.name if trial.role in ("trial", trial.name) else f"{trial.role} {trial.name}"


def measures(view: SweepView) -> str:
    """Returns what stands behind each RSA column, as JSON: reference, distance, and the identity of the comparison."""
    meanings = {
        item["column"]: f"{item['reference']}, {item.get('metric', 'correlation')}, {item['item']}"
        for item in view.revision.items
    }
    return json.dumps(meanings, sort_keys=True)


def means_something_else(before: str | None, now: str) -> bool:
    """Tells whether a column of a run stands for another comparison by now; its curve would be two in one."""
    old, new = (json.loads(text or "{}") for text in (before, now))
    return any(new.get(column, meaning) != meaning for column, meaning in old.items())


def sweep_tags(view: SweepView) -> dict[str, str]:
    """Returns what is known of the parent run, apart from its sweep id."""
    return {
        ROLE: SWEEP_ROLE,
        "sweeper.revision": str(view.revision.number),
        "sweeper.stand_in": _flag(view.revision.spec.stand_in),
        **{f"sweeper.{name}": _flag(value) for name, value in objective_mark(view).items()},
    }


def trial_tags(view: SweepView, trial: Trial, trunk_run: str | None) -> dict[str, str]:
    """Returns what is known of a trial before it is trained, apart from its sweep id and parent.

    Args:
        view: the sweep.
        trial: the trial.
        trunk_run: run of the trial's baseline.
    """
    tags = {
        TRIAL_ID: trial.trial_id,
        "sweeper.tune_trial": trial.short_id,
        ROLE: trial.role,
        MEASURES: measures(view),
        "sweeper.stand_in": _flag(view.revision.spec.stand_in),
        **{f"sweeper.{name}": _flag(value) for name, value in objective_mark(view).items()},
    }
    if trial.baseline_id is not None:
        fork = trial.stop.start - 1
        tags |= {"sweeper.fork_epoch": str(fork), "sweeper.fork_state": trial.state_ids[fork]}
    return tags if trunk_run is None else {**tags, "sweeper.trunk_run": trunk_run}


def outcome_tags(view: SweepView, trial: Trial, summary: Mapping[str, Any]) -> dict[str, str]:
    """Returns how a trial ended: best state, recovery of the loss, failure.

    Args:
        view: the sweep.
        trial: the trial.
        summary: as far as it is settled (see `points.settled_summary`).
    """
    tags: dict[str, str] = {}
    if (best := summary.get("best_epoch")) is not None:
        tags[BEST_STATE] = address_of(trial.state_ids[best])
    if summary.get("recovered") is not None:
        epochs = summary.get("recovery_loss_epochs")
        seen = summary["epochs_seen_after_window"]
        tags["sweeper.recovery"] = f"NR (> {seen})" if epochs is None else str(epochs)
    if view.status(trial.trial_id) == "pruned":
        tags[PRUNED] = str(trial.until)
    if view.status(trial.trial_id) == "failed":
        tags[FAILURE] = (view.failure(trial.trial_id) or "")[:_MAX_TAG]
    return tags


def address_of(state_id: str) -> str:
    """Returns where a state lies in the store: kind and key."""
    return f"states/{state_id}"


def params_of(trial: Trial) -> dict[str, str]:
    """Returns a trial's configuration by dotted names, swept fields included; what is None is left out."""
    config = trial.config.model_dump(mode="json")
    config["data"]["manifest"] = Path(trial.config.data.manifest).name  # the path differs between machines
    config["numerics"]["device"] = trial.inputs.device
    windows = config.pop("perturbation")
    config["perturbation"] = windows[0] if len(windows) == 1 else dict(enumerate(windows))
    fields = dict(_leaves("", config)) | {name: value for name, value in trial.swept if name != "data.manifest"}
    return {legal_name(name): _text(value)[:_MAX_PARAM] for name, value in fields.items() if value is not None}


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield prefix, value
        return
    for name, inner in value.items():
        yield from _leaves(f"{prefix}.{name}" if prefix else str(name), inner)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _flag(value: bool) -> str:
    return "true" if value else "false"
