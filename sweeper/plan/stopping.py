"""When a trial ends: pure functions of its validation curve.

`vp` and `cp` are the early stopping of the published study and of its successor. They differ in what a
fork starts from: `vp` forgets the baseline's best and does not count inside a window, `cp` starts from the
baseline's loss before the window and counts everywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sweeper.records import FinalLoss

if TYPE_CHECKING:  # who only reads how a trial ends needs no spec
    from sweeper.spec.schema import TrialConfig

VP_FORK_BEST = 500_000.0  # the published scripts start a fork with this best loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """Everything about a trial that decides when it ends.

    Attributes:
        rule: `horizon`, `vp` or `cp`.
        patience: epochs without improvement, for `vp` and `cp`.
        start: first epoch of the trial's own rows.
        windows: first and last epoch of each window.
        last_epoch: the last epoch that the trial can reach.
    """

    rule: str
    patience: int | None
    start: int
    windows: tuple[tuple[int, int], ...]
    last_epoch: int

    @classmethod
    def of(cls, config: "TrialConfig") -> Self:
        """Returns the stop of a configuration."""
        last, end = config.training.max_epochs, config.window_end
        if config.stopping.rule == "horizon" and end is not None:
            last = min(last, end + config.stopping.horizon)
        return cls(
            rule=config.stopping.rule,
            patience=config.stopping.patience,
            start=config.start,
            windows=tuple((window.start, window.end) for window in config.perturbation),
            last_epoch=last,
        )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Returns the stop that `dataclasses.asdict` wrote."""
        return cls(**{**fields, "windows": tuple((first, last) for first, last in fields["windows"])})

    @property
    def is_open(self) -> bool:
        """Tells whether the rule can end the trial before `last_epoch`."""
        return self.rule != "horizon"

    def ended_at(self, val_loss: Mapping[int, float]) -> int | None:
        """Returns the epoch at which the trial ends, or None while it wants the next epoch.

        A `FinalLoss` ends it, whatever the rule.

        Args:
            val_loss: validation loss by epoch along the trial's lineage, 0 being the untrained model; read
                from the epoch before `start` up to the first epoch that is missing.
        """
        best = self._first_best(val_loss)
        if self.is_open and best is None:
            return None
        counter = 0
        for epoch in range(self.start, self.last_epoch + 1):
            loss = val_loss.get(epoch)
            if loss is None:
                return None
            if isinstance(loss, FinalLoss):
                return epoch
            if best is not None and self.patience is not None:
                best, counter = self._after(epoch, loss, best, counter)
                if counter >= self.patience:
                    return epoch
        return self.last_epoch

    def _first_best(self, val_loss: Mapping[int, float]) -> float | None:
        if self.rule == "horizon":
            return None
        if self.rule == "vp" and self.windows:
            return VP_FORK_BEST
        return val_loss.get(self.start - 1)

    def _after(self, epoch: int, loss: float, best: float, counter: int) -> tuple[float, int]:
        if loss < best:
            return loss, 0
        disturbed = any(first <= epoch <= last for first, last in self.windows)
        return best, counter if self.rule == "vp" and disturbed else counter + 1


def is_wanted(stops: Iterable[Stop], epoch: int, val_loss: Mapping[int, float]) -> bool:
    """Tells whether any of some trials wants an epoch, given the curve before it.

    A trial wants nothing before its own start: its trunk is its baseline's, and ends where that one ends.
    """
    if epoch == 0:
        return True
    return any(stop.start <= epoch <= stop.last_epoch and stop.ended_at(val_loss) is None for stop in stops)
