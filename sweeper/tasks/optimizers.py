"""Optimisers by name, built anew for each epoch from a state's moments: torch does the arithmetic."""

from collections.abc import Mapping
from typing import Any

import torch

from sweeper.spec.perturbations.base import Updates
from sweeper.tasks.base import TrainingState


def build_optimizer(
    fields: Mapping[str, Any], state: TrainingState, updates: Updates, *, lrs: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """Returns the optimiser of an epoch over a state's tensors, with the state's moments in it.

    Args:
        fields: `training.optimizer` as the regime carries it.
        state: its tensors are updated in place.
        updates: what the perturbation changes.
        lrs: learning rate by name of each tensor that is trained; left out: all, with the optimiser's own.
    """
    lrs = dict.fromkeys(state.parameters, fields["lr"]) if lrs is None else lrs
    groups: dict[float, list[torch.Tensor]] = {}
    for name, rate in lrs.items():
        groups.setdefault(rate, []).append(state.parameters[name].requires_grad_())
    lr = fields["lr"] * updates.lr_factor
    parameters = [{"params": tensors, "lr": rate * updates.lr_factor} for rate, tensors in groups.items()]
    weight_decay = fields["weight_decay"] if updates.weight_decay is None else updates.weight_decay
    optimizer: torch.optim.Optimizer
    if fields["name"] == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=lr, momentum=fields["momentum"], weight_decay=weight_decay)
    else:
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[fields["name"]]
        betas = (fields["betas"][0], fields["betas"][1])
        optimizer = kind(parameters, lr=lr, betas=betas, eps=fields["eps"], weight_decay=weight_decay)
    if not updates.reset_moments:
        _restore(optimizer, state)
    return optimizer


def _restore(optimizer: torch.optim.Optimizer, state: TrainingState) -> None:
    for name, tensor in state.moments.items():
        slot, parameter = name.split("/", 1)
        optimizer.state[state.parameters[parameter]][slot] = tensor


def moments_of(optimizer: torch.optim.Optimizer, state: TrainingState) -> dict[str, torch.Tensor]:
    """Returns the optimiser's tensors by name, in sorted order."""
    moments = {
        f"{slot}/{name}": value
        for name, parameter in state.parameters.items()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }
    return dict(sorted(moments.items()))
