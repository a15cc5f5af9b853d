"""Features of a shared store: made once for all nodes, fetched by the others, made again where they are damaged."""

import json
import multiprocessing
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from sweeper.data.features import FeatureCache
from sweeper.store import chunks, claims
from sweeper.store.chain import Chain, Holder
from sweeper.store.chunks import SharedChunks
from sweeper.store.claims import Claims
from sweeper.store.objects import ObjectStore, name_of
from sweeper.store.opening import open_store

SIGNATURE = {"prefix": "abc"}
NUM, CHUNK = 20, 3
STARTS = list(range(0, NUM, CHUNK))


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(request.getfixturevalue("s3") if request.param == "s3" else tmp_path / "store")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEW_S", 0.05)
    monkeypatch.setattr(claims, "STALE_S", 1.5)
    monkeypatch.setattr(chunks, "LOOK_S", 0.02)


def features(rows: range) -> Mapping[str, Any]:
    values = np.arange(rows.start, rows.stop, dtype=np.float32)
    return {"one": np.stack([values, values**2], axis=1), "half": values.astype(np.int16)[:, None, None]}


def node(store: ObjectStore, folder: Path, log: Path, pause: float = 0.0) -> dict[str, Any]:
    """Gets the features as a worker of a node does whose cache is a folder; logs what it makes."""

    def build(rows: range) -> Mapping[str, Any]:
        with log.open("a") as file:
            file.write(f"{rows.start}\n")
        threading.Event().wait(pause)
        return features(rows)

    cache = FeatureCache(folder, chunk=CHUNK, chunks=SharedChunks(store))
    return {name: np.array(values) for name, values in cache.get(SIGNATURE, NUM, build).items()}


def made(log: Path) -> list[int]:
    return sorted(int(line) for line in log.read_text().split()) if log.exists() else []


def is_right(found: Mapping[str, Any]) -> bool:
    wanted = features(range(NUM))
    same = [np.array_equal(found[name], wanted[name]) and found[name].dtype == wanted[name].dtype for name in wanted]
    return all(same) and found.keys() == wanted.keys()


def run_node(address: str, folder: Path, log: Path, start: Any, done: Any) -> None:
    store = open_store(address, create=False)
    start.wait()
    done.put(is_right(node(store, folder, log, pause=0.05)))


def test_another_node_fetches_what_was_made(store: ObjectStore, tmp_path: Path) -> None:
    assert is_right(node(store, tmp_path / "first", tmp_path / "log"))
    assert is_right(node(store, tmp_path / "second", tmp_path / "log"))
    assert is_right(node(store, tmp_path / "second", tmp_path / "log"))
    assert made(tmp_path / "log") == STARTS
    assert list(store.keys("claims")) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_nodes_that_start_together_make_each_chunk_once(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "LOOK_S", 0.05)
    context = multiprocessing.get_context("fork")
    start, done = context.Event(), context.Queue()
    nodes = [
        context.Process(target=run_node, args=(store.address, tmp_path / str(n), tmp_path / "log", start, done))
        for n in range(4)
    ]
    for each in nodes:
        each.start()
    start.set()
    assert [done.get(timeout=120) for _ in nodes] == [True] * 4
    for each in nodes:
        each.join()
    assert made(tmp_path / "log") == STARTS
    assert list(store.keys("claims")) == []


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_chunk_is_made_again(store: ObjectStore, tmp_path: Path, damage: str) -> None:
    node(store, tmp_path / "first", tmp_path / "log")
    key = list(store.keys("features"))[2]
    data = b"sweeper-object-1 " if damage == "cut" else b"sweeper-object-1 " + b"0" * 64 + b" 3\nabc"
    if store.address.startswith("s3://"):
        from s3fs import S3FileSystem

        S3FileSystem(skip_instance_cache=True).pipe_file(f"{store.address}/{name_of('features', key)}", data)
    else:
        Path(store.address, name_of("features", key)).write_bytes(data)
    assert is_right(node(store, tmp_path / "second", tmp_path / "log"))
    assert made(tmp_path / "log") == sorted([*STARTS, STARTS[2]])
    assert is_right(node(store, tmp_path / "third", tmp_path / "log"))
    assert len(made(tmp_path / "log")) == len(STARTS) + 1


@pytest.mark.usefixtures("quick")
def test_a_silent_builder_is_followed(store: ObjectStore, tmp_path: Path) -> None:
    node(store, tmp_path / "first", tmp_path / "log")
    key = list(store.keys("features"))[1]
    store.drop("features", key)
    elsewhere = replace(Holder.this_process(key), host="node7")
    store.put("claims", f"{key}.000004", json.dumps(asdict(elsewhere)).encode())
    waiting = Claims(store)
    with waiting.taken(key) as is_mine:
        assert not is_mine
    assert is_right(node(store, tmp_path / "second", tmp_path / "log"))
    assert made(tmp_path / "log") == sorted([*STARTS, STARTS[1]])
    assert list(store.keys("claims")) == []


@pytest.mark.usefixtures("quick")
def test_a_builder_that_is_slow_keeps_its_claim(store: ObjectStore) -> None:
    mine, others = Claims(store), Claims(store)
    with mine.taken("chunk-1") as is_mine:
        assert is_mine
        for _ in range(50):
            with others.taken("chunk-1") as is_theirs:
                assert not is_theirs
            threading.Event().wait(0.06)
        with others.taken("chunk-10") as is_theirs:
            assert is_theirs, "another one"
    with others.taken("chunk-1") as is_theirs:
        assert is_theirs


def test_a_builder_of_this_host_that_died_is_followed_at_once(store: ObjectStore) -> None:
    dead = replace(Holder.this_process("x"), born=0.0)
    store.put("claims", "chunk.000001", json.dumps(asdict(dead)).encode())
    with Claims(store).taken("chunk") as is_mine:
        assert is_mine
    assert list(store.keys("claims")) == []


def test_what_was_finished_before_the_claim_is_not_made_again(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Chain.last

    def finished_meanwhile(self: Chain) -> tuple[int, Holder | None]:
        store.put("features", "entry-00000000", save(dict(features(range(3)))))
        return look(self)

    def build(rows: range) -> Mapping[str, Any]:
        pytest.fail("made twice")

    monkeypatch.setattr(Chain, "last", finished_meanwhile)
    [(rows, chunk)] = SharedChunks(store)("entry", [range(3)], build)
    assert np.array_equal(chunk["one"], features(rows)["one"])


def test_a_builder_that_fails_lets_go(store: ObjectStore, tmp_path: Path) -> None:
    def fails(rows: range) -> Mapping[str, Any]:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(SharedChunks(store)("entry", [range(3)], fails))
    assert list(store.keys("claims")) == []
    assert [rows for rows, _ in SharedChunks(store)("entry", [range(3)], features)] == [range(3)]
