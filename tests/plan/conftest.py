"""Hand-made configurations and trials for the tests of the plan: no file, no data, no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from sweeper.plan.lineage import Inputs
from sweeper.plan.stock import Known, Stock, StockTaker
from sweeper.plan.tree import Tree, build_tree
from sweeper.plan.trials import Trial, resolve
from sweeper.spec.schema import TrialConfig

INPUTS = Inputs(data="pool", model=(("activation", "quick_gelu"), ("weights", "w" * 8)), device="cpu")


def make_config(*windows: Mapping[str, Any], **sections: Any) -> TrialConfig:
    """Returns a configuration with some windows; sections replace the defaults."""
    fields = {
        "data": {"manifest": "things.yaml"},
        "model": {},
        "training": {"max_epochs": 12},
        "stopping": {"horizon_after_window": 4},
        "perturbation": list(windows),
        **sections,
    }
    return TrialConfig.model_validate(fields)


def make_window(start: int, length: int = 1, kind: str = "random_target", **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "start": start, "length": length, **fields}


@dataclass
class Shop:
    """A sweep whose losses and states a test chooses."""

    trials: tuple[Trial, ...]
    val_loss: dict[str, float] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    @property
    def tree(self) -> Tree:
        return build_tree(self.trials)

    @property
    def stock(self) -> Stock:
        known = Known(val_loss=self.val_loss, failed=self.failed, has_state=self.states.__contains__)
        return StockTaker(self.trials, self.tree, known).stock

    @property
    def baseline(self) -> Trial:
        return next(trial for trial in self.trials if trial.role == "baseline")

    def trial(self, start: int, length: int = 1) -> Trial:
        wanted = [(start, length)]
        return next(t for t in self.trials if [(w.start, w.length) for w in t.config.perturbation] == wanted)

    def measure(self, trial: Trial, curve: Mapping[int, float] | range, *, keep: bool = True) -> None:
        """Puts records, and states where they are kept, of some epochs of a trial; a range falls steadily."""
        for epoch in curve:
            state = trial.lineage.state_ids[epoch]
            self.val_loss[state] = curve[epoch] if isinstance(curve, Mapping) else 100.0 - epoch
            if keep:
                self.states.add(state)

    def pending(self) -> list[tuple[int, int]]:
        """First and last epoch of each pending segment."""
        segments = (self.tree.segments[segment_id] for segment_id in self.stock.pending)
        return [(segment.first_epoch, segment.last_epoch) for segment in segments]


def make_trials(configs: Iterable[TrialConfig], inputs: Inputs = INPUTS) -> tuple[Trial, ...]:
    """Returns trials and baselines; the swept fields are the first window's start and length."""
    swept = []
    for config in configs:
        fields: tuple[tuple[str, Any], ...] = ()
        if config.perturbation:
            first = config.perturbation[0]
            fields = (("perturbation.start", first.start), ("perturbation.length", first.length))
        swept.append((fields, config))
    return resolve(swept, lambda config: inputs)


@dataclass(frozen=True)
class Hand:
    """Makes what the tests are about."""

    inputs: Inputs = INPUTS

    config = staticmethod(make_config)
    window = staticmethod(make_window)
    trials = staticmethod(make_trials)

    def grid(self, starts: Iterable[int], lengths: Iterable[int], **sections: Any) -> Shop:
        """Returns the sweep of all starts by all lengths, with its baseline."""
        lengths = list(lengths)
        configs = [make_config(make_window(start, length), **sections) for start in starts for length in lengths]
        return Shop(trials=make_trials(configs))

    def shop(self, *configs: TrialConfig) -> Shop:
        """Returns the sweep of some configurations."""
        return Shop(trials=make_trials(configs))


@pytest.fixture(scope="session")
def hand() -> Hand:
    return Hand()
