"""PyTorch's CPU permutations by numpy, against PyTorch itself."""

import numpy as np
import pytest

from sweeper.mersenne import TorchGenerator


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31 - 1, 2**32 + 7, 2**31 + 90_022])
@pytest.mark.parametrize("n", [0, 1, 2, 64, 1444, 5000])
def test_permutations_are_torchs_own(seed: int, n: int) -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = torch.Generator().manual_seed(seed), TorchGenerator(seed)
    for _ in range(3):
        np.testing.assert_array_equal(ours.permutation(n), torch.randperm(n, generator=theirs).numpy())
        torch.empty((), dtype=torch.int64).random_(generator=theirs)
        ours.skip(2)
