"""Models of single participants beside the participants' own RDMs: what individual differences are computed from.

Shapes: P participants, T times, N held-out stimuli, D dimensions, Q = N (N - 1) / 2 pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.data.dataset import HeldOut
from sweeper.data.series import RdmSeries
from sweeper.evaluation import OutputKey, set_id
from sweeper.inputs import dataset_of
from sweeper.metrics.courses import ranked, rdm_course
from sweeper.metrics.rdm import Array, RdmMetric, upper_triangle
from sweeper.neural import counted_times, curves_of, series_of
from sweeper.plan.identity import canonical_json
from sweeper.plan.trials import Trial
from sweeper.reporting.grids import value_text
from sweeper.reporting.summary import summary_of
from sweeper.reporting.view import SweepView
from sweeper.spec.variants.clip_hba_meg import ClipHbaMeg
from sweeper.store.objects import ObjectStore
from sweeper.store.outputs import read_outputs

SUBJECT = "subject"
Outputs = NDArray[np.float32]


class Incomplete(Exception):
    """Says what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Trials that differ in their participant only.

    Attributes:
        fields: the other swept fields with their values.
        role: `trial`, `control` or `baseline`.
        trials: one for each participant.
    """

    fields: tuple[tuple[str, Any], ...]
    role: str
    trials: tuple[Trial, ...]

    @property
    def label(self) -> str:
        """Returns the other swept fields for people; the role where there are none."""
        parts = (f"{'.'.join(name.split('.')[-2:])} {value_text(value)}" for name, value in self.fields)
        return ", ".join(parts) or self.role

    @property
    def has_common_curves(self) -> bool:
        """Tells whether all models have the same time curves, so that these cannot tell them apart."""
        model = self.trials[0].config.model
        return isinstance(model, ClipHbaMeg) and (model.curves.source == "ones" or model.curves.participants == "all")

    @property
    def start(self) -> str:
        """What its models were before they were trained: `untrained model`, or the `common parent` they start from."""
        model = self.trials[0].config.model
        return "common parent" if isinstance(model, ClipHbaMeg) and model.start_from else "untrained model"

    def key(self, *without: str) -> bytes:
        """Returns what tells groups apart, but for the fields whose names begin so."""
        kept = [[name, value] for name, value in self.fields if not name.startswith(without)]
        return canonical_json([self.role, kept])


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """Holds what the models of some participants say of the held-out stimuli, and what the participants' data say.

    Attributes:
        subjects: P participants, in the order of the series.
        left_out: participants whose trials failed.
        stimuli: N names.
        times_ms: float64 [T].
        counts: bool [T], the times after the stimulus began.
        trained: float32 [P, T, N, D], at the best validation loss.
        untrained: float32 [P, T, N, D], the same networks with the same curves at epoch 0.
        data: float32 [P, T, N, N].
        targets: float32 [N, D'], the target embedding of the stimuli, or None.
        noise: float64 [P, T], the noise curve of each participant's model; None where all have the same curves.
        metric: dissimilarity of the models' RDMs.
    """

    subjects: tuple[str, ...]
    left_out: tuple[str, ...]
    stimuli: tuple[str, ...]
    times_ms: NDArray[np.float64]
    counts: NDArray[np.bool_]
    trained: Outputs
    untrained: Outputs
    data: NDArray[np.float32]
    targets: NDArray[np.float32] | None
    noise: Array | None
    metric: RdmMetric

    @cached_property
    def rdms(self) -> dict[str, Array]:
        """Returns upper triangles [P, T, Q] of `trained`, `untrained` and `data`; NaN where a model has no RDM."""
        models = {"trained": self.trained, "untrained": self.untrained}
        found = {name: np.stack([rdm_course(one, self.metric) for one in each]) for name, each in models.items()}
        return {**found, "data": upper_triangle(self.data)}

    @cached_property
    def ranks(self) -> dict[str, Array]:
        """Returns the unit ranks of `rdms`: a Spearman correlation is the product of two of them."""
        return {name: ranked(rdms) for name, rdms in self.rdms.items()}

    @cached_property
    def compared(self) -> NDArray[np.bool_]:
        """Tells which times are compared, bool [T]: those that count and at which nobody's RDM is undefined."""
        defined = [np.isfinite(ranks).all(axis=(0, 2)) for ranks in self.ranks.values()]
        return np.asarray(self.counts & np.logical_and.reduce(defined))


def groups_of(view: SweepView) -> tuple[Group, ...]:
    """Returns the groups of a sweep over participants, in the order of the plan; none where it has no such axis."""
    found: dict[bytes, Group] = {}
    for trial in view.trials.values():
        fields = tuple((name, value) for name, value in trial.swept if name != SUBJECT)
        if len(fields) < len(trial.swept):
            alone = Group(fields=fields, role=trial.role, trials=(trial,))
            known = found.get(alone.key())
            trials = (trial,) if known is None else (*known.trials, trial)
            found[alone.key()] = Group(fields=fields, role=trial.role, trials=trials)
    return tuple(found.values())


def people_of(view: SweepView, store: ObjectStore, group: Group) -> People:
    """Reads outputs and data of a group.

    Raises:
        Incomplete: a trial is open, or something was not measured.
        SweeperError: the data's files are not here.
    """
    by_subject = {trial.config.subject or "": trial for trial in group.trials}
    statuses = {subject: view.status(trial.trial_id) for subject, trial in by_subject.items()}
    waiting = [subject for subject, status in statuses.items() if status == "open"]
    if waiting:
        raise Incomplete(f"subject {', '.join(waiting)} {'is' if len(waiting) == 1 else 'are'} open")
    held_out, series = _stimuli(group.trials[0])
    subjects = [name for name in series.participants if statuses.get(name) == "complete"]
    trials = [by_subject[name] for name in subjects]
    if not trials:
        raise Incomplete("every trial failed")
    names = held_out.images.names
    dataset = dataset_of(trials[0].config)
    best = [summary_of(view, trial)["best_epoch"] for trial in trials]
    return People(
        subjects=tuple(subjects),
        left_out=tuple(name for name, status in statuses.items() if status == "failed"),
        stimuli=names,
        times_ms=series.times,
        counts=counted_times(series),
        trained=_outputs(store, trials, best, held_out),
        untrained=_outputs(store, trials, [0] * len(trials), held_out),
        data=np.stack(list(series.each(subjects, names))),
        targets=held_out.targets,
        noise=None if group.has_common_curves else np.stack([curves_of(t.config, dataset).noise for t in trials]),
        metric=view.revision.spec.evaluation.neural_metric,
    )


def _stimuli(trial: Trial) -> tuple[HeldOut, RdmSeries]:
    dataset = dataset_of(trial.config)
    series = series_of(trial.config, dataset)
    if dataset.held_out is None:
        raise Incomplete("nothing is held out")
    lacking = series.uncovered(dataset.held_out.images.names)
    if lacking:
        raise Incomplete(f"series {series.name} has no rows for {len(lacking)} held-out stimuli")
    return dataset.held_out, series


def _outputs(store: ObjectStore, trials: Sequence[Trial], epochs: Sequence[int], held_out: HeldOut) -> Outputs:
    found = []
    for trial, epoch in zip(trials, epochs, strict=True):
        key = OutputKey(set_id=set_id(held_out, trial.config.data.preprocessing), layer="output")
        outputs = read_outputs(store, trial.state_ids[epoch], key)
        if outputs is None:
            raise Incomplete(f"subject {trial.config.subject} has no outputs on the held-out stimuli at epoch {epoch}")
        found.append(outputs)
    return np.stack(found)
