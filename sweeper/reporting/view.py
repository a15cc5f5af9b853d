"""A sweep as it stands: its latest revision joined with everything measured so far."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sweeper.evaluation import column_of
from sweeper.plan.trials import Trial
from sweeper.records import TRAINING_ITEM, Failure, Record
from sweeper.reporting.standing import Standing, Status
from sweeper.store.sweeps import Revision

_BEHAVIORAL = "rsa_behavioral"
Value = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class SweepView:
    """Answers what is known of each trial.

    Attributes:
        revision: spec and trials.
        losses: validation loss by state, of every state that training measured.
        records: everything measured on the states of these trials, by state.
        failures: by state.
        notes: what spoils a comparison of these trials, a line each.
    """

    revision: Revision
    losses: Mapping[str, float]
    records: Mapping[str, Iterable[Record]]
    failures: Mapping[str, Failure]
    notes: tuple[str, ...] = ()

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

    def undefined(self, column: str) -> str | None:
        """Returns why the main value of a column does not exist at some state; None: it does at each."""
        items = {item for item, names in self.columns.items() if column in names}
        for trial_id in self.trials:
            for epoch in self.rows(trial_id):
                for record in self.records.get(self.trials[trial_id].state_ids[epoch], ()):
                    if record.item in items and "rsa" in record.reasons:
                        return record.reasons["rsa"]
        return None

    @cached_property
    def standing(self) -> Standing:
        """How its trials stand; a search's line in words is added by who shows it."""
        search = self.revision.spec.search
        return Standing(
            sweep=self.revision.spec.name,
            revision=self.revision.number,
            is_stand_in=self.revision.spec.stand_in,
            trials=self.trials,
            loss_of=self.losses.get,
            failures=self.failures,
            sees_test_stimuli=None if search is None else search.sees_test_stimuli,
        )

    def status(self, trial_id: str) -> Status:
        """Tells how a trial stands."""
        return self.standing.status(trial_id)

    def failure(self, trial_id: str) -> str | None:
        """Returns place and reason of a trial's failure, None when it did not fail."""
        return self.standing.failure(trial_id)

    def of(self, trials: Iterable[Trial]) -> "SweepView":
        """Returns the same knowledge of some trials, which may be cut."""
        return replace(self, revision=replace(self.revision, trials=tuple(trials)))

    @cached_property
    def _rows(self) -> dict[str, dict[int, dict[str, Value]]]:
        return {}

    def _read_rows(self, trial: Trial) -> dict[int, dict[str, Value]]:
        return {epoch: self._row(trial.state_ids[epoch]) for epoch in self.standing.losses(trial.trial_id)}

    def _row(self, state_id: str) -> dict[str, Value]:
        row: dict[str, Value] = {}
        for record in self.records.get(state_id, ()):
            if record.item == TRAINING_ITEM:
                row |= {**record.values, "seconds": record.seconds, "measured_at": record.measured_at}
            elif record.item in self.columns:
                for column in self.columns[record.item]:
                    row |= {column_of(column, name): value for name, value in record.values.items()}
        return row


def main_rsa(items: Iterable[Mapping[str, Any]]) -> str:
    """Returns the main RSA among the items of a sweep: the behavioural one, else the first."""
    columns = [item["column"] for item in items]
    return _BEHAVIORAL if _BEHAVIORAL in columns or not columns else columns[0]


def state_ids_of(trials: Iterable[Trial]) -> list[str]:
    """Returns the ids of all states on the ways of some trials, each once."""
    return list(dict.fromkeys(state for trial in trials for state in trial.state_ids))


def plain(value: Any) -> Value:
    """Returns a swept value in a form that tables can hold; a whole section becomes JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, sort_keys=True, default=str)
