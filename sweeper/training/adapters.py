"""The trained tensors of a state as a file of their own. Knows the layout of `state.dump_state`, but not torch."""

from collections.abc import Mapping

import safetensors.numpy

_PART = "parameters/"


def adapter_file(state: bytes, about: Mapping[str, str]) -> bytes:
    """Returns a safetensors file of a state's trained tensors, without moments and counters.

    Args:
        state: what `dump_state` wrote.
        about: goes into the header.
    """
    tensors = safetensors.numpy.load(state)
    parameters = {name.removeprefix(_PART): tensor for name, tensor in tensors.items() if name.startswith(_PART)}
    return safetensors.numpy.save(parameters, metadata=dict(about))
