"""How the trials of a sweep stand: what of each is recorded, where it ended, why it failed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from sweeper.plan.stopping import Stop
from sweeper.records import Failure

Status = Literal["complete", "pruned", "failed", "open"]
STATUSES: tuple[Status, ...] = ("complete", "pruned", "open", "failed")
"""In the order in which they are shown."""


class Standable(Protocol):
    """What must be known of a trial to say how it stands; a `Trial` has it, and so has a `Card`."""

    @property
    def trial_id(self) -> str:
        """Its id."""

    @property
    def role(self) -> str:
        """`trial`, `control` or `baseline`."""

    @property
    def name(self) -> str:
        """A short name for people."""

    @property
    def baseline_id(self) -> str | None:
        """The trial it is compared with."""

    @property
    def stop(self) -> Stop:
        """When it ends."""

    @property
    def own_stop(self) -> Stop:
        """When it would end if no search cut it."""

    @property
    def state_ids(self) -> Sequence[str]:
        """All ids along its way, indexed by epoch."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Answers how each trial stands.

    Attributes:
        sweep: name.
        revision: number.
        is_stand_in: the sweep was run with `--stand-in`.
        trials: trials and baselines by id, in the order of the plan.
        loss_of: validation loss of a state; None where it has no records.
        failures: by state.
        sees_test_stimuli: whether test stimuli chose the points of a search; None where the sweep is none.
    """

    sweep: str
    revision: int
    is_stand_in: bool
    trials: Mapping[str, Standable]
    loss_of: Callable[[str], float | None]
    failures: Mapping[str, Failure]
    sees_test_stimuli: bool | None = None

    def status(self, trial_id: str) -> Status:
        """Tells how a trial stands; `pruned`: a search ended it before its own rule did."""
        if self.end(trial_id) is not None:
            return "pruned" if self._is_cut_short(trial_id) else "complete"
        return "open" if self.failure(trial_id) is None else "failed"

    def failure(self, trial_id: str) -> str | None:
        """Returns place and reason of a trial's failure, None when it did not fail."""
        trial = self.trials[trial_id]
        if self.end(trial_id) is not None:
            return None
        if self.failures:
            for state_id in trial.state_ids:
                if state_id in self.failures:
                    return f"{self.failures[state_id].place}: {self.failures[state_id].reason}"
        if trial.baseline_id is not None:
            end = self.end(trial.baseline_id)
            if end is not None and trial.stop.start > end + 1:
                return f"start {trial.stop.start} lies beyond the baseline's end (epoch {end})"
            reason = self.failure(trial.baseline_id)
            if reason is not None and len(self.losses(trial_id)) < trial.stop.start:
                return f"baseline failed: {reason}"
        return None

    def counts(self) -> dict[Status, int]:
        """Counts trials and baselines by status; a status that none has is left out."""
        statuses = [self.status(trial_id) for trial_id in self.trials]
        return {status: statuses.count(status) for status in STATUSES if status in statuses}

    def losses(self, trial_id: str) -> Mapping[int, float]:
        """Returns the validation loss by epoch, from 0 to the trial's end or to the first gap."""
        if trial_id not in self._losses:
            trial, losses = self.trials[trial_id], dict[int, float]()
            for epoch, state_id in enumerate(trial.state_ids):
                if (loss := self.loss_of(state_id)) is None:
                    break
                losses[epoch] = loss
            self._ends[trial_id] = end = trial.stop.ended_at(losses)
            is_beyond = end is not None and end + 1 in losses  # another trial went on
            self._losses[trial_id] = {e: loss for e, loss in losses.items() if e <= (end or 0)} if is_beyond else losses
        return self._losses[trial_id]

    def end(self, trial_id: str) -> int | None:
        """Returns the epoch at which a trial ended; None: it did not yet."""
        self.losses(trial_id)
        return self._ends[trial_id]

    @cached_property
    def _losses(self) -> dict[str, Mapping[int, float]]:
        return {}

    @cached_property
    def _ends(self) -> dict[str, int | None]:
        return {}

    def _is_cut_short(self, trial_id: str) -> bool:
        trial = self.trials[trial_id]
        return trial.own_stop != trial.stop and trial.own_stop.ended_at(self.losses(trial_id)) is None
