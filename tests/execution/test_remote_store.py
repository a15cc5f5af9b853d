"""Sweeps in a store on S3: the same bits as in a folder, on this machine and on Ray, also after its index is gone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from sweeper.cli import main
from sweeper.store.garbage import find_garbage
from sweeper.store.ledger import ledger_path
from sweeper.store.opening import open_store


@pytest.fixture
def on_s3(engine: Any, s3: str) -> Any:
    """An engine without a cache of its own: features are made for the store."""
    return replace(engine, cache=None)


def shown(*words: str) -> str:
    done = CliRunner().invoke(main, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_sweep_on_s3_has_the_bits_of_one_in_a_folder(
    on_s3: Any, s3: str, grid: Path, grid_axes: dict[str, Any], reading: Any, tmp_path: Path
) -> None:
    assert on_s3.run(s3, stop_after=3, **grid_axes).status == "interrupted"
    shutil.rmtree(tmp_path / "state")
    shutil.rmtree(tmp_path / "cache")
    assert on_s3.run(s3, **grid_axes).status == "done"
    assert reading.same(grid, s3)
    store = open_store(s3, create=False)
    assert ledger_path(store).is_file()
    assert list(store.keys("features"))
    assert not [*store.keys("claims"), *store.keys("conflicts"), *store.keys("control")]

    shutil.rmtree(tmp_path / "state")
    again = on_s3.run(s3, **grid_axes)
    assert (again.status, again.epochs_trained, again.backends) == ("done", 0, 0)
    assert ledger_path(store).is_file()


def test_a_store_on_a_network_file_system_keeps_objects_only(
    engine: Any, grid: Path, grid_axes: dict[str, Any], reading: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    for node in ("first", "second"):
        monkeypatch.setenv("SWEEPER_STATE", str(tmp_path / node / "state"))
        monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / node / "cache"))
        stop_after = 3 if node == "first" else None
        ran = replace(engine, cache=None).run(tmp_path / "net", stop_after=stop_after, **grid_axes)
        assert ran.status == ("interrupted" if stop_after else "done")
        assert next((tmp_path / node / "state").rglob("ledger.sqlite")).is_file()
    assert reading.same(grid, tmp_path / "net")
    assert not list((tmp_path / "net").rglob("*.sqlite*"))
    assert not list(open_store(tmp_path / "net").keys("claims"))


def test_every_verb_reads_a_store_on_s3(grid: Path, s3: str, tmp_path: Path) -> None:
    """The store is one that was copied there, object by object."""
    from s3fs import S3FileSystem

    there = S3FileSystem(skip_instance_cache=True)
    for path in (path for path in grid.rglob("*") if path.is_file() and "ledger" not in path.name):
        there.pipe_file(f"{s3}/{path.relative_to(grid).as_posix()}", path.read_bytes())
    local, remote = ["--store", str(grid)], ["--store", s3]
    for words in (["status", "test"], ["results", "test"], ["results", "test", "--curves"]):
        assert shown(*words, "--json", *remote) == shown(*words, "--json", *local)
    assert not (tmp_path / "state").exists(), "readers leave nothing behind"
    first = json.loads(shown("results", "test", "--json", *remote))["rows"][0]["trial_id"]
    folders = [tmp_path / "from s3", tmp_path / "from folder"]
    for folder, where in zip(folders, (remote, local), strict=True):
        shown("export", "test", "--trial", first, "--what", "embeddings", "--out", str(folder), *where)
    assert [path.name for path in sorted(folders[0].iterdir())] == [path.name for path in sorted(folders[1].iterdir())]
    assert "nothing has failed" in shown("retry", "test", *remote)


def test_garbage_is_found_and_removed_on_s3(s3: str) -> None:
    store = open_store(s3)
    store.put("states", "0" * 32, b"of nobody")
    store.put("claims", "chunk.000001", b"{}")
    later = next(store.files("states")).modified + 2 * 24 * 3600
    assert [garbage.files for garbage in find_garbage(store)] == [(), (), (), ()]
    assert [len(garbage.files) for garbage in find_garbage(store, later)] == [0, 1, 1, 0]
    assert "nothing was removed" in shown("gc", "--store", s3)
    assert store.has("states", "0" * 32)


# as in test_ray.py
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ray_trains_into_a_store_on_s3(
    on_s3: Any, s3: str, grid: Path, grid_axes: dict[str, Any], reading: Any
) -> None:
    from sweeper.execution.ray_tune import RayBackend

    one_worker = {"resources": {"cpu": psutil.cpu_count()}}  # whose start is what takes long
    ran = on_s3.run(s3, RayBackend, **one_worker, **grid_axes)
    assert ran.status == "done"
    assert reading.same(grid, s3)
