"""What can go: never a result of a sweep."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from sweeper.cli import main
from sweeper.store.garbage import find_garbage
from sweeper.store.local import LocalStore
from sweeper.store.opening import open_store

LATER = 2 * 24 * 3600.0


def sizes(store: LocalStore, later: float = 0.0) -> list[int]:
    return [len(each.files) for each in find_garbage(store, time.time() + later)]


def test_results_of_a_sweep_are_no_garbage(grid: Path) -> None:
    assert sizes(LocalStore(grid), LATER)[2] == 0


def test_damage_leftovers_and_results_of_no_sweep_can_go(grid: Path, tmp_path: Path) -> None:
    shutil.copytree(grid, tmp_path / "store")
    store = LocalStore(tmp_path / "store")
    state = next(iter(store.keys("states")))
    path = store.path("states", state)
    path.write_bytes(path.read_bytes()[:100])
    assert store.get("states", state) is None
    (store.root / "tmp" / "half").write_bytes(b"x" * 10)
    store.put("states", "0" * 32, b"of nobody")
    store.put("records", f"{'0' * 32}.later", b"[]")
    assert sizes(store) == [1, 0, 0, 0], "what is young may be in the making"
    assert sizes(store, LATER) == [1, 1, 2, 0]
    long_ago = time.time() - LATER
    for old in (store.root / "tmp" / "half", store.path("states", "0" * 32)):
        os.utime(old, (long_ago, long_ago))
    shown = CliRunner().invoke(main, ["gc", "--store", str(store.root)])
    assert shown.exit_code == 0
    assert "nothing was removed" in shown.output
    assert sizes(store) == [1, 1, 1, 0]
    assert CliRunner().invoke(main, ["gc", "--store", str(store.root), "--yes"]).exit_code == 0
    assert sizes(store) == [0, 0, 0, 0]
    assert len(list(store.keys("states"))) == len(list(LocalStore(grid).keys("states"))) - 1


def test_frozen_features_are_removed_on_request_and_computed_again(engine, tmp_path) -> None:
    ran = replace(engine, cache=None).run(tmp_path / "store", training={"max_epochs": 1})
    assert ran.status == "done"
    store = open_store(tmp_path / "store")
    gc = ["gc", "--store", str(store.root), "--json"]

    def features(*options: str) -> dict[str, object]:
        rows = json.loads(CliRunner().invoke(main, [*gc, *options]).stdout)["rows"]
        return next((row for row in rows if row["sort"] == "frozen features"), {})

    assert features() == {}
    assert features("--features")["files"] == 3, "pool, held-out set and prompts"
    assert features("--cache", str(store.root / "features")) == features("--features")
    (tmp_path / "empty").mkdir()
    assert features("--cache", str(tmp_path / "empty"))["files"] == 0
    assert features("--features", "--yes")["bytes"] > 1e5
    assert features("--features")["files"] == 0
    assert replace(engine, cache=None).run(tmp_path / "store", training={"max_epochs": 2}).status == "done"
    assert features("--features")["files"] == 3
