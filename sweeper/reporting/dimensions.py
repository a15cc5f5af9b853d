"""Which dimensions are learned first: error and correlation of every target dimension by epoch."""

from collections.abc import Iterable, Iterator
from typing import Any

from sweeper.evaluation import OutputKey, set_id
from sweeper.inputs import dataset_of
from sweeper.metrics.dimensions import correlation_per_dimension, squared_error_per_dimension
from sweeper.reporting.tables import Row
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore
from sweeper.store.outputs import read_outputs


def dimension_rows(view: SweepView, store: ObjectStore, trial_ids: Iterable[str] | None = None) -> Iterator[Row]:
    """Yields one row per trial, epoch and dimension, from held-out outputs and targets.

    Epochs without stored outputs, and held-out sets without targets, have no row. A state that several trials pass
    through is read once.

    Args:
        view: the sweep.
        store: where the outputs are.
        trial_ids: default: all trials; a long sweep has 66 rows for each of its thousands of epochs.

    Raises:
        DataError: the data's files are not here.
    """
    known: dict[tuple[str, str], list[Row]] = {}
    for trial_id in view.trials if trial_ids is None else trial_ids:
        trial = view.trials[trial_id]
        dataset = dataset_of(trial.config)
        held_out = dataset.held_out
        if held_out is None or held_out.targets is None:
            continue
        key = OutputKey(set_id=set_id(held_out, trial.config.data.preprocessing), layer="output")
        for epoch in view.rows(trial_id):
            state_id = trial.state_ids[epoch]
            if (state_id, key.set_id) not in known:
                outputs = read_outputs(store, state_id, key)
                known[state_id, key.set_id] = (
                    [] if outputs is None else _of_dimensions(outputs, held_out.targets, dataset.dimensions)
                )
            for row in known[state_id, key.set_id]:
                yield {"trial_id": trial_id, "epoch": epoch, **row}


def _of_dimensions(outputs: Any, targets: Any, names: tuple[str, ...]) -> list[Row]:
    errors, correlations = squared_error_per_dimension(outputs, targets), correlation_per_dimension(outputs, targets)
    return [
        {
            "dimension": index,
            "name": names[index] if index < len(names) else None,
            "squared_error": float(error),
            "correlation": correlation,
        }
        for index, (error, correlation) in enumerate(zip(errors, correlations, strict=True))
    ]
