"""Out-of-fold evaluation: every photograph is embedded by a model that did not train on it.

For each combination of the other swept fields the held-out outputs of all folds, each at its trial's best validation
epoch, make one embedding of the whole pool. All models map into the space of the targets, so rows of different folds
can be compared.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.data.dataset import Dataset, HeldOut
from sweeper.errors import SweeperError
from sweeper.evaluation import OutputKey, set_id
from sweeper.inputs import dataset_of
from sweeper.metrics.rdm import RdmMetric, UndefinedMetric, compute_rdm
from sweeper.metrics.rsa import rsa_score
from sweeper.metrics.triplets import CHANCE, num_distinct, odd_one_out_hits, standard_error
from sweeper.plan.trials import Trial
from sweeper.reporting.grids import short_name, value_text
from sweeper.reporting.remarks import plumbing
from sweeper.reporting.summary import summary_of
from sweeper.reporting.text import first_lines
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore
from sweeper.store.outputs import read_outputs

FOLD = "data.fold"
_ABOUT = (
    "Out of fold: every photograph is embedded by a model that did not train on it, at its best validation epoch;",
    "mean ± standard error over distinct triplets of photographs (many people judge the same one). It holds for these",
    "models: other seeds are not in it.",
)
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldScore:
    """Holds the out-of-fold scores of one combination of swept fields; None where a score cannot be had.

    Attributes:
        label: the swept fields but the fold; the role where there are none.
        role: `trial`, `control` or `baseline`.
        folds: folds that the scores are taken from.
        photos: photographs that the folds hold out, together.
        triplets: human odd-one-out choices.
        distinct_triplets: sets of three photographs among them; choices on the same set are not independent.
        accuracy: share of choices that the out-of-fold embedding shares with people.
        accuracy_se: its standard error, clustered by distinct triplet.
        untrained_accuracy: the same for the models before training.
        untrained_accuracy_se: its standard error.
        gain: accuracy - untrained_accuracy.
        gain_se: its standard error, paired, clustered by distinct triplet.
        target_accuracy: the same for the target embedding itself.
        target_accuracy_se: its standard error.
        chance: 1 / 3.
        rsa_targets: RSA against the targets, mean over folds.
        rsa_targets_untrained: the same before training.
        rsa_targets_pooled: RSA against the targets over the photographs of all folds together.
        rsa_targets_pooled_untrained: the same before training.
        missing: why there are no scores yet.
    """

    label: str
    role: str
    folds: int
    photos: int | None = None
    triplets: int | None = None
    distinct_triplets: int | None = None
    accuracy: float | None = None
    accuracy_se: float | None = None
    untrained_accuracy: float | None = None
    untrained_accuracy_se: float | None = None
    gain: float | None = None
    gain_se: float | None = None
    target_accuracy: float | None = None
    target_accuracy_se: float | None = None
    chance: float = CHANCE
    rsa_targets: float | None = None
    rsa_targets_untrained: float | None = None
    rsa_targets_pooled: float | None = None
    rsa_targets_pooled_untrained: float | None = None
    missing: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """Holds what one fold's model says of the photographs it did not train on.

    Attributes:
        names: M photographs.
        trained: float32 [M, D], at the best validation epoch.
        untrained: float32 [M, D], at epoch 0, or None.
        targets: float32 [M, D], or None.
    """

    names: tuple[str, ...]
    trained: Floats
    untrained: Floats | None
    targets: Floats | None


class Incomplete(Exception):
    """Says what is missing for an out-of-fold score."""


def fold_rows(view: SweepView, store: ObjectStore) -> list[dict[str, Any]]:
    """Returns `fold_scores` as table rows."""
    return [asdict(score) for score in fold_scores(view, store)]


def fold_scores(view: SweepView, store: ObjectStore) -> tuple[FoldScore, ...]:
    """Returns one score per combination of swept fields; empty for a sweep without folds.

    A combination whose folds are not all complete, or whose data files are not here, has its reason in `missing`.
    """
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in view.trials.values():
        if trial.config.data.folds is not None:
            groups.setdefault((_label(trial), trial.role), []).append(trial)
    return tuple(_score(view, store, label, role, trials) for (label, role), trials in groups.items())


def folds_text(view: SweepView, store: ObjectStore) -> str:
    """Returns `fold_scores` for people."""
    scores = fold_scores(view, store)
    if not scores:
        return f"{view.revision.spec.name} has no folds (data.folds)\n"
    lines = [*first_lines(view), *about(view)]
    for score in scores:
        lines += ["", f"{score.label} [{score.role}]"]
        if score.missing is not None:
            lines.append(f"  not yet: {score.missing}")
            continue
        if score.triplets is not None:
            lines.append(f"  odd-one-out accuracy on {choices_text(score)}:")
            lines.append(
                f"    out of fold {with_error(score.accuracy, score.accuracy_se)}, "
                f"untrained {with_error(score.untrained_accuracy, score.untrained_accuracy_se)}, "
                f"gain {with_error(score.gain, score.gain_se)}, "
                f"targets themselves {with_error(score.target_accuracy, score.target_accuracy_se)}, "
                f"chance {score.chance:.3f}"
            )
        lines.append(
            "  RSA against the targets of held-out photographs: "
            f"{with_error(score.rsa_targets)}, mean of {score.folds} folds "
            f"(untrained {with_error(score.rsa_targets_untrained)}); "
            f"{with_error(score.rsa_targets_pooled)} over all {score.photos} "
            f"(untrained {with_error(score.rsa_targets_pooled_untrained)})"
        )
    return "\n".join(lines) + "\n"


def about(view: SweepView) -> tuple[str, ...]:
    """Returns what must be said beside out-of-fold scores."""
    return (*_ABOUT, *plumbing(view))


def choices_text(score: FoldScore) -> str:
    """Returns how many human choices an accuracy rests on, for people."""
    return f"{score.triplets} human choices on {score.distinct_triplets} distinct triplets"


def with_error(value: float | None, error: float | None = None) -> str:
    """Returns a score with its standard error, for people; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def _score(view: SweepView, store: ObjectStore, label: str, role: str, trials: Sequence[Trial]) -> FoldScore:
    try:
        _check_complete(view, trials)
        datasets = [dataset_of(trial.config) for trial in trials]
        parts = [_part(view, store, trial, dataset) for trial, dataset in zip(trials, datasets, strict=True)]
    except (Incomplete, SweeperError) as reason:
        return FoldScore(label=label, role=role, folds=len(trials), missing=str(reason))
    metric: RdmMetric = view.revision.spec.evaluation.metric
    return FoldScore(
        label=label,
        role=role,
        folds=len(trials),
        photos=sum(len(part.names) for part in parts),
        **_choices(parts, datasets[0]),
        **_alignment(parts, metric),
    )


