"""Tests the demo set: the same bits everywhere, and a world in which a perfect predictor is right."""

import hashlib
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import spearmanr

from sweeper.data import synthetic
from sweeper.data.drawing import COLOURS, GROUPS, KINDS, SCENES, Attributes, draw_attributes, draw_picture
from sweeper.data.synthetic import CAPTION_WORDS, DemoSet, caption, make_demo_set, named_dimensions
from sweeper.randomness import stream

RDMS = ("behavioral_rdm", "neural_early_rdm", "neural_late_rdm")

# Changed pixels or targets change every state of every demo and test: raise the data's version knowingly, never here.
GOLDEN = {
    "train_images": "1977ab2a1bdd257e46ada21b6e82176eb6a28f9fec24472bd48d8a063509d9d5",
    "test_images": "2dc79e5f04420c85de0126d231ff1280c331942a96dc4dace975a19f420a59ce",
    "train_targets": "74bae3942050a57df9f380545398235ff103e17c3f7d617f056316b918807611",
    "test_targets": "f507ef9cb36f9ef8390952ed2e26e1cac04f43a7e8c70e0146a5bd3bccda12fd",
    "behavioral_rdm": "35983e7b8225f630201364e5cc0c92053b6f3b6a7a30d3cf28d5f0e4e22ffc20",
    "neural_early_rdm": "65c066348edec42bc00aefc396822af0a5325c27ef2f8cce2650035ea514a0ae",
    "neural_late_rdm": "fec57077d7c335c1f09c6bb80477bdd024dacc41474ef04f564817b5e6aeffdb",
}


@pytest.fixture(scope="module")
def demo() -> DemoSet:
    return make_demo_set(seed=1)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def upper(rdm: np.ndarray) -> np.ndarray:
    return rdm[np.triu_indices(len(rdm), 1)]


def agreement(outputs: np.ndarray, rdm: np.ndarray) -> float:
    return float(spearmanr(upper(1 - np.corrcoef(outputs)), upper(rdm))[0])


def check_rdm(rdm: np.ndarray) -> None:
    assert rdm.shape == (48, 48)
    assert rdm.dtype == np.float64
    np.testing.assert_array_equal(rdm, rdm.T)
    np.testing.assert_array_equal(np.diag(rdm), 0)
    assert np.all((rdm >= 0) & (rdm <= 2))
    assert np.all(rdm * 2**20 % 1 == 0)
    assert np.unique(rdm).size > 20


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_every_bit_is_the_recorded_one(demo: DemoSet, name: str) -> None:
    assert digest(getattr(demo, name)) == GOLDEN[name]


def test_golden_hash_notices_a_single_pixel(demo: DemoSet) -> None:
    changed = demo.test_images.copy()
    changed[47, 39, 39, 2] ^= 1
    assert digest(changed) != GOLDEN["test_images"]


def test_shapes_and_types(demo: DemoSet) -> None:
    assert demo.train_images.shape == (480, 40, 40, 3)
    assert demo.test_images.shape == (48, 40, 40, 3)
    assert demo.train_images.dtype == demo.test_images.dtype == np.uint8
    assert demo.train_targets.shape == (480, 66)
    assert demo.test_targets.shape == (48, 66)
    assert demo.train_targets.dtype == demo.test_targets.dtype == np.float32


def test_names_are_unique_and_describe(demo: DemoSet) -> None:
    names = demo.train_names + demo.test_names
    assert len(set(names)) == 528
    assert demo.train_names[0] == "train-0000-one-small-red-checked-bottle-kitchen"
    assert [name.split("-")[6] for name in demo.test_names] == list(GROUPS) * 2


def test_a_smaller_set_is_the_beginning_of_a_larger_one(demo: DemoSet) -> None:
    small = make_demo_set(num_train=30, seed=1)
    assert small.train_names == demo.train_names[:30]
    np.testing.assert_array_equal(small.train_images, demo.train_images[:30])
    np.testing.assert_array_equal(small.train_targets, demo.train_targets[:30])
    for name in ("test_images", "test_targets", *RDMS):
        np.testing.assert_array_equal(getattr(small, name), getattr(demo, name))


def test_another_seed_shows_other_pictures(demo: DemoSet) -> None:
    other = make_demo_set(num_train=30, seed=2)
    assert np.all(np.any(other.train_images != demo.train_images[:30], axis=(1, 2, 3)))
    assert np.any(other.behavioral_rdm != demo.behavioral_rdm)


