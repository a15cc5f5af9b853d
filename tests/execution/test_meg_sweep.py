"""MEG sweeps as a whole: forks, resume, subjects, states taken from other trials, saliency."""

import json
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from sweeper.cli import main
from sweeper.errors import DataError, ModelError, SpecError
from sweeper.execution.doubts import doubts
from sweeper.inputs import dataset_of
from sweeper.neural import split_over_time
from sweeper.reporting.load import open_view
from sweeper.reporting.text import header
from sweeper.store.given import given_to_come
from sweeper.store.local import LocalStore
from sweeper.store.parents import require_parents, seen_before
from sweeper.tasks.state import load_state

FORKS = {
    "perturbation": {"kind": "label_shuffle"},
    "axes": {"perturbation.start": [2, 4], "perturbation.length": [1, 2]},
    "training": {"max_epochs": 5},
}


@pytest.fixture(scope="module")
def forks(meg_engine, tmp_path_factory):
    """The store of a small grid of windows, in both stages, run undisturbed."""
    store = tmp_path_factory.mktemp("meg") / "store"
    assert meg_engine.run(store, **FORKS).status == "done"
    return store


def test_a_trial_through_the_tree_has_the_bits_of_the_same_trial_alone(meg_engine, forks, tmp_path, reading):
    alone = {
        "perturbation": {"kind": "label_shuffle", "start": 4, "length": 2},
        "training": {"max_epochs": 5},
    }
    ran = meg_engine.run(tmp_path / "store", **alone)
    assert ran.status == "done"
    ours, theirs = reading.states(tmp_path / "store"), reading.states(forks)
    common = ours.keys() & theirs.keys()
    last = ran.sweep.trials[0].lineage.state_ids[5]
    assert last in common
    assert {key: ours[key] for key in common} == {key: theirs[key] for key in common}
    ours, theirs = reading.records(tmp_path / "store"), reading.records(forks)
    assert ours.keys() <= theirs.keys()
    assert ours == {key: theirs[key] for key in ours}


def test_interrupted_and_resumed_it_has_the_same_bits(meg_engine, forks, tmp_path, reading):
    first = meg_engine.run(tmp_path / "store", stop_after=3, **FORKS)
    assert first.status == "interrupted"
    assert meg_engine.run(tmp_path / "store", **FORKS).status == "done"
    assert reading.records(tmp_path / "store") == reading.records(forks)


def test_training_that_ends_by_its_own_rule_completes_the_trial(meg_engine, tmp_path):
    never = {"model": {"stages": {"epochs": 1, "patience": 2, "lr_layers": 50.0}}, "training": {"max_epochs": 9}}
    ran = meg_engine.run(tmp_path / "store", **never)
    (trial,) = ran.sweep.trials
    rows = ran.outcome.view.rows(trial.trial_id)
    assert (ran.status, ran.outcome.view.status(trial.trial_id)) == ("done", "complete")
    assert max(rows) < 9
    assert rows[max(rows)]["ended"] == 1
    again = meg_engine.run(tmp_path / "store", **never)
    assert (again.status, again.epochs_trained, again.backends) == ("done", 0, 0)


def test_all_subjects_are_one_trial_each(meg_engine, tmp_path):
    ran = meg_engine.run(tmp_path / "store", axes={"subject": "all"}, training={"max_epochs": 1})
    assert [dict(trial.swept) for trial in ran.sweep.trials] == [{"subject": name} for name in "123"]
    assert ran.status == "done"
    view = ran.outcome.view
    neural = [view.rows(trial.trial_id)[1]["rsa_neural_meg"] for trial in ran.sweep.trials]
    assert len(set(neural)) == 3, "each against their own data"
    assert [trial.config.subject for trial in meg_engine.sweep(axes={"subject": "2..3"}).trials] == ["2", "3"]
    assert [trial.config.subject for trial in meg_engine.sweep(axes={"subject": [3, "1..2"]}).trials] == ["3", "1", "2"]


