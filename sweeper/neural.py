"""Neural targets: whose RDMs over time a configuration is trained on, and what its outputs are compared with.

Free of torch: planner and workers ask here.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sweeper.data.dataset import Dataset
from sweeper.data.facts import Facts, kept
from sweeper.data.over_time import CourseReference, OverTime
from sweeper.data.series import RdmSeries
from sweeper.data.split import Split, split_pool
from sweeper.errors import DataError, Problem
from sweeper.metrics.rdm import UndefinedMetric, upper_triangle
from sweeper.metrics.time_curves import FEWEST_TIMES, ConstantRdms, TimeCurves, constant_curves, time_curves
from sweeper.plan.identity import content_id
from sweeper.spec.schema import Evaluation, TrialConfig, names_several
from sweeper.spec.variants.clip_hba_meg import ClipHbaMeg

FEWEST_STIMULI = 3  # with two there is one pair


def series_of(config: TrialConfig, dataset: Dataset) -> RdmSeries:
    """Returns the RDM series that a configuration is trained on.

    Raises:
        DataError: the manifest has none, several, or none of that name; or it has too few times for what is asked.
    """
    model, known = _model(config), {series.name: series for series in dataset.series}
    name = model.targets.series or (next(iter(known)) if len(known) == 1 else None)
    if name not in known:
        raise DataError(
            Problem(
                where="model.targets.series",
                rule=f"{model.variant} is trained on an RDM series of the manifest",
                got=repr(name) if name else f"{len(known)} series and no name",
                remedy=f"Known: {', '.join(known) or 'none; add `series` to ' + config.data.manifest}",
            )
        )
    series = known[name]
    _require_times(model, len(series.times))
    if not counted_times(series).any():
        raise DataError(_nothing_counts(series))
    return series


def _nothing_counts(series: RdmSeries) -> Problem:
    return Problem(
        where=series.where,
        rule=f"`{series.name}` has times after 0 ms, the onset: losses and scores count these",
        got=f"{series.times[0]:g} to {series.times[-1]:g} ms",
        remedy="Correct `start_ms` or `step_ms`; for what is no time, such as regions, write `start_ms: 1`",
    )


def _require_times(model: ClipHbaMeg, num_times: int) -> None:
    rule = f"needs an RDM series of {FEWEST_TIMES} times or more"
    wrong = []
    if num_times < FEWEST_TIMES and model.curves.source == "data":
        wrong.append(Problem(where="model.curves.source", rule=f"`data` {rule}", got=f"{num_times}", remedy="Use ones"))
    if num_times < FEWEST_TIMES and model.loss.w3 > 0:
        wrong.append(Problem(where="model.loss.w3", rule=f"a weight {rule}", got=f"{num_times}", remedy="Set it to 0"))
    if wrong:
        raise DataError(wrong)


def target_participants(config: TrialConfig, series: RdmSeries) -> tuple[str, ...]:
    """Returns whose RDMs are averaged into the targets: the subject, those named, or all but the last."""
    named = _model(config).targets.participants
    if config.subject is not None:
        return known_participants(series, (config.subject,), "subject")
    if named is not None:
        return known_participants(series, named, "model.targets.participants")
    return series.participants[:-1] if len(series.participants) > 1 else series.participants


def known_participants(series: RdmSeries, asked: Sequence[str], where: str) -> tuple[str, ...]:
    """Returns participants that a series has.

    Raises:
        DataError: it lacks one, or one is named twice.
    """
    unknown = [name for name in asked if name not in series.participants]
    if unknown or len(set(asked)) < len(asked):
        raise DataError(
            Problem(
                where=where,
                rule=f"participants of {series.name}, each named once",
                got=", ".join(unknown or asked),
                remedy=f"Known: {', '.join(series.participants)}",
            )
        )
    return tuple(asked)


def subjects_named(asked: str, series: RdmSeries) -> tuple[str, ...]:
    """Returns the participants that a subject axis means: `all`, a range in the series' order, or one by its id.

    Raises:
        DataError: the series lacks one of them.
    """
    if asked == "all":
        return series.participants
    if asked in series.participants or not names_several(asked):
        return known_participants(series, (asked,), "subject")
    ends = [part.strip() for part in asked.split("..", 1)]
    first, last = (series.participants.index(name) for name in known_participants(series, ends, "subject"))
    if first > last:
        rule, remedy = "a range of subjects goes forward in the order of the series", f"Write {ends[1]}..{ends[0]}"
        raise DataError(Problem(where="subject", rule=rule, got=asked, remedy=remedy))
    return series.participants[first : last + 1]


def compared_participants(config: TrialConfig, evaluation: Evaluation, series: RdmSeries) -> tuple[str, ...]:
    """Returns whose RDMs the held-out outputs are compared with: the subject's own, or those not trained on."""
    targets = target_participants(config, series)
    if config.subject is not None or evaluation.participants == "targets":
        return targets
    others = tuple(name for name in series.participants if name not in targets)
    if not others:
        raise DataError(
            Problem(
                where="evaluation.participants",
                rule="`others` needs a participant who is not trained on",
                got=f"all {len(targets)} participants of {series.name} are targets",
                remedy="Leave one out of model.targets.participants, or set evaluation.participants: targets",
            )
        )
    return others


