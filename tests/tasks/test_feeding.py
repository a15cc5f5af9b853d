"""Where features lie changes no bit; what is streamed is one batch ahead and no more; no step waits for the device."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sweeper.data.features import FeatureCache
from sweeper.tasks.feeding import Stimuli, room_for_features
from sweeper.tasks.state import dump_state

ORDER = [np.array([7, 0, 7]), np.array([2, 9, 1]), np.array([3, 4, 5]), np.array([8])]


def numbers(rows: range) -> dict[str, np.ndarray]:
    return {"square": np.array([[row, row * row] for row in rows], dtype=np.float32)}


def placed(tmp_path, *, resident: bool | None) -> Stimuli:
    found = FeatureCache(tmp_path).get({"a": 1}, 10, numbers)
    return Stimuli(found, torch.float32, torch.device("cpu"), resident=resident)


class TwoBuffers:
    """A link as the one to a GPU: two buffers by turns, from which a batch is taken when it is received."""

    def __init__(self) -> None:
        self._buffers = [torch.empty(0), torch.empty(0)]
        self.sent = 0

    def send(self, features, rows):
        at, self.sent = self.sent % 2, self.sent + 1
        self._buffers[at] = torch.from_numpy(np.array(features["square"][rows]))
        return {}, at

    def receive(self, sent):
        return {"square": self._buffers[sent[1]].clone()}


@pytest.mark.parametrize("resident", [True, False])
def test_batches_are_the_rows_in_their_order(tmp_path, resident):
    stimuli = placed(tmp_path, resident=resident)
    assert len(stimuli) == 10
    for rows, batch in zip(ORDER, stimuli.batches(iter(ORDER)), strict=True):
        expected = torch.tensor([[row, row * row] for row in rows.tolist()], dtype=torch.float32)
        assert torch.equal(batch["square"], expected)
        assert torch.equal(stimuli.batch(rows)["square"], expected)


def test_one_batch_is_under_way_and_none_is_overwritten(tmp_path):
    stimuli, link = placed(tmp_path, resident=False), TwoBuffers()
    stimuli.__dict__["_link"] = link
    expected = placed(tmp_path, resident=True)
    for index, (rows, batch) in enumerate(zip(ORDER, stimuli.batches(iter(ORDER)), strict=True)):
        assert link.sent == min(index + 2, len(ORDER))
        assert torch.equal(batch["square"], expected.batch(rows)["square"])


def test_a_set_too_large_for_the_device_is_streamed(tmp_path, monkeypatch):
    assert placed(tmp_path, resident=None)._resident is not None
    monkeypatch.setattr("sweeper.tasks.feeding.RESIDENT_BYTES", 79)  # ten rows of two float32 have 80
    assert placed(tmp_path, resident=None)._resident is None


@pytest.mark.parametrize("features", ["fp32", "bf16"])
def test_training_on_streamed_features_gives_the_same_bits(engine, monkeypatch, features):
    def trained() -> tuple[bytes, dict[str, float]]:
        task = engine.task(numerics={"features": features})
        state = task.init_state(1)
        regime = {"optimizer": engine.config().training.optimizer.model_dump()}
        for epoch in (1, 2):
            task.train_epoch(state, regime, epoch)
        return dump_state(state), dict(task.evaluate(state).values)

    resident = trained()
    monkeypatch.setattr("sweeper.tasks.feeding.RESIDENT_BYTES", 0)
    assert trained() == resident


class Reads(TorchDispatchMode):
    """Counts how often a number of a tensor is asked for: on a GPU the host waits there."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_an_epoch_looks_at_its_numbers_once_however_many_steps_it_has(engine):
    regime = {"optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.0, "weight_decay": 0.0}}
    counts = []
    for batch_size in (4, 32):
        task = engine.task(training={"batch_size": batch_size})
        state = task.init_state(1)
        with Reads() as reads:
            task.train_epoch(state, regime, 1)
        counts.append(reads.count)
    assert counts[0] == counts[1] <= 3


@pytest.mark.parametrize(("share", "room"), [(1.0, 4_000), (0.25, 4_000), (0.06, 1_400)])
def test_half_of_what_this_process_can_still_have_of_a_gpu_is_for_features(monkeypatch, share, room):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8_000, 80_000))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: share)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2_000)
    assert room_for_features(torch.device("cuda")) == room
