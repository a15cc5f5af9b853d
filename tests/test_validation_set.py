"""The validation stimuli as a set of their own: measured by the outputs that the validation loss is taken from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.errors import DataError
from sweeper.metrics.rdm import compute_rdm
from sweeper.metrics.rsa import rsa_score


def test_the_validation_rsa_is_that_of_the_stored_outputs_on_the_rows_of_the_split(engine: Any, tmp_path: Path) -> None:
    from sweeper.data.split import split_pool
    from sweeper.inputs import dataset_of
    from sweeper.store.local import LocalStore
    from sweeper.store.outputs import read_outputs

    ran = engine.run(tmp_path / "store", training={"max_epochs": 2}, evaluation={"validation": True})
    trial = ran.sweep.trials[0]
    item = next(item for item in ran.sweep.items[trial.trial_id] if item.column == "rsa_validation")
    outputs = read_outputs(LocalStore(tmp_path / "store"), trial.lineage.state_ids[2], item.outputs)
    dataset = dataset_of(trial.config)
    rows = split_pool("hashed", 1, len(dataset.pool)).val
    targets = dataset.targets[rows]
    assert outputs is not None
    row = ran.outcome.view.rows(trial.trial_id)[2]
    assert row["val_loss"] == pytest.approx(float(np.mean((outputs - targets) ** 2)), rel=1e-5)
    assert row["rsa_validation"] == rsa_score(compute_rdm(outputs), compute_rdm(targets))
    assert "rsa_validation_se" not in row


def test_it_changes_no_other_number_and_no_identity(engine: Any, tmp_path: Path, reading: Any) -> None:
    plain = engine.run(tmp_path / "plain", training={"max_epochs": 2})
    more = engine.run(tmp_path / "more", training={"max_epochs": 2}, evaluation={"validation": True})
    assert [trial.trial_id for trial in plain.sweep.trials] == [trial.trial_id for trial in more.sweep.trials]
    assert reading.states(tmp_path / "plain") == reading.states(tmp_path / "more")
    assert reading.records(tmp_path / "plain").items() < reading.records(tmp_path / "more").items()


def test_every_split_has_its_own_and_every_layer_a_column(engine: Any) -> None:
    sweep = engine.sweep(axes={"seeds": [1, 2]}, evaluation={"validation": True, "layers": ["output", "embedding"]})
    found = [
        {item.column: item.item_id for item in sweep.items[trial.trial_id] if "validation" in item.column}
        for trial in sweep.trials
    ]
    assert list(found[0]) == list(found[1]) == ["rsa_validation", "rsa_validation_embedding"]
    assert not set(found[0].values()) & set(found[1].values())


def test_asked_for_later_it_is_measured_without_training(engine: Any, tmp_path: Path) -> None:
    """Only where the outputs of the validation stimuli were stored, so here every epoch with a state is looked at."""
    first = engine.run(tmp_path / "store", training={"max_epochs": 2})
    again = engine.run(tmp_path / "store", training={"max_epochs": 2}, evaluation={"validation": True})
    trial = first.sweep.trials[0]
    assert again.status == "done"
    assert all("rsa_validation" in row for row in again.outcome.view.rows(trial.trial_id).values())
    assert again.outcome.view.curve(trial.trial_id, "val_loss") == first.outcome.view.curve(trial.trial_id, "val_loss")


def test_two_validation_stimuli_are_too_few(engine: Any) -> None:
    with pytest.raises(DataError, match=r"evaluation\.validation: the targets of the validation stimuli, 3 or more"):
        engine.sweep(data={"train_fraction": 0.96}, evaluation={"validation": True})
