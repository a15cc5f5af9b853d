"""Frozen prompt features: CLIP's own, or those of a trained behaviour trial."""

from collections.abc import Callable

import safetensors.torch
import torch
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import Backbone
from sweeper_models.clip_hba import ClipHba
from sweeper_models.dora import trainable_parameters
from sweeper_models.prompts import PROMPTS
from torch import Tensor

from sweeper.inputs import require_features, weights_of
from sweeper.spec.rewrite import is_local_weights
from sweeper.spec.schema import TrialConfig
from sweeper.spec.variants.clip_hba_behavior import ClipHbaBehavior
from sweeper.store.given import best_state, require_fit
from sweeper.tasks.base import Workbench
from sweeper.tasks.loading import load_suffix, text_prefix
from sweeper.tasks.state import load_state

_FIELD = "model.text_from"


def prompt_features(
    backbone: Backbone,
    whole: Callable[[], Backbone],
    config: TrialConfig,
    text_from: str | None,
    workbench: Workbench,
) -> Tensor:
    """Returns the features of the 66 prompts before normalisation: float32 [66, E].

    Args:
        backbone: of the model that uses them, as a whole or behind its cuts.
        whole: loads all of it.
        config: its configuration.
        text_from: id of a finished behaviour trial, whose best state gives the text adapters, or a file of features;
            None: CLIP's own.
        workbench: has the store where that trial is.

    Raises:
        SpecError: there is no such trial or state, or it is of another variant or backbone.
        ModelError: the file lacks the features, or they cannot be used.
    """
    if text_from is None:
        plain = AdapterConfig(vision_layers=0, text_layers=0)
        features: Tensor = text_prefix(backbone, plain, config.numerics, workbench.cache, whole)["embedding"]
        return features
    if is_local_weights(text_from):
        return _of_file(text_from, (len(PROMPTS), backbone.embed_dim))
    trial, state = best_state(workbench.store, text_from, _FIELD)
    weights = weights_of(config.model)
    require_fit(trial, config.model, weights.sha256, _FIELD)
    given = trial.config.model
    assert isinstance(given, ClipHbaBehavior)
    adapter = AdapterConfig(**given.adapter.model_copy(update={"vision_layers": 0}).model_dump())
    prefix = text_prefix(backbone, adapter, config.numerics, workbench.cache, whole)
    model = ClipHba(load_suffix(weights, adapter), adapter, text_prefix=prefix)
    tensors = load_state(state, "cpu").parameters
    for name, parameter in trainable_parameters(model).items():
        parameter.data.copy_(tensors[name])
    return _features(model)


def _of_file(path: str, shape: tuple[int, int]) -> Tensor:
    require_features(path, shape)
    features: Tensor = safetensors.torch.load_file(path)["features"].float()
    return features


def _features(model: ClipHba) -> Tensor:
    with torch.no_grad():
        features: Tensor = model.text_features()
    return features
