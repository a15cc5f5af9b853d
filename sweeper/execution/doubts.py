"""What of a valid spec is probably not meant: told before it is trained, and no error."""

from collections.abc import Iterator
from pathlib import Path

from sweeper.data.over_time import WITHOUT_CONSTANT
from sweeper.evaluation import set_id
from sweeper.evaluation.over_time import CourseItem
from sweeper.execution.prepare import ResolvedSweep
from sweeper.inputs import held_out_sets, manifest_of
from sweeper.store.objects import ObjectStore
from sweeper.store.parents import seen_before

_TIMES_SHOWN = 5


def doubts(sweep: ResolvedSweep, store: ObjectStore | None) -> tuple[str, ...]:
    """Returns what is to be doubted of a sweep, a line each: what does nothing, what was seen before.

    Args:
        sweep: as resolved.
        store: where parents may be; None: there is none yet.
    """
    found = (doubt for t in sweep.trials for doubt in t.config.model.doubts(t.config.training.max_epochs))
    unmeasured = (*_unmeasured(sweep), *_without_times(sweep))
    return tuple(dict.fromkeys([*found, *unmeasured, *seen_before(store, sweep.trials, sweep.sources)]))


def _unmeasured(sweep: ResolvedSweep) -> Iterator[str]:
    """Yields a line for each set of `evaluation.sets` with nothing that outputs are compared with."""
    evaluation = sweep.spec.evaluation
    if not evaluation.sets or not sweep.trials:
        return
    config = sweep.trials[0].config
    sets = held_out_sets(config, evaluation)
    measured = {item.outputs.set_id for item in sweep.items[sweep.trials[0].trial_id]}
    for path in evaluation.sets:
        name = manifest_of(path).name
        if name not in sets or set_id(sets[name], config.data.preprocessing) not in measured:
            why = "it has no references" if config.model.over_time else "it has no references of one RDM"
            yield f"evaluation.sets: nothing is measured on {name} ({Path(path).name}): {why} for these stimuli"


def _without_times(sweep: ResolvedSweep) -> Iterator[str]:
    """Yields a line for each RSA over time whose reference is the same for all pairs at some times that count."""
    for item in sweep.all_items():
        if not isinstance(item, CourseItem) or item.origin is None or not len(item.constant_ms):
            continue
        times = ", ".join(f"{time:g}" for time in item.constant_ms[:_TIMES_SHOWN])
        more = f" and {len(item.constant_ms) - _TIMES_SHOWN} more" if len(item.constant_ms) > _TIMES_SHOWN else ""
        what = f"`{item.reference}` is the same for all pairs of held-out stimuli at {times} ms{more}"
        drop = f"{len(item.constant_ms)} of {item.counts.sum()} times that count drop out of {item.column}"
        yield f"{item.origin}: {what}: {drop}. {WITHOUT_CONSTANT}"
