"""What a worker reports while it trains a segment. Free of torch, so that the driver stays light."""

from dataclasses import dataclass

from sweeper.records import Failure, Record, val_loss_of


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochDone:
    """Reports one epoch whose records are in the store.

    Attributes:
        state_id: the state at its end.
        epoch: absolute epoch.
        records: what was measured on the state.
        seconds: how long it took; None when it was found in the store.
        warnings: what the user should know, e.g. that a rebuilt epoch came out different.
    """

    state_id: str
    epoch: int
    records: tuple[Record, ...]
    seconds: float | None
    warnings: tuple[str, ...] = ()

    @property
    def val_loss(self) -> float:
        """The validation loss."""
        return val_loss_of(self.records)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentFailed:
    """Reports that an epoch cannot be made; the failure is in the store."""

    failure: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentMissing:
    """Reports that the state to start from is not in the store: its segment must be trained first."""

    state_id: str


Event = EpochDone | SegmentFailed | ParentMissing
