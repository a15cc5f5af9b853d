"""Run again = resume = extend: what exists is never made again, what is lost comes back with the same numbers."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.execution.local import LocalBackend
from sweeper.records import Record
from sweeper.store.ledger import LEDGER, remove_ledger
from sweeper.store.local import LocalStore
from sweeper.store.rows import dump_records, load_records

EPOCHS = 17  # distinct training epochs of the grid


@pytest.fixture
def copy(grid: Path, tmp_path: Path) -> Path:
    """A copy of the finished grid's store, to be damaged or extended."""
    shutil.copytree(grid, tmp_path / "store")
    return tmp_path / "store"


def truncate(store: Path, kind: str, key: str) -> None:
    path = LocalStore(store).path(kind, key)  # type: ignore[arg-type]
    path.write_bytes(path.read_bytes()[:-7])


def named(ran, *words: str) -> bool:
    """Tells whether a run's output has a line on damage with these words."""
    return any(note.startswith("damaged: ") and all(word in note for word in words) for note in ran.watch.notes)


@pytest.mark.parametrize("stop_after", [1, 5, 12, 16])
def test_a_stopped_run_goes_on_where_it_was(engine, grid, grid_axes, reading, tmp_path, stop_after):
    first = engine.run(tmp_path / "store", stop_after=stop_after, **grid_axes)
    assert first.status == "interrupted"
    assert first.epochs_trained == stop_after
    second = engine.run(tmp_path / "store", **grid_axes)
    assert second.status == "done"
    assert set(first.watch.trained).isdisjoint(second.watch.trained)
    assert first.epochs_trained + second.epochs_trained == EPOCHS
    assert reading.same(grid, tmp_path / "store")
    assert not second.watch.notes


def test_a_finished_sweep_needs_no_backend(engine, copy, grid_axes):
    again = engine.run(copy, **grid_axes)
    assert (again.status, again.epochs_trained, again.backends) == ("done", 0, 0)


@pytest.mark.parametrize(
    ("axis", "values"), [("perturbation.length", [1, 2, 3]), ("perturbation.start", [2, 3, 4])], ids=["length", "start"]
)
def test_an_extended_grid_trains_only_what_is_new(engine, copy, grid_axes, reading, tmp_path, axis, values):
    axes = {**grid_axes, "axes": {**grid_axes["axes"], axis: values}}
    known = {state for state, _ in reading.records(copy)}
    ran = engine.run(copy, **axes)
    wanted = {
        (epoch, state)
        for trial in ran.sweep.trials
        for epoch, state in enumerate(trial.lineage.state_ids)
        if state not in known
    }
    assert sorted(ran.watch.trained) == sorted(wanted)
    assert wanted
    assert engine.run(tmp_path / "scratch", **axes).status == "done"
    assert reading.records(copy) == reading.records(tmp_path / "scratch")


def test_a_deleted_ledger_loses_nothing(engine, copy, grid_axes):
    before = engine.run(copy, **grid_axes)
    rows = {trial.trial_id: before.outcome.view.rows(trial.trial_id) for trial in before.sweep.trials}
    remove_ledger(copy / LEDGER)
    again = engine.run(copy, **grid_axes)
    assert (again.epochs_trained, again.backends) == (0, 0)
    assert {trial.trial_id: again.outcome.view.rows(trial.trial_id) for trial in again.sweep.trials} == rows


def test_a_truncated_state_is_made_again(engine, copy, grid_axes, reading, tmp_path):
    longer = {**grid_axes, "axes": {"perturbation.start": [2, 3, 4], "perturbation.length": [1, 2]}}
    baseline = engine.sweep(**grid_axes).trials[-1]
    truncate(copy, "states", baseline.lineage.state_ids[2])
    ran = engine.run(copy, **longer)
    assert ran.status == "done"
    assert (2, baseline.lineage.state_ids[2]) in ran.watch.trained
    assert any("gone or damaged" in note for note in ran.watch.notes)
    assert named(ran, baseline.lineage.state_ids[2], "bytes instead of")
    assert not any("different" in note for note in ran.watch.notes)
    engine.run(tmp_path / "scratch", **longer)
    assert reading.records(copy) == reading.records(tmp_path / "scratch")
    assert (
        reading.states(copy)[baseline.lineage.state_ids[2]]
        == reading.states(tmp_path / "scratch")[baseline.lineage.state_ids[2]]
    )