@pytest.mark.parametrize(
    ("axis", "text"),
    [
        (["S9"], "subject: participants of meg, each named once. Got S9"),
        ("3..1", "a range of subjects goes forward"),
        ("1..9", "Got 9. Known: 1, 2, 3"),
    ],
)
def test_a_subject_that_does_not_exist_is_told(meg_engine, axis, text):
    with pytest.raises(DataError, match=text):
        meg_engine.sweep(axes={"subject": axis})


def test_subjects_belong_to_variants_with_participants(engine):
    with pytest.raises(SpecError, match="subject belongs to variants"):
        engine.spec(subject="1")
    with pytest.raises(SpecError, match="time_shuffle does nothing to clip-hba-behavior"):
        engine.spec(perturbation={"kind": "time_shuffle", "start": 1})


# -- states of other trials -----------------------------------------------------------------------------------------


def test_text_of_a_behaviour_trial_is_taken_once_it_is_finished(engine, meg_engine, tmp_path):
    spec = tmp_path / "behavior.yaml"
    training = {**engine.base["training"], "max_epochs": 2}
    spec.write_text(json.dumps({**engine.base, "name": "behavior", "training": training}))
    trial = engine.sweep(name="behavior", training={"max_epochs": 2}).trials[0]
    wanted = {"model": {"text_from": str(spec)}, "training": {"max_epochs": 1}}
    by_spec, by_id = meg_engine.sweep(**wanted), meg_engine.sweep(model={"text_from": trial.trial_id})
    plain = meg_engine.sweep(training={"max_epochs": 1})
    assert by_spec.trials[0].lineage.root == by_id.trials[0].lineage.root
    assert by_spec.trials[0].lineage.root != plain.trials[0].lineage.root

    store = tmp_path / "store"
    first = re.escape(f"Got {spec} (") + f"{trial.trial_id}.*" + re.escape(f"First: sweeper run {spec}")
    with pytest.raises(SpecError, match=r"model.text_from: names a trial of this store.* " + first):
        meg_engine.run(store, **wanted)
    assert engine.run(store, stop_after=1, name="behavior", training={"max_epochs": 2}).status == "interrupted"
    with pytest.raises(SpecError, match=r"finished trial. Got .*, measured up to epoch 1\)\. First: sweeper run"):
        meg_engine.run(store, **wanted)
    sweep = meg_engine.sweep(**wanted)
    (line,) = given_to_come(LocalStore(store), sweep.trials, sweep.sources)
    assert line == f"first: {spec}, which model.text_from takes a state of, is to be finished; it is at epoch 1"
    assert engine.run(store, name="behavior", training={"max_epochs": 2}).status == "done"
    assert given_to_come(LocalStore(store), sweep.trials, sweep.sources) == ()
    with_text = meg_engine.run(store, **wanted)
    without = meg_engine.run(store, name="plain", training={"max_epochs": 1})
    assert (with_text.status, without.status) == ("done", "done")
    losses = [ran.outcome.view.rows(ran.sweep.trials[0].trial_id)[1]["val_loss"] for ran in (with_text, without)]
    assert losses[0] != losses[1]


def test_text_features_may_come_from_a_file(meg_engine, tmp_path):
    wanted = {"model": {"text_from": str(tmp_path / "text.safetensors")}, "training": {"max_epochs": 1}}
    with pytest.raises(ModelError, match=r"model.text_from: names a safetensors file .*No such file"):
        meg_engine.sweep(**wanted)
    features = {"features": torch.randn(66, 64, generator=torch.Generator().manual_seed(1))}
    save_file(features, tmp_path / "text.safetensors")
    one = meg_engine.sweep(**wanted).trials[0]
    assert np.isfinite(meg_engine.task(**wanted).evaluate(meg_engine.task(**wanted).init_state(1)).values["val_loss"])
    save_file({"features": 2 * features["features"]}, tmp_path / "text.safetensors")
    assert meg_engine.sweep(**wanted).trials[0].lineage.root != one.lineage.root, "it is known by its content"
    for wrong, got in (
        ({"features": features["features"][:3].clone()}, r"shape \(3, 64\)"),
        ({"feat": features["features"]}, "tensors feat"),
        ({"features": torch.full((66, 64), torch.nan)}, "4224 values that are not finite"),
        ({"features": torch.zeros(66, 64)}, "zeros for 66 prompts"),
    ):
        save_file(wrong, tmp_path / "text.safetensors")
        told = r"model.text_from: names a safetensors file with a tensor `features` of shape \(66, 64\).*Got " + got
        with pytest.raises(ModelError, match=told):
            meg_engine.sweep(**wanted)
    save_file({"features": features["features"].bfloat16()}, tmp_path / "text.safetensors")
    meg_engine.task(**wanted)


