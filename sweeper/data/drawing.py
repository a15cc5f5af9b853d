"""Small drawings with known attributes, made by integer arithmetic: the same pixels on every machine."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

CANVAS = 80  # pixels a side while drawing; box-reduced by 2
SIZE = 40  # pixels a side of the finished picture

Mask = NDArray[np.bool_]
Grid = NDArray[np.int32]
Pixels = NDArray[np.uint8]

# One kind of thing per entry. Each part is "ink shape numbers" in a box of -100..100 (x to the right, y down), later
# parts over earlier ones. Shapes: e centre radii, r two corners, p corners of a convex polygon, l two ends and width.
# Inks: B body (coloured, textured), S shaded body, D dark, L light, W wood, M metal, G leaf, F flame, 0 nothing.
KINDS: dict[str, dict[str, str]] = {
    "animal": {
        "fish": (
            "S p -30 -30 30 -30 20 -75; B p 40 0 98 -48 98 48; B e -15 0 72 44; L e -55 -12 15 15; D e -58 -12 8 8"
        ),
        "bird": (
            "D l -12 40 -12 95 9; D l 18 40 18 95 9; B p 40 0 100 -20 96 30; B e 5 10 56 40; "
            "B e -48 -35 32 30; F p -74 -46 -100 -28 -72 -20; S e 14 6 36 20; D e -54 -40 7 7"
        ),
        "beetle": (
            "D l -40 -15 -95 -48 9; D l -45 15 -98 15 9; D l -40 45 -95 78 9; D l 40 -15 95 -48 9; "
            "D l 45 15 98 15 9; D l 40 45 95 78 9; D l -8 -70 -38 -98 7; D l 8 -70 38 -98 7; "
            "B e 0 18 54 66; D e 0 -54 30 24; D r -4 -40 4 84"
        ),
    },
    "food": {
        "apple": "B e -28 16 56 64; B e 28 16 56 64; W l 0 -36 10 -88 12; G e 42 -68 30 14; L e -48 -8 10 16",
        "cake": (
            "M r -98 74 98 88; B r -76 -6 76 74; L r -76 -22 76 6; L e -48 6 20 18; L e 0 6 20 18; "
            "L e 48 6 20 18; L r -46 -64 -34 -22; L r -6 -64 6 -22; L r 34 -64 46 -22; F e -40 -78 10 18; "
            "F e 0 -78 10 18; F e 40 -78 10 18"
        ),
        "carrot": (
            "G l 0 -30 -42 -92 16; G l 0 -30 0 -100 16; G l 0 -30 42 -92 16; "
            "B p -44 -30 44 -30 6 98 -6 98; B e 0 -30 44 16"
        ),
    },
    "plant": {
        "tree": "W r -15 20 15 98; B e 0 -52 54 46; B e -42 -10 48 42; B e 42 -10 48 42; B e 0 -10 40 40",
        "flower": (
            "G r -6 -10 6 98; G e 30 58 28 13; G e -28 76 26 12; B e 0 -78 24 24; B e -36 -52 24 24; "
            "B e 36 -52 24 24; B e -24 -10 24 24; B e 24 -10 24 24; F e 0 -42 22 22"
        ),
        "cactus": (
            "B r -72 -34 -46 22; B r -72 4 -10 28; B r 46 -58 72 2; B r 10 -18 72 6; B e -59 -34 13 14; "
            "B e 59 -58 13 14; B r -22 -78 22 62; B e 0 -78 22 20; W p -52 58 52 58 38 98 -38 98"
        ),
    },
    "vehicle": {
        "car": (
            "B p -60 6 -38 -46 34 -46 62 6; B r -98 0 98 44; L p -44 -2 -30 -36 -6 -36 -6 -2; "
            "L p 6 -2 6 -36 28 -36 46 -2; F e 90 14 9 9; D e -54 46 27 27; D e 54 46 27 27; "
            "M e -54 46 12 12; M e 54 46 12 12"
        ),
        "boat": (
            "W r -6 -98 6 40; L p 10 -92 10 24 82 24; L p -10 -70 -10 24 -64 24; "
            "B p -98 34 98 34 62 86 -62 86; D r -90 34 90 42"
        ),
        "plane": (
            "S p -20 -8 18 -8 62 -76 34 -76; B p 62 -4 84 -54 100 -54 94 2; B e 0 0 98 24; "
            "S p -22 6 22 6 66 80 34 80; L e -66 -6 12 8; L e -34 -4 8 8; L e -10 -4 8 8; L e 14 -4 8 8"
        ),
    },
    "furniture": {
        "chair": (
            "B r -52 -98 52 -4; 0 r -34 -52 34 -32; S p -58 0 58 0 72 24 -72 24; B r -66 24 -46 98; B r 46 24 66 98"
        ),
        "table": "B r -86 -20 -66 78; B r 66 -20 86 78; S r -86 -20 86 4; B p -82 -56 82 -56 100 -20 -100 -20",
        "lamp": "M r -7 -20 7 84; F e 0 -14 28 16; B p -30 -96 30 -96 68 -18 -68 -18; D e 0 86 46 13",
    },
    "tool": {
        "hammer": "B r -15 -44 15 98; M r -64 -92 40 -42; M p 40 -92 94 -60 40 -52",
        "knife": "M p -24 -98 20 -56 20 22 -24 22; D r -34 16 30 30; B r -24 30 22 98",
        "key": "B e 0 -52 48 46; 0 e 0 -56 22 20; B r -11 -14 11 98; B r 8 44 44 60; B r 8 76 36 92",
    },
    "clothing": {
        "shirt": (
            "B p -50 -66 -100 -14 -74 16 -40 -16; B p 50 -66 100 -14 74 16 40 -16; B r -52 -66 52 92; S e 0 -66 26 18"
        ),
        "shoe": (
            "B r -90 -46 -18 50; B e 24 30 72 42; 0 r -100 56 100 100; 0 e -54 -46 26 12; "
            "D r -94 48 98 66; L l -14 -22 10 -34 9; L l 2 -4 26 -16 9; L l 20 6 42 -6 9"
        ),
        "hat": "B e 0 48 100 24; B r -54 -56 54 44; B e 0 -56 54 20; D r -54 14 54 36",
    },
    "container": {
        "cup": ("B e 56 6 36 38; 0 e 56 6 18 20; B p -56 -54 52 -54 40 74 -44 74; L e -2 -54 54 15; S e -2 -52 42 9"),
        "bottle": (
            "B r -15 -86 15 -36; B p -36 -6 36 -6 15 -46 -15 -46; B r -36 -6 36 98; D r -19 -100 19 -82; "
            "L r -36 24 36 60"
        ),
        "box": (
            "B r -84 -26 44 86; S p 44 -26 88 -66 88 44 44 86; L p -84 -26 -42 -66 88 -66 44 -26; W r -30 -26 -10 86"
        ),
    },
}
GROUPS: dict[str, str] = {kind: group for group, members in KINDS.items() for kind in members}
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (208, 40, 44),
    "orange": (240, 134, 28),
    "yellow": (246, 212, 52),
    "green": (52, 152, 66),
    "blue": (44, 92, 200),
    "brown": (128, 80, 44),
    "black": (44, 44, 50),
    "white": (244, 244, 240),
}
TEXTURES = ("plain", "striped", "dotted", "checked")
SIZES = ("small", "big")
# Back and ground of each scene, and whether it is outdoors.
SCENES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], bool]] = {
    "meadow": ((150, 202, 240), (132, 188, 98), True),
    "beach": ((164, 214, 244), (232, 212, 160), True),
    "sea": ((184, 216, 236), (84, 148, 190), True),
    "snow": ((196, 208, 226), (236, 242, 248), True),
    "bedroom": ((240, 206, 210), (196, 160, 126), False),
    "kitchen": ((244, 234, 204), (170, 170, 176), False),
    "workshop": ((176, 178, 174), (134, 122, 112), False),
    "hall": ((192, 210, 200), (160, 108, 84), False),
}

_INKS = "0BSDLWMGFO"  # O: outline
_FIXED_INKS = ((34, 34, 40), (250, 248, 240), (140, 92, 52), (164, 170, 178), (62, 140, 58), (252, 186, 40))
_SLOTS = ((21, 21), (58, 21), (21, 58), (58, 58), (40, 40))  # (x, y) centres of several things


@dataclass(frozen=True, kw_only=True, slots=True)
class Attributes:
    """What a picture shows; everything else about it is chance."""

    kind: str
    colour: str
    texture: str
    size: str
    many: bool
    scene: str

    @property
    def group(self) -> str:
        """Returns the super-ordinate kind, e.g. `"animal"` of a fish."""
        return GROUPS[self.kind]

    @property
    def outdoors(self) -> bool:
        """Returns whether the scene lies outdoors."""
        return SCENES[self.scene][2]


def _pick(names: tuple[str, ...], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def draw_attributes(rng: np.random.Generator, kind: str | None = None) -> Attributes:
    """Draws the attributes of one picture, each independently and uniformly (one thing in three quarters of them).

    Args:
        rng: where the chance comes from.
        kind: the kind of thing shown; drawn as well when left out.

    Returns:
        The attributes.
    """
    chosen = _pick(tuple(GROUPS), rng)
    return Attributes(
        kind=kind or chosen,
        colour=_pick(tuple(COLOURS), rng),
        texture=_pick(TEXTURES, rng),
        size=_pick(SIZES, rng),
        many=bool(rng.integers(4) == 0),
        scene=_pick(tuple(SCENES), rng),
    )


def draw_picture(attributes: Attributes, rng: np.random.Generator) -> Pixels:
    """Draws one picture.

    Args:
        attributes: what it shows.
        rng: pose, place and light.

    Returns:
        RGB pixels, uint8 [40, 40, 3].
    """
    canvas = _background(attributes.scene, rng)
    radius = {"small": 24, "big": 32}[attributes.size] * (3 if attributes.many else 5) // 5 + int(rng.integers(-1, 2))
    sprite = _sprite(attributes.kind, radius, rng)
    colours = _coloured(sprite, attributes)
    for x, y in _centres(attributes, radius, rng):
        window = canvas[y - radius : y + radius + 1, x - radius : x + radius + 1]
        np.copyto(window, colours, where=(sprite > 0)[..., None])
    light = int(rng.integers(-10, 11))
    reduced: Grid = (canvas.reshape(SIZE, 2, SIZE, 2, 3).sum(axis=(1, 3), dtype=np.int32) + 2) // 4
    return np.clip(reduced + light, 0, 255).astype(np.uint8)


def _background(scene: str, rng: np.random.Generator) -> Grid:
    """Paints back and ground, with a cloud or a picture frame; int32 [80, 80, 3]."""
    back, ground, outdoors = SCENES[scene]
    horizon = int(rng.integers(44, 62))
    rows = np.arange(CANVAS, dtype=np.int32)[:, None]
    above = np.array(back, np.int32) + (rows - horizon // 2) // (2 if outdoors else 6)
    below = np.array(ground, np.int32) + (horizon - rows) // 4
    canvas = np.repeat(np.where(rows < horizon, above, below)[:, None], CANVAS, axis=1)
    x, y = (int(n) for n in rng.integers((8, 6), (72, 16)))
    u, v = _axes(x, y)
    if outdoors:
        canvas[(u * u * 9 + v * v * 36 <= 1600) | ((u + 8) ** 2 * 9 + (v + 3) ** 2 * 25 <= 900)] = (250, 250, 250)
    else:
        canvas[(abs(u) <= 9) & (abs(v) <= 7)] = tuple(c * 3 // 5 for c in back)
        canvas[(abs(u) <= 7) & (abs(v) <= 5)] = tuple((c + 255) // 2 for c in back)
    return canvas


def _axes(x: int, y: int) -> tuple[Grid, Grid]:
    span = np.arange(CANVAS, dtype=np.int32)
    return (span - x)[None, :], (span - y)[:, None]


def _centres(attributes: Attributes, radius: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Places the things on the canvas: one anywhere, or three to five on their slots."""
    if not attributes.many:
        room = CANVAS - 2 * radius - 1
        return [(radius + int(rng.integers(room + 1)), radius + int(rng.integers(room // 3, room + 1)))]
    slots = rng.permutation(len(_SLOTS))[: int(rng.integers(3, 6))]
    jitter = rng.integers(-1, 2, size=(len(_SLOTS), 2))
    return [(_SLOTS[i][0] + int(jitter[i, 0]), _SLOTS[i][1] + int(jitter[i, 1])) for i in sorted(slots)]


def _sprite(kind: str, radius: int, rng: np.random.Generator) -> Pixels:
    """Draws a thing in inks (0 is transparent, outline last), mirrored, leaning and stretched by chance."""
    flip, lean, wide, high = (int(n) for n in rng.integers((0, -3, 85, 85), (2, 4, 101, 101)))
    span = np.arange(-radius, radius + 1, dtype=np.int32)
    v = np.broadcast_to((span * 10_000 // (high * radius))[:, None], (span.size, span.size))
    u = (span * 10_000 // (wide * radius))[None, :] * (1 - 2 * flip) + v * lean // 16
    inks = np.zeros(u.shape, np.uint8)
    for ink, shape, numbers in _parts(kind):
        inks[_inside(shape, numbers, u, v)] = ink
    solid, near = inks > 0, np.zeros(inks.shape, np.bool_)
    near[1:] |= solid[:-1]
    near[:-1] |= solid[1:]
    near[:, 1:] |= solid[:, :-1]
    near[:, :-1] |= solid[:, 1:]
    inks[near & ~solid] = _INKS.index("O")
    return inks


@cache
def _parts(kind: str) -> tuple[tuple[int, str, tuple[int, ...]], ...]:
    """Parses the drawing of a kind into (ink, shape, numbers); lines become polygons, polygons turn one way."""
    parts = []
    for text in KINDS[GROUPS[kind]][kind].split(";"):
        ink, shape, *words = text.split()
        numbers = tuple(int(word) for word in words)
        if shape == "l":
            shape, numbers = "p", _line_corners(*numbers)
        if shape == "p":
            numbers = _one_way(numbers)
        parts.append((_INKS.index(ink), shape, numbers))
    return tuple(parts)


def _line_corners(x0: int, y0: int, x1: int, y1: int, width: int) -> tuple[int, ...]:
    """Widens a line across its main direction."""
    dx, dy = (width // 2, 0) if abs(y1 - y0) >= abs(x1 - x0) else (0, width // 2)
    return x0 - dx, y0 - dy, x0 + dx, y0 + dy, x1 + dx, y1 + dy, x1 - dx, y1 - dy


def _one_way(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Orders the corners of a polygon so that its inside lies on the non-negative side of every edge."""
    corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    ring = zip(corners, corners[1:] + corners[:1], strict=True)
    if sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in ring) < 0:
        corners.reverse()
    return tuple(number for corner in corners for number in corner)


def _inside(shape: str, numbers: tuple[int, ...], u: Grid, v: Grid) -> Mask:
    """Tells which points lie in a shape: bool [H, W]."""
    if shape == "p":
        x, y = numbers[::2], numbers[1::2]
        inside = np.ones(u.shape, np.bool_)
        for i in range(len(x)):
            j = (i + 1) % len(x)
            inside &= (x[j] - x[i]) * (v - y[i]) >= (y[j] - y[i]) * (u - x[i])
        return inside
    a, b, c, d = numbers
    if shape == "e":
        return (u - a) ** 2 * (d * d) + (v - b) ** 2 * (c * c) <= (c * d) ** 2
    return (u >= a) & (u <= c) & (v >= b) & (v <= d)


def _coloured(sprite: Pixels, attributes: Attributes) -> Grid:
    """Turns inks into colours, with the texture on the body: int32 [H, W, 3]."""
    body = COLOURS[attributes.colour]
    second = tuple(c + 96 for c in body) if max(body) < 140 else tuple(c * 3 // 5 for c in body)
    shaded = tuple(c * 3 // 4 + 10 for c in body)
    outline = tuple(c * 2 // 5 for c in body)
    palette = np.array(((0, 0, 0), body, shaded, *_FIXED_INKS, outline), np.int32)
    colours = palette[sprite]
    x, y = np.arange(sprite.shape[1])[None, :], np.arange(sprite.shape[0])[:, None]
    pattern = {
        "plain": np.zeros(sprite.shape, np.bool_),
        "striped": (x + y) % 10 < 4,
        "dotted": (x % 9 - 4) ** 2 + (y % 9 - 4) ** 2 <= 7,
        "checked": (x // 5 + y // 5) % 2 == 1,
    }[attributes.texture]
    colours[(sprite == _INKS.index("B")) & pattern] = second
    return colours
