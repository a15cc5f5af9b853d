"""Checks that need neither weights nor pictures: tables, reference RDM, row orders, split, published randomness."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.data.parts import NamedRdm, Parts
from sweeper.data.relabel import concept_of, find_mislabelled
from sweeper.data.split import batch_order, published_order, published_split, split_pool
from sweeper.data.tables import Table
from sweeper.doctor import published
from sweeper.doctor.judge import Cause, Figure, judge, order_choices, part_choices, relabel_choice, split_choices
from sweeper.doctor.report import Row
from sweeper.metrics.rdm import UndefinedMetric, compute_rdm, upper_triangle
from sweeper.metrics.rsa import rsa_score
from sweeper.philox import published_normals
from sweeper.spec.schema import TrialConfig

_WIDEST_NAME = 16
_OTHER_TABLE = Cause(
    text="another table, or another part of it, than the study's",
    remedy="Use spose_embedding66d_rescaled_1806train.csv and spose_embedding66d_rescaled_48val_reordered.csv",
)
_ALPHABETICAL = Cause(
    text="alphabetical order: the 48 rows are sorted by name, the RDM is not (pizza, beaver, macadamia, ...)",
    remedy="Use spose_embedding66d_rescaled_48val_reordered.csv, not spose_embedding66d_rescaled_48val.csv",
)
_REORDERED = Cause(
    text="the order of the RDM's rows is not that of the 48",
    remedy="Give `rows` of the reference in the order that the RDM really has (RDM48_triplet.mat: pizza, beaver, ...)",
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tables:
    """Holds what a manifest's tables and RDMs are.

    Attributes:
        parts: with the spec's own `relabel`.
        as_printed: with `relabel: none`.
        repaired: with `relabel: things-uniqueid`; lacks what could not be repaired.
    """

    parts: Parts
    as_printed: Parts
    repaired: Parts


def check_data(tables: Tables, config: TrialConfig, inapplicable: str | None) -> list[Row]:
    """Returns the rows of all checks for which there are tables."""
    figures = [_normals(), _permutation()]
    pool, held_out = tables.parts.pool_table, tables.parts.held_out_table
    figures.append(_counts(pool, held_out, inapplicable))
    if pool is not None:
        figures += _scale(pool, config, inapplicable)
        figures += _split(pool, config, inapplicable)
    rdm = next((rdm for rdm in tables.parts.rdms if rdm.kind == "behavioral"), None)
    if held_out is not None and rdm is not None and not rdm.uncovered(held_out.names):
        figures += _reference(rdm, held_out, config, inapplicable)
    figures += _labels(tables, config, inapplicable)
    return [judge(figure) for figure in figures]


def order_cause(rdm: NDArray[np.float64], names: Sequence[str], values: NDArray[np.float32]) -> Cause | None:
    """Returns why an RDM [M, M] does not fit its targets [M, D]; None where it does.

    The right order of the 48 gives .8644, the alphabetical one .0365 [docs/methods.md 1.1].
    """
    score = _score(values, rdm)
    if score is None or score > published.CEILING / 2:
        return None
    return _ALPHABETICAL if list(names) == sorted(names) else _REORDERED


def _counts(pool: Table | None, held_out: Table | None, inapplicable: str | None) -> Figure:
    sizes = [0 if table is None else len(table) for table in (pool, held_out)]
    depth = 0 if pool is None else pool.values.shape[1]
    wanted = [published.NUM_POOL, published.NUM_HELD_OUT]
    return Figure(
        name="rows",
        expected=f"{wanted[0]} + {wanted[1]} held out, {published.NUM_DIMENSIONS} dimensions",
        found=f"{sizes[0]} + {sizes[1]} held out, {depth} dimensions",
        holds=sizes == wanted and depth == published.NUM_DIMENSIONS,
        inapplicable=inapplicable,
        likely=_OTHER_TABLE,
    )


def _scale(pool: Table, config: TrialConfig, inapplicable: str | None) -> Iterator[Figure]:
    values = pool.values.astype(np.float64)
    mean, std = float(values.mean()), float(values.std())
    as_printed = (published.TARGET_MEAN, published.TARGET_STD)
    repaired = (published.TARGET_MEAN_REPAIRED, published.TARGET_STD_REPAIRED)
    yield Figure(
        name="target scale: mean, SD",
        expected=f"{published.TARGET_MEAN}, {published.TARGET_STD}",
        found=f"{mean:.6f}, {std:.6f}",
        holds=bool(np.allclose((mean, std), as_printed, rtol=0, atol=2e-6)),
        inapplicable=inapplicable,
        chosen=relabel_choice(config.data) if np.allclose((mean, std), repaired, rtol=0, atol=2e-6) else (),
        likely=_scale_cause(values),
    )
    anchors = [float(((values - guess) ** 2).mean()) for guess in (0.0, mean, values.mean(axis=0))]
    wanted = (published.MSE_OF_ZERO, published.MSE_OF_MEAN, published.MSE_OF_DIMENSION_MEANS)
    yield Figure(
        name="squared error of 0, of the mean, of each dimension's mean",
        expected=", ".join(f"{value:.2f}" for value in wanted),
        found=", ".join(f"{value:.2f}" for value in anchors),
        holds=bool(np.allclose(anchors, wanted, rtol=0, atol=0.0101)),  # the repair stays within
        inapplicable=inapplicable,
        likely=_scale_cause(values),
    )


def _scale_cause(values: NDArray[np.float64]) -> Cause:
    """Returns why values [N, D] are not on the published scale: one minimum and maximum over the whole table."""
    highest = values.max(axis=0)
    if float((highest >= 0.999 * values.max()).mean()) > 0.9:
        text = "each dimension was rescaled by itself"
        return Cause(text=text, remedy="Rescale with one minimum and one maximum over the whole table")
    if not 90 <= values.max() <= 100.001:
        return Cause(text=f"not rescaled to 0..100: the maximum is {values.max():.4g}", remedy=_OTHER_TABLE.remedy)
    return _OTHER_TABLE


def _reference(rdm: NamedRdm, held_out: Table, config: TrialConfig, inapplicable: str | None) -> Iterator[Figure]:
    over = rdm.over(held_out.names)
    first, mean = rdm.rdm[0, : len(published.RDM_FIRST_ROW)], float(upper_triangle(rdm.rdm).mean())
    names = [concept_of(name) for name in held_out.names]
    same_mean = abs(mean - published.RDM_MEAN) < 1e-5
    yield Figure(
        name="behavioural RDM: first entries, mean",
        expected=f"{_few(published.RDM_FIRST_ROW)}, mean {published.RDM_MEAN}",
        found=f"{_few(first)}, mean {mean:.5f}",
        holds=same_mean and bool(np.allclose(first, published.RDM_FIRST_ROW, rtol=0, atol=1e-6)),
        inapplicable=inapplicable,
        likely=_REORDERED if same_mean else Cause(text="another RDM", remedy="Use RDM48_triplet.mat"),
    )
    yield Figure(
        name="order of the 48: first, last",
        expected=f"{', '.join(published.FIRST_HELD_OUT)}, ..., {published.LAST_HELD_OUT}",
        found=f"{_names(names)}, ..., {_names(names[-1:])}",
        holds=tuple(names[:3]) == published.FIRST_HELD_OUT and names[-1] == published.LAST_HELD_OUT,
        inapplicable=inapplicable,
        likely=_ALPHABETICAL if list(held_out.names) == sorted(held_out.names) else _REORDERED,
    )
    yield _ordering(over, held_out, config, inapplicable)


def _ordering(rdm: NDArray[np.float64], held_out: Table, config: TrialConfig, inapplicable: str | None) -> Figure:
    """Compares target and behavioural RDM as given, and as they would be if the 48 were sorted by name."""
    by_name = np.argsort(np.array(held_out.names), kind="stable")
    given, sorted_ = _score(held_out.values, rdm), _score(held_out.values[by_name], rdm)
    repaired = config.data.relabel == "things-uniqueid"
    wanted = (published.CEILING, published.CEILING_REPAIRED)
    close = [given is not None and abs(given - value) < 1e-4 for value in wanted]
    return Figure(
        name="targets against behaviour (Spearman)",
        expected=f"{wanted[0]} (repaired {wanted[1]}); alphabetical {published.CEILING_ALPHABETICAL}",
        found=f"{_number(given)}; alphabetical {_number(sorted_)}",
        holds=close[0],
        inapplicable=inapplicable,
        chosen=relabel_choice(config.data) if repaired and close[1] else (),
        likely=order_cause(rdm, held_out.names, held_out.values) or _OTHER_TABLE,
    )


def _labels(tables: Tables, config: TrialConfig, inapplicable: str | None) -> Iterator[Figure]:
    printed, used = _mislabelled(tables.as_printed), _mislabelled(tables.parts)
    wanted = (published.MISLABELLED_POOL, published.MISLABELLED_HELD_OUT)
    altered = Cause(text="somebody has already repaired or changed the tables", remedy=_OTHER_TABLE.remedy)
    yield Figure(
        name="mislabelled rows in the files",
        expected=f"{wanted[0]} + {wanted[1]} held out",
        found=f"{printed[0]} + {printed[1]} held out",
        holds=printed == wanted,
        inapplicable=inapplicable,
        likely=altered,
    )
    yield Figure(
        name="mislabelled rows in use",
        expected=f"{wanted[0]} + {wanted[1]} held out (relabel: none)",
        found=f"{used[0]} + {used[1]} held out (relabel: {config.data.relabel})",
        holds=used == wanted,
        inapplicable=inapplicable,
        chosen=relabel_choice(config.data),
        likely=altered,
    )
    left, score = sum(_mislabelled(tables.repaired)), _ceiling(tables.repaired)
    yield Figure(
        name="repair by relabel: rows left, targets against behaviour",
        expected=f"0, {published.CEILING_REPAIRED}",
        found=f"{left}, {_number(score)}",
        holds=left == 0 and score is not None and abs(score - published.CEILING_REPAIRED) < 1e-4,
        inapplicable=inapplicable,
        likely=Cause(text="the rows of both tables, or the order of the 48, are not the published ones"),
    )


def _mislabelled(parts: Parts) -> tuple[int, int]:
    pool, held_out = (
        0 if table is None else len(find_mislabelled(table)) for table in (parts.pool_table, parts.held_out_table)
    )
    return pool, held_out


def _ceiling(parts: Parts) -> float | None:
    table = parts.held_out_table
    rdm = next((rdm for rdm in parts.rdms if rdm.kind == "behavioral"), None)
    if table is None or rdm is None or rdm.uncovered(table.names):
        return None
    return _score(table.values, rdm.over(table.names))


def _split(pool: Table, config: TrialConfig, inapplicable: str | None) -> Iterator[Figure]:
    data = config.data
    n = len(pool) if data.folds is None else len(pool) - len(range(data.fold or 0, len(pool), data.folds))
    n = n if data.train_size is None else min(n, data.train_size)
    split = split_pool(data.split, config.seeds.split, n, data.train_fraction)
    yield Figure(
        name="split: train, validation",
        expected=f"{published.NUM_TRAIN}, {published.NUM_VAL}",
        found=f"{len(split.train)}, {len(split.val)}",
        holds=(len(split.train), len(split.val)) == (published.NUM_TRAIN, published.NUM_VAL),
        inapplicable=inapplicable,
        chosen=part_choices(data),
        likely=_OTHER_TABLE,
    )
    yield Figure(
        name="split: first train, validation positions",
        expected=f"{_positions(published.FIRST_TRAIN)}; {_positions(published.FIRST_VAL)}",
        found=f"{_positions(split.train)}; {_positions(split.val)}",
        holds=_starts(split.train, published.FIRST_TRAIN) and _starts(split.val, published.FIRST_VAL),
        inapplicable=inapplicable,
        chosen=split_choices(config),
        likely=_OTHER_TABLE,
    )
    order = batch_order(config.training.order, config.seeds.order, 1, len(split.train))
    first = split.train[order[: len(published.FIRST_BATCH)]]
    is_whole = data.folds is None and data.train_size is None  # else positions count in a part of the table
    names = [concept_of(pool.names[i]) for i in first] if is_whole else []
    yield Figure(
        name="first batch",
        expected=f"{_positions(published.FIRST_ORDER)}: {', '.join(published.FIRST_BATCH[:3])}, ...",
        found=f"{_positions(order)}: {_names(names) if names else 'in a part of the pool'}, ...",
        holds=_starts(order, published.FIRST_ORDER) and tuple(names) == published.FIRST_BATCH,
        inapplicable=inapplicable,
        chosen=order_choices(config),
        likely=Cause(text="the rows of the pool are in another order than the study's", remedy=_OTHER_TABLE.remedy),
    )


def _permutation() -> Figure:
    """Checks that this torch still draws what the study's did."""
    split, order = published_split(1, published.NUM_POOL), published_order(1, 1, published.NUM_TRAIN)
    return Figure(
        name="torch's permutations, seed 1",
        expected=f"{_positions(published.FIRST_TRAIN)}; {_positions(published.FIRST_ORDER)}",
        found=f"{_positions(split)}; {_positions(order)}",
        holds=_starts(split, published.FIRST_TRAIN) and _starts(order, published.FIRST_ORDER),
        likely=Cause(text="this torch draws other permutations", remedy="Install the pinned versions"),
    )


