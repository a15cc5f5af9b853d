"""Checks of a manifest's files: what `sweeper data verify` prints.

Nothing here raises for bad data: every check ends in findings, and a part that cannot be read leaves the
checks of the others to go on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from sweeper.data.fields import ImageSource
from sweeper.data.images import ImageSet
from sweeper.data.manifest import Manifest
from sweeper.data.over_time import WITHOUT_CONSTANT
from sweeper.data.parts import NamedRdm, Parts, Problems
from sweeper.data.reading import read_parts
from sweeper.data.relabel import concept_of, find_mislabelled
from sweeper.data.series import RdmSeries
from sweeper.data.sources import Triplets, image_set_of
from sweeper.data.tables import Table
from sweeper.errors import DataError, Problem
from sweeper.metrics.time_curves import FEWEST_TIMES

Level: TypeAlias = Literal["ok", "note", "warning", "error"]

# Another order of the rows fits better by at least this much Spearman correlation: the right one for the 48
# gives 0.864, the alphabetical one 0.037 [docs/methods.md 1.1].
_CLEARLY_BETTER = 0.1
_UNRELATED = 0.1
_MAX_SHOWN = 5
_FEWEST_STIMULI = 3  # with two there is one pair
_MAX_IMAGES_SHOWN = 20
_EVERY_IMAGE = "every image exists"  # the rule by which `image_set_of` refuses a set that lacks images

# The 48 held-out concepts of THINGS in the order of their RDM (`RDM48_triplet.mat`, `triplet48_index.npy`).
_THINGS48 = (
    "pizza beaver macadamia tarantula clothes doormat hammer mistletoe washcloth drain furnace tea chariot coaster "
    "music_box rolling_pin knob bookshelf candelabra table metal_detector bumper turban flagpole plaster_cast tuba "
    "camera1 rudder canvas dice toolbox trigger bowler_hat headphones file1 bench navel canister tiara hopscotch "
    "trophy punching_bag jet telegraph bag laptop tape_measure bucket"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """States the outcome of one check.

    Attributes:
        level: `ok` fits; `note` is good to know; `warning` may spoil results; `error` cannot be used as it is.
        check: what was checked, e.g. `images`, `row order`.
        where: the manifest's place.
        message: what was found, with numbers.
        remedy: the way out, if there is something to do.
    """

    level: Level
    check: str
    where: str
    message: str
    remedy: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Pictures:
    """Holds one set's images that are there, and the names of those that are not.

    Attributes:
        name: `images` or `held_out`.
        where: the place of what names them.
        source: the place of the folder or array; differs from `where` if the held-out set shares the pool's.
    """

    name: str
    where: str
    source: str
    images: ImageSet
    missing: tuple[str, ...] = ()


def verify_manifest(manifest: Manifest) -> list[Finding]:
    """Checks everything a manifest names; images are decoded, so allow about 10 ms for each."""
    problems = Problems()
    parts = read_parts(manifest, manifest.relabel, problems)
    pictures = _pictures_of(manifest, parts)
    told = {found.source for found in pictures if found.missing}  # by `_check_images`, which names more of them
    findings = [
        Finding(level="error", check="files", where=p.where, message=_sentence(p.rule, p.got), remedy=p.remedy)
        for p in problems.found
        if p.rule != _EVERY_IMAGE or not any(p.where.startswith(f"{place}: ") for place in told)
    ]
    findings += _check_provenance(manifest)
    findings += _check_labels(manifest, parts)
    for name, table in (("targets", parts.pool_table), ("held_out", parts.held_out_table)):
        if table is not None and table.dimensions:
            findings += _check_targets(manifest.where(name), name, table)
    for found in pictures:
        findings += _check_images(found)
    findings += _check_leaks(manifest, {found.name: found.images for found in pictures})
    findings += _check_references(manifest, parts)
    for series in parts.series:
        findings += _check_series(series, parts)
    if parts.triplets is not None:
        findings += _check_triplets(manifest.where("triplets"), parts.triplets, parts)
    findings += [Finding(level="note", check="repairs", where=manifest.where(), message=note) for note in parts.notes]
    return findings


def _sentence(rule: str, got: str | None) -> str:
    return rule if got is None else f"{rule}; got {got}"


def _check_provenance(manifest: Manifest) -> Iterator[Finding]:
    where = manifest.where("name")
    for field in ("source", "licence"):
        if getattr(manifest, field) is None:
            remedy = f"Add `{field}:`, for whoever uses these data next"
            yield Finding(level="note", check=field, where=where, message=f"no {field} is given", remedy=remedy)
    if manifest.held_out is None and manifest.generator is None:
        message = "no held-out set: a spec that uses this manifest says `folds` and `fold`"
        yield Finding(level="note", check="held-out set", where=where, message=message)


def _check_labels(manifest: Manifest, parts: Parts) -> Iterator[Finding]:
    """Looks for the 21 rows of the SPoSE table that stand beside another concept's label."""
    if manifest.generator is not None or (parts.pool_table is None and parts.held_out_table is None):
        return
    published = read_parts(manifest, "none", Problems())
    counts, names = [], []
    for table in (published.pool_table, published.held_out_table):
        wrong = () if table is None else find_mislabelled(table)
        counts.append(len(wrong))
        names += [] if table is None else [table.names[i] for i in wrong]
    where = manifest.where("relabel")
    if not names:
        yield Finding(level="ok", check="labels", where=where, message="none of the known mislabelled SPoSE rows")
        return
    found = f"{len(names)} mislabelled SPoSE rows ({counts[0]} in the pool, {counts[1]} held out): {', '.join(names)}"
    if manifest.relabel == "none":
        remedy = "Set `relabel: things-uniqueid`, unless the published study is to be repeated"
        yield Finding(level="warning", check="labels", where=where, message=f"{found}; kept", remedy=remedy)
    else:
        yield Finding(level="note", check="labels", where=where, message=f"{found}; repaired on load")


