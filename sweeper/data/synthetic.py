"""The self-made demo set: drawings, 66 target dimensions, simulated odd-one-out choices and two brain RDMs.

It stands in for THINGS and SPoSE where neither may be downloaded. Its world (which attribute loads on which
dimension) is fixed; a seed chooses the pictures, the noise and the choices.
"""

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sweeper.data.drawing import (
    COLOURS,
    GROUPS,
    KINDS,
    SCENES,
    SIZES,
    TEXTURES,
    Attributes,
    Pixels,
    draw_attributes,
    draw_picture,
)
from sweeper.randomness import stream

NUM_DIMENSIONS = 66
NUM_HIDDEN = 6  # dimensions that people use and the targets lack

Floats = NDArray[np.float64]

# Named dimensions (columns of the 66 SPoSE dimensions) that an attribute loads on most, and how strongly.
NAMED: dict[str, tuple[int, ...]] = {
    "animal": (2,), "food": (1,), "plant": (4,), "vehicle": (7,), "furniture": (5,), "tool": (16,), "clothing": (3,),
    "container": (27,),
    "fish": (18, 43), "bird": (38, 63), "beetle": (39, 20), "apple": (13, 35), "cake": (57, 53), "carrot": (24, 54),
    "tree": (9, 51), "flower": (28, 11), "cactus": (33, 52), "car": (0, 31), "boat": (18, 36), "plane": (38, 15),
    "chair": (37, 60), "table": (9, 46), "lamp": (45, 10), "hammer": (34, 49), "knife": (25, 55), "key": (6, 62),
    "shirt": (8, 29), "shoe": (47, 64), "hat": (50, 61), "cup": (17, 30), "bottle": (40, 56), "box": (14, 48),
    "red": (23,), "orange": (58,), "yellow": (44,), "green": (42,), "blue": (61,), "brown": (41,), "black": (26,),
    "white": (21,),
    "plain": (59,), "striped": (32,), "dotted": (22,), "checked": (65,), "small": (53,), "big": (51,), "many": (19,),
    "one": (), "outdoors": (12,), "indoors": (5,),
}  # fmt: skip
# Attributes, the strength of their named dimensions, and the most that their few unnamed dimensions reach.
_STRENGTHS: tuple[tuple[tuple[str, ...], float, float], ...] = (
    (tuple(KINDS), 27, 4),
    (tuple(GROUPS), 26, 3),
    (tuple(COLOURS), 36, 8),
    (TEXTURES, 8, 1),
    (SIZES, 6, 1),
    (("many", "one"), 24, 8),
    (("outdoors", "indoors"), 8, 10),
)
_NUM_UNNAMED = 6
_NOISE_SD = 0.2  # of the logarithm of every loading
_SCALE = 1.4  # brings the largest targets to 100, where they are clipped
_TARGET_STEP = 1 / 1024
_RDM_STEP = 2.0**-20
_ANSWERS = 2  # how often every triplet is answered
_TEMPERATURE = 1000.0  # of the choices, in squared units of the targets

_FUNCTION_WORDS = ("a", "many", "in", "the")
CAPTION_WORDS = tuple(
    sorted({*GROUPS, *KINDS, *COLOURS, *TEXTURES, *SIZES, *SCENES, *_FUNCTION_WORDS})
)  # every word that a caption may use


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoSet:
    """A small study in memory.

    Attributes:
        train_names: one name per training picture, e.g. `"train-0007-one-small-red-dotted-fish-sea"`.
        test_names: one name per held-out picture; each of the 24 kinds twice.
        train_images: uint8 [N, 40, 40, 3], RGB.
        test_images: uint8 [48, 40, 40, 3], RGB.
        train_targets: float32 [N, 66], 0..100, multiples of 1/1024.
        test_targets: float32 [48, 66], likewise.
        behavioral_rdm: float64 [48, 48], 1 minus the probability that a pair is chosen as the most similar of three.
        neural_early_rdm: float64 [48, 48], 1 minus Pearson's r of coarse pixels.
        neural_late_rdm: float64 [48, 48], 1 minus Pearson's r of noisy meanings of the kinds.
    """

    train_names: tuple[str, ...]
    test_names: tuple[str, ...]
    train_images: Pixels
    test_images: Pixels
    train_targets: NDArray[np.float32]
    test_targets: NDArray[np.float32]
    behavioral_rdm: Floats
    neural_early_rdm: Floats
    neural_late_rdm: Floats


def make_demo_set(*, num_train: int = 480, num_test: int = 48, seed: int) -> DemoSet:
    """Makes the demo set of a seed.

    Args:
        num_train: training pictures; the first ones of a larger set equal those of a smaller one.
        num_test: held-out pictures.
        seed: chooses pictures, noise and choices; the world behind them is always the same.

    Returns:
        Pictures, targets and RDMs, the same bits on every machine.
    """
    train = _make_part("train", num_train, seed)
    test = _make_part("test", num_test, seed)
    meanings = np.stack([_meaning(attributes) for attributes in test.attributes])
    return DemoSet(
        train_names=train.names,
        test_names=test.names,
        train_images=train.images,
        test_images=test.images,
        train_targets=train.loadings[:, :NUM_DIMENSIONS].astype(np.float32),
        test_targets=test.loadings[:, :NUM_DIMENSIONS].astype(np.float32),
        behavioral_rdm=_simulate_choices(test.loadings, stream(seed, "demo/choices")),
        neural_early_rdm=early_rdm(test.images),
        neural_late_rdm=_late_rdm(meanings, stream(seed, "demo/neural_late")),
    )


