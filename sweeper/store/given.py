"""What a trial takes from another one: the best state of a finished trial, found in the store alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sweeper.errors import Problem, SpecError
from sweeper.plan.trials import Trial
from sweeper.records import TRAINING_ITEM, validation_loss
from sweeper.spec.rewrite import GIVEN, is_local_weights
from sweeper.spec.variants import AnyModel
from sweeper.store.objects import ObjectStore
from sweeper.store.rows import read_records
from sweeper.store.sweeps import all_revisions
from sweeper.wording import counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A spec that a model names to take its one trial's state.

    Attributes:
        path: of the spec.
        trial: its trial.
    """

    path: str
    trial: Trial


def best_state(store: ObjectStore, trial_id: str, where: str) -> tuple[Trial, bytes]:
    """Returns a finished trial and its state of the lowest validation loss.

    Args:
        store: where both are.
        trial_id: whose.
        where: the field that asks for it, for errors.

    Raises:
        SpecError: the store does not know the trial, or it is not finished, or its best state is gone.
    """
    trial = find_trial(store, trial_id)
    if trial is None:
        raise _unknown(store, where, trial_id)
    curve = _curve(store, trial)
    end = trial.stop.ended_at(curve)
    if end is None:
        got = f"{told(trial)}, measured up to epoch {max(curve, default=0)}"
        raise _error(where, "takes a state of a finished trial", got, "Run its spec to the end, in this store, first")
    own = {epoch: loss for epoch, loss in curve.items() if trial.stop.start <= epoch <= end}
    best = min(own, key=lambda epoch: (own[epoch], epoch))
    data = store.get("states", trial.state_ids[best])
    if data is None:
        got = f"the state of epoch {best} of {told(trial)} is not there (dropped, or damaged)"
        raise _error(where, "takes a state that the store holds", got, "Run that trial's spec again: it is made anew")
    return trial, data


def require_fit(given: Trial, model: AnyModel, weights: str, where: str) -> None:
    """Makes sure that a model can use what a trial has learned.

    Args:
        given: the trial.
        model: who takes its state.
        weights: digest of that model's weights.
        where: the field that names the trial, for errors.

    Raises:
        SpecError: it is of a variant that has no such part, or of another backbone.
    """
    theirs, field = given.config.model, where.rpartition(".")[2]
    if field not in theirs.gives:
        part = "its text tower" if field == "text_from" else f"what {model.variant} starts from"
        raise _error(where, f"names a trial whose variant trains {part}", f"{told(given)}, {theirs.variant}", _OTHER)
    if dict(given.inputs.model)["weights"] != weights:
        got = f"{told(given)}, {theirs.backbone} {theirs.pretrained}"
        raise _error(where, f"names a trial of the same backbone, {model.backbone} {model.pretrained}", got, _OTHER)


def require_given(store: ObjectStore, trials: Iterable[Trial], sources: Mapping[str, Source]) -> None:
    """Makes sure that every state that some trials take from others is there, and fits.

    Args:
        store: where they are.
        trials: who takes.
        sources: specs that were named, by their trials' ids.

    Raises:
        SpecError: see `best_state` and `require_fit`; the message has the spec as it was named.
    """
    for asker, where, trial_id in _asked(trials):
        source = sources.get(trial_id)
        try:
            given, _ = best_state(store, trial_id, where)
        except SpecError as error:
            if source is None:
                raise
            (problem,) = error.problems
            got, remedy = f"{source.path} ({problem.got})", f"First: sweeper run {source.path}, with the same --store"
            raise _error(where, problem.rule, got, remedy) from error
        require_fit(given, asker.config.model, dict(asker.inputs.model)["weights"], where)


def given_to_come(store: ObjectStore | None, trials: Iterable[Trial], sources: Mapping[str, Source]) -> tuple[str, ...]:
    """Says what is to be trained before some trials can begin, a line each.

    Args:
        store: None: there is none yet.
        trials: who takes.
        sources: specs that were named, by their trials' ids.

    Raises:
        SpecError: a trial is named by its id, but the store has none such; or one does not fit.
    """
    lines = []
    for asker, where, trial_id in _asked(trials):
        source, found = sources.get(trial_id), None if store is None else find_trial(store, trial_id)
        given = source.trial if source is not None else found
        if given is None:
            raise _unknown(store, where, trial_id)
        require_fit(given, asker.config.model, dict(asker.inputs.model)["weights"], where)
        name = given.short_id if source is None else source.path
        if found is None or store is None:
            lines.append(f"first: {name}, which {where} takes a state of, was not run in this store yet")
        elif found.stop.ended_at(curve := _curve(store, found)) is None:
            far = max(curve, default=0)
            lines.append(f"first: {name}, which {where} takes a state of, is to be finished; it is at epoch {far}")
    return tuple(lines)


def _asked(trials: Iterable[Trial]) -> Iterator[tuple[Trial, str, str]]:
    """Yields each trial that is named, with the field and one of those that name it."""
    asked: dict[tuple[object, ...], tuple[Trial, str, str]] = {}
    for trial in trials:
        model = trial.config.model
        for field in GIVEN:
            name = getattr(model, field, None)
            if name is not None and not is_local_weights(name):
                key = (field, name, dict(trial.inputs.model)["weights"])
                asked.setdefault(key, (trial, f"model.{field}", name))
    yield from asked.values()


def find_trial(store: ObjectStore, trial_id: str) -> Trial | None:
    """Returns a trial of any sweep of a store."""
    return next((t for revision in all_revisions(store) for t in revision.trials if t.trial_id == trial_id), None)


def _curve(store: ObjectStore, trial: Trial) -> dict[int, float]:
    curve: dict[int, float] = {}
    for epoch, state in enumerate(trial.state_ids):
        training = [record for record in read_records(store, state) if record.item == TRAINING_ITEM]
        loss = validation_loss(training[0].values) if training else None
        if loss is None:
            break
        curve[epoch] = loss
        if trial.stop.ended_at(curve) is not None:
            break
    return curve


def told(trial: Trial) -> str:
    """Returns a trial as errors name it."""
    return f"trial {trial.short_id} ({trial.name})" if trial.swept else f"trial {trial.short_id}"


_OTHER = "Name another trial, or leave the field out"


def _unknown(store: ObjectStore | None, where: str, trial_id: str) -> SpecError:
    rule = "names a trial of this store, or the spec of one that was run in it"
    trials = () if store is None else (trial for revision in all_revisions(store) for trial in revision.trials)
    meant = sorted({trial.trial_id for trial in trials if trial.trial_id.startswith(trial_id)})
    if meant:
        got = f"{trial_id}, the beginning of {counted(len(meant), 'id')}, first {meant[0]}"
        return _error(where, rule, got, "Write the whole id: what a spec means must not depend on what a store holds")
    return _error(where, rule, trial_id, "Run that spec with the same --store first")


def _error(where: str, rule: str, got: str, remedy: str) -> SpecError:
    return SpecError(Problem(where=where, rule=rule, got=got, remedy=remedy))
