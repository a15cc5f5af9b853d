"""The feature cache: built once, found by content, rebuilt when damaged, exact in every storage type."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sweeper.data.features import FeatureCache
from sweeper.store.local import LocalStore
from sweeper.tasks.base import Workbench
from sweeper.tasks.state import dump_state


def numbers(rows: range) -> dict[str, np.ndarray]:
    return {"square": np.array([[row, row * row] for row in rows], dtype=np.float32)}


def test_features_are_those_of_each_item_whatever_the_chunk(tmp_path):
    for chunk in (1, 4, 64):
        found = FeatureCache(tmp_path, chunk=chunk).get({"a": 1}, 10, numbers)
        assert np.array_equal(found["square"], numbers(range(10))["square"])
        assert isinstance(found["square"], np.memmap)
        assert not found["square"].flags.writeable


def test_an_entry_is_built_once_and_found_by_content(tmp_path):
    calls: list[range] = []

    def build(rows: range) -> dict[str, np.ndarray]:
        calls.append(rows)
        return numbers(rows)

    cache = FeatureCache(tmp_path)
    cache.get({"weights": "a"}, 10, build)
    FeatureCache(tmp_path).get({"weights": "a"}, 10, build)
    assert len(calls) == 1
    cache.get({"weights": "b"}, 10, build)
    cache.get({"weights": "a"}, 11, build)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", ["truncate", "flip", "missing", "no digests"])
def test_a_damaged_entry_is_built_again(tmp_path, damage):
    cache = FeatureCache(tmp_path)
    cache.get({"a": 1}, 10, numbers)
    (file,) = tmp_path.glob("*/square.npy")
    data = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(data[:-4])
    elif damage == "flip":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        os.utime(file, (1, 1))
    elif damage == "missing":
        file.unlink()
    else:
        (file.parent / "sha256.json").unlink()
    found = cache.get({"a": 1}, 10, numbers)
    assert np.array_equal(found["square"], numbers(range(10))["square"])


@pytest.mark.parametrize("damage", ["none", "flipped", "torn journal"])
def test_a_later_builder_goes_on_behind_a_killed_one(tmp_path, damage):
    def die(rows: range) -> dict[str, np.ndarray]:
        if rows.start == 8:
            raise KeyboardInterrupt
        return numbers(rows)

    made: list[int] = []

    def build(rows: range) -> dict[str, np.ndarray]:
        made.append(rows.start)
        return numbers(rows)

    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path, chunk=4).get({"a": 1}, 10, die)
    (part,) = tmp_path.glob("*.part")
    if damage == "flipped":
        data = bytearray((part / "square.npy").read_bytes())
        data[128] ^= 1
        (part / "square.npy").write_bytes(data)
    elif damage == "torn journal":
        text = (part / "made.jsonl").read_text()
        (part / "made.jsonl").write_text(text[:-20])
    told: list[tuple[int, int]] = []
    cache = FeatureCache(tmp_path, chunk=4, tell=lambda done, total: told.append((done, total)))
    found = cache.get({"a": 1}, 10, build)
    assert np.array_equal(found["square"], numbers(range(10))["square"])
    assert made == {"none": [8], "flipped": [0, 8], "torn journal": [4, 8]}[damage]
    assert told[0] == (8 if damage == "none" else (10 - 6), 10)
    assert told[-1] == (10, 10)
    assert not list(tmp_path.glob("*.part"))


def _race(root: str, start_at: float, log: str) -> None:
    def build(rows: range) -> dict[str, np.ndarray]:
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.05)
        return numbers(rows)

    time.sleep(max(0.0, start_at - time.time()))
    found = FeatureCache(Path(root), chunk=4).get({"a": 1}, 10, build)
    assert np.array_equal(found["square"], numbers(range(10))["square"])


def test_two_racing_processes_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    start_at = time.time() + 0.3
    arguments = (str(tmp_path / "cache"), start_at, str(log))
    processes = [context.Process(target=_race, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    builders = log.read_text().split()
    assert len(builders) == 3, "three chunks, each once"
    assert len(set(builders)) == 1


@pytest.mark.parametrize("storage", ["fp32", "fp16", "bf16"])
def test_storage_types_round_as_torch_does(engine, storage):
    exact = engine.task()._pool.batch(np.arange(5))
    stored = engine.task(numerics={"features": storage})._pool.batch(np.arange(5))
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[storage]
    for name, tensor in exact.items():
        assert stored[name].dtype == dtype
        assert torch.equal(stored[name], tensor.to(dtype))
    loss = engine.task(numerics={"features": storage}).evaluate(engine.task().init_state(1)).values["val_loss"]
    assert loss == pytest.approx(engine.task().evaluate(engine.task().init_state(1)).values["val_loss"], rel=0.02)


def entries(root: Path) -> set[str]:
    return {file.parent.name for file in root.glob("*/sha256.json")}


def test_other_content_is_another_entry_and_the_same_is_not(engine, tmp_path):
    from sweeper.data.features import FeatureCache as Cache
    from sweeper.tasks import prepare

    def new_entries(**changes) -> int:
        sweep, before = engine.sweep(**changes), entries(tmp_path)
        workbench = Workbench(cache=Cache(tmp_path), store=LocalStore(tmp_path / "store"), device="cpu")
        prepare(sweep.trials[0].config, sweep.spec.evaluation, workbench)
        return len(entries(tmp_path) - before)

    assert new_entries() == 3, "pool, held-out set and prompts"
    for same in (
        {"training": {"batch_size": 8, "optimizer": {"lr": 0.5}}},
        {"model": {"adapter": {"rank": 2, "alpha": 3.0, "init": "reference"}}},
        {"seeds": 5},
        {"numerics": {"device": "auto"}},
    ):
        assert new_entries(**same) == 0, json.dumps(same)
    for other in (
        {"data": {"preprocessing": "clip"}},
        {"model": {"adapter": {"vision_layers": 1}}},
        {"numerics": {"features": "fp16"}},
    ):
        assert new_entries(**other) == 2, json.dumps(other)
    assert new_entries(model={"adapter": {"text_layers": 2}}) == 1, "prompts"
    assert new_entries(model={"pretrained": "random"}) == 3
    assert new_entries(data={"folds": 4, "fold": 0}) == 2, "other images"


def task_state(engine, changes):
    return engine.task(**changes).init_state(1)


def has_tower(model: object) -> bool:
    return any("conv1" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("kind", ["behavior", "meg"])
def test_a_worker_that_finds_its_features_loads_the_suffix_alone(request, tmp_path, monkeypatch, kind):
    """A tower pass is a call of `prefix`, or of a full forward; once the features are there, none is made."""
    from sweeper_models import clip_hba, clip_hba_meg

    from sweeper.tasks import loading

    engine = request.getfixturevalue("engine" if kind == "behavior" else "meg_engine")
    network = clip_hba.ClipHba if kind == "behavior" else clip_hba_meg.ClipHbaMeg
    whole_loads: list[object] = []
    passes: list[int] = []
    load, prefix = loading.load_backbone, network.prefix

    def counted_load(weights, *, behind=None):
        whole_loads.extend([weights] if behind is None else [])
        return load(weights, behind=behind)

    def counted_prefix(self, images):
        passes.append(len(images))
        return prefix(self, images)

    monkeypatch.setattr(loading, "load_backbone", counted_load)
    monkeypatch.setattr(network, "prefix", counted_prefix)
    changes = {"numerics": {"threads": 1}}
    monkeypatch.setattr(engine, "cache", tmp_path / "cache")

    def lived() -> bytes:
        task = engine.task(**changes)
        state = task.init_state(1)
        for epoch in (1, 2, 3):  # the MEG model's adapters learn in the third
            task.train_epoch(state, engine.regime(), epoch)
            task.review(state, task.evaluate(state).values, epoch)
        held = task._model if kind == "behavior" else task._network
        assert not has_tower(held)
        return dump_state(state)

    first = lived()
    assert sum(passes) == 45 + 12 if kind == "behavior" else sum(passes) >= 45 + 12
    assert whole_loads
    whole_loads.clear()
    passes.clear()
    assert lived() == first, "bit for bit"
    assert not passes, "validation and test stimuli are cached, too"
    assert not whole_loads
    for fields, expected in (
        ({"kind": "image_noise"}, 3 * 36),  # the noise batches only
        ({"kind": "image_noise", "noise": "published"}, 36),  # once per window
        ({"kind": "blank_image"}, 1),
        ({"kind": "blank_image"}, 0),  # a row of the cache
    ):
        task, state = engine.task(**changes), task_state(engine, changes)
        whole_loads.clear()
        passes.clear()
        for epoch in (1, 2, 3):
            task.train_epoch(state, engine.regime({**fields, "start": 1, "length": 3}), epoch)
        assert sum(passes) == expected, fields
        assert len(whole_loads) == (expected > 0), "on demand"
        task.train_epoch(state, engine.regime(), 4)
        assert task._whole._backbone is None, "and given back"