def caption(attributes: Attributes, rng: np.random.Generator) -> str:
    """Words a picture as people would: not every attribute every time.

    Args:
        attributes: what the picture shows.
        rng: chooses what is mentioned.

    Returns:
        For instance `"a small red fish in the sea"`.
    """
    many, size, colour, texture, scene = rng.random(5)
    words = ["many"] if attributes.many and many < 0.5 else ["a"]
    words += [attributes.size] if size < 0.15 else []
    words += [attributes.colour] if colour < 0.4 else []
    words += [attributes.texture] if texture < 0.15 else []
    words += [attributes.kind]
    words += ["in", "the", attributes.scene] if scene < 0.2 else []
    return " ".join(words)


def named_dimensions(attributes: Attributes) -> tuple[int, ...]:
    """Lists the dimensions (0-based columns) that are named after what a picture shows."""
    return tuple(sorted({column for name in _attribute_names(attributes) for column in NAMED[name]}))


def _attribute_names(attributes: Attributes) -> tuple[str, ...]:
    return (
        attributes.group,
        attributes.kind,
        attributes.colour,
        attributes.texture,
        attributes.size,
        "many" if attributes.many else "one",
        "outdoors" if attributes.outdoors else "indoors",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """Pictures with everything known about them; loadings float64 [N, 72], hidden dimensions last."""

    names: tuple[str, ...]
    attributes: tuple[Attributes, ...]
    images: Pixels
    loadings: Floats


def _make_part(name: str, count: int, seed: int) -> _Part:
    """Makes pictures one by one, each from its own stream, so that their number changes none of them."""
    names, pictured, images, loadings = [], [], [], []
    kinds = tuple(GROUPS)
    for index in range(count):
        rng = stream(seed, f"demo/{name}", 0, index)
        attributes = draw_attributes(rng, kinds[index % len(kinds)] if name == "test" else None)
        number = "many" if attributes.many else "one"
        words = (number, attributes.size, attributes.colour, attributes.texture, attributes.kind, attributes.scene)
        names.append("-".join((name, f"{index:04d}", *words)))
        pictured.append(attributes)
        images.append(draw_picture(attributes, rng))
        noise = np.exp(_NOISE_SD * rng.standard_normal(NUM_DIMENSIONS + NUM_HIDDEN))
        loadings.append(np.minimum(_SCALE * _meaning(attributes) * noise, 100.0))
    rounded = np.round(np.stack(loadings) / _TARGET_STEP) * _TARGET_STEP
    return _Part(names=tuple(names), attributes=tuple(pictured), images=np.stack(images), loadings=rounded)


def _meaning(attributes: Attributes) -> Floats:
    """Sums the loadings of all attributes: float64 [72]."""
    total: Floats = np.sum([_world()[name] for name in _attribute_names(attributes)], axis=0)
    return total


@cache
def _world() -> dict[str, Floats]:
    """Returns the loadings of every attribute: its named dimensions, some others, a hidden one; float64 [72]."""
    world = {}
    for names, named, unnamed in _STRENGTHS:
        for name in names:
            rng = stream(0, f"demo/world/{name}")
            loading = np.zeros(NUM_DIMENSIONS + NUM_HIDDEN)
            loading[rng.permutation(NUM_DIMENSIONS)[:_NUM_UNNAMED]] = unnamed * rng.integers(8, 17, _NUM_UNNAMED) / 16
            loading[list(NAMED[name])] = named
            loading[NUM_DIMENSIONS + int(rng.integers(NUM_HIDDEN))] = max(named, unnamed) / 3
            world[name] = loading
    return world


def _simulate_choices(loadings: Floats, rng: np.random.Generator) -> Floats:
    """Lets every triplet be answered by softmax over the dot products of its three pairs.

    Args:
        loadings: float64 [N, 72], multiples of 1/1024.
        rng: where the choices come from.

    Returns:
        float64 [N, N]: 1 minus the share of the answers, to triplets with both, that chose the pair as most similar.
    """
    count = len(loadings)
    units = np.round(loadings / _TARGET_STEP).astype(np.int64)
    similarity = (units @ units.T) * _TARGET_STEP**2 / _TEMPERATURE  # whole numbers: no order of summation shows
    triplets = np.array(list(combinations(range(count), 3)))
    pairs = triplets[:, [[0, 1], [0, 2], [1, 2]]]  # int [T, 3, 2]
    logits = similarity[pairs[..., 0], pairs[..., 1]]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    bounds = np.cumsum(weights, axis=1)
    draws = rng.random((_ANSWERS, len(triplets))) * bounds[:, 2]
    chosen = pairs[np.arange(len(triplets)), (draws[..., None] > bounds[:, :2]).sum(axis=-1)]  # int [answers, T, 2]
    wins = np.zeros((count, count))
    np.add.at(wins, (chosen[..., 0].ravel(), chosen[..., 1].ravel()), 1.0)
    return as_rdm(1.0 - (wins + wins.T) / (_ANSWERS * (count - 2)))


def early_rdm(images: Pixels) -> Floats:
    """Compares pictures by 10 x 10 coarse pixels."""
    count, size = len(images), images.shape[1] // 10
    coarse = images.reshape(count, 10, size, 10, size, 3).sum(axis=(2, 4), dtype=np.int64)
    return as_rdm(1.0 - np.corrcoef(coarse.reshape(count, -1)))


def _late_rdm(meanings: Floats, rng: np.random.Generator) -> Floats:
    """Compares pictures by their meaning, as noisy as a scanner would see it."""
    noise = rng.standard_normal(meanings.shape) * meanings.std()
    return as_rdm(1.0 - np.corrcoef(meanings + noise))


def as_rdm(distances: Floats) -> Floats:
    """Makes distances exactly symmetric with a zero diagonal, and rounds them beyond the reach of the last bit."""
    upper = np.triu(np.round(distances / _RDM_STEP) * _RDM_STEP, k=1)
    return upper + upper.T
