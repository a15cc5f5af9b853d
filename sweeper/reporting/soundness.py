"""Whether what a sweep holds is as it was written: every object is read, what is damaged is named and made again."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from sweeper.plan.tree import Tree, build_tree
from sweeper.plan.trials import Trial
from sweeper.reporting.load import open_view
from sweeper.reporting.look import WRITTEN_AGAIN, LostSweep
from sweeper.reporting.view import SweepView
from sweeper.store.lease import driven_sweep
from sweeper.store.lost import lost_revisions, mark_lost, moved_aside
from sweeper.store.objects import Kind, ObjectStore, name_of
from sweeper.store.revisions import revision_key, revision_numbers
from sweeper.wording import counted

_OF_STATES: tuple[Kind, ...] = ("records", "outputs", "states", "failures")
Named = tuple[Kind, str]
"""Kind and key of an object."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One object that is not as it should be.

    Attributes:
        sort: `damaged`: its bytes are not those that were written; `missing`: the sweep keeps it, and it is not there.
        kind: of the object.
        key: of the object.
        epoch: that it belongs to; None for what is no epoch's.
        trial_id: the first trial whose way leads through that epoch.
        is_made_again: by the next run; else nothing needs it, or nobody asked.
    """

    sort: Literal["damaged", "missing"]
    kind: Kind
    key: str
    epoch: int | None
    trial_id: str | None
    is_made_again: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """What came of reading a sweep.

    Attributes:
        sweep: its name.
        trials: by id; none where no revision of the sweep can be read.
        num_objects: that were read.
        findings: what is not as it should be.
        may_write: whether what is damaged could be moved aside.
    """

    sweep: str
    trials: Mapping[str, Trial]
    num_objects: int
    findings: tuple[Finding, ...]
    may_write: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """States that a sweep keeps.

    Attributes:
        ends: best and last of every trial that has ended; they are there.
        states: these, and all that were kept for windows to fork from, as far as they are there.
    """

    ends: frozenset[str]
    states: frozenset[str]


def kept_states(trials: Iterable[Trial], tree: Tree, val_loss: Mapping[str, float]) -> Kept:
    """Returns what `training.keeping` keeps, as far as losses tell.

    Args:
        trials: of the sweep.
        tree: of these trials.
        val_loss: by state, of every state that has records.
    """
    ends = {state for trial in trials for state in _ends(trial, val_loss)}
    branches = set[str]()
    for segment in tree.segments.values():
        branches |= set(segment.states.values() if segment.keep_all else [segment.segment_id])
        branches |= {state for epoch, state in segment.states.items() if epoch == 0}
    return Kept(ends=frozenset(ends), states=frozenset(ends | (branches & val_loss.keys())))


def _ends(trial: Trial, val_loss: Mapping[str, float]) -> list[str]:
    """Returns the last state of a trial that has ended, and the best of its own epochs."""
    ids, curve = trial.state_ids, dict[int, float]()
    for epoch, state in enumerate(ids):
        if state not in val_loss:
            break
        curve[epoch] = val_loss[state]
    end = trial.stop.ended_at(curve)
    if end is None:
        return []
    own = range(min(trial.stop.start, end), end + 1)
    return [ids[end], ids[min(own, key=lambda epoch: (curve[epoch], epoch))]]


def to_make_again(damaged: Iterable[Named], kept: Kept, recorded: Collection[str]) -> set[str]:
    """Returns the epochs, by their states, that damage makes worth training again though they have records.

    Args:
        damaged: objects that were moved aside.
        kept: states that the sweep keeps.
        recorded: states that have records.
    """
    states = {key for kind, key in damaged if kind == "states" and key in kept.states}
    return states | {_owner(key) for kind, key in damaged if kind == "outputs" and _owner(key) in recorded}


def examine(store: ObjectStore, sweep: str, *, remake: bool, on_phase: Callable[[str], None]) -> Examination:
    """Reads every object of a sweep; what is damaged is moved aside, and the next run makes it again.

    Args:
        store: where it lies.
        sweep: its name.
        remake: let the next run also make again what is missing; it may have been removed on purpose.
        on_phase: is told what is read.

    Raises:
        StoreError: there is no such sweep, or the store cannot be read.
    """
    is_driven = driven_sweep(store) == sweep
    try:
        view = open_view(store, sweep)
    except LostSweep:
        return _lost(store, sweep)
    trials = view.revision.trials
    ways = {state: (epoch, trial) for trial in reversed(trials) for epoch, state in enumerate(trial.state_ids)}
    num_objects, unreadable = 0, set[Named]()
    for kind, keys in _objects(store, view, ways).items():
        on_phase(f"reading {len(keys)} {kind}")
        num_objects += len(keys)
        unreadable |= {(kind, key) for key, data in store.get_each(kind, keys) if data is None}
    stuck = {named for named in unreadable if store.has(*named)}
    belongs = {sweep, view.revision.study, *ways}
    aside = {named for named in moved_aside(store) if named in unreadable or _owner(named[1]) in belongs}
    newest = revision_key(sweep, view.revision.number)
    kept = kept_states(trials, build_tree(trials), view.losses)
    missing = set() if is_driven else kept.ends - set(store.keys("states")) - {key for _, key in aside}
    again = to_make_again(aside, kept, view.losses) | (missing if remake else set())

    def finding(sort: Literal["damaged", "missing"], named: Named, *, is_made_again: bool) -> Finding:
        (kind, key), (epoch, trial) = named, ways.get(_owner(named[1]), (None, None))
        trial_id = None if trial is None else trial.trial_id
        return Finding(sort=sort, kind=kind, key=key, epoch=epoch, trial_id=trial_id, is_made_again=is_made_again)

    def is_needed(kind: Kind, key: str) -> bool:
        return key in again if kind == "states" else kind != "sweeps" or key > newest

    told = sorted(named for named in aside | stuck if named in unreadable or is_needed(*named))
    findings = [finding("damaged", named, is_made_again=is_needed(*named) and named not in stuck) for named in told]
    findings += [finding("missing", ("states", key), is_made_again=remake) for key in sorted(missing)]
    for state in sorted(again if not stuck else ()):
        mark_lost(store, state)
    return Examination(
        sweep=sweep, trials=view.trials, num_objects=num_objects, findings=tuple(findings), may_write=not stuck
    )


def _lost(store: ObjectStore, sweep: str) -> Examination:
    """Returns what there is to say of a sweep none of whose revisions can be read."""
    stuck = [revision_key(sweep, number) for number in revision_numbers(store, sweep)]
    keys = sorted({*stuck, *lost_revisions(store, sweep)})
    findings = [
        Finding(sort="damaged", kind="sweeps", key=key, epoch=None, trial_id=None, is_made_again=key not in stuck)
        for key in keys
    ]
    return Examination(sweep=sweep, trials={}, num_objects=len(keys), findings=tuple(findings), may_write=not stuck)


def examination_text(found: Examination, store: str) -> str:
    """Returns the same for people.

    Args:
        found: what came of it.
        store: as the user named it.
    """
    read = f"{found.sweep}: read {counted(found.num_objects, 'object')}"
    if not found.findings:
        return f"{read}; all are as they were written"
    lines = [_line(each, found.trials) for each in found.findings]
    if not found.may_write:
        lines.append("What is damaged stays where it is, since the store may only be read from here.")
    elif not found.trials:
        lines.append(f"Without its description nothing else of it can be read; {WRITTEN_AGAIN}.")
    elif any(each.is_made_again for each in found.findings):
        lines.append(
            f"`sweeper run {found.sweep} --store {store}` makes it again, from the newest sound state before it."
        )
    if any(each.sort == "missing" and not each.is_made_again for each in found.findings):
        lines.append("What is missing was removed; `--remake` lets the next run make it again.")
    return "\n".join([f"{read}; {counted(len(found.findings), 'finding')}", *lines])


def _line(finding: Finding, trials: Mapping[str, Trial]) -> str:
    trial = trials.get(finding.trial_id or "")
    where = "" if trial is None else f", epoch {finding.epoch} of {trial.name} [{trial.trial_id[:8]}]"
    needed = "" if finding.is_made_again or finding.sort == "missing" else "; nothing needs it"
    return f"  {finding.sort}: {name_of(finding.kind, finding.key)}{where}{needed}"


def _objects(store: ObjectStore, view: SweepView, states: Collection[str]) -> dict[Kind, list[str]]:
    """Returns the keys of all objects of a sweep, by kind."""
    revision = view.revision
    found: dict[Kind, list[str]] = {
        "sweeps": [key for key in store.keys("sweeps") if key.rpartition(".")[0] == revision.spec.name],
        "points": [key for key in store.keys("points") if _owner(key) == revision.study],
    }
    return found | {kind: [key for key in store.keys(kind) if _owner(key) in states] for kind in _OF_STATES}


def _owner(key: str) -> str:
    """Returns the state that an object belongs to, or the study of a point."""
    return key.partition(".")[0]
