"""Lineages: the path of regimes that leads to a state, and the ids of the states along it.

A regime is the canonical description of everything that can change an epoch. Where it changes is an
anchor; a state is addressed by its anchor, the regime since then, and the epochs under it. Two trials that
agree up to an epoch therefore share all ids up to it, whoever asked for them and when.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import groupby, pairwise
from typing import Any

from sweeper.plan.identity import canonical_json, content_id, join_fields, state_id, text_id
from sweeper.plan.stopping import Stop
from sweeper.spec.schema import DataConfig, Numerics, Training, TrialConfig
from sweeper.spec.variants import AnyModel

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
        files: digests that `data` is made of, by what they are of; only to say what changed.
    """

    data: str
    model: tuple[tuple[str, str], ...]
    device: str
    device_model: str | None = None
    semantics: int = SEMANTICS
    files: tuple[tuple[str, str], ...] = field(default=(), compare=False)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What configurations have in common that differ in windows, noise seed and stopping only.

    Attributes:
        root: id of the untrained model: what is built, from which seed, and on which split it is measured.
        regime: what holds in every undisturbed epoch.
        text: the regime's canonical text.
        texts: canonical texts of its fields.
    """

    root: str
    regime: Regime
    text: bytes
    texts: Mapping[str, bytes]

    def disturbed(self, acting: list[dict[str, object]]) -> Regime:
        """Returns the regime under some perturbations."""
        text = join_fields({**self.texts, "perturbation": canonical_json(acting)})
        return Regime(text_id("regime", text), {**self.regime.fields, "perturbation": acting})


def ground_of(config: TrialConfig, inputs: Inputs) -> Ground:
    """Returns the ground of a configuration."""
    seeds = config.seeds
    return _ground(
        config.data, config.model, config.training, config.numerics, seeds.split, seeds.init, seeds.order, inputs
    )


@lru_cache(maxsize=4096)
def _ground(
    data: DataConfig,
    model: AnyModel,
    training: Training,
    numerics: Numerics,
    split: int,
    init: int,
    order: int,
    inputs: Inputs,
) -> Ground:
    setting = {  # the same in every epoch, the untrained model's included: network, data and split, numerics
        "semantics": inputs.semantics,
        "model": model.regime(dict(inputs.model)),
        "data": inputs.data,
        "preprocessing": data.preprocessing,
        "split": {"rule": data.split, "seed": split, "train_fraction": data.train_fraction},
        "numerics": {
            **numerics.model_dump(exclude={"device", "strict"}),
            "device": inputs.device,
            "device_model": inputs.device_model,
        },
    }
    base = {
        **setting,
        "optimizer": training.optimizer.model_dump(),
        "batch_size": training.batch_size,
        "order": {
            "rule": training.order,
            "seed": order,
            "batches": None if training.batches == "reshuffled" else training.batches,
        },
    }
    texts = {name: canonical_json(value) for name, value in base.items()}
    text = join_fields(texts)
    return Ground(
        root=content_id("root", {**setting, "seed": init}),
        regime=Regime(text_id("regime", text), {**base, "perturbation": None}),
        text=text,
        texts=texts,
    )


def root_id(config: TrialConfig, inputs: Inputs) -> str:
    """Returns the id of the untrained model of a configuration."""
    return ground_of(config, inputs).root


def lineage_of(config: TrialConfig, inputs: Inputs, last_epoch: int | None = None) -> Lineage:
    """Returns the lineage of a trial, as far as its stopping rule can let it go, or up to an epoch before that."""
    ground = ground_of(config, inputs)
    regimes = _Regimes(config, ground)
    anchor, stretches = ground.root, []
    pieces = pairwise(regimes.edges(last_epoch or Stop.of(config).last_epoch))
    for regime, same in groupby(pieces, key=lambda piece: regimes.at(piece[0])):
        covered = list(same)
        stretch = Stretch(anchor=anchor, regime=regime, first_epoch=covered[0][0], last_epoch=covered[-1][1] - 1)
        stretches.append(stretch)
        anchor = stretch.state_id(stretch.last_epoch)
    return Lineage(root=ground.root, stretches=tuple(stretches))


class _Regimes:
    """Knows the regime of every epoch of one configuration."""

    def __init__(self, config: TrialConfig, ground: Ground) -> None:
        self._ground = ground
        self._windows = [(window.active_epochs(), window) for window in config.perturbation]
        self._noise_seed = config.seeds.noise
        self._known: dict[tuple[int, ...], Regime] = {(): ground.regime}

    def edges(self, last_epoch: int) -> list[int]:
        """Returns the epochs at which the regime may change, from 1 to the one after the last."""
        edges = {edge for epochs, _ in self._windows for edge in (epochs.start, epochs.stop)}
        return sorted({1, last_epoch + 1} | {edge for edge in edges if edge <= last_epoch})

    def at(self, epoch: int) -> Regime:
        """Returns the regime of an epoch; windows that do the same one after another are one regime."""
        active = tuple(index for index, (epochs, _) in enumerate(self._windows) if epoch in epochs)
        if active not in self._known:
            acting = [self._windows[index][1].regime(self._noise_seed) for index in active]
            self._known[active] = self._ground.disturbed(acting)
        return self._known[active]
