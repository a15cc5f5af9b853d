"""What decides the last bits of every task: threads, arithmetic, and kernels that give the same sums each time."""

import os

import torch

from sweeper.spec.schema import Numerics

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def set_numerics(numerics: Numerics, device: str) -> None:
    """Sets up this process; a worker runs one task at a time.

    On a GPU only kernels with a fixed order of summation are used, where torch has them; else it warns.
    """
    torch.set_num_threads(numerics.threads)
    torch.backends.cuda.matmul.allow_tf32 = numerics.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = numerics.precision == "tf32"  # torch's own default is True
    if device.startswith("cuda"):
        os.environ.setdefault(_CUBLAS, ":4096:8")  # cuBLAS reads it with its first call
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
