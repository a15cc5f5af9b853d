"""What befalls a run from outside: a full disk, a read-only store, another driver, a server that hangs."""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import StoreError
from sweeper.execution.local import LocalBackend
from sweeper.store import lease, local
from sweeper.store.chain import Holder
from sweeper.store.lease import driver_chain, latest
from sweeper.store.local import LocalStore
from sweeper.tracking.background import BackgroundTracker

EPOCHS = 17  # distinct training epochs of the grid


def refuse_writes(monkeypatch: pytest.MonkeyPatch, number: int, kind: str = "", after: int = 0) -> None:
    """Makes the file system refuse every new object from one of a kind on, any for none, after some of these."""
    real, seen = local._link_new, list[Path]()

    def link_new(scratch: Path, path: Path, data: bytes) -> bool:
        if path.parts[-3] == kind or not kind or len(seen) > after:
            seen.append(path)
        if len(seen) > after:
            raise OSError(number, os.strerror(number))
        return real(scratch, path, data)

    monkeypatch.setattr(local, "_link_new", link_new)


@pytest.mark.parametrize(
    ("kind", "after"), [("leases", 0), ("sweeps", 0), ("outputs", 0), ("records", 0), ("states", 0), ("states", 5)]
)
def test_a_disk_that_fills_up_ends_the_run_in_words_and_costs_no_number(
    engine, grid, grid_axes, reading, tmp_path, monkeypatch, kind, after
):
    with monkeypatch.context() as full:
        refuse_writes(full, errno.ENOSPC, kind, after)
        with pytest.raises(StoreError, match=r"the disk is full.*Free some space and run the same command again"):
            engine.run(tmp_path / "store", **grid_axes)
    monkeypatch.setattr(lease, "STALE_S", 0.2)  # this process lives on, so its lease is not free at once
    assert engine.run(tmp_path / "store", wait=True, **grid_axes).status == "done"
    assert reading.same(grid, tmp_path / "store")


def test_a_full_disk_under_the_feature_cache_is_named(engine, tmp_path, monkeypatch):
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    own = replace(engine, cache=tmp_path / "features")
    with monkeypatch.context() as patched:
        patched.setattr("sweeper.data.unfinished.write_array_header_1_0", full)
        with pytest.raises(StoreError, match=r"features: the disk is full"):
            own.run(tmp_path / "store")
    assert own.run(tmp_path / "store").status == "done"
    assert not [*own.cache.rglob("*.tmp"), *own.cache.rglob("*.part")]


def test_a_store_that_may_only_be_read_is_refused_before_anything_is_trained(
    engine, grid, grid_axes, tmp_path, monkeypatch
):
    before = {path: path.stat().st_mtime_ns for path in grid.rglob("*")}
    refuse_writes(monkeypatch, errno.EROFS)
    with pytest.raises(StoreError, match=r"it may only be read.*--store"):
        engine.run(grid, **grid_axes)
    assert {path: path.stat().st_mtime_ns for path in grid.rglob("*") if path in before} == before


class Overtaken(LocalBackend):
    """Trains until a driver of another host has taken the store over."""

    def run(self, job: Any) -> None:
        taken: list[Holder] = []

        def events(some: list[Any]) -> None:
            job.on_events(some)
            if not taken:
                taken.append(take_over(job.store))
                assert wait_for(job.stop), "who was taken over learns it"

        super().run(replace(job, on_events=events))


def take_over(address: Any) -> Holder:
    """Puts the next number of the lease, as a driver of another host does; returns it."""
    store = LocalStore(Path(address))
    other = replace(Holder.this_process("theirs"), host="node7", run_id="other")
    while not driver_chain(store).put(latest(store)[0] + 1, other):
        pass
    return other


def wait_for(condition: Callable[[], object], timeout_s: float = 30.0) -> bool:
    done = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        if condition():
            return True
        done.wait(0.02)
    return False


def test_who_is_taken_over_ends_and_the_silent_one_is_followed_in_turn(
    engine, grid, grid_axes, reading, tmp_path, monkeypatch
):
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    monkeypatch.setattr(lease, "STALE_S", 1.0)
    store = tmp_path / "store"
    with pytest.raises(StoreError, match=r"taken over by process \d+ on node7"):
        engine.run(store, Overtaken, **grid_axes)
    kept = reading.records(store)
    assert kept
    with pytest.raises(StoreError, match=r"held by process \d+ on node7.*--wait"):
        engine.run(store, **grid_axes)
    ran = engine.run(store, wait=True, **grid_axes)
    assert ran.status == "done"
    assert any("waiting for process" in note and "node7" in note for note in ran.watch.notes)
    assert reading.records(store) == reading.records(grid)
    assert {key: reading.records(store)[key] for key in kept} == kept


def test_a_tracking_server_that_hangs_delays_no_epoch(engine, grid, grid_axes, reading, tmp_path):
    answers, calls = threading.Event(), list[str]()

    class Hanging:
        def __getattr__(self, name: str) -> Any:
            return lambda *args: (calls.append(name), answers.wait())

    warnings: list[str] = []
    tracker = BackgroundTracker(Hanging(), warnings.append, finish_timeout_s=0.1)  # type: ignore[arg-type]
    try:
        ran = engine.run(tmp_path / "store", tracker=tracker, **grid_axes)
        assert (ran.status, ran.epochs_trained, calls) == ("done", EPOCHS, ["start"])
        assert len(warnings) == 1
        assert reading.same(grid, tmp_path / "store")
    finally:
        answers.set()
        tracker.close()