def _normals() -> Figure:
    """Checks the rule that repeats the study's random targets."""
    normals = published_normals(published.NOISE_SEED, len(published.FIRST_NORMALS))
    return Figure(
        name=f"random targets of seed {published.NOISE_SEED}",
        expected=_few(published.FIRST_NORMALS),
        found=_few(normals),
        holds=bool(np.allclose(normals, published.FIRST_NORMALS, rtol=0, atol=1e-5)),
        likely=Cause(text="numpy's float32 functions differ on this machine", remedy="Install the pinned versions"),
    )


def _score(values: NDArray[np.float32], rdm: NDArray[np.float64]) -> float | None:
    try:
        return rsa_score(compute_rdm(values), rdm)
    except UndefinedMetric:
        return None


def _starts(positions: NDArray[np.int64], wanted: Sequence[int]) -> bool:
    return bool(np.array_equal(positions[: len(wanted)], wanted))


def _positions(positions: Sequence[int] | NDArray[np.int64]) -> str:
    return f"{', '.join(str(int(position)) for position in positions[:4])}, ..."


def _names(names: Sequence[str]) -> str:
    return ", ".join(name if len(name) <= _WIDEST_NAME else f"{name[: _WIDEST_NAME - 2]}.." for name in names[:3])


def _few(numbers: Sequence[float] | NDArray[np.floating]) -> str:
    return ", ".join(f"{float(number):.4f}" for number in numbers[:3]) + ", ..."


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
