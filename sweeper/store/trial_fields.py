"""The JSON form of a trial in the store."""

from typing import Any

from sweeper.plan.lineage import Inputs
from sweeper.plan.trials import Trial
from sweeper.spec.schema import TrialConfig
from sweeper.store.cards import Card


def trial_fields(trial: Trial) -> dict[str, Any]:
    """Returns a trial as JSON values."""
    return {
        "trial_id": trial.trial_id,
        "role": trial.role,
        "swept": [list(pair) for pair in trial.swept],
        "config": trial.config.model_dump(mode="json"),
        "inputs": {
            "data": trial.inputs.data,
            "model": [list(pair) for pair in trial.inputs.model],
            "device": trial.inputs.device,
            "device_model": trial.inputs.device_model,
            "semantics": trial.inputs.semantics,
            "files": [list(pair) for pair in trial.inputs.files],
        },
        "baseline_id": trial.baseline_id,
    }


def trial_of(fields: dict[str, Any], card: Card | None = None) -> Trial:
    """Returns the trial that `trial_fields` wrote; with its card, its ids need not be hashed from what it says."""
    inputs = fields["inputs"]
    model = tuple((name, value) for name, value in inputs["model"])
    files = tuple((name, value) for name, value in inputs.get("files", ()))
    return Trial(
        trial_id=fields["trial_id"],
        role=fields["role"],
        swept=tuple((name, value) for name, value in fields["swept"]),
        config=TrialConfig.model_validate(fields["config"]),
        inputs=Inputs(**{**inputs, "model": model, "files": files}),
        baseline_id=fields["baseline_id"],
        known_ids=None if card is None else card.state_ids,
    )
