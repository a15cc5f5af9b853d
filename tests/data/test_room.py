"""The room that frozen features take: what was asked for longest ago gives way."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from sweeper.data.features import FeatureCache
from sweeper.data.room import kept_entries

ENTRY = 8000  # bytes of numbers in each


def numbers(rows: range) -> dict[str, np.ndarray]:
    return {"ones": np.full((len(rows), 100), rows.start, dtype=np.float64)}


def entry_of(root: Path, name: str, age_s: float, limit_bytes: float = float("inf")) -> Path:
    """Makes an entry in a process's cache of its own, last asked for some seconds ago."""
    before = set(kept_entries(root))
    FeatureCache(root, limit_bytes=limit_bytes).get({"name": name}, 10, numbers)
    (folder,) = set(kept_entries(root)) - before
    mark = folder / "used"
    os.utime(mark, (mark.stat().st_mtime - age_s,) * 2)
    return folder


def test_entries_that_were_asked_for_longest_ago_give_way(tmp_path: Path) -> None:
    old, older, new = (entry_of(tmp_path, name, age) for name, age in [("old", 50), ("older", 90), ("new", 10)])
    made = entry_of(tmp_path, "made", 0, limit_bytes=3.5 * ENTRY)
    assert set(kept_entries(tmp_path)) == {old, new, made}
    assert not older.exists()


def test_who_has_a_removed_entry_open_reads_on_and_the_next_makes_it_again(tmp_path: Path) -> None:
    entry_of(tmp_path, "a", 50)
    mapped = FeatureCache(tmp_path).get({"name": "a"}, 10, numbers)["ones"]
    entry_of(tmp_path, "b", 0, limit_bytes=1.5 * ENTRY)
    assert len(kept_entries(tmp_path)) == 1
    assert np.array_equal(mapped, numbers(range(10))["ones"])
    assert np.array_equal(FeatureCache(tmp_path).get({"name": "a"}, 10, numbers)["ones"], mapped)


def test_what_is_used_here_or_made_elsewhere_stays(tmp_path: Path) -> None:
    elsewhere = entry_of(tmp_path, "elsewhere", 50)
    cache = FeatureCache(tmp_path, limit_bytes=ENTRY / 2)
    with FileLock(f"{elsewhere}.lock"):
        cache.get({"name": "first"}, 10, numbers)
        cache.get({"name": "second"}, 10, numbers)
    assert len(kept_entries(tmp_path)) == 3


def test_asking_again_counts_as_use(tmp_path: Path) -> None:
    first, second = entry_of(tmp_path, "first", 90), entry_of(tmp_path, "second", 50)
    FeatureCache(tmp_path).get({"name": "first"}, 10, numbers)
    entry_of(tmp_path, "third", 0, limit_bytes=2.5 * ENTRY)
    assert first.exists()
    assert not second.exists()


def test_a_sweep_keeps_its_node_to_the_limit(engine, tmp_path: Path) -> None:
    own = replace(engine, cache=tmp_path / "features")
    of_another = entry_of(tmp_path / "features", "another sweep", 50)
    ran = own.run(tmp_path / "store", resources={"cache_gb": 1e-6}, training={"max_epochs": 1})
    assert ran.status == "done"
    assert not of_another.exists()
    assert any("resources.cache_gb" in note for note in ran.watch.notes)
