"""Results of a sweep from its store: what every reader (command line, notebook, report) starts from.

Readers never write. The ledger answers where it can; what it lacks is read from the store's own objects.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import Problem, SpecError, StoreError
from sweeper.evaluation import OutputKey
from sweeper.plan.trials import Trial
from sweeper.records import TRAINING_ITEM, Record, losses_among
from sweeper.reporting.dimensions import dimension_rows
from sweeper.reporting.individual_rows import individual_rows
from sweeper.reporting.look import ask_ledger, failures_of, no_such_sweep
from sweeper.reporting.points import point_rows
from sweeper.reporting.tables import curve_columns, curve_rows, objective_mark, trial_rows
from sweeper.reporting.time_lines import course_rows
from sweeper.reporting.view import SweepView, main_rsa, state_ids_of
from sweeper.spec.document import parse_document
from sweeper.spec.naming import stand_in_name
from sweeper.spec.schema import SweepSpec
from sweeper.store.ledger import group_by_state
from sweeper.store.objects import ObjectStore
from sweeper.store.opening import open_store
from sweeper.store.outputs import read_outputs
from sweeper.store.parents import seen_before
from sweeper.store.rows import load_records
from sweeper.store.sweeps import Revision, latest_revision

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class SweepResults:
    """Holds the results of a sweep as DataFrames.

    Attributes:
        view: everything known of the sweep.
        store: where its outputs lie.
    """

    view: SweepView
    store: ObjectStore

    @property
    def spec(self) -> SweepSpec:
        """The spec of the newest revision."""
        return self.view.revision.spec

    @cached_property
    def trials(self) -> "pd.DataFrame":
        """One row per trial and baseline; columns as `sweeper results` has them."""
        rows = trial_rows(self.view)
        return _frame(rows, list(rows[0]) if rows else [])

    @cached_property
    def curves(self) -> "pd.DataFrame":
        """One row per trial and epoch, from epoch 0 (the untrained model) on."""
        return _frame(
            curve_rows(self.view), ["trial_id", "epoch", *curve_columns(self.view), *objective_mark(self.view)]
        )

    @cached_property
    def points(self) -> "pd.DataFrame":
        """One row per point of a search, by number; empty where the sweep is none."""
        rows = point_rows(self.view)
        return _frame(rows, list(rows[0]) if rows else [])

    @cached_property
    def dimensions(self) -> "pd.DataFrame":
        """One row per trial, epoch and target dimension: squared error and correlation on the held-out stimuli.

        Raises:
            DataError: the data's files are not here.
        """
        columns = ["trial_id", "epoch", "dimension", "name", "squared_error", "correlation"]
        return _frame(list(dimension_rows(self.view, self.store)), columns)

    @cached_property
    def courses(self) -> "pd.DataFrame":
        """One row per trial, measure and time: the RSA over time at the best validation loss.

        Raises:
            DataError: the data's files are not here.
        """
        rows = course_rows(self.view, self.store)
        return _frame(rows, list(rows[0]) if rows else [])

    @cached_property
    def individuals(self) -> "pd.DataFrame":
        """One row per group of trials that differ in their subject only: individual differences with their controls."""
        rows = individual_rows(self.view, self.store)
        return _frame(rows, list(rows[0]) if rows else [])

    def outputs(self, trial_id: str, epoch: int, *, layer: str = "output") -> NDArray[np.float32] | None:
        """Returns a trial's outputs, [M, D] or [T, M, D], on its held-out set after an epoch, None if not measured.

        Args:
            trial_id: its id, or the beginning of it.
            epoch: 0 is the untrained model.
            layer: `output`, or `embedding` where the spec asks for it.

        Raises:
            StoreError: the sweep has no such trial.
        """
        matching = [trial for known, trial in self.view.trials.items() if known.startswith(trial_id)]
        if len(matching) != 1 or not trial_id:
            remedy = f"Known: {', '.join(list(self.view.trials)[:5])}, ... (column trial_id)"
            rule = "has several such trials" if matching else "has no such trial"
            raise StoreError(Problem(where=self.spec.name, rule=rule, got=trial_id, remedy=remedy))
        trial = matching[0]
        if not 0 <= epoch < len(trial.state_ids):
            return None
        state_id = trial.state_ids[epoch]
        keys = (OutputKey(set_id=set_id, layer=layer) for set_id in held_out_sets(self.view.revision))
        found = (read_outputs(self.store, state_id, key) for key in keys)
        return next((outputs for outputs in found if outputs is not None), None)


def load_sweep(
    spec_or_name: str | Path, store: str | Path = "sweeper-store", *, stand_in: bool = False
) -> SweepResults:
    """Opens the results of a sweep, without Ray and without writing.

    Args:
        spec_or_name: a spec file, or the name of a sweep.
        store: a folder, or `s3://BUCKET/PREFIX`.
        stand_in: the sweep that `--stand-in` made of the spec.

    Raises:
        SpecError: the spec file cannot be read.
        StoreError: there is no store, or no such sweep in it.
    """
    opened = open_store(store, create=False)
    return SweepResults(view=open_view(opened, sweep_name(spec_or_name, stand_in=stand_in)), store=opened)


def sweep_name(spec_or_name: str | Path, *, stand_in: bool = False) -> str:
    """Returns the name of the sweep that a spec file or a name means.

    Raises:
        SpecError: there is no such file.
    """
    path, name = Path(spec_or_name), str(spec_or_name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise SpecError(Problem(where=name, rule="the spec must exist"))
        root = parse_document(path.read_text(encoding="utf-8"), name).root
        found = root.value.get("name") if root is not None and isinstance(root.value, dict) else None
        name = found if isinstance(found, str) else path.stem
    return stand_in_name(name) if stand_in else name


def open_view(store: ObjectStore, sweep: str) -> SweepView:
    """Returns a sweep as it stands.

    Raises:
        StoreError: the store has no such sweep; the message names those it has.
    """
    revision = revision_of(store, sweep)
    wanted = state_ids_of(revision.trials)
    records = _records(store, revision, wanted)
    return SweepView(
        revision=revision,
        losses=losses_among(records),
        records=records,
        failures=failures_of(store, wanted),
        notes=seen_before(store, revision.trials, {}),
    )


def revision_of(store: ObjectStore, sweep: str) -> Revision:
    """Returns the newest revision of a sweep.

    Raises:
        StoreError: the store has no such sweep; the message names those it has.
    """
    revision = latest_revision(store, sweep)
    if revision is None:
        raise no_such_sweep(store, sweep)
    return revision


def trials_named(view: SweepView, wanted: Iterable[str]) -> list[Trial]:
    """Returns trials by their ids or the beginnings of these; all, where none is named.

    Raises:
        StoreError: no trial, or several, have such an id.
    """
    trials = list(view.trials.values())
    chosen = []
    for prefix in wanted:
        found = [trial for trial in trials if trial.trial_id.startswith(prefix)]
        if len(found) != 1:
            got = f"{prefix}, which {'several trials have' if found else 'none has'}"
            raise StoreError(
                Problem(
                    where="--trial",
                    rule="names one trial by the beginning of its id",
                    got=got,
                    remedy="`sweeper results --json` lists the ids",
                )
            )
        chosen += found
    return chosen or trials


def held_out_sets(revision: Revision) -> tuple[str, ...]:
    """Returns the ids of the sets that the behavioural RSA is measured on; several where folds are swept."""
    main = main_rsa(revision.items)
    return tuple(dict.fromkeys(item["set"] for item in revision.items if item["column"] == main))


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> "pd.DataFrame":
    """Keeps whole numbers whole where some are absent, which pandas would make floats of."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(columns))
    for name in columns:
        kinds = {type(row.get(name)) for row in rows}
        if kinds == {int, type(None)}:
            table[name] = pd.array([row.get(name) for row in rows], dtype="Int64")
    return table


def _records(store: ObjectStore, revision: Revision, wanted: list[str]) -> dict[str, list[Record]]:
    """Reads from the ledger, and from the store what the ledger lacks (absent, damaged, or behind)."""
    nothing: dict[str, list[Record]] = {}
    records = ask_ledger(store, lambda ledger: group_by_state(ledger.records(wanted)), nothing)
    columns = SweepView(revision=revision, losses={}, records={}, failures={}).columns
    everything = {item["column"] for item in revision.items}
    states = set(wanted)

    def is_lacking(key: str) -> bool:
        state_id, _, later = key.partition(".")
        if state_id not in states:
            return False
        items = {record.item for record in records.get(state_id, ())}
        shown = {name for item in items for name in columns.get(item, ())}
        return not (everything <= shown if later else TRAINING_ITEM in items)

    for key, data in store.get_each("records", filter(is_lacking, store.keys("records"))):
        found = records.setdefault(key.partition(".")[0], [])
        items = {record.item for record in found}
        found.extend(record for record in load_records(data or b"[]") if record.item not in items)
    return records
