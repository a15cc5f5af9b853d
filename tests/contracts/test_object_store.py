"""What every store must do. A new store joins by one line in `ADDRESSES`."""

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import StoreError
from sweeper.store.objects import DAMAGED, AbsentStore, ObjectStore, name_of
from sweeper.store.opening import open_store

NUM_RACERS = 8
PAYLOAD_BYTES = 200_000
MANY = 1010  # more than an S3 server lists at once
SOME = 100  # more than are asked for at once

ADDRESSES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "local": lambda request: str(request.getfixturevalue("tmp_path") / "store"),
    "s3": lambda request: request.getfixturevalue("s3"),
}


@pytest.fixture(params=ADDRESSES)
def address(request: pytest.FixtureRequest) -> str:
    return ADDRESSES[request.param](request)


@pytest.fixture
def store(address: str) -> ObjectStore:
    return open_store(address)


@pytest.fixture
def overwrite(address: str) -> Callable[[str, bytes], None]:
    """Returns what replaces a file of the store, as no verb of it can."""

    def replace(name: str, data: bytes) -> None:
        if address.startswith("s3://"):
            from s3fs import S3FileSystem

            S3FileSystem(skip_instance_cache=True).pipe_file(f"{address}/{name}", data)
        else:
            Path(address, name).write_bytes(data)

    return replace


def race(address: str, racer: int, start: Any, won: Any) -> None:
    start.wait()
    store = open_store(address)
    if store.put("states", "key", bytes([racer]) * PAYLOAD_BYTES):
        won.put((racer, store.store_id))


def test_what_was_put_is_got(store: ObjectStore) -> None:
    for payload in (b"", b"\n", b"header \n and \x00 bytes", bytes(range(256)) * 1000):
        key = f"key{len(payload)}"
        assert store.put("records", key, payload)
        assert store.get("records", key) == payload


def test_the_first_put_stays(store: ObjectStore) -> None:
    assert store.put("states", "key", b"first")
    assert not store.put("states", "key", b"second")
    assert not store.put("states", "key", b"first")
    assert store.get("states", "key") == b"first"


def test_what_is_absent_is_none(store: ObjectStore) -> None:
    assert store.get("states", "key") is None
    assert not store.has("states", "key")
    assert list(store.keys("states")) == []
    assert list(store.files("states")) == []


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


def test_many_objects_are_listed_and_read(store: ObjectStore) -> None:
    keys = [f"{number * 7919 % 65536:04x}" for number in range(MANY)]
    for key in keys:
        store.put("records", key, key.encode())
    assert list(store.keys("records")) == sorted(keys)
    assert list(store.get_each("records", keys[:SOME])) == [(key, key.encode()) for key in keys[:SOME]]
    assert list(store.get_each("records", ["none", keys[0]])) == [("none", None), (keys[0], keys[0].encode())]


