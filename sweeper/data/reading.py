"""Reading of everything a manifest names; problems are collected, so that what can be read is read."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sweeper_models.prompts import PROMPTS

from sweeper.data.fields import GeneratorSource, ImageSource, ReferenceSource
from sweeper.data.images import ImageSet
from sweeper.data.manifest import Manifest, Relabel
from sweeper.data.parts import NamedRdm, Parts, Problems, Stimuli
from sweeper.data.relabel import find_mislabelled, repair
from sweeper.data.series import RdmSeries
from sweeper.data.series_reading import series_of
from sweeper.data.sources import Triplets, image_set_of, rdm_of, rows_of, table_of, triplets_of
from sweeper.data.tables import Table, numbered
from sweeper.errors import DataError, Problem

FEWEST_HELD_OUT = 3  # with two there is one pair, and nothing to correlate


def read_parts(manifest: Manifest, relabel: Relabel, problems: Problems) -> Parts:
    """Reads all files of a manifest, or draws its set."""
    if manifest.generator is not None:
        return draw_parts(manifest.generator)
    published, own_table = _read_tables(manifest, problems)
    names_by_id = _names_by_id(published, own_table)
    pool_table, own_table, notes = _relabelled(manifest, relabel, published, own_table, problems)
    rows_by_id = _names_by_id(pool_table, own_table)
    if own_table is not None:
        own_table = numbered(own_table)
    if pool_table is not None:
        pool_table, own_table = _divided(manifest, numbered(pool_table), own_table, names_by_id, problems)
    all_names = published.names if published is not None else None
    held_out = _held_out_stimuli(manifest, own_table, all_names, problems)
    names = held_out.images.names if held_out is not None else None
    if own_table is not None:
        names = own_table.names
    if names is not None and len(names) < FEWEST_HELD_OUT:
        problems.found.append(_too_few_held_out(manifest, len(names)))
    rdms, rdm_notes = _read_rdms(manifest, names, names_by_id, problems)
    series, series_notes = _read_series(manifest, names, rows_by_id, problems)
    return Parts(
        pool_table=pool_table,
        held_out_table=own_table,
        pool=_pool_stimuli(manifest, pool_table, all_names, problems),
        held_out=held_out,
        held_out_names=names,
        rdms=rdms,
        series=series,
        triplets=_read_triplets(manifest, published, names_by_id, problems),
        notes=(*notes, *rdm_notes, *series_notes),
    )


def draw_parts(source: GeneratorSource) -> Parts:
    """Draws the self-made set."""
    from sweeper.data.synthetic import make_demo_set

    demo = make_demo_set(num_train=source.num_train, num_test=source.num_test, seed=source.seed)
    test_names = tuple(demo.test_names)
    where = f"generator {source.name}"
    named = (
        (f"behavioral{source.num_test}", "behavioral", demo.behavioral_rdm, "simulated odd-one-out choices"),
        ("early", "neural", demo.neural_early_rdm, "simulated: pixels"),
        ("late", "neural", demo.neural_late_rdm, "simulated: meaning, with noise"),
    )
    rdms = tuple(
        NamedRdm(name=name, kind=kind, source=text, rdm=np.asarray(rdm, np.float64), names=test_names, where=where)
        for name, kind, rdm, text in named
    )
    pool = _drawn_stimuli(tuple(demo.train_names), demo.train_images, demo.train_targets)
    held_out = _drawn_stimuli(test_names, demo.test_images, demo.test_targets)
    return Parts(
        pool_table=pool.table,
        held_out_table=held_out.table,
        pool=pool,
        held_out=held_out,
        held_out_names=test_names,
        rdms=rdms,
        series=_simulated_series(source, (pool, held_out)) if source.participants else (),
    )


def _simulated_series(source: GeneratorSource, drawn: tuple[Stimuli, Stimuli]) -> tuple[RdmSeries, ...]:
    """Returns the MEG of simulated people who saw all pictures; accuracies are taken as they are."""
    from sweeper.data.meg_study import study_of

    study = study_of(drawn, source.participants, source.seed)
    series = RdmSeries(
        name="meg",
        kind="neural",
        source="simulated: pixels, then meaning",
        participants=tuple(str(number) for number in range(1, source.participants + 1)),
        times=study.times,
        names=tuple(name for part in drawn for name in part.images.names),
        blocks=study,
        low=0.0,
        high=1.0,
        average=1,
        digest=study.digest,
        where=f"generator {source.name}",
    )
    return (series,)


def _drawn_stimuli(names: tuple[str, ...], images: NDArray[np.uint8], targets: NDArray[np.float32]) -> Stimuli:
    dimensions = PROMPTS[: targets.shape[1]]
    table = Table(names=names, values=np.asarray(targets, np.float32), row_ids=None, dimensions=dimensions)
    return Stimuli(images=ImageSet(names=names, sources=images), table=numbered(table))


def _read_tables(manifest: Manifest, problems: Problems) -> tuple[Table | None, Table | None]:
    pool = own = None
    if manifest.targets is not None:
        pool = problems.attempt(manifest.where("targets", "file"), table_of, manifest.targets)
    elif manifest.images is not None:
        pool = problems.attempt(manifest.where("images"), _rows_of_images, manifest.images)
    if manifest.held_out is not None and manifest.held_out.targets is not None:
        where = manifest.where("held_out", "targets", "file")
        own = problems.attempt(where, table_of, manifest.held_out.targets)
        if pool is not None and own is not None:
            problems.attempt(where, _check_apart, pool, own)
    return pool, own


def _rows_of_images(source: ImageSource) -> Table:
    """Returns a table without columns: its rows are the images, in their own order."""
    names = image_set_of(source, None).names
    return Table(names=names, values=np.zeros((len(names), 0), np.float32), row_ids=None, dimensions=())


def _check_apart(pool: Table, own: Table) -> None:
    """Refuses held-out stimuli that are in the pool too, and tables of different width."""
    problems = []
    both = [name for name in own.names if name in set(pool.names)]
    if both:
        got = f"{len(both)} in both, first {', '.join(both[:3])}"
        problems.append(Problem(where="", rule="held-out images are not in the pool", got=got))
    if pool.values.shape[1] != own.values.shape[1]:
        got = f"{pool.values.shape[1]} and {own.values.shape[1]}"
        problems.append(Problem(where="", rule="pool and held-out set have the same target columns", got=got))
    if problems:
        raise DataError(problems)


def _names_by_id(*tables: Table | None) -> dict[int, str]:
    """Returns the label printed beside each row id; the position is the id where a table has none."""
    names: dict[int, str] = {}
    for table in tables:
        if table is not None and (table.row_ids is not None or not names):
            ids = range(len(table)) if table.row_ids is None else table.row_ids.tolist()
            names |= dict(zip(ids, table.names, strict=True))
    return names


def _relabelled(
    manifest: Manifest, relabel: Relabel, pool: Table | None, own: Table | None, problems: Problems
) -> tuple[Table | None, Table | None, tuple[str, ...]]:
    tables = [table for table in (pool, own) if table is not None]
    if relabel == "none":
        wrong = sum(len(find_mislabelled(table)) for table in tables)
        return pool, own, (f"{wrong} mislabelled SPoSE rows kept as published (relabel: none)",) if wrong else ()
    if problems.found:  # a table that could not be read may hold the rows that are needed
        return pool, own, ()
    where = manifest.where("relabel")
    repaired = problems.attempt(where, repair, tables, where)
    if repaired is None:
        return pool, own, ()
    left = list(repaired[0])
    return (left.pop(0) if pool is not None else None), (left.pop(0) if own is not None else None), repaired[1]


def _divided(
    manifest: Manifest, pool: Table, own: Table | None, names_by_id: Mapping[int, str], problems: Problems
) -> tuple[Table, Table | None]:
    """Takes the rows that `held_out.rows` lists out of the pool's table."""
    if manifest.held_out is None or manifest.held_out.rows is None:
        return pool, own
    where = manifest.where("held_out", "rows")
    names = problems.attempt(where, rows_of, manifest.held_out.rows, names_by_id) or ()
    position = {name: i for i, name in enumerate(pool.names)}
    unknown = [name for name in names if name not in position]
    if unknown:
        got = f"{len(unknown)} others, first {', '.join(unknown[:3])}"
        problems.found.append(Problem(where=where, rule="held-out rows are rows of `targets`", got=got))
    chosen = [position[name] for name in names if name in position]
    rest = sorted(set(range(len(pool))) - set(chosen))
    return pool.take(rest), pool.take(chosen)


