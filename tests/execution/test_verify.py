"""`sweeper verify`: what is damaged or gone is named, and the next run makes it again, in a folder and on S3."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sweeper.cli import main
from sweeper.store.ledger import ledger_path
from sweeper.store.objects import ObjectStore, name_of
from sweeper.store.opening import open_store

everywhere = pytest.mark.parametrize("store", ["local", "s3"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, grid: Path, tmp_path: Path) -> ObjectStore:
    """A copy of the finished grid."""
    if getattr(request, "param", "local") == "local":
        shutil.copytree(grid, tmp_path / "store")
        return open_store(tmp_path / "store")
    from s3fs import S3FileSystem

    address, there = request.getfixturevalue("s3"), S3FileSystem(skip_instance_cache=True)
    for path in (path for path in grid.rglob("*") if path.is_file() and "ledger" not in path.name):
        there.pipe_file(f"{address}/{path.relative_to(grid).as_posix()}", path.read_bytes())
    return open_store(address)


def overwrite(store: ObjectStore, kind: Any, key: str) -> None:
    """Flips the last byte of an object."""
    if store.address.startswith("s3://"):
        from s3fs import S3FileSystem

        there, path = S3FileSystem(skip_instance_cache=True), f"{store.address}/{name_of(kind, key)}"
        data = there.cat_file(path)
        there.pipe_file(path, data[:-1] + bytes([data[-1] ^ 1]))
    else:
        file = Path(store.address, name_of(kind, key))
        file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))


def verify(store: ObjectStore, *words: str, rc: int) -> Result:
    result = CliRunner().invoke(main, ["verify", "test", "--store", store.address, *words], catch_exceptions=False)
    assert result.exit_code == rc, result.output
    return result


def findings(store: ObjectStore, rc: int = 1) -> list[tuple[str, str, str]]:
    rows = json.loads(verify(store, "--json", rc=rc).stdout)["rows"]
    return sorted((row["sort"], row["kind"], row["key"]) for row in rows)


def test_what_is_whole_is_found_whole(store: ObjectStore) -> None:
    assert verify(store, rc=0).stdout.endswith("all are as they were written\n")
    assert findings(store, rc=0) == []
    assert CliRunner().invoke(main, ["verify", "--store", store.address]).exit_code == 0


@everywhere
def test_damaged_records_outputs_and_states_are_named_and_made_again(
    engine: Any, store: ObjectStore, grid: Path, grid_axes: dict[str, Any], reading: Any
) -> None:
    trial, baseline = engine.sweep(**grid_axes).trials[0], engine.sweep(**grid_axes).trials[-1]
    end, trunk = trial.lineage.state_ids[-1], baseline.lineage.state_ids[3]
    output = next(key for key in store.keys("outputs") if key.startswith(trial.lineage.state_ids[3]))
    damaged = [("outputs", output), ("records", baseline.lineage.state_ids[5]), ("states", end), ("states", trunk)]
    for kind, key in damaged:
        overwrite(store, kind, key)
    assert findings(store) == sorted(("damaged", *each) for each in damaged)
    text = verify(store, rc=1).stdout
    assert f"damaged: {name_of('states', end)}, epoch {len(trial.lineage.state_ids) - 1} of {trial.name}" in text
    assert f"`sweeper run test --store {store.address}` makes it again" in text
    assert findings(store) == sorted(("damaged", *each) for each in damaged), "until then they are lacking"
    ran = engine.run(store.address, **grid_axes)
    assert ran.status == "done"
    assert {state for _, state in ran.watch.trained} >= {baseline.lineage.state_ids[5], end, trunk}
    assert any(note.startswith("made again") and end[:12] in note for note in ran.watch.notes)
    assert not any("different" in note or "other tensors" in note for note in ran.watch.notes)
    assert reading.same(grid, store.address)
    assert store.has("outputs", output)
    assert findings(store, rc=0) == []
    assert engine.run(store.address, **grid_axes).backends == 0
    assert not list(store.keys("control"))


def test_what_was_removed_is_made_again_when_asked_for(
    engine: Any, store: ObjectStore, grid: Path, grid_axes: dict[str, Any], reading: Any
) -> None:
    end = engine.sweep(**grid_axes).trials[1].lineage.state_ids[-1]
    store.drop("states", end)
    assert findings(store) == [("missing", "states", end)]
    assert "--remake" in verify(store, rc=1).stdout
    assert engine.run(store.address, **grid_axes).backends == 0, "it may have been removed on purpose"
    assert "makes it again" in verify(store, "--remake", rc=1).stdout
    assert engine.run(store.address, **grid_axes).epochs_trained >= 1
    assert reading.same(grid, store.address)
    assert findings(store, rc=0) == []


def test_a_state_that_a_reader_found_damaged_is_made_again_without_being_asked(
    engine: Any, store: ObjectStore, grid: Path, grid_axes: dict[str, Any], reading: Any
) -> None:
    end = engine.sweep(**grid_axes).trials[0].lineage.state_ids[-1]
    overwrite(store, "states", end)
    assert store.get("states", end) is None
    ran = engine.run(store.address, **grid_axes)
    assert end in {state for _, state in ran.watch.trained}
    assert reading.same(grid, store.address)


def test_a_damaged_state_that_nothing_needs_is_named_and_left(
    engine: Any, store: ObjectStore, grid_axes: dict[str, Any]
) -> None:
    trial = engine.sweep(**grid_axes).trials[0]
    passing = next(state for state in trial.lineage.state_ids if not store.has("states", state))
    store.put("states", passing, b"saved on the way")
    overwrite(store, "states", passing)
    assert "nothing needs it" in verify(store, rc=1).stdout
    assert findings(store, rc=0) == []
    assert engine.run(store.address, **grid_axes).backends == 0


def test_a_plan_counts_what_is_to_be_made_again(engine: Any, store: ObjectStore, grid_axes: dict[str, Any]) -> None:
    overwrite(store, "states", engine.sweep(**grid_axes).trials[0].lineage.state_ids[-1])
    verify(store, rc=1)
    planned = json.loads(
        CliRunner().invoke(main, ["plan", "test", "--store", store.address, "--json"], catch_exceptions=False).stdout
    )
    assert (planned["epochs_to_run"], planned["epochs_to_rebuild"]) == (0, 2), "the recovery; of it the end is kept"


def test_a_ledger_of_before_does_not_hide_a_damaged_record(
    engine: Any, store: ObjectStore, grid: Path, grid_axes: dict[str, Any], reading: Any
) -> None:
    assert engine.run(store.address, **grid_axes).backends == 0
    assert ledger_path(store).is_file()
    victim = engine.sweep(**grid_axes).trials[0].lineage.state_ids[3]
    overwrite(store, "records", victim)
    verify(store, rc=1)
    assert victim in {state for _, state in engine.run(store.address, **grid_axes).watch.trained}
    assert reading.records(store.address) == reading.records(grid)


def status(store: ObjectStore, *words: str) -> Result:
    return CliRunner().invoke(main, ["status", *words, "--store", store.address], catch_exceptions=False)


@everywhere
def test_a_sweep_whose_only_revision_is_damaged_is_remembered_until_it_is_written_again(
    engine: Any, store: ObjectStore, grid: Path, grid_axes: dict[str, Any], reading: Any
) -> None:
    overwrite(store, "sweeps", "test.000001")
    again = "`sweeper run SPEC` writes it again, and nothing is trained twice"
    for _ in range(2):
        one, every = status(store, "test"), status(store)
        assert (one.exit_code, every.exit_code) == (2, 0)
        assert f"error: test: its description in the store is damaged. {again}." in one.stderr
        assert every.stdout == f"test: its description is damaged; {again}\n"
        text = verify(store, rc=1).stdout
        assert f"damaged: {name_of('sweeps', 'test.000001')}" in text
        assert again in text
        assert findings(store) == [("damaged", "sweeps", "test.000001")]
        assert CliRunner().invoke(main, ["verify", "--store", store.address]).exit_code == 1
    assert "Known: test." in status(store, "other").stderr
    assert engine.run(store.address, **grid_axes).epochs_trained == 0
    assert findings(store, rc=0) == []
    assert status(store, "test").exit_code == 0
    assert reading.same(grid, store.address)


def test_a_damaged_newest_revision_is_named_also_after_another_reader_found_it(
    engine: Any, store: ObjectStore, grid_axes: dict[str, Any]
) -> None:
    older = store.get("sweeps", "test.000001")
    assert older is not None
    store.put("sweeps", "test.000002", older)
    store.put("sweeps", "test.000003", older.replace(b'"number": 1', b'"number": 3'))
    overwrite(store, "sweeps", "test.000002")
    assert "test.000002; nothing needs it" in verify(store, rc=1).stdout
    assert findings(store, rc=0) == [], "a newer one is sound"
    overwrite(store, "sweeps", "test.000003")
    assert "revision 1" in status(store, "test").stdout
    assert findings(store) == [("damaged", "sweeps", "test.000002"), ("damaged", "sweeps", "test.000003")]
