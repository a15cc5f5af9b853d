"""RDM series over time for several participants, normalised, averaged over people, cut to stimuli.

Nothing is read before it is asked for, and never a whole file at once.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sweeper.data.blocks import Blocks, parts_of
from sweeper.data.facts import Facts, kept
from sweeper.data.features import FeatureCache
from sweeper.errors import DataError, Problem
from sweeper.metrics.rdm import rounding_floor

LARGE = 256 * 2**20
"""Bytes from which on a view is kept in a folder and mapped, not held by each worker."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SeriesView:
    """Holds one RDM for each time, over chosen stimuli.

    Attributes:
        values: float32 [T, N, N]; in memory, or mapped from a file.
        times: float64 [T], in ms.
        names: N stimuli, in the order of the rows.
        digest: what stands for the values.
    """

    values: NDArray[np.float32]
    times: NDArray[np.float64]
    names: tuple[str, ...]
    digest: str

    def batch(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the RDMs over the stimuli at `rows` [n], in that order: float32 [T, n, n]."""
        return np.ascontiguousarray(self.values[:, rows[:, None], rows])

    def all(self) -> NDArray[np.float32]:
        """Returns the RDMs over all stimuli: float32 [T, N, N]."""
        return self.values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RdmSeries:
    """Gives the RDMs of people over time.

    Attributes:
        name, kind, source: as in the manifest.
        participants: their names.
        times: float64 [T], in ms.
        names: the stimuli of the rows.
        blocks: the values as stored, before `average`.
        low, high: stored values that become 0 and 1.
        average: after the first stored time, so many are averaged into one.
        digest: what stands for all values and times, whatever participants and stimuli are called.
        where: the manifest's place.
    """

    name: str
    kind: str
    source: str
    participants: tuple[str, ...]
    times: NDArray[np.float64]
    names: tuple[str, ...]
    blocks: Blocks
    low: float
    high: float
    average: int
    digest: str
    where: str

    @property
    def onset(self) -> int:
        """Returns the number of times up to and including 0 ms (docs/methods.md 4.2)."""
        return int((self.times <= 0).sum())

    def num_bytes(self, participants: Sequence[object]) -> int:
        """Returns how much has to be read, at most, to know the RDMs of so many participants."""
        return 8 * len(participants) * len(self.times) * self.average * self.blocks.shape[2] ** 2

    def uncovered(self, names: Sequence[str]) -> list[str]:
        """Returns those of `names` that are no row of this series."""
        own = set(self.names)
        return [name for name in names if name not in own]

    def each(self, participants: Sequence[str], names: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yields the RDMs of each participant over some stimuli, one participant at a time: float32 [T, N, N]."""
        self._positions(participants)
        for participant in participants:
            yield self.mean((participant,), names).values

    def mean(self, participants: Sequence[str], names: Sequence[str], *, folder: Path | None = None) -> SeriesView:
        """Averages the normalised RDMs of some participants over some stimuli.

        Args:
            participants: who; their order does not matter.
            names: the stimuli, in the order wanted.
            folder: where workers of this machine keep what is too large to be held by each; None holds it in memory.

        Raises:
            DataError: a participant or a stimulus is unknown, or named twice.
            StoreError: the folder cannot be written.
        """
        people, rows = sorted(self._positions(participants)), self._rows(names)
        signature = {"series": self.digest, "participants": people, "rows": rows.tolist(), "view": 1}
        digest = hashlib.sha256(json.dumps(signature, sort_keys=True).encode()).hexdigest()

        def build(times: range) -> NDArray[np.float32]:
            return self._mean_over(people, rows, times)

        num_times = len(self.times)
        parts = parts_of(num_times, self.average * self.blocks.shape[2] ** 2)
        if folder is None or 4 * num_times * len(rows) ** 2 <= LARGE:
            values = np.concatenate([build(times) for times in parts])
        else:
            cache = FeatureCache(folder, chunk=len(parts[0]))
            values = cache.get({"rdm series": digest}, num_times, lambda times: {"rdm": build(times)})["rdm"]
        return SeriesView(values=values, times=self.times, names=tuple(names), digest=digest)

    def constant_times(self, participants: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
        """Returns the 0-based times at which the mean RDM of some participants is the same for all pairs of stimuli.

        Args:
            participants: who.
            names: 3 stimuli or more.

        Raises:
            DataError: as `mean`.
        """
        people, rows = sorted(self._positions(participants)), self._rows(names)
        above = np.triu_indices(len(rows), k=1)

        def find() -> Facts:
            found = []
            for times in parts_of(len(self.times), self.average * self.blocks.shape[2] ** 2):
                pairs = self._mean_over(people, rows, times)[:, *above].astype(np.float64)
                spread = np.linalg.norm(pairs - pairs.mean(axis=1, keepdims=True), axis=1)
                flat = spread <= rounding_floor(pairs.astype(np.float32))
                found += [times.start + int(i) for i in np.flatnonzero(flat)]
            return {"times": found}

        key = json.dumps(["constant times 1", self.digest, people, rows.tolist()])
        return tuple(kept(key, self.num_bytes(people), find)["times"])

    def _mean_over(self, people: Sequence[int], rows: NDArray[np.int64], times: range) -> NDArray[np.float32]:
        total = np.zeros((len(times), len(rows), len(rows)))
        for participant in people:
            total += self._read(participant, rows, times)
        return (total / len(people)).astype(np.float32)

    def _read(self, participant: int, rows: NDArray[np.int64], times: range) -> NDArray[np.float64]:
        """Returns normalised RDMs at some of this series' times: float64 [t, n, n]."""
        first = max(0, 1 + (times.start - 1) * self.average)
        part = self.blocks.read(participant, range(first, 1 + (times.stop - 1) * self.average), rows)
        part = (np.where(np.isnan(part), 0.0, part) - self.low) / (self.high - self.low)
        if self.average == 1:
            return part
        alone = part[:1] if times.start == 0 else part[:0]
        groups = part[len(alone) :].reshape(-1, self.average, *part.shape[1:])
        return np.concatenate([alone, groups.mean(axis=1)])

    def _positions(self, participants: Sequence[str]) -> list[int]:
        place = {name: i for i, name in enumerate(self.participants)}
        unknown = [name for name in participants if name not in place]
        if unknown or not participants or len(set(participants)) < len(participants):
            shown = ", ".join(unknown or participants) or "none"
            rule = f"participants of `{self.name}` are named once each"
            raise DataError(
                Problem(where=self.where, rule=rule, got=shown, remedy=f"Known: {_listed(self.participants)}")
            )
        return [place[name] for name in participants]

    def _rows(self, names: Sequence[str]) -> NDArray[np.int64]:
        place = {name: i for i, name in enumerate(self.names)}
        lacking = [name for name in names if name not in place]
        if lacking or len(set(names)) < len(names):
            rule = f"`{self.name}` has a row for each stimulus, and each is asked for once"
            got = f"{len(lacking)} of {len(names)} are no rows, {len(names) - len(set(names))} repeated"
            got += f"; first {', '.join(lacking[:3])}" if lacking else ""
            remedy = "Give the `rows` of the series as the images are called"
            raise DataError(Problem(where=self.where, rule=rule, got=got, remedy=remedy))
        return np.array([place[name] for name in names], dtype=np.int64)


def _listed(names: Sequence[str], limit: int = 20) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
