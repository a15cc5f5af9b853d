"""GPU memory of a worker: what a trial needs, so that trials can share a GPU."""

import torch

from sweeper.records import GpuMemory


def gpu_memory(device: str) -> GpuMemory | None:
    """Returns the most that this process has held of its GPU so far, preparation included; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    peak = torch.cuda.max_memory_reserved(device)
    return GpuMemory(peak_bytes=peak, total_bytes=torch.cuda.get_device_properties(device).total_memory)
