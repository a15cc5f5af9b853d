"""The study's random targets on any device: CUDA's `randn` of one batch, computed with numpy.

Philox4x32-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3) with the seed as key and the
element's index as third counter word; the first two of the four outputs go through Box-Muller in float32.
It holds for tensors of which each CUDA thread makes one element (a batch of 64 x 66 is well below that).
"""

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox_4x32(seed: int, n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Returns the first two output words of counters (0, 0, i, 0), i = 0 .. n-1: uint64 [n] each, below 2**32."""
    words = [np.zeros(n, np.uint64), np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64), np.zeros(n, np.uint64)]
    keys = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    for _ in range(_ROUNDS):
        first, second = _MULTIPLIERS[0] * words[0], _MULTIPLIERS[1] * words[2]
        words = [
            (second >> _SHIFT) ^ words[1] ^ np.uint64(keys[0]),
            second & _LOW,
            (first >> _SHIFT) ^ words[3] ^ np.uint64(keys[1]),
            first & _LOW,
        ]
        keys = [(key + weyl) & 0xFFFFFFFF for key, weyl in zip(keys, _WEYL, strict=True)]
    return words[0], words[1]


def published_normals(seed: int, n: int) -> NDArray[np.float32]:
    """Returns the first `n` standard normals of a CUDA generator with this seed: float32 [n]."""
    first, second = philox_4x32(seed, n)
    scale, half = np.float32(2.0**-32), np.float32(2.0**-33)
    u = first.astype(np.float32) * scale + half
    v = (second.astype(np.float32) * scale + half) * np.float32(2 * np.pi)
    normals: NDArray[np.float32] = (np.sqrt(np.float32(-2) * np.log(u)) * np.sin(v)).astype(np.float32)
    return normals