def _check_targets(where: str, name: str, table: Table) -> Iterator[Finding]:
    values = table.values
    if values.size == 0:
        yield Finding(level="error", check="targets", where=where, message=f"{name}: the table is empty")
        return
    low, high = float(values.min()), float(values.max())
    mean, spread = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    message = f"{name}: {len(table)} rows of {values.shape[1]} targets, {low:.4g}..{high:.4g}"
    yield Finding(level="ok", check="targets", where=where, message=f"{message}, mean {mean:.4f}, SD {spread:.4f}")
    maxima = values.max(axis=0)
    if len(table) > 1 and values.shape[1] > 1 and float((maxima >= 0.999 * high).mean()) > 0.9:
        remedy = "Rescale with one minimum and one maximum over the whole table"
        text = f"{name}: nearly every dimension reaches the maximum {high:.4g}: each was rescaled by itself"
        yield Finding(level="warning", check="target scale", where=where, message=text, remedy=remedy)
    if not 10 <= high <= 110 or low < -10:
        remedy = "The published targets, learning rate and random targets are on the scale 0..100"
        text = f"{name}: the targets are not on the scale 0..100"
        yield Finding(level="warning", check="target scale", where=where, message=text, remedy=remedy)
    constant = [table.dimensions[i] for i in np.flatnonzero(maxima == values.min(axis=0))]
    if constant and len(table) > 1:
        text = f"{name}: {len(constant)} dimensions never vary: {', '.join(constant[:_MAX_SHOWN])}"
        yield Finding(level="warning", check="targets", where=where, message=text)
    equal = len(table) - len(np.unique(values, axis=0))
    if equal:
        text = f"{name}: {equal} rows repeat another row's targets"
        yield Finding(level="warning", check="targets", where=where, message=text, remedy="Look for rows listed twice")


def _pictures_of(manifest: Manifest, parts: Parts) -> list[_Pictures]:
    """Returns the pool's and the held-out set's images, also where some are missing and `parts` has none."""
    found = []
    if manifest.generator is not None or manifest.images is not None:
        names = None if parts.pool_table is None else parts.pool_table.names
        place = manifest.where("images")
        ready = None if parts.pool is None else parts.pool.images
        found.append(_pictures("images", place, place, ready, manifest.images, names))
    own = manifest.held_out
    if manifest.generator is not None or own is not None:
        source = manifest.images if own is None or own.images is None else own.images
        names = None if parts.held_out_table is None else parts.held_out_table.names
        if names is None and own is not None and own.targets is None and own.rows is None and source is not None:
            names = source.names if isinstance(source.names, tuple) else None
        place = manifest.where("images") if own is None or own.images is None else manifest.where("held_out", "images")
        ready = None if parts.held_out is None else parts.held_out.images
        found.append(_pictures("held_out", manifest.where("held_out"), place, ready, source, names))
    return [pictures for pictures in found if pictures is not None]


