"""What a trial takes from another one: the best state of a finished trial, found in the store alone."""

from collections.abc import Iterable

from sweeper.errors import Problem, SpecError
from sweeper.plan.trials import Trial
from sweeper.records import TRAINING_ITEM, validation_loss
from sweeper.spec.rewrite import GIVEN, is_local_weights
from sweeper.spec.variants import AnyModel
from sweeper.store.objects import ObjectStore
from sweeper.store.rows import read_records
from sweeper.store.sweeps import all_revisions


def best_state(store: ObjectStore, trial_id: str, where: str) -> tuple[Trial, bytes]:
    """Returns a finished trial and its state of the lowest validation loss.

    Args:
        store: where both are.
        trial_id: whose.
        where: the field that asks for it, for errors.

    Raises:
        SpecError: the store does not know the trial, or it is not finished, or its best state is gone.
    """
    trial = _find(store, trial_id, where)
    curve = _curve(store, trial)
    end = trial.stop.ended_at(curve)
    if end is None:
        got = f"trial {trial.short_id} ({trial.name}), measured up to epoch {max(curve, default=0)}"
        raise _error(where, "takes a state of a finished trial", got, "Run its spec to the end, in this store, first")
    own = {epoch: loss for epoch, loss in curve.items() if trial.stop.start <= epoch <= end}
    best = min(own, key=lambda epoch: (own[epoch], epoch))
    data = store.get("states", trial.lineage.state_ids[best])
    if data is None:
        got = f"the state of epoch {best} of trial {trial.short_id} is not there (dropped, or damaged)"
        raise _error(where, "takes a state that the store holds", got, "Run that trial's spec again: it is made anew")
    return trial, data


def require_given(store: ObjectStore, models: Iterable[AnyModel]) -> None:
    """Makes sure that every state that some models take from other trials is there.

    Raises:
        SpecError: see `best_state`.
    """
    asked = {(name, f"model.{field}") for model in models for field in GIVEN if (name := getattr(model, field, None))}
    for name, where in sorted(asked):
        if not is_local_weights(name):
            best_state(store, name, where)


def _find(store: ObjectStore, trial_id: str, where: str) -> Trial:
    for revision in all_revisions(store):
        for trial in revision.trials:
            if trial.trial_id == trial_id:
                return trial
    rule = "names a trial of this store, or the spec of one that was run in it"
    raise _error(where, rule, trial_id, "Run that spec with the same --store first")


def _curve(store: ObjectStore, trial: Trial) -> dict[int, float]:
    curve: dict[int, float] = {}
    for epoch, state in enumerate(trial.lineage.state_ids):
        training = [record for record in read_records(store, state) if record.item == TRAINING_ITEM]
        loss = validation_loss(training[0].values) if training else None
        if loss is None:
            break
        curve[epoch] = loss
        if trial.stop.ended_at(curve) is not None:
            break
    return curve


def _error(where: str, rule: str, got: str, remedy: str) -> SpecError:
    return SpecError(Problem(where=where, rule=rule, got=got, remedy=remedy))
