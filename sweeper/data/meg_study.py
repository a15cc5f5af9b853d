"""The self-made MEG study: simulated people who look at the drawings, one RDM for each person and time.

A person first tells pictures apart by their pixels, later by their meaning. People differ in how much they see of
either, how early, how noisy they are, and in what a picture means to them: each weighs the target dimensions in an own
way. All of this follows from the seed and is known. Values are like pairwise decoding accuracies: chance is 0.5.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sweeper.data.blocks import Rows
from sweeper.data.drawing import COLOURS, KINDS, Pixels
from sweeper.data.parts import Stimuli
from sweeper.data.synthetic import NAMED, NUM_DIMENSIONS, as_rdm, early_rdm
from sweeper.randomness import stream

VERSION = 1
"""Raised by whatever changes a value: it stands for them in digests."""
START_MS, STEP_MS, NUM_TIMES = -100.0, 25.0, 40

_CHANCE = 0.5
_RANGE = (0.4, 0.98)  # of accuracies
_GAIN_STEP, _VALUE_STEP = 2.0**-10, 2.0**-20  # products of the two are exact in float64, and so are their sums
_EARLY_WIDTH_MS, _RISE_MS, _DECAY_MS = 60.0, 40.0, 1500.0

# What a person may care for more or less: living things rather than made ones, and colour.
_LIVING = ("animal", "food", "plant")
_MADE = ("vehicle", "furniture", "tool", "clothing", "container")

Floats = NDArray[np.float64]


# Between which bounds the parameters of people are spread evenly.
_BOUNDS = {
    "early_gain": (0.16, 0.26),
    "late_gain": (0.24, 0.36),
    "early_latency_ms": (90.0, 140.0),
    "late_latency_ms": (220.0, 340.0),
    "living": (-1.2, 1.2),
    "colour": (-1.2, 1.2),
    "noise_sd": (0.012, 0.024),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Holds what makes a simulated person.

    Attributes:
        early_gain, late_gain: accuracy above chance, at most, for the most different pictures.
        early_latency_ms: when pixels are told apart best.
        late_latency_ms: when meaning has reached half its height.
        living: how much more living things mean than made ones; below 0, less.
        colour: how much more colours mean than usual; below 0, less.
        noise_sd: standard deviation of an accuracy.
    """

    early_gain: float
    late_gain: float
    early_latency_ms: float
    late_latency_ms: float
    living: float
    colour: float
    noise_sd: float

    @property
    def weights(self) -> Floats:
        """Returns how much each target dimension weighs in what a picture means: float64 [66]."""
        interest = self.living * _columns(_LIVING) - self.living * _columns(_MADE) + self.colour * _columns(COLOURS)
        return np.exp(interest)

    def gains(self, times: Floats) -> tuple[Floats, Floats]:
        """Returns how strongly pixels and meaning are seen at some times (ms): float64 [T] each."""
        early = self.early_gain * np.exp(-0.5 * ((times - self.early_latency_ms) / _EARLY_WIDTH_MS) ** 2)
        since = times - self.late_latency_ms
        late = self.late_gain / (1.0 + np.exp(-since / _RISE_MS)) * np.exp(-np.maximum(since, 0.0) / _DECAY_MS)
        after = times > 0
        return _rounded(early, _GAIN_STEP) * after, _rounded(late, _GAIN_STEP) * after


def simulate_people(count: int, seed: int) -> tuple[Person, ...]:
    """Draws people; the first ones of a larger group are those of a smaller one."""
    people = []
    for number in range(count):
        drawn = stream(seed, "meg/person", 0, number).random(len(_BOUNDS))
        values = {name: low + (high - low) * x for (name, (low, high)), x in zip(_BOUNDS.items(), drawn, strict=True)}
        people.append(Person(**values))
    return tuple(people)


def study_of(drawn: Sequence[Stimuli], num_people: int, seed: int) -> "MegStudy":
    """Returns the study in which some people saw all the pictures of some sets."""
    tables = [part.table for part in drawn if part.table is not None]
    return MegStudy(
        people=simulate_people(num_people, seed),
        images=np.concatenate([np.asarray(part.images.sources, np.uint8) for part in drawn]),
        targets=np.concatenate([table.values for table in tables]),
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class MegStudy:
    """Makes the RDMs of simulated people when they are asked for; the same bits on every machine.

    Attributes:
        people: who.
        images: uint8 [N, H, W, 3], the pictures.
        targets: float32 [N, D], what they mean.
        seed: of the noise.
    """

    people: tuple[Person, ...]
    images: Pixels
    targets: NDArray[np.float32]
    seed: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns participants, times, stimuli, stimuli."""
        return len(self.people), NUM_TIMES, len(self.images), len(self.images)

    @property
    def times(self) -> Floats:
        """Returns the time axis: float64 [T], in ms."""
        return START_MS + STEP_MS * np.arange(NUM_TIMES, dtype=np.float64)

    @cached_property
    def digest(self) -> str:
        """Returns what stands for the values: all that they are made of."""
        made_of = hashlib.sha256(f"meg {VERSION} {self.seed} {len(self.people)}".encode())
        made_of.update(np.ascontiguousarray(self.images).tobytes())
        made_of.update(np.ascontiguousarray(self.targets).tobytes())
        return made_of.hexdigest()

    def read(self, participant: int, times: range, rows: Rows | None = None) -> Floats:
        """Returns some consecutive times of one participant: float64 [t, n, n]; None takes all rows."""
        part = np.stack([self._slice(participant, time) for time in times])
        return part if rows is None else part[:, rows[:, None], rows]

    def signal(self, participant: int) -> Floats:
        """Returns a person's RDMs without noise: float64 [T, N, N]."""
        early, late = self.people[participant].gains(self.times)
        pairs = _CHANCE + early[:, None, None] * self._pixels + late[:, None, None] * self._meanings[participant]
        return np.asarray(pairs * (1.0 - np.eye(len(self.images))))

    def _slice(self, participant: int, time: int) -> Floats:
        person, (first, second) = self.people[participant], self._pairs
        early, late = (gain[time] for gain in person.gains(self.times))
        noise = stream(self.seed, "meg/noise", participant, time).standard_normal(len(first))
        values = early * self._pixels[first, second] + late * self._meanings[participant][first, second]
        values += _CHANCE + _rounded(person.noise_sd * noise, _VALUE_STEP)
        rdm = np.zeros((len(self.images), len(self.images)))
        rdm[first, second] = rdm[second, first] = np.clip(_rounded(values, _VALUE_STEP), *_RANGE)
        return rdm

    @cached_property
    def _pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return np.triu_indices(len(self.images), 1)

    @cached_property
    def _pixels(self) -> Floats:
        return np.minimum(early_rdm(self.images), 1.0)

    @cached_property
    def _meanings(self) -> Floats:
        """Returns one RDM of weighted targets for each person: float64 [people, N, N]."""
        targets = self.targets.astype(np.float64)
        distances = [np.asarray(1.0 - np.corrcoef(targets * one.weights)) for one in self.people]
        return np.minimum([as_rdm(distance) for distance in distances], 1.0)


def _columns(names: Iterable[str]) -> Floats:
    """Returns 1 for the target dimensions named after some kinds of things or colours, 0 for the others: [66]."""
    chosen = np.zeros(NUM_DIMENSIONS)
    for name in names:
        for part in (name, *KINDS.get(name, ())):
            chosen[list(NAMED[part])] = 1.0
    return chosen


def _rounded(values: Floats, step: float) -> Floats:
    """Rounds beyond the reach of the last bit."""
    return np.asarray(np.round(values / step) * step)
