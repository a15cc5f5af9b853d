"""A sweep as it stands: its latest revision joined with everything measured so far."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from sweeper.evaluation import column_of
from sweeper.plan.trials import Trial
from sweeper.records import TRAINING_ITEM, Failure, Record, validation_loss
from sweeper.store.sweeps import Revision

Status = Literal["complete", "pruned", "failed", "open"]
STATUSES: tuple[Status, ...] = ("complete", "pruned", "open", "failed")
"""In the order in which they are shown."""

_BEHAVIORAL = "rsa_behavioral"
Value = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class SweepView:
    """Answers what is known of each trial.

    Attributes:
        revision: spec and trials.
        records: everything measured on the states of these trials, by state.
        failures: by state.
    """

    revision: Revision
    records: Mapping[str, Iterable[Record]]
    failures: Mapping[str, Failure]

    @cached_property
    def trials(self) -> Mapping[str, Trial]:
        """Trials and baselines by id, in the order of the plan."""
        return {trial.trial_id: trial for trial in self.revision.trials}

    @cached_property
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        """Columns of each evaluation item: what is compared once may be shown under several names."""
        columns: dict[str, dict[str, None]] = {}
        for item in self.revision.items:
            columns.setdefault(item["item"], {})[item["column"]] = None
        return {item: tuple(names) for item, names in columns.items()}

    @cached_property
    def references(self) -> Mapping[str, str]:
        """Reference RDM behind each column."""
        return {item["column"]: item["reference"] for item in self.revision.items}

    @cached_property
    def rsa_column(self) -> str:
        """The column that trials are compared by."""
        return main_rsa(self.revision.items)

    def rows(self, trial_id: str) -> dict[int, dict[str, Value]]:
        """Returns all columns by epoch along a trial's lineage, from 0 to its end or to the first gap."""
        if trial_id not in self._rows:
            self._rows[trial_id] = self._read_rows(self.trials[trial_id])
        return self._rows[trial_id]

    def curve(self, trial_id: str, column: str) -> dict[int, float]:
        """Returns one column by epoch; epochs at which it is undefined are left out."""
        return {
            epoch: float(value)
            for epoch, row in self.rows(trial_id).items()
            if isinstance(value := row.get(column), float | int)
        }

    def status(self, trial_id: str) -> Status:
        """Tells how a trial stands; `pruned`: a search ended it before its own rule did."""
        if self._end(trial_id) is not None:
            return "pruned" if self._is_cut_short(trial_id) else "complete"
        return "open" if self.failure(trial_id) is None else "failed"

    def failure(self, trial_id: str) -> str | None:
        """Returns place and reason of a trial's failure, None when it did not fail."""
        trial = self.trials[trial_id]
        if self._end(trial_id) is not None:
            return None
        for state_id in trial.lineage.state_ids:
            if state_id in self.failures:
                return f"{self.failures[state_id].place}: {self.failures[state_id].reason}"
        if trial.baseline_id is not None:
            end = self._end(trial.baseline_id)
            if end is not None and trial.stop.start > end + 1:
                return f"start {trial.stop.start} lies beyond the baseline's end (epoch {end})"
            reason = self.failure(trial.baseline_id)
            if reason is not None and len(self.rows(trial_id)) < trial.stop.start:
                return f"baseline failed: {reason}"
        return None

    def counts(self) -> dict[Status, int]:
        """Counts trials and baselines by status; a status that none has is left out."""
        statuses = [self.status(trial_id) for trial_id in self.trials]
        return {status: statuses.count(status) for status in STATUSES if status in statuses}

    def of(self, trials: Iterable[Trial]) -> "SweepView":
        """Returns the same knowledge of some trials, which may be cut."""
        return replace(self, revision=replace(self.revision, trials=tuple(trials)))

    @cached_property
    def _rows(self) -> dict[str, dict[int, dict[str, Value]]]:
        return {}

    @cached_property
    def _ends(self) -> dict[str, int | None]:
        return {}

    def _end(self, trial_id: str) -> int | None:
        if trial_id not in self._ends:
            self._ends[trial_id] = self.trials[trial_id].stop.ended_at(_losses(self.rows(trial_id)))
        return self._ends[trial_id]

    def _is_cut_short(self, trial_id: str) -> bool:
        trial = self.trials[trial_id]
        return trial.until is not None and trial.own_stop.ended_at(_losses(self.rows(trial_id))) is None

    def _read_rows(self, trial: Trial) -> dict[int, dict[str, Value]]:
        rows: dict[int, dict[str, Value]] = {}
        for epoch, state_id in enumerate(trial.lineage.state_ids):
            row = self._row(state_id)
            if "val_loss" not in row:
                break
            rows[epoch] = row
        end = trial.stop.ended_at(_losses(rows))
        return {epoch: row for epoch, row in rows.items() if end is None or epoch <= end}

    def _row(self, state_id: str) -> dict[str, Value]:
        row: dict[str, Value] = {}
        for record in self.records.get(state_id, ()):
            if record.item == TRAINING_ITEM:
                row |= {**record.values, "seconds": record.seconds, "measured_at": record.measured_at}
            elif record.item in self.columns:
                for column in self.columns[record.item]:
                    row |= {column_of(column, name): value for name, value in record.values.items()}
        return row


def _losses(rows: Mapping[int, Mapping[str, Value]]) -> dict[int, float]:
    found = ((epoch, validation_loss(row)) for epoch, row in rows.items())
    return {epoch: loss for epoch, loss in found if loss is not None}


def main_rsa(items: Iterable[Mapping[str, Any]]) -> str:
    """Returns the main RSA among the items of a sweep: the behavioural one, else the first."""
    columns = [item["column"] for item in items]
    return _BEHAVIORAL if _BEHAVIORAL in columns or not columns else columns[0]


def state_ids_of(trials: Iterable[Trial]) -> list[str]:
    """Returns the ids of all states on the ways of some trials, each once."""
    return list(dict.fromkeys(state for trial in trials for state in trial.lineage.state_ids))


def plain(value: Any) -> Value:
    """Returns a swept value in a form that tables can hold; a whole section becomes JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, sort_keys=True, default=str)
