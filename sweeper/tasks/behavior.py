"""CLIP-HBA-Behavior: mean squared error of 66 outputs against 66 target dimensions."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import Backbone
from sweeper_models.clip_hba import ClipHba
from sweeper_models.dora import trainable_parameters
from torch import Tensor
from torch.nn import functional

from sweeper.data.dataset import VALIDATION
from sweeper.data.features import FeatureCache
from sweeper.data.split import split_pool
from sweeper.evaluation import OutputKey, set_id
from sweeper.inputs import dataset_of, held_out_sets, preprocessing_of, weights_of
from sweeper.perturbations import Disturbance
from sweeper.spec.perturbations.base import Place, TableStatistics
from sweeper.spec.schema import Evaluation, TrialConfig
from sweeper.tasks.base import Measured, NonFiniteLoss, TrainingState, Workbench
from sweeper.tasks.batches import training_batches
from sweeper.tasks.feeding import Batch, Stimuli
from sweeper.tasks.loading import WholeNetwork, load_suffix, text_prefix
from sweeper.tasks.numerics import set_numerics
from sweeper.tasks.optimizers import build_optimizer, moments_of
from sweeper.tasks.stimuli import CachedPrefix, FullForward

EVALUATION_CHUNK = 256


class BehaviorTask:
    """Trains and measures one configuration of CLIP-HBA-Behavior; see `sweeper/tasks/base.py`."""

    def __init__(self, config: TrialConfig, evaluation: Evaluation, workbench: Workbench) -> None:
        """Loads backbone and data, and makes sure that the frozen features exist."""
        set_numerics(config.numerics, workbench.device)
        self._config, self._device = config, torch.device(workbench.device)
        self._whole = self._load_network(workbench.cache)
        dataset = dataset_of(config)
        self._targets = torch.from_numpy(dataset.targets)
        self._statistics = TableStatistics.of(dataset.targets)
        self._split = split_pool(config.data.split, config.seeds.split, len(dataset.pool), config.data.train_fraction)
        rule: type[CachedPrefix] | type[FullForward]
        rule = CachedPrefix if config.numerics.prefix == "cached" else FullForward
        self._network = rule(
            self._model,
            self._whole.model,
            self._size,
            preprocessing_of(config.data),
            config.numerics,
            workbench.cache,
            decoders=workbench.decoders,
        )
        self._pool = self._network.stimuli(dataset.pool)
        sets = held_out_sets(config, evaluation)
        ids = {name: set_id(held_out, config.data.preprocessing) for name, held_out in sets.items()}
        self._validation_id = ids.pop(VALIDATION, None)
        self._held_out = {ids[name]: self._network.stimuli(sets[name].images) for name in ids}
        self._layers = evaluation.layers
        self._whole.release()

    def _load_network(self, cache: FeatureCache) -> WholeNetwork:
        """Loads the network behind its cuts, and returns what loads the rest; all of it where images pass through."""
        config, weights, fields = self._config, weights_of(self._config.model), self._config.model.adapter
        adapter = AdapterConfig(**fields.model_dump())

        def build(backbone: Backbone) -> ClipHba:
            return ClipHba(backbone, adapter, seed=config.seeds.init, text_prefix=text).to(self._device)

        whole = WholeNetwork(weights, build)
        is_cut = config.numerics.prefix == "cached"
        backbone = load_suffix(weights, adapter) if is_cut else whole.backbone()
        text = text_prefix(backbone, adapter, config.numerics, cache, whole.backbone) if is_cut else None
        self._size, self._model = backbone.image_size, build(backbone)
        return whole

    def init_state(self, seed: int) -> TrainingState:
        """See `Task.init_state`."""
        self._model.reset_adapters(seed)
        parameters = trainable_parameters(self._model)
        return TrainingState(parameters={name: tensor.detach().clone() for name, tensor in parameters.items()})

    def train_epoch(self, state: TrainingState, regime: Mapping[str, Any], epoch: int) -> dict[str, float]:
        """See `Task.train_epoch`."""
        disturbance = Disturbance.of(regime)
        if not disturbance.replaces_images:
            self._network.forget_images()
            self._whole.release()  # loaded in a window that is over
        updates = disturbance.updates()
        optimizer = build_optimizer(regime["optimizer"], state, updates)
        losses, sizes = [], []
        for size, batch, targets in self._steps(disturbance, epoch):
            loss = functional.mse_loss(self._network.outputs(state.parameters, batch).float(), targets)
            losses.append(loss.detach())
            sizes.append(size)
            if updates.enabled:
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        state.moments = moments_of(optimizer, state)
        state.parameters = {name: tensor.detach() for name, tensor in state.parameters.items()}
        return {"train_loss": _mean_loss(torch.stack(losses), sizes)}

    @torch.no_grad()
    def evaluate(self, state: TrainingState) -> Measured:
        """See `Task.evaluate`."""
        text = self._network.text(state.parameters)
        squared, count = torch.zeros((), dtype=torch.float64, device=self._device), 0
        predicted = list(self._parts(state, self._pool, self._split.val, "output", text))
        for rows, outputs in zip(_chunks(self._split.val), predicted, strict=True):
            targets = self._targets[rows].to(self._device, non_blocking=True)
            errors = functional.mse_loss(outputs, targets, reduction="none")
            squared += errors.sum(dtype=torch.float64)
            count += errors.numel()
        outputs_by_set = {
            OutputKey(set_id=set_id, layer=layer): self._layer_outputs(state, stimuli, layer, text)
            for set_id, stimuli in self._held_out.items()
            for layer in self._layers
        }
        if self._validation_id is not None:
            for layer in self._layers:
                parts = predicted if layer == "output" else self._parts(state, self._pool, self._split.val, layer, text)
                outputs_by_set[OutputKey(set_id=self._validation_id, layer=layer)] = _joined(parts)
        values = {"val_loss": float(squared) / count, "adapter_distance": self._distance(state)}
        return Measured(values=values, outputs=outputs_by_set)

    def review(self, state: TrainingState, values: Mapping[str, float], epoch: int) -> dict[str, float]:
        """See `Task.review`; no rule of this task changes training."""
        del state, values, epoch
        return {}

    def _batches(self, disturbance: Disturbance, epoch: int) -> Iterator[NDArray[np.int64]]:
        rows = self._split.train
        order = disturbance.order(epoch, len(rows))
        return training_batches(self._config.training, self._config.seeds.order, epoch, rows, order)

    def _steps(self, disturbance: Disturbance, epoch: int) -> Iterator[tuple[int, Batch, Tensor]]:
        """Yields size, features and targets of each batch; the host never waits for the device."""
        order = list(self._batches(disturbance, epoch))
        batches = (
            self._replaced(disturbance, epoch, order) if disturbance.replaces_images else self._pool.batches(order)
        )
        for step, (rows, batch) in enumerate(zip(order, batches, strict=True)):
            place = Place(epoch=epoch, step=step)
            targets = disturbance.targets(place, self._targets[rows].numpy(), self._statistics)
            yield len(rows), batch, torch.from_numpy(targets).to(self._device, non_blocking=True)

    def _replaced(self, disturbance: Disturbance, epoch: int, order: list[NDArray[np.int64]]) -> Iterator[Batch]:
        """Yields the features of the images that stand for a batch's own."""
        for step, rows in enumerate(order):
            place = Place(epoch=epoch, step=step)
            images = disturbance.images(place, (len(rows), 3, self._size, self._size), self._statistics)
            assert images is not None
            yield self._network.of_images(images, len(rows), repeats=disturbance.repeats_images)

    def _layer_outputs(self, state: TrainingState, stimuli: Stimuli, layer: str, text: Tensor) -> NDArray[np.float32]:
        return _joined(self._parts(state, stimuli, np.arange(len(stimuli)), layer, text))

    def _parts(
        self, state: TrainingState, stimuli: Stimuli, rows: NDArray[np.int64], layer: str, text: Tensor
    ) -> Iterator[Tensor]:
        """Yields the float32 outputs of a layer on some stimuli, chunk by chunk."""
        for chunk in _chunks(rows):
            batch = stimuli.batch(chunk)
            if layer == "embedding":
                yield self._network.embedding(state.parameters, batch).float()
            else:
                yield self._network.outputs(state.parameters, batch, text).float()

    def _distance(self, state: TrainingState) -> float:
        """Returns the Euclidean distance of all adapter parameters from their start."""
        squares = [(tensor - self._start[name]).double().square().sum() for name, tensor in state.parameters.items()]
        return float(torch.stack(squares).sum().sqrt()) if squares else 0.0

    @cached_property
    def _start(self) -> dict[str, Tensor]:
        return self.init_state(self._config.seeds.init).parameters


def _chunks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(rows), EVALUATION_CHUNK):
        yield rows[first : first + EVALUATION_CHUNK]


def _joined(parts: Iterable[Tensor]) -> NDArray[np.float32]:
    outputs: NDArray[np.float32] = torch.cat(list(parts)).cpu().numpy()
    return outputs


def _mean_loss(losses: Tensor, sizes: list[int]) -> float:
    """Returns the mean over samples of batch means, looked at once per epoch so that a GPU need not wait."""
    host = losses.double().cpu()
    finite = torch.isfinite(host)
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0, 0])
        raise NonFiniteLoss(f"training loss is {float(host[step])} at batch {step}")
    weights = torch.tensor(sizes, dtype=torch.float64)
    return float((host * weights).sum() / weights.sum())
