"""Orders: all that a worker needs to train one segment, besides the store."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from sweeper.plan.stopping import Stop, is_wanted
from sweeper.plan.tree import Segment
from sweeper.plan.trials import Trial
from sweeper.spec.schema import Evaluation, TrialConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Asks for one segment.

    Attributes:
        config: a configuration whose lineage passes through the segment; workers prepare their task for it.
        inputs: digests of data and weights that the plan was made for.
        evaluation: what is measured on each state.
        device: `cpu` or `cuda`.
        regime: what holds during the segment; None for the untrained model alone.
        parent: id of the state to start from, None for the untrained model.
        states: ids of the states to be made, by epoch.
        keep_all: keep every state.
        stops: stopping rule of each trial that passes through.
        val_loss: validation loss by epoch on the way to the segment.
    """

    config: TrialConfig
    inputs: Mapping[str, Any]
    evaluation: Evaluation
    device: str
    regime: Mapping[str, Any] | None
    parent: str | None
    states: Mapping[int, str]
    keep_all: bool
    stops: Mapping[str, Stop]
    val_loss: Mapping[int, float]

    @classmethod
    def of(
        cls,
        segment: Segment,
        trials: Mapping[str, Trial],
        evaluation: Evaluation,
        val_loss: Mapping[int, float],
    ) -> Self:
        """Returns the order for a segment of a tree."""
        lead = trials[segment.trials[0]]
        return cls(
            config=lead.config,
            inputs={"data": lead.inputs.data, "model": [list(pair) for pair in lead.inputs.model]},
            evaluation=evaluation,
            device=lead.inputs.device,
            regime=None if segment.regime is None else dict(segment.regime.fields),
            parent=segment.parent,
            states=segment.states,
            keep_all=segment.keep_all,
            stops={trial: trials[trial].stop for trial in segment.trials},
            val_loss=val_loss,
        )

    @property
    def segment_id(self) -> str:
        """The id of the last state that the segment can reach."""
        return self.states[self.last_epoch]

    @property
    def last_epoch(self) -> int:
        """Last epoch that any trial can want."""
        return max(self.states)

    @property
    def first_epoch(self) -> int:
        """First epoch whose state the segment makes."""
        return min(self.states)

    def task_key(self) -> str:
        """Returns what a prepared task can be used for: equal keys, same task."""
        config = self.config.model_dump(mode="json", exclude={"perturbation", "stopping"})
        config["training"].pop("max_epochs")
        config["seeds"].pop("noise")
        config["training"].pop("optimizer")
        evaluation = self.evaluation.model_dump(mode="json")
        return json.dumps([config, evaluation, dict(self.inputs), self.device], sort_keys=True)

    def wants(self, epoch: int, val_loss: Mapping[int, float]) -> bool:
        """Tells whether any trial wants an epoch, given the curve before it."""
        return is_wanted(self.stops.values(), epoch, val_loss)

    def ending(self, epoch: int, val_loss: Mapping[int, float]) -> bool:
        """Tells whether a trial ends at this epoch."""
        return any(stop.start <= epoch and stop.ended_at(val_loss) == epoch for stop in self.stops.values())

    def to_json(self) -> bytes:
        """Returns the order as JSON."""
        fields = {
            "config": self.config.model_dump(mode="json"),
            "inputs": dict(self.inputs),
            "evaluation": self.evaluation.model_dump(mode="json"),
            "device": self.device,
            "regime": self.regime,
            "parent": self.parent,
            "states": self.states,
            "keep_all": self.keep_all,
            "stops": {trial: asdict(stop) for trial, stop in self.stops.items()},
            "val_loss": self.val_loss,
        }
        return json.dumps(fields, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Returns the order that `to_json` wrote."""
        fields = json.loads(data)
        return cls(
            **{
                **fields,
                "config": TrialConfig.model_validate(fields["config"]),
                "evaluation": Evaluation.model_validate(fields["evaluation"]),
                "states": {int(epoch): state for epoch, state in fields["states"].items()},
                "stops": {trial: Stop.from_json(stop) for trial, stop in fields["stops"].items()},
                "val_loss": {int(epoch): loss for epoch, loss in fields["val_loss"].items()},
            }
        )
