"""The data set that training sees: pool, targets, held-out set, reference RDMs, trials."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.data.images import ImageSet, empty_image_set
from sweeper.data.manifest import Manifest, Relabel
from sweeper.data.over_time import OverTime
from sweeper.data.parts import NamedRdm, Parts, Problems, Stimuli
from sweeper.data.reading import read_parts
from sweeper.data.series import RdmSeries
from sweeper.data.sources import Triplets
from sweeper.errors import DataError, Problem
from sweeper.randomness import stream

VALIDATION = "validation"
"""Name of the validation stimuli, where they are evaluated as a set of their own."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReferenceRdm:
    """Holds a reference RDM over the held-out set.

    Attributes:
        name: what metrics call it.
        kind: `behavioral` or `neural`.
        rdm: float64 [M, M], symmetric, zero diagonal, in the order of the held-out images.
        source: where it is from.
    """

    name: str
    kind: str
    rdm: NDArray[np.float64]
    source: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOut:
    """Holds the stimuli that are never trained on.

    Attributes:
        images: M images.
        targets: float32 [M, D], or None.
        row_ids: int64 [M], ids of the table rows, or None.
        references: RDMs in the order of the images.
        over_time: what outputs over time are compared with; None where a model has none.
    """

    images: ImageSet
    targets: NDArray[np.float32] | None
    row_ids: NDArray[np.int64] | None
    references: tuple[ReferenceRdm, ...]
    over_time: OverTime | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """Holds everything a manifest leads to.

    Attributes:
        name: the manifest's.
        pool: N images, to be split into training and validation; empty for an evaluation set.
        targets: float32 [N, D]; D is 0 where the manifest has no table of targets.
        row_ids: int64 [N], id of the table row that each target was read from; the position where a table has no ids.
        dimensions: D names.
        held_out: None if the manifest has none and no fold was asked for.
        triplets: human trials over the rows of the manifest's table, whatever the fold.
        notes: what was repaired, replaced or left out, for people.
        series: RDMs over time, with rows for every image of the pool.
    """

    name: str
    pool: ImageSet
    targets: NDArray[np.float32]
    row_ids: NDArray[np.int64]
    dimensions: tuple[str, ...]
    held_out: HeldOut | None
    triplets: Triplets | None
    notes: tuple[str, ...]
    series: tuple[RdmSeries, ...] = ()

    @property
    def target_digest(self) -> str:
        """Returns the SHA-256 of shape and bytes of `targets`."""
        return _array_digest(self.targets)

    @property
    def held_out_digest(self) -> str | None:
        """Returns the digest of the held-out images in order, on which stored outputs depend."""
        return None if self.held_out is None else self.held_out.images.digest


def open_dataset(
    manifest: Manifest,
    *,
    relabel: Relabel | None = None,
    folds: int | None = None,
    fold: int | None = None,
    fold_seed: int = 0,
    train_size: int | None = None,
) -> Dataset:
    """Opens what a manifest names; images are found, not yet decoded.

    Args:
        manifest: what to open.
        relabel: None takes the manifest's choice.
        folds, fold, fold_seed, train_size: as in `choose`.

    Raises:
        DataError: with every problem found in the files.
    """
    parts = open_parts(manifest, relabel)
    return choose(manifest.name, parts, folds=folds, fold=fold, fold_seed=fold_seed, train_size=train_size)


def open_parts(manifest: Manifest, relabel: Relabel | None = None) -> Parts:
    """Reads all that a manifest names, whatever is trained on and held out of it.

    Raises:
        DataError: with every problem found in the files.
    """
    problems = Problems()
    parts = read_parts(manifest, relabel or manifest.relabel, problems)
    problems.raise_any()
    return parts


def choose(
    name: str,
    parts: Parts,
    *,
    folds: int | None = None,
    fold: int | None = None,
    fold_seed: int = 0,
    train_size: int | None = None,
) -> Dataset:
    """Chooses what is trained on and what is held out.

    Args:
        name: the manifest's.
        parts: what it leads to.
        folds: number of folds that the pool is cut into; the manifest's own held-out set is then left out.
        fold: 0-based fold that becomes the held-out set.
        fold_seed: seed of the folds and of `train_size`.
        train_size: keeps that many images of the pool, the first of a seeded permutation, so that a smaller size
            is part of every larger one.

    Raises:
        DataError: there is no such fold or size, a reference does not cover the held-out set, or a series not the pool.
    """
    pool, held_out, notes = parts.pool, parts.held_out, list(parts.notes)
    if folds is not None or fold is not None:
        pool, held_out = _fold(pool, folds, fold, fold_seed)
        notes.append(f"fold {fold} of {folds} (fold_seed {fold_seed}): {len(held_out.images)} images held out")
        if parts.held_out is not None:
            notes.append(f"the manifest's own held-out set ({len(parts.held_out.images)} images) is left out")
    if train_size is not None:
        pool = _first(pool, train_size, fold_seed)
    references, left_out = _references(parts.rdms, held_out, strict=folds is None)
    left_out += _check_series(parts.series, pool, held_out)
    return Dataset(
        name=name,
        pool=empty_image_set() if pool is None else pool.images,
        targets=_targets(pool),
        row_ids=_row_ids(pool),
        dimensions=() if parts.pool_table is None else parts.pool_table.dimensions,
        held_out=_held_out(held_out, references),
        triplets=parts.triplets,
        notes=(*notes, *left_out),
        series=parts.series,
    )


