"""What a manifest's files hold, before a fold or a size is chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from sweeper.data.images import ImageSet
from sweeper.data.series import RdmSeries
from sweeper.data.sources import Triplets
from sweeper.data.tables import Table
from sweeper.errors import DataError, Problem

P = ParamSpec("P")
T = TypeVar("T")


class Problems:
    """Collects problems, so that a user learns of all of them at once."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def attempt(self, where: str, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Calls a function; a `DataError` is kept, with the manifest's place before the file's."""
        try:
            return verb(*args, **kwargs)
        except DataError as error:
            for problem in error.problems:
                place = where if problem.where in ("", where) else f"{where}: {problem.where}"
                located = replace(problem, where=place)
                self.found += [] if located in self.found else [located]
            return None

    def raise_any(self) -> None:
        """Raises everything that was found."""
        if self.found:
            raise DataError(self.found)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stimuli:
    """Holds images with their rows of the target table, if they have any."""

    images: ImageSet
    table: Table | None

    def take(self, positions: Sequence[int]) -> "Stimuli":
        """Returns the stimuli at `positions`, in that order."""
        table = None if self.table is None else self.table.take(positions)
        return Stimuli(images=self.images.subset(positions), table=table)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NamedRdm:
    """Holds a reference RDM with the names of its rows.

    Attributes:
        name, kind, source: as in the manifest.
        rdm: float64 [K, K].
        names: K, in the order of the rows.
        where: the manifest's place.
    """

    name: str
    kind: str
    source: str
    rdm: NDArray[np.float64]
    names: tuple[str, ...]
    where: str

    def over(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Returns the part over `names`, in that order: float64 [M, M]."""
        position = {name: i for i, name in enumerate(self.names)}
        index = np.array([position[name] for name in names], dtype=np.int64)
        return self.rdm[np.ix_(index, index)]

    def uncovered(self, names: Sequence[str]) -> list[str]:
        """Returns those of `names` that are no row of this RDM."""
        own = set(self.names)
        return [name for name in names if name not in own]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Parts:
    """Holds what could be read.

    Attributes:
        pool_table, held_out_table: rows of targets; known even where images are missing.
        pool, held_out: stimuli, where both images and rows could be had.
        held_out_names: the order of the held-out set, where known.
        rdms: the references.
        series: RDMs over time.
        triplets: the human trials.
        notes: what was repaired or replaced.
    """

    pool_table: Table | None = None
    held_out_table: Table | None = None
    pool: Stimuli | None = None
    held_out: Stimuli | None = None
    held_out_names: tuple[str, ...] | None = None
    rdms: tuple[NamedRdm, ...] = ()
    series: tuple[RdmSeries, ...] = ()
    triplets: Triplets | None = None
    notes: tuple[str, ...] = ()
