"""CLIP-HBA-MEG: RDMs at every time against the RDMs of people's brains (docs/methods.md 4)."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sweeper_models.clip_hba_meg import LAYER_WEIGHTS
from sweeper_models.rdm_losses import rdm_series
from torch import Tensor

from sweeper.evaluation import VALIDATION_RSA, OutputKey, set_id
from sweeper.inputs import dataset_of, held_out_sets, preprocessing_of
from sweeper.neural import FEWEST_STIMULI, split_over_time
from sweeper.perturbations import Disturbance
from sweeper.spec.perturbations.base import Place
from sweeper.spec.schema import Evaluation, TrialConfig
from sweeper.spec.variants.clip_hba_meg import ClipHbaMeg as MegConfig
from sweeper.tasks.base import Measured, NonFiniteLoss, TrainingState, Workbench
from sweeper.tasks.batches import training_batches
from sweeper.tasks.meg import stages
from sweeper.tasks.meg.draws import Draws
from sweeper.tasks.meg.layers import LayerFeed, LayerStimuli
from sweeper.tasks.meg.losses import COLUMNS, FIRST, WeightedLosses
from sweeper.tasks.meg.network import adapters_of, build_network, start_of
from sweeper.tasks.meg.targets import NeuralTargets
from sweeper.tasks.numerics import set_numerics
from sweeper.tasks.optimizers import build_optimizer, moments_of

Parameters = Mapping[str, Tensor]


class MegTask:
    """Trains and measures one configuration of CLIP-HBA-MEG; see `sweeper/tasks/base.py`."""

    def __init__(self, config: TrialConfig, evaluation: Evaluation, workbench: Workbench) -> None:
        """Loads backbone, data and neural targets."""
        assert isinstance(config.model, MegConfig)
        set_numerics(config.numerics, workbench.device)
        self._config, self._wanted, self._store = config, config.model, workbench.store
        device, dataset = torch.device(workbench.device), dataset_of(config)
        self._split = split_over_time(config, dataset)
        self._network, self._whole = build_network(config, workbench)
        self._size = self._whole.image_size
        self._feed = LayerFeed(
            self._network,
            self._whole.model,
            self._size,
            preprocessing_of(config.data),
            config.numerics,
            workbench.cache,
            decoders=workbench.decoders,
        )
        self._pool = self._feed.stimuli_of(dataset.pool)
        self._targets = NeuralTargets(config, dataset, workbench.cache.root / "neural", device)
        self._targets.count(self._wanted.loss.times, self._network.defined_times().cpu().numpy())
        self._losses = WeightedLosses(self._wanted.loss)
        self._draws = Draws(
            num_times=len(self._targets.times),
            num_prompts=len(self._network.text),
            seed=config.seeds.order,
            is_noisy=bool(self._network.noise.any()),
            device=device,
        )
        sets = held_out_sets(config, evaluation).values()
        self._held_out = {set_id(each, config.data.preprocessing): self._feed.stimuli_of(each.images) for each in sets}

    def init_state(self, seed: int) -> TrainingState:
        """See `Task.init_state`; with `start_from`, the tensors of that trial whatever the seed."""
        parameters = start_of(self._network, seed, self._wanted.start_from, self._store)
        losses = self._validation_losses(parameters)
        return TrainingState(parameters=parameters, counters=stages.begin(self._wanted.loss, losses[FIRST]))

    def train_epoch(self, state: TrainingState, regime: Mapping[str, Any], epoch: int) -> dict[str, float]:
        """See `Task.train_epoch`."""
        stages.go_back(state, self._start)
        disturbance = Disturbance.of(regime)
        if not disturbance.replaces_images:
            self._feed.forget_images()
            self._whole.release()  # loaded where features were not cached yet, or in a window that is over
        updates = disturbance.updates()
        optimizer = build_optimizer(regime["optimizer"], state, updates, lrs=self._learning_rates(state, regime))
        losses = []
        for step, rows in enumerate(self._batches(disturbance, epoch)):
            place = Place(epoch=epoch, step=step)
            layers = self._layers(state, disturbance, place, rows)
            noise, jitter = self._draws.training(len(rows), epoch, step)
            embeddings = self._feed.embeddings(state.parameters, layers, noise, jitter, self._targets.times)
            target = self._targets.disturbed(disturbance, place, rows)
            found = self._losses.between(rdm_series(embeddings), target, lenient=bool(disturbance.active))
            loss = self._losses.total(found, self._start_losses)
            losses.append(loss.detach())
            if updates.enabled:
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        state.moments = moments_of(optimizer, state)
        state.parameters = {name: tensor.detach() for name, tensor in state.parameters.items()}
        return {"train_loss": _mean(torch.stack(losses))}

    @torch.no_grad()
    def evaluate(self, state: TrainingState) -> Measured:
        """See `Task.evaluate`."""
        losses = self._validation_losses(state.parameters)
        total = self._losses.total(
            {name: torch.tensor(loss).double() for name, loss in losses.items()}, self._start_losses
        )
        values = {"val_loss": float(total), **{COLUMNS[name]: loss for name, loss in losses.items()}}
        rsa = self._targets.mean_rsa(
            self._outputs(state.parameters, self._pool, self._split.val, self._targets.counted), self._split.val
        )
        outputs = {
            OutputKey(set_id=name, layer="output"): self._outputs(
                state.parameters, stimuli, np.arange(len(stimuli)), None
            )
            for name, stimuli in self._held_out.items()
        }
        values |= {} if rsa is None else {VALIDATION_RSA: rsa}
        return Measured(values={**values, "adapter_distance": self._distance(state)}, outputs=outputs)

    def review(self, state: TrainingState, values: Mapping[str, float], epoch: int) -> dict[str, float]:
        """See `Task.review`."""
        return stages.review(state, self._wanted.stages, values["val_loss"], values[COLUMNS[FIRST]], epoch)

    def _batches(self, disturbance: Disturbance, epoch: int) -> Iterator[NDArray[np.int64]]:
        rows, seed = self._split.train, self._config.seeds.order
        order = disturbance.order(epoch, len(rows))
        return training_batches(self._config.training, seed, epoch, rows, order, fewest=FEWEST_STIMULI)

    def _layers(self, state: TrainingState, disturbance: Disturbance, place: Place, rows: NDArray[np.int64]) -> Tensor:
        """Returns the layers [B, L, E] of a training batch: constants while the adapters are not trained."""
        images = disturbance.images(place, (len(rows), 3, self._size, self._size), self._targets.statistics)
        if images is not None:
            return self._feed.layers_of(state.parameters, images, len(rows), repeats=disturbance.repeats_images)
        is_frozen = state.counters["stage"] == stages.LAYERS
        return self._feed.layers(state.parameters, self._pool, rows, untrained=is_frozen)

    def _learning_rates(self, state: TrainingState, regime: Mapping[str, Any]) -> dict[str, float]:
        """Returns the learning rate of what the stage trains; the others stay as they are, as at a rate of 0."""
        rates = {LAYER_WEIGHTS: self._wanted.stages.lr_layers}
        if state.counters["stage"] == stages.ADAPTERS:
            rates |= dict.fromkeys(adapters_of(state.parameters), regime["optimizer"]["lr"])
        return dict(sorted(rates.items()))

    @torch.no_grad()
    def _validation_losses(self, parameters: Parameters) -> dict[str, float]:
        """Returns the losses on the validation stimuli: on all together, or the mean over batches, as published."""
        noisy = self._wanted.evaluation_noise == "seeded"
        found: list[dict[str, Tensor]] = []
        for part, rows in enumerate(self._validation_parts()):
            layers = self._feed.layers(parameters, self._pool, rows, untrained=self._is_untrained(parameters))
            noise, jitter = self._draws.evaluation(len(rows), part, noisy=noisy)
            embeddings = self._feed.embeddings(parameters, layers, noise, jitter, self._targets.times)
            found.append(self._losses.between(rdm_series(embeddings), self._targets.of(rows)))
        return {name: _mean(torch.stack([losses[name] for losses in found])) for name in found[0]}

    def _validation_parts(self) -> list[NDArray[np.int64]]:
        rows = self._split.val
        size = len(rows) if self._wanted.loss.validation == "whole" else self._config.training.batch_size
        parts = np.split(rows, range(size, len(rows), size))
        return (
            parts if len(parts) < 2 or len(parts[-1]) >= FEWEST_STIMULI else [*parts[:-2], np.concatenate(parts[-2:])]
        )

    def _outputs(
        self, parameters: Parameters, stimuli: LayerStimuli, rows: NDArray[np.int64], times: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        """Returns embeddings without noise, float32 [T', n, D]; zeros at times at which the model has no signal."""
        layers = self._feed.layers(parameters, stimuli, rows, untrained=self._is_untrained(parameters))
        outputs: NDArray[np.float32] = (
            self._feed.embeddings(parameters, layers, None, None, times).float().cpu().numpy()
        )
        return outputs

    def _is_untrained(self, parameters: Parameters) -> bool:
        """Tells whether the tower is the untrained one, so that what it makes of the stimuli is a constant."""
        return all(torch.equal(tensor, self._start[name]) for name, tensor in adapters_of(parameters).items())

    @cached_property
    def _start(self) -> dict[str, Tensor]:
        return start_of(self._network, self._config.seeds.init, self._wanted.start_from, self._store)

    @cached_property
    def _start_losses(self) -> dict[str, float]:
        """P0, M0, G0: the validation losses of the untrained model."""
        return self._validation_losses(self._start)

    def _distance(self, state: TrainingState) -> float:
        """Returns the Euclidean distance of all adapter parameters from their start."""
        moved = [tensor - self._start[name] for name, tensor in adapters_of(state.parameters).items()]
        return float(torch.stack([each.double().square().sum() for each in moved]).sum().sqrt()) if moved else 0.0


def _mean(losses: Tensor) -> float:
    """Returns the mean of batches, looked at once per epoch so that a GPU need not wait."""
    host = losses.double().cpu()
    if not bool(torch.isfinite(host).all()):
        step = int((~torch.isfinite(host)).nonzero()[0, 0])
        raise NonFiniteLoss(f"loss is {float(host[step])} at batch {step}")
    return float(host.mean())