def _check_complete(view: SweepView, trials: Sequence[Trial]) -> None:
    folds = trials[0].config.data.folds or 0
    lacking = sorted(set(range(folds)) - {trial.config.data.fold for trial in trials})
    if lacking:
        raise Incomplete(f"fold {', '.join(map(str, lacking))} of {folds} is not part of the sweep")
    for trial in trials:
        status = view.status(trial.trial_id)
        if status != "complete":
            raise Incomplete(f"fold {trial.config.data.fold} is {status}")


def _part(view: SweepView, store: ObjectStore, trial: Trial, dataset: Dataset) -> Part:
    held_out = dataset.held_out
    assert held_out is not None  # the fold
    best = summary_of(view, trial)["best_epoch"]
    trained = _outputs(store, trial, best, held_out)
    if trained is None:
        raise Incomplete(f"fold {trial.config.data.fold} has no outputs on its photographs at epoch {best}")
    return Part(
        names=held_out.images.names,
        trained=trained,
        untrained=_outputs(store, trial, 0, held_out),
        targets=held_out.targets,
    )


def _outputs(store: ObjectStore, trial: Trial, epoch: int, held_out: HeldOut) -> Floats | None:
    key = OutputKey(set_id=set_id(held_out, trial.config.data.preprocessing), layer="output")
    return read_outputs(store, trial.state_ids[epoch], key)


def _choices(parts: Sequence[Part], dataset: Dataset) -> dict[str, Any]:
    """Scores all human triplets; models of different folds stand behind the three photographs."""
    if dataset.triplets is None:
        return {}
    position = {name: row for row, name in enumerate(name for part in parts for name in part.names)}
    names, odd = dataset.triplets.names, dataset.triplets.odd_position
    inside = np.array([all(names[row] in position for row in rows) for rows in dataset.triplets.rows], dtype=bool)
    members = np.array(
        [[position[names[row]] for row in rows] for rows in dataset.triplets.rows[inside]], dtype=np.intp
    )
    distinct = num_distinct(members.reshape(-1, 3))
    if distinct < 2:
        return {}

    def mean(name: str, found: NDArray[np.float64]) -> dict[str, float]:
        return {name: float(found.mean()), f"{name}_se": standard_error(found, members)}

    hits = {
        name: odd_one_out_hits(embedding, members, odd[inside])
        for name, embedding in _embeddings(parts).items()
        if embedding is not None
    }
    scores = {"triplets": len(members), "distinct_triplets": distinct, **mean("accuracy", hits["trained"])}
    if "untrained" in hits:
        scores |= mean("untrained_accuracy", hits["untrained"]) | mean("gain", hits["trained"] - hits["untrained"])
    if "targets" in hits:
        scores |= mean("target_accuracy", hits["targets"])
    return scores


def _embeddings(parts: Sequence[Part]) -> dict[str, Floats | None]:
    """Returns the embeddings of all folds' photographs, one below the other; None where a fold lacks one."""

    def joined(found: list[Floats | None]) -> Floats | None:
        present = [each for each in found if each is not None]
        return np.concatenate(present) if len(present) == len(parts) else None

    return {
        "trained": joined([part.trained for part in parts]),
        "untrained": joined([part.untrained for part in parts]),
        "targets": joined([part.targets for part in parts]),
    }


def _alignment(parts: Sequence[Part], metric: RdmMetric) -> dict[str, Any]:
    pooled = _embeddings(parts)
    trained, untrained = pooled["trained"], pooled["untrained"]
    return {
        "rsa_targets": _mean_rsa([(part.trained, part.targets) for part in parts], metric),
        "rsa_targets_untrained": _mean_rsa([(part.untrained, part.targets) for part in parts], metric),
        "rsa_targets_pooled": _mean_rsa([(trained, pooled["targets"])], metric),
        "rsa_targets_pooled_untrained": _mean_rsa([(untrained, pooled["targets"])], metric),
    }


def _mean_rsa(pairs: Sequence[tuple[Floats | None, Floats | None]], metric: RdmMetric) -> float | None:
    """Returns the mean RSA against the targets (their RDM is 1 - Pearson); None where one is absent or undefined."""
    scores = []
    for outputs, targets in pairs:
        if outputs is None or targets is None:
            return None
        try:
            scores.append(rsa_score(compute_rdm(outputs, metric), compute_rdm(targets)))
        except UndefinedMetric:
            return None
    return float(np.mean(scores))


def _label(trial: Trial) -> str:
    parts = [f"{short_name(name)} {value_text(value)}" for name, value in trial.swept if name != FOLD]
    return ", ".join(parts) or trial.role