def test_a_dropped_object_is_gone_and_can_be_put_again(store: ObjectStore) -> None:
    store.put("states", "key", b"first")
    store.drop("states", "key")
    assert not store.has("states", "key")
    assert store.get("states", "key") is None
    assert store.put("states", "key", b"second")
    store.drop("states", "never there")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_object_is_named_moved_aside_and_counts_as_absent(
    store: ObjectStore,
    overwrite: Callable[[str, bytes], None],
    address: str,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from sweeper.store.objects import seal

    whole = seal(b"payload" * 10)
    bad = {"truncated": whole[:-1], "flipped": whole[:-1] + b"Y", "empty": b""}[damage]
    store.put("states", "key", b"payload" * 10)
    overwrite(name_of("states", "key"), bad)
    assert store.has("states", "key"), "it is not read"
    assert not store.put("states", "key", b"payload"), "nor is it replaced"
    assert store.get("states", "key") is None
    assert not store.has("states", "key")
    named = [said for said in caplog.messages if said.startswith("damaged: ")]
    assert [f"{store.address}/states/ke/key (" in said for said in named] == [True]
    assert [(file.name.startswith("damaged/states/key."), file.size) for file in store.files(DAMAGED)] == [
        (True, len(bad))
    ]
    assert store.put("states", "key", b"again")
    assert open_store(address).get("states", "key") == b"again"


def test_a_store_can_be_sent_to_another_process(store: ObjectStore) -> None:
    store.put("states", "key", b"payload")
    sent = pickle.loads(pickle.dumps(store))
    assert (sent.get("states", "key"), sent.store_id, sent.address) == (b"payload", store.store_id, store.address)


def test_files_are_what_lies_there_and_can_be_removed(store: ObjectStore) -> None:
    store.put("states", "abcd", b"12345")
    store.put("states", "abce", b"")
    found = list(store.files("states"))
    assert [file.name for file in found] == ["states/ab/abcd", "states/ab/abce"]
    assert found[0].size - found[1].size == len(b"12345")
    assert found[0].modified > 1.7e9
    for file in found:
        store.remove(file.name)
    store.remove("states/ab/abcd")
    assert list(store.keys("states")) == []


def test_a_reader_makes_no_store(address: str) -> None:
    with pytest.raises(AbsentStore, match=r"is no store.*--store"):
        open_store(address, create=False)
    with pytest.raises(AbsentStore):
        open_store(address, create=False)


def test_a_place_that_holds_something_else_is_refused(address: str, overwrite: Callable[[str, bytes], None]) -> None:
    if not address.startswith("s3://"):
        Path(address).mkdir()
    overwrite("thesis.tex", b"precious")
    with pytest.raises(StoreError, match="a new store needs an empty or absent"):
        open_store(address)


def test_a_store_that_has_lost_its_marker_is_told_so_and_gets_another(store: ObjectStore, address: str) -> None:
    before = store.store_id
    store.put("records", "ab", b"kept")
    store.remove("store.json")
    for create in (True, False):
        with pytest.raises(StoreError, match=r"store\.json is missing.*from a copy.*verify --new-id") as caught:
            open_store(address, create=create)
        assert not isinstance(caught.value, AbsentStore), "a plan must not take it for no store"
    renewed = open_store(address, create=False, renew=True)
    assert renewed.store_id != before
    assert renewed.get("records", "ab") == b"kept"
    assert open_store(address, create=False, renew=True).store_id == renewed.store_id


def test_no_marker_is_put_where_no_store_is(address: str, overwrite: Callable[[str, bytes], None]) -> None:
    if not address.startswith("s3://"):
        Path(address).mkdir()
    overwrite("thesis.tex", b"precious")
    with pytest.raises(AbsentStore):
        open_store(address, create=False, renew=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2, "store_id": "x"}', '{"format": 1}'])
def test_a_store_of_another_make_is_refused(address: str, overwrite: Callable[[str, bytes], None], text: str) -> None:
    open_store(address)
    overwrite("store.json", text.encode())
    with pytest.raises(StoreError, match=r"store\.json: .*--store"):
        open_store(address)


def test_a_store_keeps_its_identity(store: ObjectStore, address: str) -> None:
    assert open_store(store.address, create=False).store_id == store.store_id
    assert open_store(f"{address}-other").store_id != store.store_id


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_many_racing_processes_have_one_winner_and_a_whole_object(address: str) -> None:
    """They also race for making the store itself."""
    context = multiprocessing.get_context("fork")
    start, won = context.Event(), context.Queue()
    racers = [context.Process(target=race, args=(address, racer, start, won)) for racer in range(NUM_RACERS)]
    for racer in racers:
        racer.start()
    start.set()
    for racer in racers:
        racer.join()
    winner, store_id = won.get(timeout=5)
    assert won.empty()
    assert [racer.exitcode for racer in racers] == [0] * NUM_RACERS
    assert open_store(address).get("states", "key") == bytes([winner]) * PAYLOAD_BYTES
    assert open_store(address).store_id == store_id


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_can_go_on_with_an_open_store(store: ObjectStore) -> None:
    store.put("states", "before", b"parent")
    child = multiprocessing.get_context("fork").Process(target=store.put, args=("states", "after", b"child"))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    assert store.get("states", "after") == b"child"