def _pool_stimuli(
    manifest: Manifest, table: Table | None, all_names: tuple[str, ...] | None, problems: Problems
) -> Stimuli | None:
    if table is None or manifest.images is None:
        return None
    images = problems.attempt(manifest.where("images"), _images_among, manifest.images, table.names, all_names)
    return None if images is None else Stimuli(images=images, table=table)


def _held_out_stimuli(
    manifest: Manifest, table: Table | None, all_names: tuple[str, ...] | None, problems: Problems
) -> Stimuli | None:
    source = manifest.held_out
    if source is None or (table is None and (source.targets is not None or source.rows is not None)):
        return None
    place = manifest.where("held_out", "images") if source.images else manifest.where("images")
    image_source = source.images or manifest.images
    if image_source is None:
        return None
    names = None if table is None else table.names
    shared = all_names if source.rows is not None and source.images is None else None
    images = problems.attempt(place, _images_among, image_source, names, shared)
    return None if images is None else Stimuli(images=images, table=table)


def _too_few_held_out(manifest: Manifest, found: int) -> Problem:
    field = ("held_out", "rows") if manifest.held_out is not None and manifest.held_out.rows is not None else ()
    rule, remedy = f"an RDM needs {FEWEST_HELD_OUT} held-out stimuli or more", "Hold out more, or leave `held_out` out"
    return Problem(where=manifest.where(*(field or ("held_out",))), rule=rule, got=str(found), remedy=remedy)


