"""The network of a configuration: curves, prompts and start put together."""

from collections.abc import Mapping

import torch
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import Backbone
from sweeper_models.clip_hba_meg import LAYER_WEIGHTS, ClipHbaMeg
from sweeper_models.dora import trainable_parameters
from torch import Tensor

from sweeper.errors import Problem, SpecError
from sweeper.inputs import dataset_of, weights_of
from sweeper.neural import curves_of, series_of
from sweeper.spec.schema import TrialConfig
from sweeper.spec.variants.clip_hba_meg import ClipHbaMeg as MegConfig
from sweeper.store.given import best_state
from sweeper.store.objects import ObjectStore
from sweeper.tasks.base import Workbench
from sweeper.tasks.loading import WholeNetwork, load_suffix
from sweeper.tasks.meg.text import prompt_features
from sweeper.tasks.state import load_state


def build_network(config: TrialConfig, workbench: Workbench) -> tuple[ClipHbaMeg, WholeNetwork]:
    """Returns the untrained network of a configuration on its device, and what loads the whole of it.

    Where the prefix is cached, the first is loaded behind its cut.
    """
    wanted = config.model
    assert isinstance(wanted, MegConfig)
    weights = weights_of(wanted)

    def build(backbone: Backbone) -> ClipHbaMeg:
        return _built(config, backbone, text).to(workbench.device)

    whole = WholeNetwork(weights, build)
    is_cut = config.numerics.prefix == "cached"
    backbone = load_suffix(weights, _adapter(wanted)) if is_cut else whole.backbone()
    text = prompt_features(backbone, whole.backbone, config, wanted.text_from, workbench)
    return build(backbone), whole


def _adapter(wanted: MegConfig) -> AdapterConfig:
    adapter = wanted.adapter
    return AdapterConfig(
        rank=adapter.rank,
        alpha=adapter.alpha,
        vision_layers=adapter.vision_layers,
        text_layers=0,
        dora=adapter.dora,
        init=adapter.init,
    )


def _built(config: TrialConfig, backbone: Backbone, text: Tensor) -> ClipHbaMeg:
    wanted = config.model
    assert isinstance(wanted, MegConfig)
    dataset = dataset_of(config)
    curves, times_ms = curves_of(config, dataset), series_of(config, dataset).times
    step_ms = float(times_ms[1] - times_ms[0]) if len(times_ms) > 1 else 1.0
    return ClipHbaMeg(
        backbone,
        _adapter(wanted),
        text=text,
        alpha=torch.from_numpy(curves.alpha),
        beta=torch.from_numpy(curves.beta),
        noise=torch.from_numpy(curves.noise),
        half_width=0 if wanted.curves.source == "ones" else int(wanted.curves.window_ms // step_ms),
        magnitude=wanted.adapter.magnitude,
        zero_weights=wanted.zero_weights,
        seed=config.seeds.init,
    )


def start_of(network: ClipHbaMeg, seed: int, start_from: str | None, store: ObjectStore) -> dict[str, Tensor]:
    """Returns the first values of what is trained, by name.

    Args:
        network: what is trained; set to the start of the seed.
        seed: of the adapters.
        start_from: id of a finished trial whose best state is taken instead.
        store: where that trial is.

    Raises:
        SpecError: there is no such state, or it has other tensors.
    """
    network.reset_parameters(seed)
    own = {name: tensor.detach().clone() for name, tensor in trainable_parameters(network).items()}
    if start_from is None:
        return own
    trial, data = best_state(store, start_from, "model.start_from")
    given = load_state(data, network.text.device.type).parameters
    if _shapes(given) != _shapes(own):
        rule, got = "starts from a trial with the same adapters and times", _differing(_shapes(given), _shapes(own))
        got = f"trial {trial.short_id} ({trial.name}): {got}"
        raise SpecError(Problem(where="model.start_from", rule=rule, got=got, remedy="Name another trial"))
    return given


def adapters_of(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of the adapters: all but the layer weights."""
    return {name: tensor for name, tensor in parameters.items() if name != LAYER_WEIGHTS}


def _differing(given: Mapping[str, tuple[int, ...]], own: Mapping[str, tuple[int, ...]]) -> str:
    names = [name for name in sorted({*given, *own}) if given.get(name) != own.get(name)]
    shown = [f"{name} {given.get(name, 'absent')}, here {own.get(name, 'absent')}" for name in names[:2]]
    return "; ".join(shown) + (f"; and {len(names) - 2} other tensors" if len(names) > 2 else "")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
