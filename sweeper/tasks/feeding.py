"""Where the features of an image set lie: on the device if they fit, else on the host; and how batches get there."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Batch = Mapping[str, Tensor]
Rows = NDArray[np.int64]
Features = Mapping[str, NDArray[Any]]

RESIDENT_BYTES = 2**30  # without a GPU: smaller sets are held in memory, larger ones read through the memory map


def room_for_features(device: torch.device) -> int:
    """Returns how many bytes of features may lie on a device: of a GPU half of what this process can still have."""
    if device.type != "cuda":
        return RESIDENT_BYTES
    free, total = torch.cuda.mem_get_info(device)
    share = int(torch.cuda.get_per_process_memory_fraction(device) * total) - torch.cuda.memory_reserved(device)
    return max(0, min(free, share)) // 2


class Stimuli:
    """Features of an image set, ready to be gathered into batches; where they lie changes no bit of a batch."""

    def __init__(
        self, features: Features, dtype: torch.dtype, device: torch.device, *, resident: bool | None = None
    ) -> None:
        """Places features [N, ...] of a storage type; `resident` says where, left out: on the device if they fit."""
        self._device, self._dtype, self._mapped = device, dtype, features
        if resident is None:
            resident = sum(array.nbytes for array in features.values()) <= room_for_features(device)
        self._resident = {name: self._tensor(np.array(array)) for name, array in features.items()} if resident else None

    def __len__(self) -> int:
        return len(next(iter(self._mapped.values())))

    def batch(self, rows: Rows) -> Batch:
        """Returns the features of some rows, [n, ...] by name."""
        if self._resident is not None:
            index = torch.from_numpy(rows).to(self._device, non_blocking=True)
            return {name: tensor[index] for name, tensor in self._resident.items()}
        return {name: self._tensor(array[rows]) for name, array in self._mapped.items()}

    def batches(self, order: Iterable[Rows]) -> Iterator[Batch]:
        """Yields `batch` of each of some rows; of features on the host the next one is under way meanwhile."""
        if self._resident is not None:
            yield from map(self.batch, order)
            return
        sent = None
        for rows in order:
            before, sent = sent, self._link.send(self._mapped, rows)
            if before is not None:
                yield self._received(before)
        if sent is not None:
            yield self._received(sent)

    def _received(self, sent: "Sent") -> Batch:
        return {name: self._typed(tensor) for name, tensor in self._link.receive(sent).items()}

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        """Returns a writable array on the device."""
        return self._typed(torch.from_numpy(array)).to(self._device)

    def _typed(self, tensor: Tensor) -> Tensor:
        return tensor.view(self._dtype) if tensor.dtype != self._dtype else tensor

    @cached_property
    def _link(self) -> "Link":
        return PinnedLink(self._device) if self._device.type == "cuda" else MemoryLink()


Sent = tuple[Batch, Any]
"""Tensors under way, and what tells that they have arrived."""


class Link(Protocol):
    """A way for batches from the host to a device; at most two are under way."""

    def send(self, features: Features, rows: Rows) -> Sent:
        """Gathers rows and sends them."""

    def receive(self, sent: Sent) -> Batch:
        """Returns what was sent, to be used by what is launched from now on."""


class MemoryLink:
    """Where host and device are one memory, gathering is all."""

    def send(self, features: Features, rows: Rows) -> Sent:
        """See `Link.send`."""
        return {name: torch.from_numpy(array[rows]) for name, array in features.items()}, None

    def receive(self, sent: Sent) -> Batch:
        """See `Link.receive`."""
        return sent[0]


class PinnedLink:
    """Two page-locked buffers by turns, copied by a stream of their own while the device computes."""

    def __init__(self, device: torch.device) -> None:
        """Makes stream and events; buffers come with the first batches."""
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        self._copied = (torch.cuda.Event(), torch.cuda.Event())  # type: ignore[no-untyped-call]
        self._turn = 0

    def send(self, features: Features, rows: Rows) -> Sent:
        """See `Link.send`; waits only until the copy before the last one is over."""
        turn, self._turn = self._turn, 1 - self._turn
        self._copied[turn].synchronize()
        sent = {}
        for name, array in features.items():
            buffer = self._buffer(turn, name, array, len(rows))
            np.take(array, rows, axis=0, out=buffer.numpy(), mode="clip")  # by numpy's rule the other modes copy twice
            with torch.cuda.stream(self._stream):
                sent[name] = buffer.to(self._device, non_blocking=True)
        self._copied[turn].record(self._stream)
        return sent, self._copied[turn]

    def receive(self, sent: Sent) -> Batch:
        """See `Link.receive`; the host does not wait."""
        tensors, copied = sent
        present = torch.cuda.current_stream(self._device)
        present.wait_event(copied)
        for tensor in tensors.values():
            tensor.record_stream(present)  # it was made on the other stream: its memory must not be taken too early
        return tensors

    def _buffer(self, turn: int, name: str, array: NDArray[Any], count: int) -> Tensor:
        held = self._buffers[turn]
        if name not in held or len(held[name]) < count:
            dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
            held[name] = torch.empty((count, *array.shape[1:]), dtype=dtype, pin_memory=True)
        return held[name][:count]
