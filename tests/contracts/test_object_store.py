"""What every store must do. A new store joins by one line in `STORES`."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.store.local import LocalStore
from sweeper.store.objects import ObjectStore

Opened = Callable[[], ObjectStore]

STORES: dict[str, Callable[[Path], ObjectStore]] = {"local": lambda folder: LocalStore(folder / "store")}
NUM_RACERS = 8
PAYLOAD_BYTES = 200_000


@pytest.fixture(params=STORES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def store(name: str, tmp_path: Path) -> ObjectStore:
    return STORES[name](tmp_path)


def race(name: str, folder: Path, racer: int, start, won) -> None:
    store = STORES[name](folder)
    start.wait()
    if store.put("states", "key", bytes([racer]) * PAYLOAD_BYTES):
        won.put(racer)


def test_what_was_put_is_got(store: ObjectStore) -> None:
    for payload in (b"", b"\n", b"header \n and \x00 bytes", bytes(range(256)) * 1000):
        key = f"key{len(payload)}"
        assert store.put("records", key, payload)
        assert store.get("records", key) == payload


def test_the_first_put_stays(store: ObjectStore) -> None:
    assert store.put("states", "key", b"first")
    assert not store.put("states", "key", b"second")
    assert store.get("states", "key") == b"first"


def test_what_is_absent_is_none(store: ObjectStore) -> None:
    assert store.get("states", "key") is None
    assert not store.has("states", "key")
    assert list(store.keys("states")) == []


def test_kinds_are_apart(store: ObjectStore) -> None:
    store.put("states", "key", b"state")
    store.put("records", "key", b"record")
    assert (store.get("states", "key"), store.get("records", "key")) == (b"state", b"record")
    assert not store.has("outputs", "key")
    store.drop("states", "key")
    assert store.get("records", "key") == b"record"


def test_keys_come_sorted(store: ObjectStore) -> None:
    keys = ["b0", "a1", "a1.set.output", "a10", "0f", "length_grid.000001", "length_grid.000010", "z"]
    for key in keys:
        store.put("sweeps", key, b"x")
    assert list(store.keys("sweeps")) == sorted(keys)


def test_a_dropped_object_is_gone_and_can_be_put_again(store: ObjectStore) -> None:
    store.put("states", "key", b"first")
    store.drop("states", "key")
    assert not store.has("states", "key")
    assert store.get("states", "key") is None
    assert store.put("states", "key", b"second")
    store.drop("states", "never there")


def test_another_process_finds_what_was_put(name: str, tmp_path: Path) -> None:
    STORES[name](tmp_path).put("states", "key", b"value")
    assert STORES[name](tmp_path).get("states", "key") == b"value"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_many_racing_processes_have_one_winner_and_a_whole_object(name: str, tmp_path: Path) -> None:
    """They also race for making the store itself."""
    context = multiprocessing.get_context("fork")
    start, won = context.Event(), context.Queue()
    racers = [context.Process(target=race, args=(name, tmp_path, racer, start, won)) for racer in range(NUM_RACERS)]
    for racer in racers:
        racer.start()
    start.set()
    for racer in racers:
        racer.join()
    winner = won.get(timeout=5)
    assert won.empty()
    assert [racer.exitcode for racer in racers] == [0] * NUM_RACERS
    assert STORES[name](tmp_path).get("states", "key") == bytes([winner]) * PAYLOAD_BYTES