def test_training_starts_from_the_best_state_of_another_trial(meg_engine, tmp_path):
    store = tmp_path / "store"
    group = meg_engine.run(store, name="group", training={"max_epochs": 3})
    (parent,) = group.sweep.trials
    rows = group.outcome.view.rows(parent.trial_id)
    best = min((epoch for epoch in rows if epoch), key=lambda epoch: rows[epoch]["val_loss"])
    changes = {"model": {"start_from": parent.trial_id}, "axes": {"subject": ["1", "2"]}, "training": {"max_epochs": 1}}
    ran = meg_engine.run(store, **changes)
    assert ran.status == "done"
    objects = LocalStore(store)
    given = load_state(objects.get("states", parent.lineage.state_ids[best]), "cpu").parameters
    for trial in ran.sweep.trials:
        start = load_state(objects.get("states", trial.lineage.state_ids[0]), "cpu").parameters
        assert all(np.array_equal(start[name], given[name]) for name in given)
    other = {"model": {"start_from": parent.trial_id, "adapter": {"rank": 3}}, "training": {"max_epochs": 1}}
    with pytest.raises(SpecError, match=r"the same adapters and times\. .*\(2, .*here \(3, .*and \d+ other tensors"):
        meg_engine.run(store, **other)


def test_a_parent_with_other_adapters_or_times_is_refused_before_anything_is_trained(meg_engine, tmp_path):
    parent = tmp_path / "group.yaml"
    parent.write_text(json.dumps({**meg_engine.base, "name": "group"}))

    def problem(**changes):
        sweep = meg_engine.sweep(**changes)
        with pytest.raises(SpecError) as raised:
            require_parents(None, sweep.trials, sweep.sources)
        (found,) = raised.value.problems
        assert found.where == "model.start_from"
        return found

    found = problem(model={"start_from": str(parent), "adapter": {"rank": 3}})
    assert re.fullmatch(r"trial \w+: rank 2, here 3", found.got)
    assert found.remedy == "Name another trial, or write model.adapter.rank: 2"
    rdms = np.triu(np.random.default_rng(1).random((3, 40, 20, 20)), 1)
    np.save(tmp_path / "rdms.npy", rdms + rdms.swapaxes(2, 3))
    np.savez(tmp_path / "images.npz", images=np.random.default_rng(2).integers(0, 255, (20, 9, 9, 3), dtype=np.uint8))
    lines = ["name: slow", "images: {file: images.npz, key: images}", "held_out: {rows: [0, 1, 2]}"]
    lines += ["series: [{name: meg, file: rdms.npy, rows: row_ids, start_ms: -100, step_ms: 50}]"]
    (tmp_path / "slow.yaml").write_text("\n".join(lines))
    found = problem(model={"start_from": str(parent)}, data={"manifest": str(tmp_path / "slow.yaml")})
    assert found.got.endswith(": 40 times, -100 to 875 ms; here 40 times, -100 to 1850 ms")


