"""Trials with their identities, and the baselines that the planner adds to them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from sweeper.plan.identity import content_id
from sweeper.plan.lineage import Inputs, Lineage, base_regime, lineage_of, root_id
from sweeper.plan.stopping import Stop
from sweeper.spec.schema import TrialConfig

Role = Literal["trial", "control", "baseline"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration that is trained, and what it is compared with.

    Attributes:
        trial_id: hash of all that the trial is.
        role: `baseline` was added by the planner; `control` carries control perturbations only.
        swept: dotted field names with their values, in the order of the axes.
        config: the resolved configuration.
        inputs: what was found on disk for it.
        baseline_id: the trial it is compared with; None for an undisturbed one.
    """

    trial_id: str
    role: Role
    swept: tuple[tuple[str, Any], ...]
    config: TrialConfig
    inputs: Inputs
    baseline_id: str | None

    @cached_property
    def lineage(self) -> Lineage:
        """The way of states, as far as the trial can go."""
        return lineage_of(self.config, self.inputs)

    @cached_property
    def stop(self) -> Stop:
        """When the trial ends."""
        return Stop.of(self.config)

    @property
    def short_id(self) -> str:
        """The beginning of the id: the name of the trial in Ray Tune."""
        return self.trial_id[:12]

    @property
    def name(self) -> str:
        """A short name for people: the swept fields, or the role."""
        return " ".join(f"{field.rsplit('.', 1)[-1]}={value}" for field, value in self.swept) or self.role


def trial_id(config: TrialConfig, inputs: Inputs) -> str:
    """Returns the identity of a trial: model, data, training, seeds, perturbation, stopping, numerics."""
    windows = [
        {**window.regime(config.seeds.noise), "start": window.start, "length": window.length}
        for window in config.perturbation
    ]
    stopping = config.stopping
    horizon = stopping.horizon if stopping.rule == "horizon" else None  # the default's number, where left out
    return content_id(
        "trial",
        {
            "root": root_id(config, inputs),
            "regime": base_regime(config, inputs),
            "windows": windows or None,
            "max_epochs": config.training.max_epochs,
            "stopping": {**stopping.model_dump(), "horizon_after_window": horizon},
        },
    )


def resolve(
    swept: Iterable[tuple[tuple[tuple[str, Any], ...], TrialConfig]], inputs_of: Callable[[TrialConfig], Inputs]
) -> tuple[Trial, ...]:
    """Returns the trials of a sweep followed by their baselines, each once.

    Args:
        swept: swept fields and configuration of each trial, in the order of the axes.
        inputs_of: finds what lies outside the spec (digests of data and weights).
    """
    trials: dict[str, Trial] = {}
    baselines: dict[str, Trial] = {}
    for fields, config in swept:
        inputs = inputs_of(config)
        undisturbed = _trial("baseline", _unperturbed(fields), config.baseline(), inputs, None)
        if not config.perturbation:
            trials.setdefault(undisturbed.trial_id, _trial("trial", fields, config, inputs, None))
            continue
        role: Role = "control" if all(window.control for window in config.perturbation) else "trial"
        trial = _trial(role, fields, config, inputs, undisturbed.trial_id)
        trials.setdefault(trial.trial_id, trial)
        baselines.setdefault(undisturbed.trial_id, undisturbed)
    added = (trial for trial in baselines.values() if trial.trial_id not in trials)
    return (*trials.values(), *added)


def _trial(
    role: Role,
    swept: tuple[tuple[str, Any], ...],
    config: TrialConfig,
    inputs: Inputs,
    baseline_id: str | None,
) -> Trial:
    return Trial(
        trial_id=trial_id(config, inputs),
        role=role,
        swept=swept,
        config=config,
        inputs=inputs,
        baseline_id=baseline_id,
    )


def _unperturbed(fields: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (name, value) for name, value in fields if name.split(".")[0] != "perturbation" and name != "seeds.noise"
    )
