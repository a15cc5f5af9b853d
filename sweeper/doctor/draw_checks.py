"""Checks of what is drawn at random: split, first batch, and the published permutations and random targets."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sweeper.data.relabel import concept_of
from sweeper.data.split import batch_order, published_order, published_split, split_pool
from sweeper.data.tables import Table
from sweeper.doctor import published, wording
from sweeper.doctor.judge import OTHER_TABLE, Cause, Figure, order_choices, part_choices, split_choices
from sweeper.philox import published_normals
from sweeper.spec.schema import TrialConfig


def check_split(pool: Table, config: TrialConfig) -> Iterator[Figure]:
    """Compares the split of the pool's N rows, and the first batch of its training part, with the study's."""
    data = config.data
    n = len(pool) if data.folds is None else len(pool) - len(range(data.fold or 0, len(pool), data.folds))
    n = n if data.train_size is None else min(n, data.train_size)
    split = split_pool(data.split, config.seeds.split, n, data.train_fraction)
    yield Figure(
        name="split: train, validation",
        expected=f"{published.NUM_TRAIN}, {published.NUM_VAL}",
        found=f"{len(split.train)}, {len(split.val)}",
        holds=(len(split.train), len(split.val)) == (published.NUM_TRAIN, published.NUM_VAL),
        chosen=part_choices(data),
        likely=OTHER_TABLE,
    )
    yield Figure(
        name="split: first train, validation positions",
        expected=f"{wording.positions(published.FIRST_TRAIN)}; {wording.positions(published.FIRST_VAL)}",
        found=f"{wording.positions(split.train)}; {wording.positions(split.val)}",
        holds=_starts(split.train, published.FIRST_TRAIN) and _starts(split.val, published.FIRST_VAL),
        chosen=split_choices(config),
        likely=OTHER_TABLE,
    )
    order = batch_order(config.training.order, config.seeds.order, 1, len(split.train))
    first = split.train[order[: len(published.FIRST_BATCH)]]
    is_whole = data.folds is None and data.train_size is None  # else positions count in a part of the table
    names = [concept_of(pool.names[i]) for i in first] if is_whole else []
    yield Figure(
        name="first batch",
        expected=f"{wording.positions(published.FIRST_ORDER)}: {', '.join(published.FIRST_BATCH[:3])}, ...",
        found=f"{wording.positions(order)}: {wording.names(names) if names else 'in a part of the pool'}, ...",
        holds=_starts(order, published.FIRST_ORDER) and tuple(names) == published.FIRST_BATCH,
        chosen=order_choices(config),
        likely=Cause(text="the rows of the pool are in another order than the study's", remedy=OTHER_TABLE.remedy),
    )


def check_permutations() -> Figure:
    """Checks the rule that repeats the study's split and order."""
    split, order = published_split(1, published.NUM_POOL), published_order(1, 1, published.NUM_TRAIN)
    return Figure(
        name="torch's permutations, seed 1",
        expected=f"{wording.positions(published.FIRST_TRAIN)}; {wording.positions(published.FIRST_ORDER)}",
        found=f"{wording.positions(split)}; {wording.positions(order)}",
        holds=_starts(split, published.FIRST_TRAIN) and _starts(order, published.FIRST_ORDER),
        likely=Cause(text="numpy's Mersenne Twister differs on this machine", remedy="Install the pinned versions"),
    )


def check_random_targets() -> Figure:
    """Checks the rule that repeats the study's random targets."""
    normals = published_normals(published.NOISE_SEED, len(published.FIRST_NORMALS))
    return Figure(
        name=f"random targets of seed {published.NOISE_SEED}",
        expected=wording.numbers(published.FIRST_NORMALS),
        found=wording.numbers(normals),
        holds=bool(np.allclose(normals, published.FIRST_NORMALS, rtol=0, atol=1e-5)),
        likely=Cause(text="numpy's float32 functions differ on this machine", remedy="Install the pinned versions"),
    )


def _starts(positions: NDArray[np.int64], wanted: Sequence[int]) -> bool:
    return bool(np.array_equal(positions[: len(wanted)], wanted))
