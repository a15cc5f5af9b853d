"""The two stages of CLIP-HBA-MEG: when an epoch is accepted, when the stage changes, when training ends.

Layer weights are trained alone first, then the adapters with them, each stage from the best parameters so far
(docs/methods.md 4). All that the rule knows are counters of the state, so a fork goes on with those of its trunk.
"""

from collections.abc import Mapping

from torch import Tensor

from sweeper.spec.variants.clip_hba_meg import Losses, Stages
from sweeper.tasks.base import TrainingState

LAYERS, ADAPTERS = 1, 2


def begin(weights: Losses, pearson: float) -> dict[str, float]:
    """Returns the counters of the untrained model, whose total loss is the sum of the weights.

    Args:
        weights: of the three losses.
        pearson: its first loss, P0.
    """
    total = weights.w1 + weights.w2 + weights.w3
    return {"stage": LAYERS, "stalled": 0, "goes_back": 0, "best_total": total, "best_pearson": pearson}


def go_back(state: TrainingState, untrained: Mapping[str, Tensor]) -> None:
    """Takes the best parameters up again where the epoch before changed the stage, in place.

    Not done at once, so that the parameters of a state are those that were measured.
    """
    if state.counters["goes_back"]:
        state.parameters = {name: tensor.clone() for name, tensor in (state.best or untrained).items()}
        state.moments = {}
        state.counters["goes_back"] = 0


def review(state: TrainingState, stages: Stages, total: float, pearson: float, epoch: int) -> dict[str, float]:
    """Advances the counters after an epoch, in place.

    An epoch is accepted where total and first loss are both below the best so far.

    Args:
        state: at the end of the epoch.
        stages: the rule.
        total: validation loss.
        pearson: first validation loss, as it is.
        epoch: absolute, 1-based.

    Returns:
        Scalars by column: `stage` that the epoch belonged to, `accepted`, and `ended` where nothing is to follow.
    """
    counters = state.counters
    stage = counters["stage"]
    accepted = total < counters["best_total"] and pearson < counters["best_pearson"]
    if accepted:
        state.best = {name: tensor.detach().clone() for name, tensor in state.parameters.items()}
        counters |= {"best_total": total, "best_pearson": pearson, "stalled": 0}
    else:
        counters["stalled"] += 1
    out_of_patience = stages.patience is not None and counters["stalled"] >= stages.patience
    changes = out_of_patience if stages.switch == "patience" else stages.epochs is not None and epoch >= stages.epochs
    values = {"stage": float(stage), "accepted": float(accepted)}
    if stage == LAYERS and changes:
        counters |= {"stage": ADAPTERS, "stalled": 0, "goes_back": 1}
    elif stage == ADAPTERS and out_of_patience:
        values["ended"] = 1.0
    return values
