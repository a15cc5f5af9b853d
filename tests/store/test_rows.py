"""Records and outputs: round trips, first results kept, differences told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.evaluation import OutputKey
from sweeper.evaluation.items import RsaItem
from sweeper.records import TRAINING_ITEM, Failure, Record
from sweeper.store.local import LocalStore
from sweeper.store.outputs import read_outputs, write_outputs
from sweeper.store.rows import dump_records, is_measured, iterate_records, load_records, read_records, write_records

KEY = OutputKey(set_id="set0", layer="output")
ITEM = RsaItem(
    item_id="item-rsa",
    column="rsa_behavioral",
    outputs=KEY,
    reference="behavioral48",
    rdm=np.zeros((2, 2)),
    metric="correlation",
    bootstraps=0,
    centered=False,
)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def record(item: str = TRAINING_ITEM, values: Mapping[str, Any] | None = None, state_id: str = "a" * 32) -> Record:
    return Record(
        state_id=state_id,
        epoch=3,
        item=item,
        values={"val_loss": 0.1 + 0.2} if values is None else values,
        reasons={},
        measured_at=1000.25,
        seconds=0.5,
    )


def damage(store: LocalStore, kind: Any, key: str) -> None:
    path = store.path(kind, key)
    path.write_bytes(path.read_bytes()[:-1])


def test_records_come_back_bit_for_bit() -> None:
    undefined = Record(
        state_id="b",
        epoch=0,
        item="i",
        values={"rsa": None},
        reasons={"rsa": "constant"},
        measured_at=1e9,
        seconds=None,
    )
    records = (record(values={"val_loss": 1 / 3, "count": 7, "name": "größe"}), undefined)
    assert load_records(dump_records(records)) == records


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_written(store: LocalStore, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_records(store, [record(values={"val_loss": value})])
    assert list(store.keys("records")) == []


def test_the_same_result_twice_is_no_difference(store: LocalStore) -> None:
    again = Record(**{**vars_of(record()), "measured_at": 2000.0, "seconds": 9.0})
    assert write_records(store, [record()]) == ()
    assert write_records(store, [again]) == ()
    assert read_records(store, "a" * 32) == (record(),)


def test_another_result_is_told_and_the_first_is_kept(store: LocalStore) -> None:
    write_records(store, [record()])
    other = record(values={"val_loss": 0.3})
    (warning,) = write_records(store, [other])
    assert "epoch 3" in warning
    assert "first result is kept" in warning
    assert read_records(store, "a" * 32) == (record(),)
    (key,) = store.keys("conflicts")
    assert load_records(store.get("conflicts", key) or b"") == (other,)
    write_records(store, [other])
    assert len(list(store.keys("conflicts"))) == 1


def test_the_last_bit_is_a_difference(store: LocalStore) -> None:
    write_records(store, [record(values={"val_loss": 0.3})])
    assert write_records(store, [record(values={"val_loss": 0.1 + 0.2})]) != ()


def test_an_item_added_later_stands_beside(store: LocalStore) -> None:
    added = record("item-new", {"rsa": 0.5})
    write_records(store, [record()])
    assert write_records(store, [record(), added]) == ()
    assert write_records(store, [added]) == ()
    found = dict(iterate_records(store, set()))
    assert list(found.values()) == [(record(),), (added,)]
    assert all(key.startswith("a" * 32) for key in found)


def test_damaged_records_are_written_anew(store: LocalStore) -> None:
    write_records(store, [record()])
    damage(store, "records", "a" * 32)
    assert write_records(store, [record(values={"val_loss": 0.5})]) == ()
    assert read_records(store, "a" * 32)[0].values == {"val_loss": 0.5}


def test_damaged_records_are_not_listed(store: LocalStore) -> None:
    write_records(store, [record()])
    write_records(store, [record(state_id="b" * 32)])
    damage(store, "records", "a" * 32)
    assert [key for key, _ in iterate_records(store, set())] == ["b" * 32]


def test_known_objects_are_not_read_again(store: LocalStore) -> None:
    write_records(store, [record()])
    assert list(iterate_records(store, {"a" * 32})) == []


def test_outputs_come_back_bit_for_bit(store: LocalStore) -> None:
    outputs = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    write_outputs(store, "a", KEY, outputs)
    found = read_outputs(store, "a", KEY)
    assert found is not None
    assert found.dtype == np.float32
    assert found.tobytes() == outputs.tobytes()
    assert read_outputs(store, "a", OutputKey(set_id="set0", layer="embedding")) is None
    assert read_outputs(store, "b", KEY) is None


def test_a_state_is_measured_with_its_records_and_all_outputs(store: LocalStore) -> None:
    write_records(store, [record()])
    assert is_measured(store, "a" * 32, [])
    assert not is_measured(store, "a" * 32, [ITEM])
    write_outputs(store, "a" * 32, KEY, np.zeros((2, 2), np.float32))
    assert is_measured(store, "a" * 32, [ITEM])
    damage(store, "records", "a" * 32)
    assert not is_measured(store, "a" * 32, [ITEM])


def test_a_failure_survives_the_store() -> None:
    failure = Failure(state_id="a", epoch=7, place="epoch 7, batch 3", reason="val_loss is nan", details="line\nline")
    assert Failure.from_json(failure.to_json()) == failure


def vars_of(one: Record) -> dict[str, Any]:
    return {**json.loads(dump_records([one]))[0]}
