"""PyTorch's permutations on the CPU, computed with numpy: the published split, batch orders and label shuffles.

`torch.randperm` is Fisher and Yates's shuffle over 32-bit words of a Mersenne Twister (Matsumoto and Nishimura
1998) that is seeded with the low 32 bits of the seed.
"""

import numpy as np
from numpy.typing import NDArray


class TorchGenerator:
    """Draws what a CPU `torch.Generator` draws."""

    def __init__(self, seed: int) -> None:
        """Starts as after `manual_seed(seed)`."""
        self._bits = np.random.RandomState(seed % 2**32)._bit_generator  # the only public way to this seeding

    def skip(self, words: int) -> None:
        """Passes over some 32-bit words; an int64 takes two."""
        self._bits.random_raw(words, output=False)

    def permutation(self, n: int) -> NDArray[np.int64]:
        """Returns `torch.randperm(n)`: int64 [n], n below 2**32 / 20."""
        order = list(range(n))
        choices = np.arange(n, 1, -1, dtype=np.uint64)
        for index, step in enumerate((self._bits.random_raw(len(choices)) % choices).tolist()):
            order[index], order[index + step] = order[index + step], order[index]
        return np.array(order, dtype=np.int64)