def neural_digest(config: TrialConfig, dataset: Dataset) -> str:
    """Returns what stands for the neural targets: the series, whose of it, and its rows for the pool."""
    series = series_of(config, dataset)
    people = [series.participants.index(name) for name in target_participants(config, series)]
    place = {name: row for row, name in enumerate(series.names)}
    rows = [place[name] for name in dataset.pool.names]
    return content_id("neural", {"series": series.digest, "participants": sorted(people), "rows": rows})


def curves_of(config: TrialConfig, dataset: Dataset) -> TimeCurves:
    """Returns the time curves of a configuration, each [T].

    Raises:
        DataError: they do not exist for these RDMs.
    """
    series, wanted = series_of(config, dataset), _model(config).curves
    if wanted.source == "ones":
        return constant_curves(len(series.times))
    names: Sequence[str] = series.names
    if wanted.stimuli == "training":
        names = [dataset.pool.names[row] for row in split_over_time(config, dataset).train]
    everybody = wanted.participants == "all"
    people = series.participants if everybody else target_participants(config, series)
    return _curves_from(series, tuple(people), tuple(names), wanted.noise_scale)


@lru_cache(maxsize=256)  # asked for by the plan, then by each task
def _curves_from(series: RdmSeries, people: tuple[str, ...], names: tuple[str, ...], noise_scale: float) -> TimeCurves:
    rule, remedy = f"time curves of `{series.name}` exist", "Use ones"

    def find() -> Facts:
        curves = time_curves(series.each(people, names), series.onset, noise_scale=noise_scale)
        return {"alpha": curves.alpha.tolist(), "beta": curves.beta.tolist(), "noise": curves.noise.tolist()}

    try:
        rows = (series.participants, series.names)  # which the digest does not know
        what = {"series": series.digest, "rows": rows, "people": people, "stimuli": names, "noise": noise_scale}
        facts = kept(f"time curves 1 {content_id('curves', what)}", series.num_bytes(people), find)
        return TimeCurves(**{name: np.array(curve) for name, curve in facts.items()})
    except ConstantRdms as error:
        got = f"the RDM of participant {people[error.participant]} over {len(names)} stimuli is constant "
        got += _at_times(series, error.times)
        remedy = "Take these times out of the file, or leave the participant out of the targets"
        raise DataError(Problem(where="model.curves.source", rule=rule, got=got, remedy=remedy)) from error
    except UndefinedMetric as error:
        raise DataError(Problem(where="model.curves.source", rule=rule, got=str(error), remedy=remedy)) from error


def _at_times(series: RdmSeries, times: Sequence[int]) -> str:
    more = f" and at {len(times) - 1} other times" if len(times) > 1 else ""
    return f"at {series.times[times[0]]:g} ms{more}"


def require_rdms(config: TrialConfig, dataset: Dataset) -> None:
    """Makes sure that the curves of a configuration exist, and losses of RDMs that vary.

    Raises:
        DataError: they do not, or a side of the split has too few stimuli.
    """
    series, model, split = series_of(config, dataset), _model(config), split_over_time(config, dataset)
    curves_of(config, dataset)
    if model.loss.w3 == 0:  # the other losses take all times as one
        return
    counted = range(len(series.times)) if model.loss.times == "all" else np.flatnonzero(counted_times(series)).tolist()
    for what, rows in (("training", split.train), ("validation", split.val)):
        names = tuple(dataset.pool.names[row] for row in rows)
        constant = sorted(_constant_times(series, target_participants(config, series), names) & set(counted))
        if constant:
            rule = f"a weight needs targets that differ between pairs of {what} stimuli, at each time that losses count"
            got = f"`{series.name}`, {len(names)} stimuli: the same for all pairs {_at_times(series, constant)}"
            remedy = "Set it to 0, or take these times out of the file"
            raise DataError(Problem(where="model.loss.w3", rule=rule, got=got, remedy=remedy))


