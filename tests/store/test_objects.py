"""The store in a folder: damage, foreign folders, and what the file system refuses."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.errors import StoreError
from sweeper.store.local import LocalStore
from sweeper.store.objects import DamagedObject, seal, unseal

FLIP = 0x01


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def flip_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= FLIP
    path.write_bytes(data)


def refuse(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, number: int) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(owner, name, refused)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "header cut": lambda path: os.truncate(path, 20),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "payload flipped": lambda path: flip_byte(path, -1),
    "digest flipped": lambda path: flip_byte(path, 25),
    "format flipped": lambda path: flip_byte(path, 0),
    "other file": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_is_named_moved_aside_and_counts_as_absent(
    store: LocalStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.put("states", "key", b"payload" * 10)
    DAMAGE[damage](store.path("states", "key"))
    bad = store.path("states", "key").read_bytes()
    assert store.get("states", "key") is None
    assert not store.has("states", "key")
    assert [str(store.path("states", "key")) in said for said in caplog.messages] == [True]
    assert [path.read_bytes() for path in (store.root / "damaged" / "states").iterdir()] == [bad]
    assert store.put("states", "key", b"again")
    assert store.get("states", "key") == b"again"


def test_every_flipped_byte_of_an_object_is_noticed() -> None:
    sealed = seal(b"payload")
    assert unseal(sealed) == b"payload"
    for position in range(len(sealed)):
        flipped = bytearray(sealed)
        flipped[position] ^= FLIP
        with pytest.raises(DamagedObject):
            unseal(bytes(flipped))


def test_two_readers_that_find_the_same_damage_agree(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("states", "key", b"payload")
    flip_byte(store.path("states", "key"), -1)
    replace = os.replace

    def slower(source: Path, target: Path) -> None:
        source.unlink()  # the other reader was faster
        replace(source, target)

    monkeypatch.setattr(os, "replace", slower)
    assert store.get("states", "key") is None


def test_who_may_only_read_sees_damage_as_absence(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("states", "key", b"payload")
    flip_byte(store.path("states", "key"), -1)
    refuse(monkeypatch, os, "replace", errno.EROFS)
    assert store.get("states", "key") is None


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, ["disk is full", "Free some space"]),
        (errno.EDQUOT, ["quota", "Free some space"]),
        (errno.EROFS, ["may only be read", "--store"]),
        (errno.EACCES, ["may not", "--store"]),
        (errno.EPERM, ["hard links", "--store"]),
        (errno.EIO, ["Input/output error", "again"]),
    ],
)
@pytest.mark.parametrize("step", ["write_bytes", "link"])
def test_what_the_file_system_refuses_is_explained(store, monkeypatch, number, words, step) -> None:
    owner = Path if step == "write_bytes" else os
    with monkeypatch.context() as patched:
        refuse(patched, owner, step, number)
        with pytest.raises(StoreError) as caught:
            store.put("states", "key", b"payload")
    for word in [str(store.root), *words]:
        assert word in str(caught.value)
    assert not store.has("states", "key")
    assert list((store.root / "tmp").iterdir()) == []
    assert store.put("states", "key", b"payload"), "and with space again all is well"


@pytest.mark.parametrize("verb", ["get", "has", "keys", "drop"])
def test_reading_and_dropping_are_explained_too(store: LocalStore, monkeypatch, verb: str) -> None:
    store.put("states", "key", b"payload")
    owner, name = {"get": (Path, "read_bytes"), "has": (Path, "exists"), "keys": (os, "listdir")}.get(
        verb, (Path, "unlink")
    )
    refuse(monkeypatch, owner, name, errno.EACCES)
    with pytest.raises(StoreError, match="may not read or write"):
        list(store.keys("states")) if verb == "keys" else getattr(store, verb)("states", "key")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_can_be_read_but_not_written(store: LocalStore) -> None:
    store.put("states", "key", b"payload")
    folders = [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert LocalStore(store.root, create=False).get("states", "key") == b"payload"
        with pytest.raises(StoreError, match="may not"):
            store.put("states", "other", b"payload")
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "tmp").mkdir()
    with pytest.raises(StoreError, match="empty or absent"):
        LocalStore(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex", "tmp"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="a store is a folder"):
        LocalStore(tmp_path / "file")


def test_a_reader_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no store"):
        LocalStore(tmp_path / "absent", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_store_keeps_its_identity(store: LocalStore, tmp_path: Path) -> None:
    assert LocalStore(store.root).store_id == store.store_id
    assert LocalStore(tmp_path / "other").store_id != store.store_id


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2, "store_id": "x"}', '{"format": 1}'])
def test_a_store_of_another_make_is_refused(store: LocalStore, text: str) -> None:
    (store.root / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store\.json: .*--store"):
        LocalStore(store.root)


def test_the_marker_is_what_other_versions_read(store: LocalStore) -> None:
    about = json.loads((store.root / "store.json").read_text())
    assert {name: about[name] for name in ("format", "store_id")} == {"format": 1, "store_id": store.store_id}


def test_a_store_of_another_id_is_refused(store: LocalStore) -> None:
    """It would be another store, whose runs in MLflow are others, too."""
    marker = store.root / "store.json"
    first = store.store_id[0]
    marker.write_text(marker.read_text().replace(store.store_id, ("0" if first != "0" else "1") + store.store_id[1:]))
    with pytest.raises(StoreError, match=r"as it was written. Got another checksum"):
        LocalStore(store.root)


def test_the_file_systems_own_files_are_no_keys(store: LocalStore) -> None:
    store.put("states", "abc", b"payload")
    (store.path("states", "abc").parent / ".nfs0001").write_bytes(b"")
    (store.root / "states" / ".DS_Store").write_bytes(b"")
    assert list(store.keys("states")) == ["abc"]


def test_a_cleaned_scratch_folder_is_made_again(store: LocalStore) -> None:
    (store.root / "tmp").rmdir()
    assert store.put("states", "key", b"payload")
