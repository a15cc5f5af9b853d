"""Lineages: the path of regimes that leads to a state, and the ids of the states along it.

A regime is the canonical description of everything that can change an epoch. Where it changes is an
anchor; a state is addressed by its anchor, the regime since then, and the epochs under it. Two trials that
agree up to an epoch therefore share all ids up to it, whoever asked for them and when.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise
from typing import Any

from sweeper.plan.identity import content_id, state_id
from sweeper.plan.stopping import Stop
from sweeper.spec.schema import TrialConfig

SEMANTICS = 1
"""Raised whenever code changes numbers that a regime describes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What was found outside the spec that can change an epoch.

    Attributes:
        data: digest of the pool's images, in order, and of their targets.
        model: weights digest, activation, prompts: what the variant needs to be identified.
        device: `cpu` or `cuda`.
        device_model: name of the device where `numerics.strict`, else None.
        semantics: version of the code that makes the numbers; kept with a sweep, so that its ids stay what they were.
    """

    data: str
    model: tuple[tuple[str, str], ...]
    device: str
    device_model: str | None = None
    semantics: int = SEMANTICS


@dataclass(frozen=True, slots=True)
class Regime:
    """A regime with its identity."""

    regime_id: str
    fields: Mapping[str, Any] = field(compare=False)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Regime":
        """Returns the regime of some fields."""
        return cls(content_id("regime", fields), fields)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """Consecutive epochs of one lineage under one regime.

    Attributes:
        anchor: id of the state before `first_epoch`.
        regime: what holds during the stretch.
        first_epoch: 1-based.
        last_epoch: last epoch, inclusive.
    """

    anchor: str
    regime: Regime
    first_epoch: int
    last_epoch: int

    def state_id(self, epoch: int) -> str:
        """Returns the id of the state at the end of an epoch."""
        return state_id(self.anchor, self.regime.regime_id, epoch - self.first_epoch + 1)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The way of one trial from the untrained model to the last epoch it can reach."""

    root: str
    stretches: tuple[Stretch, ...]

    @property
    def last_epoch(self) -> int:
        """The last epoch that the trial can reach."""
        return self.stretches[-1].last_epoch

    @cached_property
    def state_ids(self) -> tuple[str, ...]:
        """All ids along the way, indexed by epoch; 0 is the untrained model."""
        ids = [self.root]
        for stretch in self.stretches:
            ids.extend(stretch.state_id(epoch) for epoch in range(stretch.first_epoch, stretch.last_epoch + 1))
        return tuple(ids)


def root_id(config: TrialConfig, inputs: Inputs) -> str:
    """Returns the id of the untrained model: what is built, from which seed, and on which split it is measured."""
    return content_id("root", {**_setting(config, inputs), "seed": config.seeds.init})


def base_regime(config: TrialConfig, inputs: Inputs) -> dict[str, Any]:
    """Returns what holds in every undisturbed epoch of a configuration."""
    training = config.training
    return {
        **_setting(config, inputs),
        "optimizer": training.optimizer.model_dump(),
        "batch_size": training.batch_size,
        "order": {"rule": training.order, "seed": config.seeds.order},
    }


def _setting(config: TrialConfig, inputs: Inputs) -> dict[str, Any]:
    """Returns what is the same in every epoch, the untrained model's included: network, data and split, numerics."""
    data = config.data
    return {
        "semantics": inputs.semantics,
        "model": _model_fields(config, inputs),
        "data": inputs.data,
        "preprocessing": data.preprocessing,
        "split": {"rule": data.split, "seed": config.seeds.split, "train_fraction": data.train_fraction},
        "numerics": _numerics_fields(config, inputs),
    }


def lineage_of(config: TrialConfig, inputs: Inputs) -> Lineage:
    """Returns the lineage of a trial, as far as its stopping rule can let it go."""
    regimes = _Regimes(config, inputs)
    root = root_id(config, inputs)
    anchor, stretches = root, []
    pieces = pairwise(regimes.edges(Stop.of(config).last_epoch))
    for regime, same in groupby(pieces, key=lambda piece: regimes.at(piece[0])):
        covered = list(same)
        stretch = Stretch(anchor=anchor, regime=regime, first_epoch=covered[0][0], last_epoch=covered[-1][1] - 1)
        stretches.append(stretch)
        anchor = stretch.state_id(stretch.last_epoch)
    return Lineage(root=root, stretches=tuple(stretches))


class _Regimes:
    """Knows the regime of every epoch of one configuration."""

    def __init__(self, config: TrialConfig, inputs: Inputs) -> None:
        self._base = base_regime(config, inputs)
        self._windows = [(window.active_epochs(), window) for window in config.perturbation]
        self._noise_seed = config.seeds.noise
        self._known: dict[tuple[int, ...], Regime] = {}

    def edges(self, last_epoch: int) -> list[int]:
        """Returns the epochs at which the regime may change, from 1 to the one after the last."""
        edges = {edge for epochs, _ in self._windows for edge in (epochs.start, epochs.stop)}
        return sorted({1, last_epoch + 1} | {edge for edge in edges if edge <= last_epoch})

    def at(self, epoch: int) -> Regime:
        """Returns the regime of an epoch; windows that do the same one after another are one regime."""
        active = tuple(index for index, (epochs, _) in enumerate(self._windows) if epoch in epochs)
        if active not in self._known:
            acting = [self._windows[index][1].regime(self._noise_seed) for index in active]
            self._known[active] = Regime.of({**self._base, "perturbation": acting or None})
        return self._known[active]


def _model_fields(config: TrialConfig, inputs: Inputs) -> dict[str, Any]:
    return config.model.regime(dict(inputs.model))


def _numerics_fields(config: TrialConfig, inputs: Inputs) -> dict[str, Any]:
    fields = config.numerics.model_dump(exclude={"device", "strict"})
    return {**fields, "device": inputs.device, "device_model": inputs.device_model}
