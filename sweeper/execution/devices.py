"""Which device trials run on, and how much of a GPU each of them takes."""

import math
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweeper.records import GpuMemory

_HEADROOM = 1.2  # the measured peak plus 20 %
_GPUS = Path("/proc/driver/nvidia/gpus")
_STEP = 0.01  # Ray places GPUs in ten-thousandths; coarser shares are easier to read


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What trials run on.

    Attributes:
        kind: `cpu` or `cuda`.
        model: name of the GPU or of the processor, for `numerics.strict`.
        may_grow: a cluster, which may launch what it does not have now.
    """

    kind: Literal["cpu", "cuda"]
    model: str | None = None
    may_grow: bool = False


def find_device(backend: str, address: str | None) -> Device:
    """Returns the device that `numerics.device: auto` means: that of the cluster, never that of the driver alone.

    Raises:
        ClusterError: the cluster at `address` cannot be reached.
    """
    if backend == "ray" and address not in (None, "local"):
        from sweeper.execution.ray_cluster import cluster_device

        return cluster_device(address)
    if _has_nvidia_driver():
        return Device(kind="cuda", model=_first_line_with("Model:", sorted(_GPUS.glob("*/information"))))
    return Device(kind="cpu", model=_first_line_with("model name", [Path("/proc/cpuinfo")]) or platform.machine())


def _first_line_with(key: str, files: Iterable[Path]) -> str | None:
    """Returns what stands behind a key's colon in the first of some files that has it."""
    for path in files:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return None


def _has_nvidia_driver() -> bool:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and Path("/proc/driver/nvidia/version").exists() and any(Path("/dev").glob("nvidia[0-9]*"))


def gpus_per_trial(
    setting: float | str,
    device: Device,
    measured: Iterable[GpuMemory] = (),
    *,
    computes_there: bool = True,
    least: float = 0.0,
) -> float | None:
    """Returns the GPUs that one trial asks for; None: `auto`, and nothing is measured yet.

    Args:
        setting: `resources.gpu`: a number, or `auto`.
        device: what machine or cluster have.
        measured: what workers have needed; the largest peak counts, on the smallest of their GPUs.
        least: what `sweeper retry --gpu` asked for; nothing where there is no GPU.
        computes_there: False when all trials ask for the CPU by `numerics.device`: `auto` then means none.
    """
    if setting != "auto":
        return max(float(setting), least) if device.kind == "cuda" or device.may_grow else 0.0
    if device.kind == "cpu" or not computes_there:
        return 0.0
    found = tuple(measured)
    if not found:
        return None
    share = _HEADROOM * max(each.peak_bytes for each in found) / min(each.total_bytes for each in found)
    if share > 1:
        return max(float(math.ceil(share)), least)
    steps = math.ceil(round(share / _STEP, 6))  # rounded first: 0.3 / 0.01 is not 30
    return max(round(max(steps, 1) * _STEP, 2), least)