def _pictures(
    name: str, where: str, place: str, ready: ImageSet | None, source: ImageSource | None, names: Sequence[str] | None
) -> _Pictures | None:
    """Returns one set as it was read, or else what of it there is; None where that cannot be told."""
    if ready is not None:
        return _Pictures(name=name, where=where, source=place, images=ready)
    if names is None or source is None or source.folder is None or not source.folder.is_dir():
        return None
    files = _files_by_name(source, names)
    images = ImageSet(names=tuple(files), sources=tuple(files.values()))
    missing = tuple(image for image in names if image not in files)
    return _Pictures(name=name, where=where, source=place, images=images, missing=missing)


def _files_by_name(source: ImageSource, names: Sequence[str]) -> dict[str, Path]:
    """Finds the files of those images that a folder has, in the order of `names`."""
    groups: Iterable[Sequence[str] | None] = ((image,) for image in names)
    if "*" in source.pattern:  # one search of the folder, not one for each image
        source, groups = source.model_copy(update={"names": None}), (None,)
    files: dict[str, Path] = {}
    for group in groups:
        try:
            images = image_set_of(source, group)
        except DataError:
            continue
        files |= zip(images.names, cast("tuple[Path, ...]", images.sources), strict=True)
    return {image: files[image] for image in names if image in files}


def _check_images(pictures: _Pictures) -> Iterator[Finding]:
    name, where, images = pictures.name, pictures.where, pictures.images
    broken, sizes = [], set()
    for i, image_name in enumerate(images.names):
        try:
            sizes.add(images.rgb(i).shape[:2])
        except DataError as error:
            broken.append(f"{image_name} ({_without_path(error.problems[0])})")
    bad = [*(f"{image} (missing)" for image in pictures.missing), *broken]
    if bad:
        total = len(images) + len(pictures.missing)
        text = f"{name}: {len(bad)} of {total} images cannot be used, {len(pictures.missing)} missing and "
        text += f"{len(broken)} undecodable: {', '.join(bad[:_MAX_IMAGES_SHOWN])}"
        text += f" and {len(bad) - _MAX_IMAGES_SHOWN} more" if len(bad) > _MAX_IMAGES_SHOWN else ""
        remedy = "Fetch them again"
        if pictures.missing:
            remedy += "; for missing ones, look at the `pattern` by which a name becomes a file, too"
        yield Finding(level="error", check="images", where=where, message=text, remedy=remedy)
    else:
        shape = "x".join(map(str, sorted(sizes)[0])) if len(sizes) == 1 else f"{len(sizes)} different sizes"
        text = f"{name}: {len(images)} images exist and decode ({shape} pixels)" if images.names else f"{name}: none"
        yield Finding(level="ok", check="images", where=where, message=text)
    first: dict[str, str] = {}
    same = [(first.setdefault(digest, n), n) for n, digest in _digests(images)]
    repeated = [f"{n} = {other}" for other, n in same if other != n]
    if repeated:
        text = f"{name}: {len(repeated)} images have the bytes of another: {', '.join(repeated[:_MAX_SHOWN])}"
        yield Finding(level="warning", check="images", where=where, message=text, remedy="Keep one of each")


def _digests(images: ImageSet) -> Iterator[tuple[str, str]]:
    """Yields name and digest of every image whose bytes can be read; `_check_images` tells of the others."""
    for i, name in enumerate(images.names):
        with suppress(DataError):
            yield name, images.subset([i]).digests[0]


def _without_path(problem: Problem) -> str:
    """Returns what Pillow said, without the long path that it repeats."""
    return (problem.got or problem.rule).replace(f" {problem.where!r}", "")


def _check_leaks(manifest: Manifest, images: Mapping[str, ImageSet]) -> Iterator[Finding]:
    """Looks for held-out pictures that are trained on under another name."""
    if len(images) < 2:
        return
    pool: dict[str, str] = {}
    for name, digest in _digests(images["images"]):
        pool.setdefault(digest, name)
    leaks = [f"{name} = {pool[digest]}" for name, digest in _digests(images["held_out"]) if digest in pool]
    where = manifest.where("held_out")
    if leaks:
        text = f"{len(leaks)} held-out images are in the pool too: {', '.join(leaks[:_MAX_SHOWN])}"
        yield Finding(
            level="error", check="held-out set", where=where, message=text, remedy="Take them out of the pool"
        )
    else:
        sizes = f"{len(images['held_out'])} held out, {len(images['images'])} in the pool, none in both"
        yield Finding(level="ok", check="held-out set", where=where, message=sizes)


