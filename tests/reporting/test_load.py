import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sweeper
from sweeper.errors import SweeperError
from sweeper.records import TRAINING_ITEM, Record
from sweeper.reporting.load import open_view, sweep_name
from sweeper.store.rows import write_records

from .conftest import GRID, HandMade, bump


def test_import_is_light():
    code = "import sweeper, sys; print({'pandas','numpy','torch','ray','mlflow','pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_frames(hand):
    results = sweeper.load_sweep("hand", hand.store.root)
    assert results.spec.name == "hand"
    assert len(results.trials) == 5
    assert str(results.trials["recovery_loss_epochs"].dtype) == "Int64"
    assert list(results.curves.columns[:3]) == ["trial_id", "epoch", "train_loss"]
    assert results.curves.groupby("trial_id").epoch.min().eq(0).all()


@pytest.mark.parametrize("ledger", ["absent", "made", "behind", "damaged", "no database"])
def test_the_ledger_changes_no_result(tmp_path, ledger):
    """Also what was measured after training (an item of its own object) is found."""
    later = {"item": "later", "column": "rsa_neural_it", "reference": "it", "set": "set0", "layer": "output"}
    hand = HandMade(tmp_path / "store")
    hand = HandMade(tmp_path / "store", items=(*hand.items, later)).measure(bump)
    expected = pd.DataFrame(sweeper.load_sweep("hand", hand.store.root).curves)
    path = hand.store.root / "ledger.sqlite"
    if ledger != "absent":
        hand.index()
    state_id = hand.baseline.lineage.state_ids[3]
    added = Record(state_id=state_id, epoch=3, item="later", values={"rsa": 0.25}, reasons={}, measured_at=9.0)
    write_records(hand.store, [added])
    if ledger == "made":
        hand.index()
    if ledger == "damaged":
        data = path.read_bytes()
        assert b'"val_loss": 11.25' in data
        path.write_bytes(data.replace(b'"val_loss": 11.25', b'"val_loss": 11.26'))
    if ledger == "no database":
        path.write_bytes(b"not a database" * 1000)
    found = sweeper.load_sweep("hand", hand.store.root).curves
    assert len(found) == len(expected)
    own = found[(found.epoch == 3) & (found.trial_id == hand.baseline.trial_id)]
    assert own["rsa_neural_it"].tolist() == [0.25]
    shared = [name for name in expected.columns if name != "rsa_neural_it"]
    pd.testing.assert_frame_equal(found[shared], expected[shared])


def test_records_that_are_no_longer_asked_for_stay_out(hand):
    state_id = hand.baseline.lineage.state_ids[3]
    other = Record(state_id=state_id, epoch=3, item="elsewhere", values={"rsa": 0.5}, reasons={}, measured_at=9.0)
    write_records(hand.store, [other])
    rows = open_view(hand.store, "hand").rows(hand.baseline.trial_id)
    assert set(rows[3]) == {"train_loss", "val_loss", "rsa_behavioral", "seconds", "measured_at"}
    assert TRAINING_ITEM not in rows[3]


def test_outputs(hand):
    trial = hand.trial(start=2, length=1)
    outputs = np.arange(6.0).reshape(3, 2)
    hand.outputs(trial, 4, outputs)
    results = sweeper.load_sweep("hand", hand.store.root)
    np.testing.assert_array_equal(results.outputs(trial.trial_id, 4), outputs)
    np.testing.assert_array_equal(results.outputs(trial.trial_id[:10], 4), outputs)
    assert results.outputs(trial.trial_id, 5) is None
    assert results.outputs(trial.trial_id, 500) is None
    with pytest.raises(SweeperError, match="no such trial"):
        results.outputs("nobody", 4)


def test_an_unknown_sweep_names_the_known_ones(hand):
    with pytest.raises(SweeperError, match="Known: hand"):
        sweeper.load_sweep("hound", hand.store.root)
    with pytest.raises(SweeperError, match="is no store"):
        sweeper.load_sweep("hand", hand.store.root / "nowhere")


def test_a_sweep_is_named_by_its_spec_too(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text(GRID)
    assert sweep_name(path) == "hand"
    assert sweep_name(str(path), stand_in=True) == "hand--stand-in"
    assert sweep_name("hand") == "hand"
    assert sweep_name("hand--stand-in", stand_in=True) == "hand--stand-in"
    with pytest.raises(SweeperError, match="must exist"):
        sweep_name(Path("absent.yaml"))
