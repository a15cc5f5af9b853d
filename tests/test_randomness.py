"""Stateless streams: pinned numbers, nothing shared, nothing global."""

import itertools

import numpy as np

from sweeper.randomness import stream


def test_the_numbers_never_change() -> None:
    """A changed number is another split, order and noise under the same id."""
    assert stream(1, "split").permutation(8).tolist() == [2, 5, 3, 1, 0, 6, 4, 7]
    assert stream(1, "order", 3).integers(0, 1000, 4).tolist() == [651, 797, 289, 76]
    assert stream(0, "random_target", 5, 2).standard_normal(3, dtype=np.float32).tolist() == [
        -1.0682270526885986,
        0.5730220675468445,
        0.9062461853027344,
    ]


def test_every_argument_opens_another_stream() -> None:
    places = itertools.product((0, 1), ("split", "order"), (0, 1, 11), (0, 1, 11))
    firsts = [stream(*place).integers(0, 2**63) for place in places]
    assert len(set(firsts)) == len(firsts)


def test_digits_do_not_run_into_each_other() -> None:
    assert stream(1, "a", 11, 1).random() != stream(1, "a", 1, 11).random()
    assert stream(11, "a", 1, 1).random() != stream(1, "a", 11, 1).random()
    assert stream(1, "a/1", 2).random() != stream(1, "a", 1, 2).random()


def test_no_global_state_is_read_or_changed() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    one = stream(1, "split").random(5)
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(99)
    np.testing.assert_array_equal(stream(1, "split").random(5), one)
