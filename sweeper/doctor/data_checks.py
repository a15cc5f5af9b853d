"""Checks that need neither weights nor pictures: tables, reference RDM, row orders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sweeper.data.parts import NamedRdm, Parts
from sweeper.data.relabel import concept_of, find_mislabelled
from sweeper.data.tables import Table
from sweeper.doctor import published, wording
from sweeper.doctor.alignment import alignment, behavioral
from sweeper.doctor.draw_checks import check_permutations, check_random_targets, check_split
from sweeper.doctor.judge import OTHER_TABLE, Cause, Figure, judge, relabel_choice
from sweeper.doctor.report import Row
from sweeper.metrics.rdm import upper_triangle
from sweeper.spec.schema import TrialConfig

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
    """Returns the rows of all checks for which there are tables; those of the machine itself always apply."""
    of_machine = [check_random_targets(), check_permutations()]
    of_tables = [replace(figure, inapplicable=inapplicable) for figure in _check_tables(tables, config)]
    return [judge(figure) for figure in (*of_machine, *of_tables)]


def _check_tables(tables: Tables, config: TrialConfig) -> Iterator[Figure]:
    pool, held_out, rdm = tables.parts.pool_table, tables.parts.held_out_table, _reference_rdm(tables.parts)
    yield _counts(pool, held_out)
    if pool is not None:
        yield from _scale(pool, config)
        yield from check_split(pool, config)
    if held_out is not None and rdm is not None:
        yield from _reference(rdm, held_out, config)
    yield from _labels(tables, config)


def order_cause(rdm: NDArray[np.float64], names: Sequence[str], values: NDArray[np.float32]) -> Cause | None:
    """Returns why an RDM [M, M] does not fit its targets [M, D]; None where it does.

    The right order of the 48 gives .8644, the alphabetical one .0365 [docs/methods.md 1.1].
    """
    score = alignment(values, rdm)
    if score is None or score > published.CEILING / 2:
        return None
    return _ALPHABETICAL if list(names) == sorted(names) else _REORDERED


def _counts(pool: Table | None, held_out: Table | None) -> Figure:
    sizes = [0 if table is None else len(table) for table in (pool, held_out)]
    depth = 0 if pool is None else pool.values.shape[1]
    wanted = [published.NUM_POOL, published.NUM_HELD_OUT]
    return Figure(
        name="rows",
        expected=f"{wanted[0]} + {wanted[1]} held out, {published.NUM_DIMENSIONS} dimensions",
        found=f"{sizes[0]} + {sizes[1]} held out, {depth} dimensions",
        holds=sizes == wanted and depth == published.NUM_DIMENSIONS,
        likely=OTHER_TABLE,
    )


def _scale(pool: Table, config: TrialConfig) -> Iterator[Figure]:
    values = pool.values.astype(np.float64)
    mean, std = float(values.mean()), float(values.std())
    as_printed = (published.TARGET_MEAN, published.TARGET_STD)
    repaired = (published.TARGET_MEAN_REPAIRED, published.TARGET_STD_REPAIRED)
    yield Figure(
        name="target scale: mean, SD",
        expected=f"{published.TARGET_MEAN}, {published.TARGET_STD}",
        found=f"{mean:.6f}, {std:.6f}",
        holds=bool(np.allclose((mean, std), as_printed, rtol=0, atol=2e-6)),
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
        likely=_scale_cause(values),
    )


def _scale_cause(values: NDArray[np.float64]) -> Cause:
    """Returns why values [N, D] are not on the published scale: one minimum and maximum over the whole table."""
    highest = values.max(axis=0)
    if float((highest >= 0.999 * values.max()).mean()) > 0.9:
        text = "each dimension was rescaled by itself"
        return Cause(text=text, remedy="Rescale with one minimum and one maximum over the whole table")
    if not 90 <= values.max() <= 100.001:
        return Cause(text=f"not rescaled to 0..100: the maximum is {values.max():.4g}", remedy=OTHER_TABLE.remedy)
    return OTHER_TABLE


def _reference(rdm: NamedRdm, held_out: Table, config: TrialConfig) -> Iterator[Figure]:
    over = rdm.over(held_out.names)
    first, mean = rdm.rdm[0, : len(published.RDM_FIRST_ROW)], float(upper_triangle(rdm.rdm).mean())
    names = [concept_of(name) for name in held_out.names]
    same_mean = abs(mean - published.RDM_MEAN) < 1e-5
    yield Figure(
        name="behavioural RDM: first entries, mean",
        expected=f"{wording.numbers(published.RDM_FIRST_ROW)}, mean {published.RDM_MEAN}",
        found=f"{wording.numbers(first)}, mean {mean:.5f}",
        holds=same_mean and bool(np.allclose(first, published.RDM_FIRST_ROW, rtol=0, atol=1e-6)),
        likely=_REORDERED if same_mean else Cause(text="another RDM", remedy="Use RDM48_triplet.mat"),
    )
    yield Figure(
        name="order of the 48: first, last",
        expected=f"{', '.join(published.FIRST_HELD_OUT)}, ..., {published.LAST_HELD_OUT}",
        found=f"{wording.names(names)}, ..., {wording.names(names[-1:])}",
        holds=tuple(names[:3]) == published.FIRST_HELD_OUT and names[-1] == published.LAST_HELD_OUT,
        likely=_ALPHABETICAL if list(held_out.names) == sorted(held_out.names) else _REORDERED,
    )
    yield _ordering(over, held_out, config)


def _ordering(rdm: NDArray[np.float64], held_out: Table, config: TrialConfig) -> Figure:
    """Compares target and behavioural RDM as given, and as they would be if the 48 were sorted by name."""
    by_name = np.argsort(np.array(held_out.names), kind="stable")
    given, sorted_ = alignment(held_out.values, rdm), alignment(held_out.values[by_name], rdm)
    repaired = config.data.relabel != "none"  # left out, the manifest says so
    wanted = (published.CEILING, published.CEILING_REPAIRED)
    close = [given is not None and abs(given - value) < 1e-4 for value in wanted]
    return Figure(
        name="targets against behaviour (Spearman)",
        expected=f"{wanted[0]} (repaired {wanted[1]}); alphabetical {published.CEILING_ALPHABETICAL}",
        found=f"{wording.score(given)}; alphabetical {wording.score(sorted_)}",
        holds=close[0],
        chosen=relabel_choice(config.data) if repaired and close[1] else (),
        likely=order_cause(rdm, held_out.names, held_out.values) or OTHER_TABLE,
    )


def _labels(tables: Tables, config: TrialConfig) -> Iterator[Figure]:
    printed, used = _mislabelled(tables.as_printed), _mislabelled(tables.parts)
    wanted = (published.MISLABELLED_POOL, published.MISLABELLED_HELD_OUT)
    altered = Cause(text="somebody has already repaired or changed the tables", remedy=OTHER_TABLE.remedy)
    yield Figure(
        name="mislabelled rows in the files",
        expected=f"{wanted[0]} + {wanted[1]} held out",
        found=f"{printed[0]} + {printed[1]} held out",
        holds=printed == wanted,
        likely=altered,
    )
    yield Figure(
        name="mislabelled rows in use",
        expected=f"{wanted[0]} + {wanted[1]} held out (relabel: none)",
        found=f"{used[0]} + {used[1]} held out (relabel: {config.data.relabel or 'as the manifest says'})",
        holds=used == wanted,
        chosen=relabel_choice(config.data),
        likely=altered,
    )
    left, score = sum(_mislabelled(tables.repaired)), _ceiling(tables.repaired)
    yield Figure(
        name="repair by relabel: rows left, targets against behaviour",
        expected=f"0, {published.CEILING_REPAIRED}",
        found=f"{left}, {wording.score(score)}",
        holds=left == 0 and score is not None and abs(score - published.CEILING_REPAIRED) < 1e-4,
        likely=Cause(text="the rows of both tables, or the order of the 48, are not the published ones"),
    )


def _mislabelled(parts: Parts) -> tuple[int, int]:
    pool, held_out = (
        0 if table is None else len(find_mislabelled(table)) for table in (parts.pool_table, parts.held_out_table)
    )
    return pool, held_out


def _ceiling(parts: Parts) -> float | None:
    table, rdm = parts.held_out_table, _reference_rdm(parts)
    return None if table is None or rdm is None else alignment(table.values, rdm.over(table.names))


def _reference_rdm(parts: Parts) -> NamedRdm | None:
    """Returns the behavioural RDM if it has all held-out rows."""
    table, rdm = parts.held_out_table, behavioral(parts.rdms)
    return None if table is None or rdm is None or rdm.uncovered(table.names) else rdm
