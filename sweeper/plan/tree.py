"""The tree of a sweep: all lineages laid over each other, cut at their branch points into segments.

A segment is trained in one go and is the unit of scheduling and of reuse. It is ready when the state
before it exists. It is named by the last state it can reach, so a segment's parent has the name of the
state that the segment starts from.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sweeper.plan.identity import state_id
from sweeper.plan.lineage import Regime
from sweeper.plan.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Consecutive epochs between two branch points.

    Attributes:
        anchor: id of the state where the regime began.
        offset: epochs under the regime before this segment.
        regime: what holds during the segment; None for the untrained model alone.
        parent: id of the state it starts from, and of the segment that makes it; None: starts from nothing.
        first_epoch: 0 when the segment makes the untrained model.
        last_epoch: last epoch that any of its trials can want.
        trials: ids of the trials that pass through, in the order of the sweep.
        keep_all: every state is kept, since windows may fork from any of them.
    """

    anchor: str
    offset: int
    regime: Regime | None
    parent: str | None
    first_epoch: int
    last_epoch: int
    trials: tuple[str, ...]
    keep_all: bool

    @cached_property
    def states(self) -> Mapping[int, str]:
        """Ids of the states by the epoch at whose end they stand."""
        states = {0: self.anchor} if self.first_epoch == 0 else {}
        if self.regime is not None:
            first = max(self.first_epoch, 1)
            for epoch in range(first, self.last_epoch + 1):
                states[epoch] = state_id(self.anchor, self.regime.regime_id, self.offset + epoch - first + 1)
        return states

    @cached_property
    def segment_id(self) -> str:
        """The id of the last state."""
        return self.states[self.last_epoch]

    @property
    def epochs(self) -> range:
        """The training epochs."""
        return range(max(self.first_epoch, 1), self.last_epoch + 1)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The segments of a sweep, parents before children, and each trial's way through them."""

    segments: Mapping[str, Segment]
    paths: Mapping[str, tuple[str, ...]]

    @cached_property
    def children(self) -> Mapping[str | None, tuple[str, ...]]:
        """Ids of the segments that start where a segment ends; None: those that start from nothing."""
        children: dict[str | None, list[str]] = {}
        for segment_id, segment in self.segments.items():
            children.setdefault(segment.parent, []).append(segment_id)
        return {parent: tuple(ids) for parent, ids in children.items()}


@dataclass(kw_only=True)
class _Branch:
    """Everything that the lineages do under one regime from one anchor."""

    anchor: str
    regime: Regime | None
    first_epoch: int
    last_epoch: int
    forks: set[int] = field(default_factory=set)  # epochs after which another branch begins
    passing: dict[str, int] = field(default_factory=dict)  # last epoch here of each trial


def build_tree(trials: Iterable[Trial]) -> Tree:
    """Returns the tree of some trials."""
    trials = tuple(trials)
    segments: dict[str, Segment] = {}
    paths: dict[str, list[str]] = {trial.trial_id: [] for trial in trials}
    for branch in _lay_over(trials):
        for segment in _cut(branch):
            segments[segment.segment_id] = segment
            for trial in segment.trials:
                paths[trial].append(segment.segment_id)
    return Tree(segments=segments, paths={trial: tuple(path) for trial, path in paths.items()})


def _lay_over(trials: tuple[Trial, ...]) -> list[_Branch]:
    branches: dict[tuple[str, str], _Branch] = {}
    firsts: dict[str, set[str]] = {}
    for trial in trials:
        firsts.setdefault(trial.lineage.root, set()).add(trial.lineage.stretches[0].regime.regime_id)
    for trial in trials:
        root = trial.lineage.root
        before: _Branch | None = None
        if len(firsts[root]) > 1:  # several ways lead away from the untrained model: it is a segment of its own
            before = branches.setdefault((root, ""), _Branch(anchor=root, regime=None, first_epoch=0, last_epoch=0))
            before.passing[trial.trial_id] = 0
        for stretch in trial.lineage.stretches:
            if before is not None:
                before.forks.add(stretch.first_epoch - 1)
            key = (stretch.anchor, stretch.regime.regime_id)
            first = 0 if before is None else stretch.first_epoch
            branch = branches.setdefault(
                key,
                _Branch(anchor=stretch.anchor, regime=stretch.regime, first_epoch=first, last_epoch=stretch.last_epoch),
            )
            branch.last_epoch = max(branch.last_epoch, stretch.last_epoch)
            branch.passing[trial.trial_id] = stretch.last_epoch
            before = branch
    return list(branches.values())


def _cut(branch: _Branch) -> list[Segment]:
    """Cuts a branch after every epoch from which another branch starts."""
    disturbed = branch.regime is not None and bool(branch.regime.fields.get("perturbation"))
    pieces: list[Segment] = []
    first, parent = branch.first_epoch, None if branch.first_epoch == 0 else branch.anchor
    for last in sorted(branch.forks | {branch.last_epoch}):
        piece = Segment(
            anchor=branch.anchor,
            offset=max(first, 1) - max(branch.first_epoch, 1),
            regime=branch.regime,
            parent=parent,
            first_epoch=first,
            last_epoch=last,
            trials=tuple(trial for trial, end in branch.passing.items() if end >= first),
            keep_all=disturbed or bool(branch.forks),
        )
        pieces.append(piece)
        first, parent = last + 1, piece.segment_id
    return pieces
