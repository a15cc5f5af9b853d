"""Records: values measured on one state, and the failure of a state. Plain frozen values with a JSON form."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

TRAINING_ITEM = "training"
"""The item under which stands what training itself measured."""


class FinalLoss(float):
    """The validation loss of a state after which training itself has nothing more to do.

    Rules that change training belong to the regime and to the state (docs/architecture.md), the end they come to too;
    so the loss says it wherever a curve is read.
    """


def validation_loss(values: Mapping[str, object]) -> float | None:
    """Returns the validation loss among what training measured on a state; None where there is none."""
    loss = values.get("val_loss")
    if not isinstance(loss, float):
        return None
    return FinalLoss(loss) if values.get("ended") else loss


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuMemory:
    """The most that a worker has held of its GPU, and how much the GPU has, in bytes."""

    peak_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One row: what one evaluation measured on one state.

    Attributes:
        state_id: the state.
        epoch: absolute epoch, 0 is the untrained model.
        item: id of the evaluation; `training` for what training itself measured.
        values: value by column name; None is undefined, with a reason in `reasons`.
        reasons: why a value is None.
        measured_at: Unix time in seconds.
        seconds: how long the epoch took, training and evaluation; None for an item computed later.
        gpu: memory of the worker that trained it; None without a GPU.
    """

    state_id: str
    epoch: int
    item: str
    values: Mapping[str, float | int | str | None]
    reasons: Mapping[str, str]
    measured_at: float
    seconds: float | None = None
    gpu: GpuMemory | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Returns the record that `dataclasses.asdict` turned into plain fields."""
        gpu = fields.get("gpu")
        return cls(**{**fields, "gpu": None if gpu is None else GpuMemory(**gpu)})


def val_loss_of(records: Iterable[Record]) -> float:
    """Returns the validation loss among a state's records."""
    training = next(record for record in records if record.item == TRAINING_ITEM)
    loss = validation_loss(training.values)
    assert loss is not None
    return loss


def losses_among(records: Mapping[str, Iterable[Record]]) -> dict[str, float]:
    """Returns the validation loss of every state that training measured, given records by state."""
    found = {state: [row for row in rows if row.item == TRAINING_ITEM] for state, rows in records.items()}
    losses = {state: validation_loss(rows[0].values) for state, rows in found.items() if rows}
    return {state: loss for state, loss in losses.items() if loss is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Says that a state cannot be reached: where training failed, and why.

    Attributes:
        state_id: the state that was to be made.
        epoch: absolute epoch that failed.
        place: what was being done, e.g. `epoch 7, batch 3`.
        reason: the error in one line.
        details: traceback or further lines.
    """

    state_id: str
    epoch: int
    place: str
    reason: str
    details: str

    def to_json(self) -> bytes:
        """Returns the failure as JSON."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Returns the failure that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(data)
        return cls(**fields)