def _held_out(stimuli: Stimuli | None, references: tuple[ReferenceRdm, ...]) -> HeldOut | None:
    if stimuli is None:
        return None
    return HeldOut(
        images=stimuli.images,
        targets=None if stimuli.table is None or not stimuli.table.dimensions else stimuli.table.values,
        row_ids=None if stimuli.table is None else _row_ids(stimuli),
        references=references,
    )


def _targets(stimuli: Stimuli | None) -> NDArray[np.float32]:
    if stimuli is None or stimuli.table is None:
        return np.zeros((0, 0), dtype=np.float32)
    return stimuli.table.values


def _row_ids(stimuli: Stimuli | None) -> NDArray[np.int64]:
    if stimuli is None or stimuli.table is None or stimuli.table.row_ids is None:
        return np.zeros(0, dtype=np.int64)
    return stimuli.table.row_ids


def _references(
    rdms: Sequence[NamedRdm], held_out: Stimuli | None, *, strict: bool
) -> tuple[tuple[ReferenceRdm, ...], tuple[str, ...]]:
    """Returns the references over the held-out set, and notes on those that do not cover it.

    Under `strict` (no folds) such a reference is an error: its manifest cannot be meant.
    """
    names = held_out.images.names if held_out is not None else ()
    kept: list[ReferenceRdm] = []
    notes: list[str] = []
    problems: list[Problem] = []
    for rdm in rdms:
        lacking = rdm.uncovered(names)
        if lacking and strict:
            got = f"{len(lacking)} of {len(names)} are not among its rows, first {', '.join(lacking[:3])}"
            remedy = "Write the rows as the target table writes its names"
            problems.append(
                Problem(where=rdm.where, rule=f"`{rdm.name}` covers the held-out set", got=got, remedy=remedy)
            )
        elif lacking or held_out is None:
            notes.append(f"reference {rdm.name} is left out: it does not cover the held-out set")
        else:
            over = rdm.over(names)
            kept.append(ReferenceRdm(name=rdm.name, kind=rdm.kind, rdm=over, source=rdm.source))
    if problems:
        raise DataError(problems)
    return tuple(kept), tuple(notes)


def _check_series(series: Sequence[RdmSeries], pool: Stimuli | None, held_out: Stimuli | None) -> tuple[str, ...]:
    """Refuses series that lack images of the pool, and returns notes on those that lack held-out ones."""
    problems, notes = [], []
    for one in series:
        lacking = one.uncovered(pool.images.names if pool is not None else ())
        if pool is not None and lacking:
            got = f"{len(lacking)} of {len(pool.images)} are not among its rows, first {', '.join(lacking[:3])}"
            remedy = "Write the rows as the images are called, or take these images out of the pool"
            problems.append(Problem(where=one.where, rule=f"`{one.name}` covers the pool", got=got, remedy=remedy))
        lacking = one.uncovered(held_out.images.names if held_out is not None else ())
        if lacking:
            notes.append(f"series {one.name} lacks {len(lacking)} held-out images, first {', '.join(lacking[:3])}")
    if problems:
        raise DataError(problems)
    return tuple(notes)


def _fold(pool: Stimuli | None, folds: int | None, fold: int | None, fold_seed: int) -> tuple[Stimuli, Stimuli]:
    """Divides the pool into what is left and the fold, which is in the order of names."""
    n = 0 if pool is None else len(pool.images)
    if pool is None or folds is None or fold is None or not 2 <= folds <= n // 3 or not 0 <= fold < folds:
        rule = f"`folds` is 2..{n // 3} for a pool of {n} images, and `fold` one of 0..folds-1"
        raise DataError(Problem(where="data", rule=rule, got=f"folds {folds}, fold {fold}"))
    shuffled = _shuffled(pool.images.names, fold_seed, "folds")
    chosen = sorted(shuffled[fold::folds], key=lambda i: pool.images.names[i])
    return pool.take(sorted(set(range(n)) - set(chosen))), pool.take(chosen)


def _first(pool: Stimuli | None, train_size: int, seed: int) -> Stimuli:
    """Keeps the first images of a seeded permutation, in the file's order."""
    n = 0 if pool is None else len(pool.images)
    if pool is None or not 2 <= train_size <= n:
        rule = f"`train_size` is 2..{n}, the images of the pool"
        raise DataError(Problem(where="data.train_size", rule=rule, got=str(train_size)))
    return pool.take(sorted(_shuffled(pool.images.names, seed, "train_size")[:train_size]))


def _shuffled(names: Sequence[str], seed: int, purpose: str) -> list[int]:
    """Permutes positions by the seed and the names alone, whatever the order of the file."""
    by_name = sorted(range(len(names)), key=lambda i: names[i])
    return [by_name[i] for i in stream(seed, purpose).permutation(len(names))]


def _array_digest(array: NDArray[np.float32]) -> str:
    shape = "x".join(map(str, array.shape)).encode()
    return hashlib.sha256(b"float32 " + shape + b"\n" + np.ascontiguousarray(array, dtype="<f4").tobytes()).hexdigest()