def _images_among(source: ImageSource, names: tuple[str, ...] | None, all_names: tuple[str, ...] | None) -> ImageSet:
    """Finds images; `all_names` are those of the whole table, whose order an array without names follows."""
    if names is None or all_names is None:
        return image_set_of(source, names)
    position = {name: i for i, name in enumerate(all_names)}
    return image_set_of(source, all_names).subset([position[name] for name in names])


def _read_rdms(
    manifest: Manifest, held_out: tuple[str, ...] | None, names_by_id: Mapping[int, str], problems: Problems
) -> tuple[tuple[NamedRdm, ...], tuple[str, ...]]:
    rdms: list[NamedRdm] = []
    notes: list[str] = []
    for i, source in enumerate(manifest.references):
        where = manifest.where("references", i)
        read = problems.attempt(manifest.where("references", i, "file"), rdm_of, source)
        names = held_out
        if not isinstance(source.rows, str):
            names = problems.attempt(manifest.where("references", i, "rows"), rows_of, source.rows, names_by_id)
        if read is None:
            continue
        notes += read[1]
        if names is not None:
            rdm = problems.attempt(manifest.where("references", i, "rows"), _named_rdm, source, read[0], names, where)
            rdms += [] if rdm is None else [rdm]
    return tuple(rdms), tuple(notes)


def _named_rdm(source: ReferenceSource, rdm: NDArray[np.float64], names: tuple[str, ...], where: str) -> NamedRdm:
    if len(names) != len(rdm):
        rule = f"`{source.name}` has as many rows as `rows` names"
        raise DataError(Problem(where="", rule=rule, got=f"{len(rdm)} rows for {len(names)} names"))
    text = source.source or (source.file.name + (f" {source.key}" if source.key else ""))
    return NamedRdm(name=source.name, kind=source.kind, source=text, rdm=rdm, names=names, where=where)


def _read_series(
    manifest: Manifest, held_out: tuple[str, ...] | None, rows_by_id: Mapping[int, str], problems: Problems
) -> tuple[tuple[RdmSeries, ...], tuple[str, ...]]:
    read = []
    for i, source in enumerate(manifest.series):
        where = manifest.where("series", i)
        read.append(problems.attempt(where, series_of, source, held_out, rows_by_id, where))
    found = [item for item in read if item is not None]
    return tuple(series for series, _ in found), tuple(note for _, notes in found for note in notes)


def _read_triplets(
    manifest: Manifest, table: Table | None, names_by_id: Mapping[int, str], problems: Problems
) -> Triplets | None:
    source = manifest.triplets
    if source is None:
        return None
    names = table.names if table is not None else None
    if not isinstance(source.rows, str):
        names = problems.attempt(manifest.where("triplets", "rows"), rows_of, source.rows, names_by_id)
    if names is None:
        return None
    return problems.attempt(manifest.where("triplets", "file"), triplets_of, source, names)