def test_a_truncated_record_is_measured_again(engine, copy, grid, grid_axes, reading):
    victim = engine.sweep(**grid_axes).trials[0].lineage.state_ids[3]
    truncate(copy, "records", victim)
    remove_ledger(copy / LEDGER)
    ran = engine.run(copy, **grid_axes)
    assert ran.status == "done"
    assert victim in {state for _, state in ran.watch.trained}
    assert named(ran, f"records/{victim[:2]}/{victim}", "bytes instead of")
    assert reading.records(copy) == reading.records(grid)
    assert engine.run(copy, **grid_axes).backends == 0


def test_a_flipped_page_of_the_ledger_is_named_and_not_used(engine, copy, grid, grid_axes):
    ledger = copy / LEDGER
    data = ledger.read_bytes()
    place = data.index(b'"val_loss": ') + len(b'"val_loss": ')
    ledger.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    ran = engine.run(copy, **grid_axes)
    assert (ran.status, ran.backends) == ("done", 0)
    assert named(ran, LEDGER, "checksum")
    undisturbed = engine.run(grid, **grid_axes).outcome.view
    for trial in ran.sweep.trials:
        assert ran.outcome.view.rows(trial.trial_id) == undisturbed.rows(trial.trial_id)
    assert not engine.run(copy, **grid_axes).watch.notes


def test_a_ledger_that_is_damaged_in_the_middle_of_a_run_costs_no_epoch(engine, grid, grid_axes, reading, tmp_path):
    class Damaging(LocalBackend):
        def run(self, job):
            def events(some):
                job.on_events(some)
                pages = (tmp_path / "store" / LEDGER).stat().st_size
                for path in (tmp_path / "store").glob(f"{LEDGER}*"):
                    path.write_bytes(b"\xff" * pages)

            super().run(replace(job, on_events=events))

    ran = engine.run(tmp_path / "store", Damaging, **grid_axes)
    assert (ran.status, ran.epochs_trained) == ("done", EPOCHS)
    assert sum(note.startswith("damaged: ") for note in ran.watch.notes) == 1
    assert reading.same(grid, tmp_path / "store")
    again = engine.run(tmp_path / "store", **grid_axes)
    assert (again.backends, named(again, LEDGER, "built again")) == (0, True)


def test_a_damaged_feature_cache_is_named_and_computed_again(engine, grid, grid_axes, reading, tmp_path):
    own = replace(engine, cache=tmp_path / "features")
    shutil.copytree(engine.cache, own.cache)
    for path in own.cache.glob("*/*.npy"):
        path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    ran = own.run(tmp_path / "store", **grid_axes)
    assert named(ran, str(own.cache), "computed again")
    assert reading.same(grid, tmp_path / "store")


def test_damaged_outputs_and_revisions_are_named(engine, copy, grid, grid_axes):
    victim = engine.sweep(**grid_axes).trials[0].lineage.state_ids[3]
    objects = LocalStore(copy)
    for key in [key for key in objects.keys("outputs") if key.startswith(victim)]:
        truncate(copy, "outputs", key)
    for key in list(objects.keys("sweeps")):
        truncate(copy, "sweeps", key)
    ran = engine.run(copy, **{**grid_axes, "evaluation": {"metric": "cosine"}})
    assert (ran.status, victim in {state for _, state in ran.watch.trained}) == ("done", True)
    assert named(ran, "outputs", victim)
    assert named(ran, "sweeps", "test.000001")


def test_a_lost_record_is_noticed_though_later_items_outlive_it(engine, copy, grid_axes):
    with_cosine = {**grid_axes, "evaluation": {"metric": "cosine"}}
    assert engine.run(copy, **with_cosine).backends == 0
    victim = engine.sweep(**grid_axes).trials[0].lineage.state_ids[3]
    truncate(copy, "records", victim)
    remove_ledger(copy / LEDGER)
    ran = engine.run(copy, **with_cosine)
    assert (ran.status, victim in {state for _, state in ran.watch.trained}) == ("done", True)


