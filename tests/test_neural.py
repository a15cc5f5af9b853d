"""Whose RDMs over time are trained on and compared with: other time axes, two times, an oracle for a whole item."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from sweeper.data.manifest import load_manifest
from sweeper.data.verify import verify_manifest
from sweeper.errors import DataError
from sweeper.evaluation import items_of
from sweeper.execution.doubts import doubts
from sweeper.inputs import held_out_sets

NAMES = tuple(f"s{i}" for i in range(12))
TWO_TIMES = """\
name: regions
images: {folder: images, pattern: "*.png"}
held_out: {rows: [s0, s1, s2]}
series: [{name: fmri, file: rdms.npy, rows: row_ids, start_ms: 1, step_ms: 1}]
"""
SERIES = TWO_TIMES.replace("start_ms: 1, step_ms: 1", "start_ms: -10, step_ms: 5")
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


HELD_OUT = [sorted(NAMES).index(name) for name in ("s0", "s1", "s2")]
POOL = sorted(set(range(len(NAMES))) - set(HELD_OUT))


def constant(lab: Path, time: int, person: int | slice) -> dict[str, object]:
    """Makes the RDMs of one person, or all, constant over the pool at one time of 8 (-10..25 ms)."""
    rdms = write_rdms(lab, people=3, times=8)
    square = np.ix_(POOL, POOL)
    for rdm in rdms[person, time].reshape(-1, len(NAMES), len(NAMES)):
        rdm[square] = 0.5 * (1 - np.eye(len(POOL)))
    np.save(lab / "rdms.npy", rdms)
    manifest = lab / f"meg{time}.yaml"  # a process opens a manifest once
    manifest.write_text(SERIES)
    return {"manifest": str(manifest), "train_fraction": 0.6}


def problem_of(meg_engine, data, **changes):
    with pytest.raises(DataError) as error:
        meg_engine.sweep(data=data, **changes)
    (problem,) = error.value.problems
    return problem


def test_a_constant_rdm_of_the_pool_is_told_before_training_with_who_and_when(meg_engine, lab: Path) -> None:
    problem = problem_of(meg_engine, constant(lab, time=6, person=1))
    assert problem.where == "model.curves.source"
    assert problem.got == "the RDM of participant 2 over 5 stimuli is constant at 20 ms"
    assert problem.remedy.startswith("Take these times out of the file, or leave the participant")


def test_constant_targets_have_no_third_loss(meg_engine, lab: Path) -> None:
    data = constant(lab, time=6, person=slice(None))
    ones = {"curves": {"source": "ones"}}
    problem = problem_of(meg_engine, data, model=ones)
    assert problem.where == "model.loss.w3"
    assert problem.got == "`fmri`, 5 stimuli: the same for all pairs at 20 ms"
    assert problem.remedy.startswith("Set it to 0")
    assert len(meg_engine.sweep(data=data, model={**ones, "loss": {"w3": 0.0}}).trials) == 1
    early = constant(lab, time=1, person=slice(None))
    assert len(meg_engine.sweep(data=early, model=ones).trials) == 1, "losses count times after 0 ms only"
    assert problem_of(meg_engine, early, model={**ones, "loss": {"times": "all"}}).got.endswith("at -5 ms")


def held_out_constant(lab: Path, times: range, people: range) -> dict[str, object]:
    """Makes RDMs of some of 3 people constant over the held-out stimuli at some of 8 times (-10..25 ms)."""
    rdms = write_rdms(lab, people=3, times=8)
    rdms[np.ix_(people, times, HELD_OUT, HELD_OUT)] = 0.5 * (1 - np.eye(3))
    np.save(lab / "rdms.npy", rdms)
    (lab / "meg.yaml").write_text(SERIES)
    return {"manifest": str(lab / "meg.yaml"), "train_fraction": 0.6}


def test_held_out_rdms_that_are_constant_throughout_are_refused_before_training(meg_engine, lab: Path) -> None:
    problem = problem_of(meg_engine, held_out_constant(lab, range(3, 8), range(3)))
    assert problem.where == f"{lab / 'meg.yaml'}:4:10"
    assert problem.rule.startswith("`fmri` differs between pairs of held-out stimuli, or rsa_neural_fmri is defined")
    assert problem.got == "the same for all pairs at all 5 times that count, 5 to 25 ms (participant 3)"
    assert problem.remedy == "Correct these RDMs, or hold out other stimuli"
    (found,) = [finding for finding in verify_manifest(load_manifest(lab / "meg.yaml")) if finding.level == "error"]
    assert found.where == problem.where
    assert found.message == "fmri: the same for all pairs of held-out stimuli at all 5 times after 0 ms, of everybody"


def test_times_at_which_held_out_rdms_are_constant_are_told_as_a_doubt(meg_engine, lab: Path) -> None:
    data = held_out_constant(lab, range(2, 5), range(2, 3))  # at 0 ms, too, which does not count
    (line,) = doubts(meg_engine.sweep(data=data), None)
    assert line == (
        f"{lab / 'meg.yaml'}:4:10, participant 3: `fmri` is the same for all pairs of held-out stimuli at 5, 10 ms: "
        "2 of 5 times that count drop out of rsa_neural_fmri. Correct these RDMs, or hold out other stimuli"
    )
    found = verify_manifest(load_manifest(lab / "meg.yaml"))
    (warning,) = [finding for finding in found if finding.level == "warning" and finding.check == "RDM series"]
    assert warning.message == (
        "fmri: the same for all pairs of held-out stimuli at some of 5 times after 0 ms: of 3 at 5, 10 ms (2)"
    )
    assert doubts(meg_engine.sweep(data=data, evaluation={"participants": "targets"}), None) == ()