def test_a_parent_that_was_trained_on_validation_stimuli_is_told(meg_engine, tmp_path):
    parent = tmp_path / "group.yaml"
    parent.write_text(json.dumps({**meg_engine.base, "name": "group", "training": {"max_epochs": 1, "batch_size": 8}}))
    changes = {"model": {"start_from": str(parent)}, "training": {"max_epochs": 1}}
    same = meg_engine.sweep(**changes)
    assert seen_before(None, same.trials, same.sources) == ()
    other = meg_engine.sweep(**changes, axes={"seeds.split": [1, 2]})
    (line,) = seen_before(None, other.trials, other.sources)
    splits = [split_over_time(trial.config, dataset_of(trial.config)) for trial in other.trials]
    seen = len(set(splits[0].train) & set(splits[1].val))
    assert f"group.yaml was trained on {seen} of the {len(splits[1].val)} validation stimuli" in line
    assert "with seeds.split 2 (its own: 1)" in line
    store = tmp_path / "store"
    group = meg_engine.run(store, name="group", training={"max_epochs": 1, "batch_size": 8})
    by_id = {**changes, "model": {"start_from": group.sweep.trials[0].trial_id}}
    assert meg_engine.run(store, **by_id, seeds={**meg_engine.base.get("seeds", {}), "split": 2}).status == "done"
    told = header(open_view(LocalStore(store), "test"))
    assert re.search(rf"trial \w+ was trained on {seen} of the \d+ validation stimuli", told)


def test_a_plan_tells_what_is_to_come_first_and_refuses_what_cannot_come(engine, meg_engine, tmp_path):
    unknown = meg_engine.sweep(model={"text_from": "0" * 32})
    with pytest.raises(SpecError, match=r"model.text_from: names a trial of this store.* Got 0000"):
        given_to_come(None, unknown.trials, unknown.sources)
    spec = tmp_path / "behavior.yaml"
    spec.write_text(json.dumps({**engine.base, "name": "behavior"}))
    sweep = meg_engine.sweep(model={"text_from": str(spec)})
    (line,) = given_to_come(None, sweep.trials, sweep.sources)
    assert line == f"first: {spec}, which model.text_from takes a state of, was not run in this store yet"
    wrong = meg_engine.sweep(model={"start_from": str(spec)})
    with pytest.raises(
        SpecError, match=r"model.start_from: names a trial whose variant trains what clip-hba-meg starts"
    ):
        given_to_come(None, wrong.trials, wrong.sources)
    spec.write_text(json.dumps({**meg_engine.base, "name": "group"}))
    wrong = meg_engine.sweep(model={"text_from": str(spec)})
    with pytest.raises(SpecError, match=r"model.text_from: names a trial whose variant trains its text tower"):
        given_to_come(None, wrong.trials, wrong.sources)


def test_a_spec_of_several_trials_is_no_source(meg_engine, tmp_path):
    spec = tmp_path / "many.yaml"
    spec.write_text(json.dumps({**meg_engine.base, "axes": {"subject": "all"}}))
    with pytest.raises(SpecError, match=r"model.start_from: .* has one trial. Got 3 in"):
        meg_engine.sweep(model={"start_from": str(spec)})


def test_the_beginning_of_an_id_is_told_as_such(meg_engine, forks):
    trial = meg_engine.sweep(**FORKS).trials[0]
    short = meg_engine.sweep(model={"start_from": trial.trial_id[:6]})
    with pytest.raises(SpecError) as raised:
        given_to_come(LocalStore(forks), short.trials, short.sources)
    (problem,) = raised.value.problems
    assert problem.got == f"{trial.trial_id[:6]}, the beginning of 1 id, first {trial.trial_id}"
    assert problem.remedy.startswith("Write the whole id")


def test_what_a_run_finds_late_is_told_at_its_place_in_the_file(meg_engine, tmp_path):
    lines = [f"{name}: {json.dumps(value)}" for name, value in meg_engine.base.items() if name != "model"]
    model = json.dumps({**meg_engine.base["model"], "start_from": "0" * 32}, indent=0)
    (tmp_path / "late.yaml").write_text("\n".join([*lines, f"model: {model}"]))
    words = ["run", str(tmp_path / "late.yaml"), "--store", str(tmp_path / "store"), "--backend", "local"]
    result = CliRunner().invoke(main, [*words, "--tracking-uri", "off"])
    assert result.exit_code == 2
    assert re.search(r"late.yaml:\d+:\d+: model.start_from: names a trial of this store", result.output), result.output


