"""What decides the last bits of every task: threads, arithmetic, and kernels that give the same sums each time."""

import ctypes
import os
import sys

import torch

from sweeper.spec.schema import Numerics

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 2**30  # glibc gives back what is freed beyond it, and maps larger blocks one by one


def set_numerics(numerics: Numerics, device: str) -> None:
    """Sets up this process; a worker runs one task at a time.

    On a GPU only kernels with a fixed order of summation are used, where torch has them; else it warns.
    """
    torch.set_num_threads(numerics.threads)
    keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = numerics.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = numerics.precision == "tf32"  # torch's own default is True
    if device.startswith("cuda"):
        os.environ.setdefault(_CUBLAS, ":4096:8")  # cuBLAS reads it with its first call
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, up to 1 GiB, where the C library is glibc; no number changes.

    By default every tensor above 32 MiB is given back to the system and comes back page by page, zeroed, in the next
    step: a seventh of a step of ViT-B-32 (docs/performance.md).
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
