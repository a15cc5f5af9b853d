"""Trials with their identities, and the baselines that the planner adds to them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Literal, Self

from sweeper.plan.identity import canonical_json, join_fields, text_id
from sweeper.plan.lineage import Inputs, Lineage, ground_of, lineage_of
from sweeper.plan.stopping import Stop
from sweeper.spec.schema import Stopping, TrialConfig

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
        until: the epoch after which a search trains it no further; None: it ends by its own rule.
        known_ids: the ids along its way where they were kept with it; None: they are hashed when they are asked for.
    """

    trial_id: str
    role: Role
    swept: tuple[tuple[str, Any], ...]
    config: TrialConfig
    inputs: Inputs
    baseline_id: str | None
    until: int | None = None
    known_ids: tuple[str, ...] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def lineage(self) -> Lineage:
        """The way of states, as far as the trial can go."""
        return lineage_of(self.config, self.inputs, self.stop.last_epoch)

    @cached_property
    def stop(self) -> Stop:
        """When the trial ends."""
        own = self.own_stop
        return own if self.until is None else replace(own, last_epoch=min(own.last_epoch, self.until))

    @property
    def own_stop(self) -> Stop:
        """When the trial would end if nobody cut it."""
        return Stop.of(self.config)

    def cut(self, epoch: int) -> Self:
        """Returns the same trial, under its own id, as if it were trained up to an epoch at most."""
        return replace(self, until=epoch if self.until is None else min(epoch, self.until), known_ids=None)

    @property
    def state_ids(self) -> tuple[str, ...]:
        """All ids along its way, indexed by epoch."""
        return self.lineage.state_ids if self.known_ids is None else self.known_ids

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
    ground = ground_of(config, inputs)
    texts = {
        "root": canonical_json(ground.root),
        "regime": ground.text,
        "max_epochs": canonical_json(config.training.max_epochs),
        "stopping": _stopping_text(config.stopping, has_window=bool(windows)),
    }
    if windows:
        texts["windows"] = canonical_json(windows)
    return text_id("trial", join_fields(texts))


@lru_cache(maxsize=64)
def _stopping_text(stopping: Stopping, *, has_window: bool) -> bytes:
    """Writes a rule; the horizon, the default's number where it is left out, counts after a window only."""
    horizon = stopping.horizon if stopping.rule == "horizon" and has_window else None
    return canonical_json({**stopping.model_dump(), "horizon_after_window": horizon})


def resolve(
    swept: Iterable[tuple[tuple[tuple[str, Any], ...], TrialConfig]], inputs_of: Callable[[TrialConfig], Inputs]
) -> tuple[Trial, ...]:
    """Returns the trials of a sweep followed by their baselines, each once.

    Args:
        swept: swept fields and configuration of each trial, in the order of the axes.
        inputs_of: finds what lies outside the spec (digests of data and weights).
    """
    trials: dict[str, Trial] = {}
    undisturbed: dict[tuple[object, ...], Trial] = {}
    baselines: dict[str, Trial] = {}
    for fields, config in swept:
        inputs = inputs_of(config)
        if not config.perturbation:
            trial = _trial("trial", fields, config, inputs, None)
            trials.setdefault(trial.trial_id, trial)
            continue
        key = (*_apart_from_windows(config), inputs)
        if key not in undisturbed:
            undisturbed[key] = _trial("baseline", _unperturbed(fields), config.baseline(), inputs, None)
        baseline = undisturbed[key]
        role: Role = "control" if all(window.control for window in config.perturbation) else "trial"
        trial = _trial(role, fields, config, inputs, baseline.trial_id)
        trials.setdefault(trial.trial_id, trial)
        baselines.setdefault(baseline.trial_id, baseline)
    added = (trial for trial in baselines.values() if trial.trial_id not in trials)
    return (*trials.values(), *added)


def farthest(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Returns each trial once, in the order given; of several that were cut differently, the one that goes farthest."""
    found: dict[str, Trial] = {}
    for trial in trials:
        other = found.setdefault(trial.trial_id, trial)
        if other is not trial and trial.stop.last_epoch > other.stop.last_epoch:
            found[trial.trial_id] = trial
    return tuple(found.values())


def _apart_from_windows(config: TrialConfig) -> tuple[object, ...]:
    """Returns what a configuration and its baseline have in common."""
    seeds = config.seeds
    sections = (config.data, config.model, config.training, config.stopping, config.numerics)
    return (*sections, seeds.split, seeds.init, seeds.order)


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