@pytest.mark.parametrize(("subjects", "told"), [("[13, 15]", "1 for 13, 2 for 15"), ("13..14", "1..2 for 13..14")])
def test_a_plan_says_who_stands_in_for_whom(tmp_path, subjects, told):
    text = "name: people\ndata: {manifest: none.yaml}\nmodel: {variant: clip-hba-meg}\n"
    (tmp_path / "people.yaml").write_text(f"{text}axes: {{subject: {subjects}}}\n")
    words = ["plan", str(tmp_path / "people.yaml"), "--stand-in", "--store", str(tmp_path / "store")]
    first, note, *_ = CliRunner().invoke(main, words).stdout.splitlines()
    assert first == "people--stand-in: 2 trials, 0 baselines, 2 segments"
    assert note == f"note: subject: people of the self-made study stand in: {told}"


def test_what_does_nothing_is_told(engine, meg_engine, tmp_path):
    sweep = meg_engine.sweep(model={"stages": {"epochs": 4}}, training={"max_epochs": 4})
    text = "model.stages.epochs is 4 and training.max_epochs 4: the adapters are never trained"
    assert doubts(sweep, None) == (text,)
    assert doubts(meg_engine.sweep(model={"stages": {"epochs": 4}}, training={"max_epochs": 5}), None) == ()
    rdms = np.triu(np.random.default_rng(1).random((2, 3, 4, 4)), 1)
    np.save(tmp_path / "rdms.npy", rdms + rdms.swapaxes(2, 3))
    np.savez(tmp_path / "images.npz", images=np.random.default_rng(2).integers(0, 255, (4, 9, 9, 3), dtype=np.uint8))
    lines = ["name: meg_only", "held_out: {images: {file: images.npz, key: images}}"]
    lines += ["series: [{name: meg, file: rdms.npy, rows: held_out, start_ms: 1, step_ms: 1}]"]
    (tmp_path / "set.yaml").write_text("\n".join(lines))
    evaluation = {"evaluation": {"sets": [str(tmp_path / "set.yaml")]}}
    (line,) = doubts(engine.sweep(**evaluation), None)
    assert line.startswith("evaluation.sets: nothing is measured on meg_only (set.yaml): it has no references of one")
    assert doubts(meg_engine.sweep(**evaluation), None) == ()


# -- saliency -------------------------------------------------------------------------------------------------------


def test_saliency_of_a_trial_is_written_and_is_the_same_again(meg_engine, forks, tmp_path):
    trial = meg_engine.sweep(**FORKS).trials[0]
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (50, 60, 3), dtype=np.uint8)).save(picture)

    def write(name, *options):
        arguments = ["saliency", trial.trial_id[:12], "--store", str(forks), "--image", str(picture), "--masks", "30"]
        return CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / name), *options])

    done = write("one", "--times", "0:200:50", "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert row["times_ms"] == [0, 50, 100, 150, 200]
    assert row["without_signal_ms"] == [0]
    maps = np.load(tmp_path / "one" / "saliency.npz")["saliency"]
    assert maps.shape == (5, 40, 40)
    assert not maps[0].any()
    assert [each.max() for each in maps[1:]] == pytest.approx([1.0] * 4)
    write("two", "--times", "0:200:50")
    assert np.array_equal(maps, np.load(tmp_path / "two" / "saliency.npz")["saliency"])
    assert (tmp_path / "two" / "saliency.gif").is_file()
    other = write("three", "--times", "0:200:50", "--seed", "1")
    assert other.exit_code == 0
    assert not np.array_equal(maps, np.load(tmp_path / "three" / "saliency.npz")["saliency"])
    assert "--times: the model has a signal" in write("four", "--times=-90:-50:10").output
    assert "Ask for times from -100 to 875 ms" in write("five", "--times", "0:900:100").output
    assert "has no such trial" in CliRunner().invoke(
        main, ["saliency", "zz", "--store", str(forks), "--image", str(picture), "--out", str(tmp_path / "x")]
    ).output  # fmt: skip