def rdm_part(config: TrialConfig) -> tuple[object, ...]:
    """Returns the fields of a model, besides data, split and subject, by which `require_rdms` judges."""
    model = _model(config)
    return (model.targets, model.curves, model.loss)


@lru_cache(maxsize=1024)
def _constant_times(series: RdmSeries, people: tuple[str, ...], names: tuple[str, ...]) -> frozenset[int]:
    return frozenset(series.constant_times(people, names))


def split_over_time(config: TrialConfig, dataset: Dataset) -> Split:
    """Returns the split of a configuration's pool.

    Raises:
        DataError: one side has too few stimuli for an RDM.
    """
    data = config.data
    split = split_pool(data.split, config.seeds.split, len(dataset.pool), data.train_fraction)
    for what, rows in (("training", split.train), ("validation", split.val)):
        if len(rows) < FEWEST_STIMULI:
            rule = f"RDMs need {FEWEST_STIMULI} {what} stimuli or more"
            got = f"{len(rows)} of {len(dataset.pool)} ({data.train_fraction:g} are for training)"
            remedy = "Take more stimuli, or another data.train_fraction"
            raise DataError(Problem(where="data.train_fraction", rule=rule, got=got, remedy=remedy))
    return split


def counted_times(series: RdmSeries) -> NDArray[np.bool_]:
    """Returns the times after the stimulus began, bool [T]: the axis of the data says so, whatever the curves are."""
    return np.asarray(series.times > 0)


def neural_part(config: TrialConfig) -> tuple[object, ...]:
    """Returns the fields of a configuration that decide what its outputs over time are compared with."""
    return (config.model.targets,) if isinstance(config.model, ClipHbaMeg) else ()


def onset_under_ones(config: TrialConfig, series: RdmSeries) -> tuple[tuple[str, str], ...]:
    """Returns what tells constant curves with an onset from those of old, when all times counted: part of a regime."""
    is_new = series.onset > 0 and _model(config).curves.source == "ones"
    return (("counted", f"{len(series.times) - series.onset} of {len(series.times)}"),) if is_new else ()


def over_time(config: TrialConfig, evaluation: Evaluation, dataset: Dataset, names: Sequence[str]) -> OverTime:
    """Returns what outputs for held-out stimuli of the configuration's own data set are compared with.

    Args:
        config: whose outputs.
        evaluation: whose RDMs they are compared with.
        dataset: the configuration's.
        names: M stimuli, in order.
    """
    series = series_of(config, dataset)
    references = _references((series,), names, {series.name: compared_participants(config, evaluation, series)})
    return OverTime(times_ms=series.times, after_onset=counted_times(series), references=references)


def elsewhere_over_time(config: TrialConfig, dataset: Dataset, further: Dataset, names: Sequence[str]) -> OverTime:
    """Returns what outputs for another set's stimuli are compared with: all participants of that set's series."""
    own = series_of(config, dataset)
    references = _references(further.series, names, {})
    return OverTime(times_ms=own.times, after_onset=counted_times(own), references=references)


def _references(
    given: Sequence[RdmSeries], names: Sequence[str], people: dict[str, tuple[str, ...]]
) -> tuple[CourseReference, ...]:
    """Returns the references of those series that cover the stimuli; the data set has told of the others."""
    covering = [series for series in given if len(names) >= FEWEST_STIMULI and not series.uncovered(names)]
    return tuple(_reference(series, names, people.get(series.name, series.participants)) for series in covering)


def _reference(series: RdmSeries, names: Sequence[str], people: tuple[str, ...]) -> CourseReference:
    return CourseReference(
        name=series.name,
        rdms=upper_triangle(series.mean(people, names).all()).astype(np.float32),
        times_ms=series.times,
        participants=people,
        where=series.where,
    )


def _model(config: TrialConfig) -> ClipHbaMeg:
    assert isinstance(config.model, ClipHbaMeg)
    return config.model
