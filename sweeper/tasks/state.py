"""Training states as bytes: safetensors with the counters in its header, never a pickle."""

import hashlib
import json

import safetensors
import safetensors.torch
import torch

from sweeper.tasks.base import TrainingState

_PARTS = ("parameters", "moments", "best")


def dump_state(state: TrainingState) -> bytes:
    """Returns the bytes of a state; equal states give equal bytes."""
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part in _PARTS
        for name, tensor in getattr(state, part).items()
    }
    return safetensors.torch.save(tensors, metadata={"counters": json.dumps(state.counters, sort_keys=True)})


def load_state(data: bytes, device: str) -> TrainingState:
    """Returns the state that `dump_state` wrote, on a device.

    An optimiser's step counts stay on the CPU, where torch keeps them.
    """
    tensors = safetensors.torch.load(data)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in _PARTS}
    for key in sorted(tensors):
        part, name = key.split("/", 1)
        stays = part == "moments" and name.startswith("step/")
        parts[part][name] = tensors[key] if stays else tensors[key].to(device)
    return TrainingState(counters=json.loads(header["__metadata__"]["counters"]), **parts)


def state_bits(data: bytes) -> str:
    """Returns the hash of a state's tensors and counters: two states are the same if and only if theirs agree."""
    return hashlib.sha256(data).hexdigest()
