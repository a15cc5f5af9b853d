"""What trials inherit from those they start from: the same adapters and times, and stimuli that these have seen."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sweeper.data.images import ImageSet
from sweeper.errors import DataError, Problem, SpecError
from sweeper.inputs import dataset_of
from sweeper.neural import series_of, split_over_time
from sweeper.plan.trials import Trial
from sweeper.spec.schema import TrialConfig
from sweeper.store.given import Source, find_trial, told
from sweeper.store.objects import ObjectStore
from sweeper.wording import counted

_FIELD = "model.start_from"


def require_parents(store: ObjectStore | None, trials: Iterable[Trial], sources: Mapping[str, Source]) -> None:
    """Makes sure that trials have the adapters and the times of those they start from.

    Args:
        store: None: there is none yet.
        trials: who starts from others.
        sources: specs that were named, by their trials' ids.

    Raises:
        SpecError: one has others, with both sides' values.
    """
    checked = set()
    for trial, parent in _with_parents(store, trials, sources):
        key = (trial.config.model, trial.config.data, parent.trial_id)
        if key not in checked:
            checked.add(key)
            _require_same_adapter(trial.config, parent)
            _require_same_times(trial.config, parent)


def seen_before(store: ObjectStore | None, trials: Iterable[Trial], sources: Mapping[str, Source]) -> tuple[str, ...]:
    """Says which trials validate or test on stimuli that the trial they start from was trained on, a line each.

    Args:
        store: None: there is none yet.
        trials: who starts from others.
        sources: specs that were named, by their trials' ids.
    """
    lines: dict[str, None] = {}
    for trial, parent in _with_parents(store, trials, sources):
        own, theirs = trial.config, parent.config
        if (own.data, own.seeds.split) == (theirs.data, theirs.seeds.split):
            continue
        source = sources.get(parent.trial_id)
        name = told(parent) if source is None else Path(source.path).name
        for what, seen, of in _overlaps(own, theirs):
            text = f"{_FIELD}: {name} was trained on {seen} of the {of} {what} stimuli of trials with seeds.split "
            text += f"{own.seeds.split} (its own: {theirs.seeds.split}): what is measured on them is too good"
            lines[text] = None
    return tuple(lines)


def _with_parents(
    store: ObjectStore | None, trials: Iterable[Trial], sources: Mapping[str, Source]
) -> Iterable[tuple[Trial, Trial]]:
    """Yields each trial that starts from another one that is known, with that one."""
    known: dict[str, Trial | None] = {name: source.trial for name, source in sources.items()}
    for trial in trials:
        name = getattr(trial.config.model, "start_from", None)
        if name is None:
            continue
        if name not in known:
            known[name] = None if store is None else find_trial(store, name)
        parent = known[name]
        if parent is not None and parent.config.model.over_time:
            yield trial, parent


def _require_same_adapter(config: TrialConfig, parent: Trial) -> None:
    own, theirs = (each.model.adapter.model_dump(exclude={"init"}) for each in (config, parent.config))
    differing = [name for name in own if own[name] != theirs.get(name)]
    if differing:
        got = f"{told(parent)}: " + ", ".join(f"{name} {theirs.get(name)}, here {own[name]}" for name in differing)
        fields = " and ".join(f"model.adapter.{name}: {theirs.get(name)}" for name in differing)
        raise _mismatch("starts from a trial with the same adapters", got, f"Name another trial, or write {fields}")


def _require_same_times(config: TrialConfig, parent: Trial) -> None:
    """Compares the time axes, which layer weights were learned for."""
    try:
        own, theirs = (series_of(each, dataset_of(each)).times for each in (config, parent.config))
    except DataError:  # the parent's data are not here: its tensors are compared, once they are loaded
        return
    if own.tolist() != theirs.tolist():
        axes = [f"{counted(len(times), 'time')}, {times[0]:g} to {times[-1]:g} ms" for times in (theirs, own)]
        rule, remedy = "starts from a trial over the same times, in ms", "Name a trial over the same times"
        raise _mismatch(rule, f"{told(parent)}: {axes[0]}; here {axes[1]}", remedy)


def _overlaps(own: TrialConfig, theirs: TrialConfig) -> list[tuple[str, int, int]]:
    """Returns how many of a configuration's validation and held-out stimuli another one was trained on."""
    try:
        dataset, other = dataset_of(own), dataset_of(theirs)
        split, trained = split_over_time(own, dataset), split_over_time(theirs, other).train
    except DataError:  # the data are not here
        return []
    by_name = own.data.manifest == theirs.data.manifest
    known = set(_keys(other.pool.subset(trained), by_name))
    sets = [("validation", dataset.pool.subset(split.val))]
    sets += [] if dataset.held_out is None else [("held-out", dataset.held_out.images)]
    found = [(what, sum(key in known for key in _keys(images, by_name)), len(images)) for what, images in sets]
    return [overlap for overlap in found if overlap[1]]


def _keys(images: ImageSet, by_name: bool) -> tuple[str, ...]:
    return images.names if by_name else images.digests


def _mismatch(rule: str, got: str, remedy: str) -> SpecError:
    return SpecError(Problem(where=_FIELD, rule=rule, got=got, remedy=remedy))