@pytest.mark.parametrize(
    "evaluation",
    [{"metric": "cosine"}, {"rsa": ["targets"]}, {"rsa": ["behavioral12", "targets"]}, {"bootstraps": 7}],
    ids=["metric", "targets", "two references", "bootstraps"],
)
def test_another_rdm_on_held_out_images_trains_nothing(engine, copy, grid_axes, evaluation):
    axes = {**grid_axes, "evaluation": evaluation}
    ran = engine.run(copy, **axes)
    assert (ran.status, ran.epochs_trained, ran.backends) == ("done", 0, 0)
    row = ran.outcome.view.rows(ran.sweep.trials[0].trial_id)[2]
    expected = {item.column for item in ran.sweep.all_items()}
    assert expected <= row.keys()
    assert engine.run(copy, **axes).backends == 0


def test_an_item_added_while_a_sweep_is_half_done_is_in_the_view(engine, grid_axes, tmp_path):
    engine.run(tmp_path / "store", stop_after=5, **grid_axes)
    axes = {**grid_axes, "evaluation": {"metric": "cosine"}}
    ran = engine.run(tmp_path / "store", **axes)
    fresh = engine.run(tmp_path / "fresh", **axes)
    assert ran.epochs_trained == EPOCHS - 5
    for trial in ran.sweep.trials:
        ours, theirs = (one.outcome.view.curve(trial.trial_id, "rsa_behavioral") for one in (ran, fresh))
        assert ours == theirs
        assert ours


@pytest.mark.parametrize("added", ["layer", "set"])
@pytest.mark.parametrize("kept", [True, False], ids=["states kept", "states gone"])
def test_a_new_layer_or_set_measures_stored_states(engine, copy, grid, grid_axes, reading, added, kept):
    further = engine.manifest.with_name("further.yaml")
    further.write_text(
        "name: further\nsource: drawn\nlicence: none\ngenerator: {name: drawings, num_train: 8, num_test: 9, seed: 2}\n"
    )
    evaluation = {"layers": ["output", "embedding"]} if added == "layer" else {"sets": [str(further)]}
    before, states = reading.records(copy), list(LocalStore(copy).keys("states"))
    for state in () if kept else states:
        LocalStore(copy).drop("states", state)
    without_state = len(list(LocalStore(copy).keys("records"))) - len(states)
    ran = engine.run(copy, **{**grid_axes, "evaluation": evaluation})
    assert ran.status == "done"
    assert ran.epochs_trained == (without_state if kept else EPOCHS)
    assert not [note for note in ran.watch.notes if "different" in note]
    assert not list(LocalStore(copy).keys("conflicts"))
    after = reading.records(copy)
    assert before == reading.records(grid)
    assert {key: after[key] for key in before} == before
    assert len(after) > len(before)
    assert engine.run(copy, **{**grid_axes, "evaluation": evaluation}).backends == 0


def test_a_rebuilt_epoch_that_differs_is_kept_aside_and_reported(engine, copy, grid_axes):
    victim = engine.sweep(**grid_axes).trials[-1].lineage.state_ids[2]
    for state in list(LocalStore(copy).keys("states")):
        LocalStore(copy).drop("states", state)
    tamper(copy, victim, "train_loss", 1.25)
    remove_ledger(copy / LEDGER)
    ran = engine.run(copy, **{**grid_axes, "evaluation": {"layers": ["output", "embedding"]}})
    assert ran.status == "done"
    notes = [note for note in ran.watch.notes if "different" in note]
    assert len(notes) == 1
    assert "epoch 2" in notes[0]
    conflicts = list(LocalStore(copy).keys("conflicts"))
    assert len(conflicts) == 1
    assert conflicts[0].startswith(victim)
    kept = ran.outcome.view.rows(ran.sweep.trials[-1].trial_id)[2]
    assert kept["train_loss"] == 1.25, "the first result is kept, in the store and in this run's tables"
    again = engine.run(copy, **{**grid_axes, "evaluation": {"layers": ["output", "embedding"]}})
    assert again.outcome.view.rows(ran.sweep.trials[-1].trial_id)[2]["train_loss"] == 1.25


def tamper(store: Path, state_id: str, column: str, value: float) -> None:
    """Writes another number into a record, as another machine would have."""
    objects = LocalStore(store)
    records = load_records(objects.get("records", state_id) or b"")
    changed = [
        Record(
            state_id=record.state_id,
            epoch=record.epoch,
            item=record.item,
            values={**record.values, column: value} if record.item == "training" else record.values,
            reasons=record.reasons,
            measured_at=record.measured_at,
            seconds=record.seconds,
        )
        for record in records
    ]
    objects.drop("records", state_id)
    assert objects.put("records", state_id, dump_records(changed))