def _check_references(manifest: Manifest, parts: Parts) -> Iterator[Finding]:
    names = parts.held_out_names
    for rdm in parts.rdms:
        off_diagonal = rdm.rdm[np.triu_indices(len(rdm.rdm), 1)]
        shape = f"{rdm.name}: {len(rdm.rdm)} x {len(rdm.rdm)}, symmetric, zero diagonal"
        spread = f", {off_diagonal.min():.4g}..{off_diagonal.max():.4g}" if off_diagonal.size else ""
        yield Finding(level="ok", check="reference RDM", where=rdm.where, message=shape + spread)
        lacking = rdm.uncovered(names or ())
        if lacking:
            text = f"{rdm.name}: {len(lacking)} held-out images are no rows of it: {', '.join(lacking[:_MAX_SHOWN])}"
            remedy = "Write the rows as the target table writes its names"
            yield Finding(level="error", check="reference RDM", where=rdm.where, message=text, remedy=remedy)
        elif names and parts.held_out_table is not None:
            yield from _check_order(rdm, parts.held_out_table)


def _check_series(series: RdmSeries, parts: Parts) -> Iterator[Finding]:
    times = series.times
    axis = f"{times[0]:g}..{times[-1]:g} ms" if len(times) > 1 else f"{times[0]:g} ms"
    text = (
        f"{series.name}: {len(series.participants)} participants, {len(times)} times ({axis}, {series.onset} of them "
    )
    text += f"up to 0 ms), {len(series.names)} stimuli, {series.low:.4g}..{series.high:.4g} taken as 0..1"
    yield Finding(level="ok", check="RDM series", where=series.where, message=text)
    if len(times) < FEWEST_TIMES:
        text = f"{series.name}: time curves need at least {FEWEST_TIMES} times: a spec uses constant ones"
        yield Finding(level="note", check="RDM series", where=series.where, message=text)
    if series.onset == len(times):
        text = f"{series.name}: no time is after 0 ms, the onset: losses and scores count these"
        remedy = "Correct `start_ms` or `step_ms`; for what is no time, such as regions, write `start_ms: 1`"
        yield Finding(level="warning", check="RDM series", where=series.where, message=text, remedy=remedy)
    pool = parts.pool_table.names if parts.pool_table is not None else ()
    for what, names in (("images of the pool", pool), ("held-out images", parts.held_out_names or ())):
        lacking = series.uncovered(names)
        if lacking:
            text = f"{series.name}: {len(lacking)} {what} are no rows of it: {', '.join(lacking[:_MAX_SHOWN])}"
            remedy = "Write the rows as the images are called"
            level: Level = "error" if names is pool or not pool else "warning"
            yield Finding(level=level, check="RDM series", where=series.where, message=text, remedy=remedy)
    yield from _check_constant(series, parts.held_out_names or ())


def _check_constant(series: RdmSeries, names: Sequence[str]) -> Iterator[Finding]:
    """Looks for people whose RDMs are the same for all pairs of held-out images at times after the onset."""
    after = np.flatnonzero(series.times > 0).tolist()
    if len(names) < _FEWEST_STIMULI or series.uncovered(names) or not after:
        return
    constant = {p: sorted(set(series.constant_times((p,), names)) & set(after)) for p in series.participants}
    who: dict[tuple[int, ...], list[str]] = {}
    for participant, times in constant.items():
        who.setdefault(tuple(times), []).append(participant)
    text, end = f"{series.name}: the same for all pairs of held-out stimuli", f"{len(after)} times after 0 ms"
    if all(times == after for times in constant.values()):
        level: Level = "error"
        text += f" at all {end}, of everybody"
    else:
        level, faults = "warning", [f"of {', '.join(p)} at {_in_ms(series, t)}" for t, p in who.items() if t]
        text += f" at some of {end}: {'; '.join(faults[:_MAX_SHOWN])}"
        text += f"; and {len(faults) - _MAX_SHOWN} more" if len(faults) > _MAX_SHOWN else ""
    if any(constant.values()):
        yield Finding(level=level, check="RDM series", where=series.where, message=text, remedy=WITHOUT_CONSTANT)


