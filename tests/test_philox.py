"""The study's random targets: Philox against its authors' test vectors, normals against the study's batches."""

import json
from pathlib import Path

import numpy as np
import pytest

from sweeper.philox import philox_4x32, published_normals

GOLDENS = json.loads((Path(__file__).parent / "golden" / "goldens.json").read_text())
M0, M1, W0, W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85


def philox_by_hand(seed: int, index: int) -> tuple[int, int]:
    """Computes one counter with Python's own integers."""
    words, keys = [0, 0, index, 0], [seed % 2**32, seed >> 32]
    for _ in range(10):
        first, second = M0 * words[0], M1 * words[2]
        words = [
            (second >> 32) ^ words[1] ^ keys[0],
            second % 2**32,
            (first >> 32) ^ words[3] ^ keys[1],
            first % 2**32,
        ]
        keys = [(keys[0] + W0) % 2**32, (keys[1] + W1) % 2**32]
    return words[0], words[1]


def test_the_authors_vector_for_zeros() -> None:
    """Random123's known-answer test of philox4x32-10: key 0, counter 0 -> 6627e8d5 e169c58d ..."""
    first, second = philox_4x32(0, 1)
    assert (int(first[0]), int(second[0])) == (0x6627E8D5, 0xE169C58D)


@pytest.mark.parametrize("seed", [0, 1042, 2**31, 2**32 + 5, 2**63])
def test_words_equal_those_of_plain_integers(seed: int) -> None:
    first, second = philox_4x32(seed, 50)
    assert [(int(a), int(b)) for a, b in zip(first, second, strict=True)] == [
        philox_by_hand(seed, i) for i in range(50)
    ]
    assert max(first.max(), second.max()) < 2**32


def test_the_first_normals_are_the_published_ones() -> None:
    expected = GOLDENS["random_target_first_normals_seed_1042"]
    np.testing.assert_allclose(published_normals(1042, 5), expected, rtol=0, atol=1e-6)


def test_a_shorter_draw_is_the_beginning_of_a_longer_one() -> None:
    long = published_normals(7, 64 * 66)
    assert long.dtype == np.float32
    np.testing.assert_array_equal(published_normals(7, 36 * 66), long[: 36 * 66])


def test_they_are_standard_normal() -> None:
    normals = published_normals(3, 100_000).astype(np.float64)
    assert np.isfinite(normals).all()
    assert abs(normals.mean()) < 0.01
    assert abs(normals.std() - 1) < 0.01
    assert abs((normals**3).mean()) < 0.03
    assert abs((np.abs(normals) < 1).mean() - 0.6827) < 0.005
