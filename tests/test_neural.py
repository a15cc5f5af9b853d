"""Whose RDMs over time are trained on and compared with: other time axes, two times, an oracle for a whole item."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from sweeper.errors import DataError
from sweeper.evaluation import items_of
from sweeper.inputs import held_out_sets

NAMES = tuple(f"s{i}" for i in range(12))
TWO_TIMES = """\
name: regions
images: {folder: images, pattern: "*.png"}
held_out: {rows: [s0, s1, s2]}
series: [{name: fmri, file: rdms.npy, rows: row_ids, start_ms: 1, step_ms: 1}]
"""
ELSEWHERE = """\
name: elsewhere
held_out: {images: {folder: images, pattern: "*.png"}}
series: [{name: lda, file: rdms.npy, rows: held_out, start_ms: -70, step_ms: 90}]
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(1)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def write_rdms(lab: Path, people: int, times: int) -> np.ndarray:
    rdms = np.triu(np.random.default_rng(2).random((people, times, len(NAMES), len(NAMES))), 1)
    rdms += rdms.swapaxes(2, 3)
    np.save(lab / "rdms.npy", rdms)
    return rdms


def test_an_external_set_is_compared_on_its_own_time_axis(meg_engine, lab: Path) -> None:
    rdms = write_rdms(lab, people=4, times=12)  # -70..920 ms in steps of 90; the model's are -100..875 in steps of 25
    (lab / "elsewhere.yaml").write_text(ELSEWHERE)
    sweep = meg_engine.sweep(evaluation={"sets": [str(lab / "elsewhere.yaml")]})
    config, evaluation = sweep.trials[0].config, sweep.spec.evaluation
    sets = held_out_sets(config, evaluation)
    items = {item.column: item for item in items_of(evaluation, sets, config.data.preprocessing)}
    item = items["rsa_neural_elsewhere_lda"]
    assert item.outputs != items["rsa_neural_meg"].outputs

    outputs = np.random.default_rng(3).random((40, len(NAMES), 66)).astype(np.float32)
    course = item.course(outputs)
    mean, rows, columns = rdms.mean(axis=0), *np.triu_indices(len(NAMES), k=1)
    expected = []
    for place, time in enumerate(-70 + 90 * np.arange(12)):
        index = min(max(int((time + 100) // 25), 0), 39)  # floor, clamped at the ends
        expected.append(spearmanr(pdist(outputs[index], "correlation"), mean[place][rows, columns])[0])
    np.testing.assert_allclose(course, expected, atol=1e-9)
    values = item.record("state", 1, outputs, 0.0).values
    after = -70 + 90 * np.arange(12) >= 25  # at 20 ms the model is read at 0 ms, where it has no signal yet
    assert values["rsa"] == pytest.approx(np.mean(np.array(expected)[after]))
    assert values["rsa_times"] == after.sum()


def test_two_times_have_no_curves_and_no_third_loss(meg_engine, lab: Path) -> None:
    write_rdms(lab, people=3, times=2)
    (lab / "two.yaml").write_text(TWO_TIMES)
    data = {"manifest": str(lab / "two.yaml"), "train_fraction": 0.6}
    with pytest.raises(DataError) as error:
        meg_engine.sweep(data=data)
    told = [(problem.where, problem.got, problem.remedy) for problem in error.value.problems]
    assert told == [("model.curves.source", "2", "Use ones"), ("model.loss.w3", "2", "Set it to 0")]
    sweep = meg_engine.sweep(data=data, model={"curves": {"source": "ones"}, "loss": {"w3": 0.0}})
    assert len(sweep.trials) == 1


def test_which_times_count_is_the_axis_and_not_the_curves(meg_engine) -> None:
    """The 5 times of -100..0 ms do not count; constant curves of old, under which they did, had other ids."""
    found = {}
    for source in ("data", "ones"):
        sweep = meg_engine.sweep(model={"curves": {"source": source}})
        (trial,) = sweep.trials
        found[source] = {item.column: item.counts.tolist() for item in sweep.items[trial.trial_id]}
        assert dict(trial.inputs.model).get("counted") == ("35 of 40" if source == "ones" else None)
        task = meg_engine.task(model={"curves": {"source": source}})
        assert task._targets.times.tolist() == list(range(5, 40)), source
    assert found["data"] == found["ones"]
    assert found["ones"]["rsa_neural_meg"] == [False] * 5 + [True] * 35


def test_an_axis_that_ends_before_the_onset_is_refused(meg_engine, lab: Path) -> None:
    write_rdms(lab, people=3, times=4)
    (lab / "early.yaml").write_text(TWO_TIMES.replace("start_ms: 1,", "start_ms: -3,"))
    data = {"manifest": str(lab / "early.yaml"), "train_fraction": 0.6}
    with pytest.raises(DataError, match=r"early\.yaml:4:.*`fmri` has times after 0 ms, .* Got -3 to 0 ms"):
        meg_engine.sweep(data=data, model={"curves": {"source": "ones"}})


def test_two_times_are_trained_on_and_both_count(meg_engine, lab: Path) -> None:
    write_rdms(lab, people=3, times=2)
    (lab / "two.yaml").write_text(TWO_TIMES.replace("held_out: {rows: [s0, s1, s2]}\n", ""))
    changes = {
        "data": {"manifest": str(lab / "two.yaml"), "folds": 2, "fold": 0, "train_fraction": 0.5},
        "model": {"curves": {"source": "ones"}, "loss": {"w3": 0.0}},
    }
    few = {**changes, "data": {**changes["data"], "train_fraction": 0.4}}
    with pytest.raises(DataError, match=r"data.train_fraction: RDMs need 3 training stimuli or more. Got 2 of 6"):
        meg_engine.sweep(**few)
    sweep = meg_engine.sweep(**changes)
    (item,) = [item for item in sweep.items[sweep.trials[0].trial_id] if item.column == "rsa_neural_fmri"]
    assert item.counts.all()
    assert "counted" not in dict(sweep.trials[0].inputs.model), "regions have no onset, and the ids they had"