def _in_ms(series: RdmSeries, times: Sequence[int]) -> str:
    """Returns some times of a series and how many they are."""
    more = " and more" if len(times) > _MAX_SHOWN else ""
    return f"{', '.join(f'{series.times[time]:g}' for time in times[:_MAX_SHOWN])} ms{more} ({len(times)})"


def _check_order(rdm: NamedRdm, table: Table) -> Iterator[Finding]:
    """Compares the RDM with the targets', in the given order and in orders that are mistaken for it."""
    if len(table) < 4 or not table.dimensions or not np.any(table.values.std(axis=1)):
        return
    targets = _pearson_rdm(table.values)
    given = _spearman(rdm.over(table.names), targets)
    others = {"alphabetical": sorted(table.names)}
    by_concept = {concept_of(name): name for name in table.names}
    if sorted(by_concept) == sorted(_THINGS48.split()):
        others["published (pizza, beaver, ...)"] = [by_concept[concept] for concept in _THINGS48.split()]
    scores = {}
    if sorted(rdm.names) == sorted(table.names):
        for order, names in others.items():
            if tuple(names) == table.names:
                continue
            position = {name: i for i, name in enumerate(names)}
            index = np.array([position[name] for name in table.names], dtype=np.int64)
            scores[order] = _spearman(rdm.rdm[np.ix_(index, index)], targets)
    shown = f"{rdm.name}: Spearman with the targets' Pearson RDM {given:.4f} in the given order"
    shown += "".join(f", {score:.4f} in {order} order" for order, score in scores.items())
    best = max(scores, key=lambda order: scores[order], default=None)
    if best is not None and scores[best] > given + _CLEARLY_BETTER:
        text = f"{shown}: its rows are in {best} order"
        remedy = "Give `rows` in the order that the RDM really has, or the held-out table in the RDM's order"
        level: Level = "error" if rdm.kind == "behavioral" else "warning"
        yield Finding(level=level, check="row order", where=rdm.where, message=text, remedy=remedy)
    elif rdm.kind == "behavioral" and given < _UNRELATED:
        remedy = "Check that `rows` is the order of the RDM"
        text = f"{shown}: it has nothing in common with the targets"
        yield Finding(level="warning", check="row order", where=rdm.where, message=text, remedy=remedy)
    else:
        yield Finding(level="ok", check="row order", where=rdm.where, message=shown)


def _check_triplets(where: str, triplets: Triplets, parts: Parts) -> Iterator[Finding]:
    rows = triplets.rows
    repeated = int(sum(len(set(trial)) < 3 for trial in rows.tolist()))
    if repeated:
        text = f"{repeated} trials show the same image twice"
        yield Finding(level="error", check="triplets", where=where, message=text, remedy="Leave these trials out")
    values = _values_by_name((parts.pool_table, parts.held_out_table))
    known = np.array([name in values for name in triplets.names], dtype=np.bool_)
    covered = known[rows].all(axis=1) if len(rows) else np.zeros(0, dtype=np.bool_)
    text = f"{len(rows)} trials, {int(covered.sum())} with targets for all three images"
    if covered.any():
        correct = [_odd_one(values, triplets.names, trial) for trial in rows[covered].tolist()]
        accuracy = float(np.mean(np.array(correct) == triplets.odd_position[covered]))
        text += f"; the targets find the odd one in {accuracy:.3f} (chance 0.333)"
    yield Finding(level="ok", check="triplets", where=where, message=text)


def _values_by_name(tables: Sequence[Table | None]) -> dict[str, NDArray[np.float32]]:
    return {
        name: row for t in tables if t is not None and t.dimensions for name, row in zip(t.names, t.values, strict=True)
    }


def _odd_one(values: dict[str, NDArray[np.float32]], names: Sequence[str], trial: Sequence[int]) -> int:
    """Returns the one that the pair most alike (dot product) leaves."""
    a, b, c = (values[names[i]] for i in trial)
    return int(np.argmax([b @ c, a @ c, a @ b]))


def _pearson_rdm(features: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        rdm: NDArray[np.float64] = 1.0 - np.nan_to_num(np.corrcoef(features.astype(np.float64)))
    return rdm


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Correlates the upper triangles' ranks; 0 where one of them is constant."""
    from scipy.stats import rankdata

    upper = np.triu_indices(len(a), 1)
    ranks = [rankdata(rdm[upper]) for rdm in (a, b)]
    if min(float(rank.std()) for rank in ranks) == 0.0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
