"""CLIP-HBA-MEG: RDMs at every time against the RDMs of people's brains (docs/methods.md 4)."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import load_backbone
from sweeper_models.clip_hba_meg import LAYER_WEIGHTS, ClipHbaMeg
from sweeper_models.dora import trainable_parameters
from sweeper_models.errors import UndefinedLoss
from sweeper_models.rdm_losses import LOSSES, normalised_total, rdm_series
from torch import Tensor

from sweeper.data.split import split_pool
from sweeper.errors import DataError, Problem
from sweeper.evaluation import VALIDATION_RSA, OutputKey, set_id
from sweeper.inputs import dataset_of, held_out_sets, preprocessing_of, weights_of
from sweeper.metrics.courses import ranked, rdm_course, rsa_course, summarize_course
from sweeper.metrics.rdm import UndefinedMetric
from sweeper.neural import FEWEST_STIMULI, counted_times, curves_of, series_of, target_participants
from sweeper.perturbations import Disturbance
from sweeper.randomness import stream
from sweeper.spec.perturbations.base import Place, TableStatistics
from sweeper.spec.schema import Evaluation, TrialConfig
from sweeper.spec.variants.clip_hba_meg import ClipHbaMeg as MegConfig
from sweeper.store.given import best_state
from sweeper.tasks import stages
from sweeper.tasks.base import Measured, NonFiniteLoss, TrainingState, Workbench
from sweeper.tasks.batches import training_batches
from sweeper.tasks.layer_feed import LayerFeed, LayerStimuli
from sweeper.tasks.numerics import set_numerics
from sweeper.tasks.optimizers import build_optimizer, moments_of
from sweeper.tasks.state import load_state
from sweeper.tasks.text import prompt_features

COLUMNS = {"pearson": "val_loss_pearson", "mse": "val_loss_mse", "time_generalisation": "val_loss_generalisation"}
"""Columns of the three losses as they are, neither weighted nor divided."""


class MegTask:
    """Trains and measures one configuration of CLIP-HBA-MEG; see `sweeper/tasks/base.py`."""

    def __init__(self, config: TrialConfig, evaluation: Evaluation, workbench: Workbench) -> None:
        """Loads backbone, data and neural targets."""
        assert isinstance(config.model, MegConfig)
        set_numerics(config.numerics, workbench.device)
        self._config, self._wanted = config, config.model
        self._device, self._store = torch.device(workbench.device), workbench.store
        dataset = dataset_of(config)
        series = series_of(config, dataset)
        self._split = split_pool(config.data.split, config.seeds.split, len(dataset.pool), config.data.train_fraction)
        _require_stimuli(len(self._split.train), len(self._split.val))
        self._model, self._size = self._build(series.times), load_backbone(weights_of(config.model)).image_size
        self._feed = LayerFeed(self._model, self._size, preprocessing_of(config.data), config.numerics, workbench.cache)
        self._pool = self._feed.stimuli_of(dataset.pool)
        people = target_participants(config, series)
        self._targets = series.mean(people, dataset.pool.names, folder=workbench.cache.root / "neural")
        self._counted = counted_times(config, series)
        self._times = self._training_times()
        sets = held_out_sets(config, evaluation)
        self._held_out = {
            set_id(held_out, config.data.preprocessing): self._feed.stimuli_of(held_out.images)
            for held_out in sets.values()
        }

    def init_state(self, seed: int) -> TrainingState:
        """See `Task.init_state`; with `start_from`, the tensors of that trial whatever the seed."""
        self._model.reset_parameters(seed)
        names = trainable_parameters(self._model)
        parameters = {name: tensor.detach().clone() for name, tensor in names.items()}
        if self._wanted.start_from is not None:
            parameters = self._given(self._wanted.start_from, parameters)
        losses = self._validation_losses(parameters)
        return TrainingState(parameters=parameters, counters=stages.begin(self._wanted.loss, losses["pearson"]))

    def train_epoch(self, state: TrainingState, regime: Mapping[str, Any], epoch: int) -> dict[str, float]:
        """See `Task.train_epoch`."""
        stages.go_back(state, self._start.parameters)
        disturbance = Disturbance.of(regime)
        updates = disturbance.updates()
        optimizer = build_optimizer(regime["optimizer"], state, updates, lrs=self._learning_rates(state, regime))
        losses = []
        for step, rows in enumerate(self._batches(disturbance, epoch)):
            place = Place(epoch=epoch, step=step)
            layers = self._layers(state, disturbance, place, rows)
            noise, jitter = self._draws(len(rows), epoch, step)
            embeddings = self._feed.embeddings(state.parameters, layers, noise, jitter, self._times)
            target = self._target(disturbance, place, rows)
            found = self._losses(rdm_series(embeddings), target, lenient=bool(disturbance.active))
            loss = self._total(found)
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
        total = self._total({name: torch.tensor(loss, dtype=torch.float64) for name, loss in losses.items()})
        values = {"val_loss": float(total), **{COLUMNS[name]: loss for name, loss in losses.items()}}
        values["adapter_distance"] = self._distance(state)
        values |= self._validation_rsa(state.parameters)
        outputs = {
            OutputKey(set_id=name, layer="output"): self._outputs(state.parameters, stimuli)
            for name, stimuli in self._held_out.items()
        }
        return Measured(values=values, outputs=outputs)

    def review(self, state: TrainingState, values: Mapping[str, float], epoch: int) -> dict[str, float]:
        """See `Task.review`."""
        return stages.review(state, self._wanted.stages, values["val_loss"], values[COLUMNS["pearson"]], epoch)

    # -- losses ---------------------------------------------------------------------------------------------------

    def _losses(self, model: Tensor, target: Tensor, *, lenient: bool = False) -> dict[str, Tensor]:
        """Returns the losses that have a weight (the first always) between RDM series [T', P].

        Args:
            model: of the model.
            target: of people, or what a perturbation made of it.
            lenient: a target that is constant is meant so.
        """
        wanted = (name for name in LOSSES if self._weights[name] > 0 or name == "pearson")
        return {name: _loss(name, model, target, lenient=lenient) for name in wanted}

    def _total(self, losses: Mapping[str, Tensor]) -> Tensor:
        total: Tensor = normalised_total(losses, self._start_losses, self._weights)
        return total

    @property
    def _weights(self) -> dict[str, float]:
        loss = self._wanted.loss
        return dict(zip(LOSSES, (loss.w1, loss.w2, loss.w3), strict=True))

    @torch.no_grad()
    def _validation_losses(self, parameters: Mapping[str, Tensor]) -> dict[str, float]:
        """Returns the losses on the validation stimuli: on all together, or the mean over batches, as published."""
        rows = self._split.val
        size = len(rows) if self._wanted.loss.validation == "whole" else self._config.training.batch_size
        parts = np.split(rows, range(size, len(rows), size))
        if len(parts) > 1 and len(parts[-1]) < FEWEST_STIMULI:
            parts[-2:] = [np.concatenate(parts[-2:])]
        found: list[dict[str, Tensor]] = []
        for part, chosen in enumerate(parts):
            layers = self._feed.layers(parameters, self._pool, chosen, untrained=self._is_untrained(parameters))
            noise = self._evaluation_noise(len(chosen), "validation", part)
            jitter = _jitter(stream(0, "meg/jitter", part), self._shape(len(chosen)), self._device)
            embeddings = self._feed.embeddings(parameters, layers, noise, jitter, self._times)
            found.append(self._losses(rdm_series(embeddings), self._target_of(chosen)))
        return {name: _mean(torch.stack([losses[name] for losses in found])) for name in found[0]}

    @torch.no_grad()
    def _validation_rsa(self, parameters: Mapping[str, Tensor]) -> dict[str, float]:
        """Returns the mean over time of the RSA on the validation stimuli, without noise; {} where it is undefined."""
        layers = self._feed.layers(parameters, self._pool, self._split.val, untrained=self._is_untrained(parameters))
        embeddings = self._feed.embeddings(parameters, layers, None, None, self._times)
        course = rsa_course(rdm_course(embeddings.cpu().numpy()), self._validation_ranks)
        try:
            found = summarize_course(course, self._targets.times[self._times], np.ones(len(course)))
        except UndefinedMetric:
            return {}
        return {VALIDATION_RSA: found.mean}

    @cached_property
    def _validation_ranks(self) -> NDArray[np.float64]:
        return ranked(self._target_of(self._split.val).double().cpu().numpy())

    # -- what goes in ---------------------------------------------------------------------------------------------

    def _batches(self, disturbance: Disturbance, epoch: int) -> Iterator[NDArray[np.int64]]:
        rows, seed = self._split.train, self._config.seeds.order
        order = disturbance.order(epoch, len(rows))
        return training_batches(self._config.training, seed, epoch, rows, order, fewest=FEWEST_STIMULI)

    def _layers(self, state: TrainingState, disturbance: Disturbance, place: Place, rows: NDArray[np.int64]) -> Tensor:
        """Returns the layers [B, L, E] of a training batch: constants while the adapters are not trained."""
        parameters, is_frozen = state.parameters, state.counters["stage"] == stages.LAYERS
        images = disturbance.images(place, (len(rows), 3, self._size, self._size), self._statistics)
        if images is not None:
            return self._feed.layers_of(parameters, images, len(rows))
        return self._feed.layers(parameters, self._pool, rows, untrained=is_frozen)

    def _target(self, disturbance: Disturbance, place: Place, rows: NDArray[np.int64]) -> Tensor:
        return self._pairs(disturbance.rdms(place, self._targets.batch(rows), self._statistics))

    def _target_of(self, rows: NDArray[np.int64]) -> Tensor:
        return self._pairs(self._targets.batch(rows))

    def _pairs(self, rdms: NDArray[np.float32]) -> Tensor:
        first, second = np.triu_indices(rdms.shape[1], k=1)
        return torch.from_numpy(np.ascontiguousarray(rdms[self._times][:, first, second])).to(self._device)

    def _draws(self, num_images: int, epoch: int, step: int) -> tuple[Tensor | None, Tensor]:
        """Returns noise and jitter of one training batch, [T', B, D]."""
        shape, seed = self._shape(num_images), self._config.seeds.order
        noise = _normal(stream(seed, "meg/noise", epoch, step), shape, self._device) if self._is_noisy else None
        return noise, _jitter(stream(seed, "meg/jitter", epoch, step), shape, self._device)

    def _evaluation_noise(self, num_images: int, purpose: str, part: int) -> Tensor | None:
        if self._wanted.evaluation_noise == "none" or not self._is_noisy:
            return None
        return _normal(stream(0, f"meg/{purpose}", part), self._shape(num_images), self._device)

    def _shape(self, num_images: int) -> tuple[int, int, int]:
        return len(self._times), num_images, len(self._model.text)

    @property
    def _is_noisy(self) -> bool:
        return bool(self._model.noise.any())

    def _training_times(self) -> NDArray[np.int64]:
        """Returns the times that losses count: after the onset, where the model has a signal; or all, as published."""
        if self._wanted.loss.times == "all":
            return np.arange(len(self._counted))
        return np.flatnonzero(self._counted & self._model.defined_times().cpu().numpy())

    @cached_property
    def _statistics(self) -> TableStatistics:
        """Mean and spread of the target RDMs over all pairs and the times that count; the dimensions are all times."""
        first, second = np.triu_indices(len(self._targets.names), k=1)
        slices = (
            (rdm[first, second].astype(np.float64)) for rdm in self._targets.all()
        )  # one at a time: they are large
        moments = np.array([(values.mean(), (values**2).mean()) for values in slices])
        mean, square = moments[self._times].mean(axis=0)
        std = float(np.sqrt(square - mean**2))
        return TableStatistics(mean=float(mean), std=std, dimension_means=moments[:, 0].astype(np.float32))

    # -- parameters -----------------------------------------------------------------------------------------------

    def _build(self, times_ms: NDArray[np.float64]) -> ClipHbaMeg:
        config, wanted = self._config, self._wanted
        backbone = load_backbone(weights_of(wanted))
        curves = curves_of(config, dataset_of(config))
        step_ms = float(times_ms[1] - times_ms[0]) if len(times_ms) > 1 else 1.0
        adapter = wanted.adapter
        return ClipHbaMeg(
            backbone,
            AdapterConfig(
                rank=adapter.rank,
                alpha=adapter.alpha,
                vision_layers=adapter.vision_layers,
                text_layers=0,
                dora=adapter.dora,
                init=adapter.init,
            ),
            text=prompt_features(backbone, config, wanted.text_from, self._store),
            alpha=torch.from_numpy(curves.alpha),
            beta=torch.from_numpy(curves.beta),
            noise=torch.from_numpy(curves.noise),
            half_width=0 if wanted.curves.source == "ones" else int(wanted.curves.window_ms // step_ms),
            magnitude=adapter.magnitude,
            zero_weights=wanted.zero_weights,
            seed=config.seeds.init,
        ).to(self._device)

    def _learning_rates(self, state: TrainingState, regime: Mapping[str, Any]) -> dict[str, float]:
        """Returns the learning rate of what the stage trains; the others stay as they are, as at a rate of 0."""
        rates = {LAYER_WEIGHTS: self._wanted.stages.lr_layers}
        if state.counters["stage"] == stages.ADAPTERS:
            rates |= dict.fromkeys(
                (name for name in state.parameters if name != LAYER_WEIGHTS), regime["optimizer"]["lr"]
            )
        return dict(sorted(rates.items()))

    def _is_untrained(self, parameters: Mapping[str, Tensor]) -> bool:
        """Tells whether the tower is the untrained one, so that what it makes of the stimuli is a constant."""
        start = self._untrained
        return all(torch.equal(tensor, start[name]) for name, tensor in parameters.items() if name != LAYER_WEIGHTS)

    @cached_property
    def _untrained(self) -> dict[str, Tensor]:
        self._model.reset_parameters(self._config.seeds.init)
        own = {name: tensor.detach().clone() for name, tensor in trainable_parameters(self._model).items()}
        return own if self._wanted.start_from is None else self._given(self._wanted.start_from, own)

    @cached_property
    def _start(self) -> TrainingState:
        return self.init_state(self._config.seeds.init)

    @cached_property
    def _start_losses(self) -> dict[str, float]:
        return self._validation_losses(self._untrained)

    def _given(self, trial_id: str, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        trial, data = best_state(self._store, trial_id, "model.start_from")
        given = load_state(data, self._config_device).parameters
        shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
        if {name: tuple(tensor.shape) for name, tensor in given.items()} != shapes:
            rule, got = "starts from a trial with the same adapters and times", f"{trial.short_id} ({trial.name})"
            raise DataError(Problem(where="model.start_from", rule=rule, got=got, remedy="Name another trial"))
        return given

    @property
    def _config_device(self) -> str:
        return self._device.type

    def _distance(self, state: TrainingState) -> float:
        """Returns the Euclidean distance of all adapter parameters from their start."""
        start = self._untrained
        moved = [state.parameters[name] - start[name] for name in state.parameters if name != LAYER_WEIGHTS]
        return float(torch.stack([each.double().square().sum() for each in moved]).sum().sqrt()) if moved else 0.0

    def _outputs(self, parameters: Mapping[str, Tensor], stimuli: LayerStimuli) -> NDArray[np.float32]:
        """Returns float32 [T, M, D] at all times; zeros where the model has no signal."""
        rows = np.arange(len(stimuli))
        layers = self._feed.layers(parameters, stimuli, rows, untrained=self._is_untrained(parameters))
        embeddings = self._feed.embeddings(parameters, layers, None, None, None)
        outputs: NDArray[np.float32] = embeddings.float().cpu().numpy()
        return outputs


def _loss(name: str, model: Tensor, target: Tensor, *, lenient: bool) -> Tensor:
    """Returns one loss; where there is nothing to correlate, nothing is explained: the loss is 1, without a gradient.

    So it is with the untrained model without noise, whose RDMs are the same at all times and generalise alike, and with
    a target that a perturbation made constant. A constant target of the data is an error.
    """
    try:
        loss: Tensor = LOSSES[name](model, target)
    except UndefinedLoss as undefined:
        is_same_at_all_times = name == "time_generalisation" and undefined.where == "model"
        if not is_same_at_all_times and not (lenient and undefined.where == "target"):
            raise
        return model.sum() * 0.0 + 1.0
    return loss


def _require_stimuli(num_train: int, num_val: int) -> None:
    for what, count in (("training", num_train), ("validation", num_val)):
        if count < FEWEST_STIMULI:
            rule = f"RDMs need {FEWEST_STIMULI} {what} stimuli or more"
            remedy = "Take more stimuli, or another data.train_fraction"
            raise DataError(Problem(where="data", rule=rule, got=str(count), remedy=remedy))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(device)


def _jitter(rng: np.random.Generator, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Returns u of docs/methods.md 4: so small that it matters only where an embedding is constant."""
    return torch.from_numpy(np.float32(1e-6) + np.float32(1e-5) * rng.random(shape, dtype=np.float32)).to(device)


def _mean(losses: Tensor) -> float:
    """Returns the mean of batches, looked at once per epoch so that a GPU need not wait."""
    host = losses.double().cpu()
    if not bool(torch.isfinite(host).all()):
        step = int((~torch.isfinite(host)).nonzero()[0, 0])
        raise NonFiniteLoss(f"loss is {float(host[step])} at batch {step}")
    return float(host.mean())
