"""`sweeper saliency`: what of a picture a trained model over time looks at, and when (docs/methods.md 6)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sweeper_models.clip_hba_meg import ClipHbaMeg
from sweeper_models.dora import trainable_parameters
from sweeper_models.saliency import saliency
from torch import Tensor

from sweeper.data.features import FeatureCache
from sweeper.data.images import ImageSet
from sweeper.errors import Problem, SweeperError
from sweeper.export.choice import Chosen, StateName, choose
from sweeper.inputs import dataset_of, preprocessing_of
from sweeper.metrics.courses import nearest_before
from sweeper.neural import series_of
from sweeper.randomness import stream
from sweeper.reporting.load import open_view
from sweeper.reporting.saliency import parse_times, write_saliency
from sweeper.store.objects import ObjectStore
from sweeper.store.opening import open_store
from sweeper.store.places import features_folder
from sweeper.store.sweeps import all_revisions
from sweeper.tasks.base import Workbench
from sweeper.tasks.meg.network import build_network
from sweeper.tasks.state import load_state


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is looked at.

    Attributes:
        store: its address.
        trial: a trial's id, or a beginning that only it has.
        image: a picture file.
        times: `START:STOP:STEP` in ms; None: every time with a signal.
        out: folder, made if need be.
        epoch, state: see `choose`.
        masks: how many.
        seed: of the masks.
        scaled: maps are multiplied by the model's visual scaler, alpha.
    """

    store: str | Path
    trial: str
    image: Path
    out: Path
    times: str | None = None
    epoch: int | None = None
    state: StateName | None = None
    masks: int = 1000
    seed: int = 0
    scaled: bool = False


def export_saliency(asked: Asked) -> dict[str, Any]:
    """Writes frames, strip, moving picture and array of a picture; returns the row that `--json` prints.

    Raises:
        SweeperError: the trial, its state or the picture cannot be had, or the trial has no time axis.
    """
    store = open_store(asked.store, create=False)
    chosen = _chosen(store, asked)
    network, size = _network(store, chosen)
    config = chosen.trial.config
    picture = ImageSet(names=(asked.image.name,), sources=(asked.image,))
    pixels = picture.pixels(range(1), size, preprocessing_of(config.data))[0]
    axis = series_of(config, dataset_of(config)).times
    times_ms = axis if asked.times is None else parse_times(asked.times)
    _require_on_axis(times_ms, axis)
    index = nearest_before(times_ms, axis)
    seen = _with_signal(index, network)
    chosen_times = torch.from_numpy(index[seen])

    @torch.no_grad()
    def embed(images: Tensor) -> Tensor:
        embeddings: Tensor = network.embeddings(network.layers(images), times=chosen_times)
        return embeddings

    alpha = network.alpha[chosen_times] if asked.scaled else None
    rng = stream(asked.seed, "saliency")
    maps = np.zeros((len(times_ms), size, size), dtype=np.float32)  # zero where the model has no signal
    maps[seen] = saliency(embed, torch.from_numpy(pixels), rng, num_masks=asked.masks, alpha=alpha).numpy()
    title = f"{asked.image.name}, trial {chosen.trial.short_id}, epoch {chosen.epoch}"
    files = write_saliency(maps, picture.rgb(0), times_ms, asked.out, title=title)
    return {
        "trial_id": chosen.trial.trial_id,
        "trial": chosen.trial.name,
        "epoch": chosen.epoch,
        "image": str(asked.image),
        "times_ms": [float(time) for time in times_ms],
        "without_signal_ms": [float(time) for time in times_ms[~seen]],
        "masks": asked.masks,
        "out": str(asked.out),
        "files": [str(path.relative_to(asked.out)) for path in files],
    }


def _chosen(store: ObjectStore, asked: Asked) -> Chosen:
    sweeps = {
        revision.spec.name: None
        for revision in all_revisions(store)
        if any(trial.trial_id.startswith(asked.trial) for trial in revision.trials)
    }
    if not sweeps or not asked.trial:
        rule, remedy = f"{store.address} has no such trial", "See column trial_id of `sweeper results SWEEP`"
        raise SweeperError(Problem(where="TRIAL", rule=rule, got=repr(asked.trial), remedy=remedy))
    view = open_view(store, next(iter(sweeps)))
    chosen = choose(
        view, asked.trial, epoch=asked.epoch, state=asked.state, has=lambda state_id: store.has("states", state_id)
    )
    if not chosen.trial.config.model.over_time:
        rule, got = "saliency over time needs a model with a time axis", chosen.trial.config.model.variant
        raise SweeperError(Problem(where="TRIAL", rule=rule, got=got, remedy="Name a trial of clip-hba-meg"))
    return chosen


def _network(store: ObjectStore, chosen: Chosen) -> tuple[ClipHbaMeg, int]:
    workbench = Workbench(cache=FeatureCache(features_folder(store)), store=store, device="cpu")
    _, whole = build_network(chosen.trial.config, workbench)
    network: ClipHbaMeg = whole.model()
    data = store.get("states", chosen.state_id)
    if data is None:
        rule, remedy = "the state's bytes are as they were written", "Choose another epoch, or run the sweep again"
        raise SweeperError(Problem(where=f"{store.address}/states/{chosen.state_id}", rule=rule, remedy=remedy))
    parameters = load_state(data, "cpu").parameters
    with torch.no_grad():
        for name, parameter in trainable_parameters(network).items():
            parameter.copy_(parameters[name])
    return network, whole.image_size


def _require_on_axis(times_ms: NDArray[np.float64], axis: NDArray[np.float64]) -> None:
    if times_ms[0] < axis[0] or times_ms[-1] > axis[-1]:
        rule, got = "times lie on the model's own axis", f"{times_ms[0]:g} to {times_ms[-1]:g} ms"
        remedy = f"Ask for times from {axis[0]:g} to {axis[-1]:g} ms"
        raise SweeperError(Problem(where="--times", rule=rule, got=got, remedy=remedy))


def _with_signal(index: NDArray[np.int64], network: ClipHbaMeg) -> NDArray[np.bool_]:
    """Tells at which of some of the model's times it has a signal: before the stimulus there is none.

    Raises:
        SweeperError: at none of them.
    """
    defined = network.defined_times().cpu().numpy()
    if not defined[index].any():
        rule, got = "the model has a signal at one of the times asked for at least", "none"
        raise SweeperError(
            Problem(where="--times", rule=rule, got=got, remedy="Ask for times after the stimulus began")
        )
    return np.asarray(defined[index])