def test_targets_are_sparse_like_spose(demo: DemoSet) -> None:
    targets = np.concatenate([demo.train_targets, demo.test_targets])
    assert targets.min() == 0
    assert targets.max() == 100
    assert np.all(targets * 1024 % 1 == 0)
    assert 0.3 < np.mean(targets < 1) < 0.7
    assert 4 < targets.mean() < 9  # SPoSE of THINGS: 5.7
    assert 8 < targets.std() < 14  # SPoSE of THINGS: 10.2
    assert np.all(demo.train_targets.std(axis=0) > 0)


@pytest.mark.parametrize("name", RDMS)
def test_rdms_are_valid(demo: DemoSet, name: str) -> None:
    check_rdm(getattr(demo, name))


def test_rdm_check_notices_a_broken_rdm(demo: DemoSet) -> None:
    broken = demo.behavioral_rdm.copy()
    broken[3, 5] += 0.25
    with pytest.raises(AssertionError):
        check_rdm(broken)


def test_a_perfect_predictor_nears_the_ceiling_and_a_shuffled_one_does_not(demo: DemoSet) -> None:
    assert 0.90 < agreement(demo.test_targets, demo.behavioral_rdm) < 0.97
    shuffled = np.random.default_rng(0).permutation(demo.test_targets)
    assert abs(agreement(shuffled, demo.behavioral_rdm)) < 0.1


def test_early_cortex_sees_pixels_and_late_cortex_meaning(demo: DemoSet) -> None:
    assert agreement(demo.test_images.reshape(48, -1), demo.neural_early_rdm) > 0.9
    assert agreement(demo.test_targets, demo.neural_early_rdm) < 0.4  # some: an outdoors is seen as well as meant
    assert 0.5 < agreement(demo.test_targets, demo.neural_late_rdm) < 0.95


def test_every_answer_is_counted_once(demo: DemoSet) -> None:
    answers = np.sum(1 - upper(demo.behavioral_rdm)) * 2 * 46
    assert answers == pytest.approx(2 * 48 * 47 * 46 / 6, abs=0.1)


def test_choices_equal_a_plain_loop() -> None:
    loadings = np.round(np.random.default_rng(3).random((7, 72)) * 40 * 1024) / 1024
    draws = stream(5, "loop").random((2, 35))
    wins = np.zeros((7, 7))
    for answer in range(2):
        for index, (i, j, k) in enumerate(combinations(range(7), 3)):
            pairs = ((i, j), (i, k), (j, k))
            weights = [np.exp(loadings[a] @ loadings[b] / synthetic._TEMPERATURE) for a, b in pairs]
            place = draws[answer, index] * sum(weights)
            a, b = pairs[0 if place <= weights[0] else 1 if place <= weights[0] + weights[1] else 2]
            wins[a, b] += 1
            wins[b, a] += 1
    expected = 1 - wins / (2 * 5) - np.eye(7)
    np.testing.assert_allclose(synthetic._simulate_choices(loadings, stream(5, "loop")), expected, atol=2**-20)


def test_an_attribute_changes_the_picture_and_nothing_else() -> None:
    base = {"kind": "fish", "texture": "plain", "size": "big", "many": False, "scene": "hall"}
    red, blue = (
        draw_picture(Attributes(colour=colour, **base), stream(1, "colour")).astype(int)  # type: ignore[arg-type]
        for colour in ("red", "blue")
    )
    changed = np.any(red != blue, axis=-1)
    assert 0.1 < changed.mean() < 0.6
    np.testing.assert_array_less(blue[changed][:, 0], red[changed][:, 0])


def test_kinds_colours_and_scenes_all_occur() -> None:
    drawn = [draw_attributes(stream(1, "attributes", 0, index)) for index in range(600)]
    assert {attributes.kind for attributes in drawn} == set(GROUPS)
    assert {attributes.group for attributes in drawn} == set(KINDS)
    assert {attributes.colour for attributes in drawn} == set(COLOURS)
    assert {attributes.scene for attributes in drawn} == set(SCENES)


def test_captions_use_known_words_and_leave_some_out() -> None:
    attributes = draw_attributes(stream(1, "caption"), "boat")
    captions = {caption(attributes, stream(1, "caption", 0, index)) for index in range(200)}
    assert {word for text in captions for word in text.split()} <= set(CAPTION_WORDS)
    assert len(captions) > 10


def test_named_dimensions_are_the_strongest() -> None:
    for kind in GROUPS:
        attributes = draw_attributes(stream(1, "named"), kind)
        meaning = synthetic._meaning(attributes)[:66]
        named = list(named_dimensions(attributes))
        assert meaning[named].mean() > 3 * np.delete(meaning, named).mean()
        assert np.argmax(meaning) in named


def test_every_dimension_is_named_after_something() -> None:
    assert {column for columns in synthetic.NAMED.values() for column in columns} == set(range(66))


def test_import_needs_no_torch() -> None:
    code = "import sys, sweeper.data.synthetic; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
