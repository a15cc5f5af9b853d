"""What a network computes before training, on the held-out images and the first batch alone.

Shapes: N images, E joint space, D prompts (66), M held-out images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import Backbone, load_backbone
from sweeper_models.clip_hba import ClipHba
from sweeper_models.dora import count_trainable, reset_adapters, trainable_parameters
from sweeper_models.weights import WeightsFile
from torch import Tensor
from torch.nn import functional

from sweeper.data.dataset import Dataset, HeldOut
from sweeper.data.images import ImageSet, Preprocessing
from sweeper.data.split import batch_order, split_pool
from sweeper.doctor.alignment import alignment, behavioral
from sweeper.doctor.published import BATCH_SIZE, NOISE_SEED
from sweeper.inputs import preprocessing_of
from sweeper.metrics.rdm import compute_rdm
from sweeper.philox import published_normals
from sweeper.spec.perturbations.base import TableStatistics
from sweeper.spec.schema import TrialConfig

_CHUNK = 16  # images pushed through the tower at once
_FEW = 4  # images on which the two ways of computing are compared
_GRADIENT_IMAGES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurements:
    """Holds everything measured; an RSA that is undefined, or has no reference, is None.

    Attributes:
        activations: kinds of activation that the network's blocks really have.
        output_scale: exp(logit_scale).
        rsa, rsa_cosine: of plain image features with the behavioural RDM, by 1 - Pearson and by 1 - cosine.
        rsa_other_activation, rsa_other_constants: `rsa` if that one thing were the other way round.
        rsa_outputs: of the outputs, with the random start of the adapters.
        predictions: mean, minimum, maximum of the outputs of the first batch, with the random start.
        first_loss: mean squared error of these against the random targets of seed 1042.
        num_trainable: parameters that learn.
        dead: adapter tensors without a gradient after one batch.
        num_adapter_tensors: all of them.
        output_change: the largest change of an output by the adapters' random start.
        prefix_error: the largest difference between cached prefix and full forward.
        smallest_side: of the pictures as they are stored, in pixels.
        image_size: side of the network's input, in pixels.
    """

    activations: tuple[str, ...]
    output_scale: float
    rsa: float | None
    rsa_cosine: float | None
    rsa_other_activation: float | None
    rsa_other_constants: float | None
    rsa_outputs: float | None
    predictions: tuple[float, float, float]
    first_loss: float
    num_trainable: int
    dead: tuple[str, ...]
    num_adapter_tensors: int
    output_change: float
    prefix_error: float
    smallest_side: int
    image_size: int


class _Probe:
    """Runs one network on images, without training it."""

    def __init__(self, backbone: Backbone, config: TrialConfig) -> None:
        given = config.model.adapter
        self._adapter = AdapterConfig(**given.model_dump())
        self._seed, self._size = config.seeds.init, backbone.image_size
        self._device = torch.device(_device(config))
        self.model = ClipHba(backbone, self._adapter, seed=self._seed).to(self._device)

    def pixels(self, images: ImageSet, preprocessing: Preprocessing, rows: range) -> Tensor:
        """Returns preprocessed images [n, 3, H, W]."""
        return torch.from_numpy(images.pixels(rows, self._size, preprocessing)).to(self._device)

    def prefix(self, images: ImageSet, preprocessing: Preprocessing) -> dict[str, Tensor]:
        """Returns what no adapter can change, [N, ...] by name."""
        chunks = [range(first, min(first + _CHUNK, len(images))) for first in range(0, len(images), _CHUNK)]
        parts = [self.model.prefix(self.pixels(images, preprocessing, rows)) for rows in chunks]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def features(self, prefix: Mapping[str, Tensor]) -> NDArray[np.float32]:
        """Returns the image features of the plain network: float32 [N, E]."""
        reset_adapters(self.model.clip, init="zero", seed=self._seed)
        features: NDArray[np.float32] = self.model.embed_prefix(prefix).float().cpu().numpy()
        return features

    @torch.no_grad()
    def outputs(self, prefix: Mapping[str, Tensor], *, plain: bool = False) -> Tensor:
        """Returns the outputs [N, D], with the random start of the adapters or (plain) without adapters."""
        self._start(plain=plain)
        outputs: Tensor = self.model.forward_prefix(prefix)
        return outputs

    @torch.no_grad()
    def full_outputs(self, pixels: Tensor) -> Tensor:
        """Returns the outputs [N, D] of the whole network, with the random start of the adapters."""
        self._start(plain=False)
        outputs: Tensor = self.model(pixels)
        return outputs

    def dead(self, prefix: Mapping[str, Tensor], targets: Tensor) -> tuple[str, ...]:
        """Returns the adapter tensors whose gradient is zero, or not finite, on a few images."""
        self._start(plain=False)  # of the zero start, one factor has no gradient by design
        parameters = trainable_parameters(self.model)
        if not parameters:
            return ()
        few = {name: tensor[:_GRADIENT_IMAGES] for name, tensor in prefix.items()}
        loss = functional.mse_loss(self.model.forward_prefix(few), targets[:_GRADIENT_IMAGES])
        if not loss.requires_grad:  # the forward pass goes round all adapters
            return tuple(parameters)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return tuple(name for name, gradient in zip(parameters, gradients, strict=True) if _is_dead(gradient))

    def _start(self, *, plain: bool) -> None:
        reset_adapters(self.model.clip, init="zero" if plain else "reference", seed=self._seed)


def measure(config: TrialConfig, weights: WeightsFile, dataset: Dataset) -> Measurements:
    """Runs the network of a configuration on the held-out images and the first batch.

    Raises:
        DataError: a picture does not decode.
    """
    backbone = load_backbone(weights)
    probe, preprocessing = _Probe(backbone, config), preprocessing_of(config.data)
    batch = _first_batch(config, dataset)
    prefix = probe.prefix(batch, preprocessing)
    outputs = probe.outputs(prefix)
    targets = _random_targets(dataset, outputs)
    full = probe.full_outputs(probe.pixels(batch, preprocessing, range(min(_FEW, len(batch)))))
    return Measurements(
        activations=_activations(backbone),
        output_scale=float(np.exp(backbone.logit_scale)),
        **_alignment(probe, config, weights, dataset.held_out),
        predictions=(float(outputs.mean()), float(outputs.min()), float(outputs.max())),
        first_loss=float(functional.mse_loss(outputs, targets)),
        num_trainable=count_trainable(probe.model),
        dead=probe.dead(prefix, targets),
        num_adapter_tensors=len(trainable_parameters(probe.model)),
        output_change=float((outputs - probe.outputs(prefix, plain=True)).abs().max()),
        prefix_error=float((full - outputs[: len(full)]).abs().max()),
        smallest_side=_smallest_side(batch, dataset.held_out),
        image_size=backbone.image_size,
    )


def _first_batch(config: TrialConfig, dataset: Dataset) -> ImageSet:
    """Returns the images of the first batch: of the published order and size, whatever the spec asks for.

    Untrained predictions are compared with the study's on the study's batch; the spec's own order is another check.
    """
    split = split_pool("published", 1, len(dataset.pool), 0.8)
    order = batch_order("published", 1, 1, len(split.train))
    return dataset.pool.subset(split.train[order[:BATCH_SIZE]])


def _reference_of(held_out: HeldOut | None) -> NDArray[np.float64] | None:
    """Returns the first behavioural RDM of a held-out set, else that of its targets, else None."""
    if held_out is None:
        return None
    reference = behavioral(held_out.references)
    if reference is not None:
        return reference.rdm
    return None if held_out.targets is None else compute_rdm(held_out.targets)


def _alignment(
    probe: _Probe, config: TrialConfig, weights: WeightsFile, held_out: HeldOut | None
) -> dict[str, float | None]:
    names = ("rsa", "rsa_cosine", "rsa_other_activation", "rsa_other_constants", "rsa_outputs")
    reference = _reference_of(held_out)
    if held_out is None or reference is None:
        return dict.fromkeys(names)
    preprocessing = preprocessing_of(config.data)
    other_data = config.data.model_copy(update={"preprocessing": _other(config.data.preprocessing, "things", "clip")})
    prefix = probe.prefix(held_out.images, preprocessing)
    other_prefix = probe.prefix(held_out.images, preprocessing_of(other_data))
    features = probe.features(prefix)
    other_weights = replace(weights, activation=_other(weights.activation, "quick_gelu", "gelu"))
    other = _Probe(load_backbone(other_weights), config)
    other_activation = other.features(other.prefix(held_out.images, preprocessing))
    scores = (
        alignment(features, reference),
        alignment(features, reference, "cosine"),
        alignment(other_activation, reference),
        alignment(probe.features(other_prefix), reference),
        alignment(probe.outputs(prefix).float().cpu().numpy(), reference),
    )
    return dict(zip(names, scores, strict=True))


def _random_targets(dataset: Dataset, outputs: Tensor) -> Tensor:
    """Returns the study's random targets for a first batch: [N, D]."""
    statistics = TableStatistics.of(dataset.targets)
    normals = published_normals(NOISE_SEED, outputs.numel()).reshape(outputs.shape)
    return torch.from_numpy(normals * np.float32(statistics.std) + np.float32(statistics.mean)).to(outputs.device)


def _activations(backbone: Backbone) -> tuple[str, ...]:
    """Returns the kinds of activation of all blocks of both towers."""
    kinds = {"QuickGELU": "quick_gelu", "GELU": "gelu"}
    towers = (backbone.clip.visual.transformer, backbone.clip.transformer)
    names = {type(module).__name__ for tower in towers for module in tower.modules()}
    return tuple(sorted(kinds[name] for name in names & kinds.keys()))


def _smallest_side(batch: ImageSet, held_out: HeldOut | None) -> int:
    sets = [batch] if held_out is None else [batch, held_out.images]
    return min(int(side) for images in sets for i in range(len(images)) for side in images.rgb(i).shape[:2])


def _other(value: str, first: str, second: str) -> str:
    return second if value == first else first


def _is_dead(gradient: Tensor | None) -> bool:
    return gradient is None or not bool(gradient.isfinite().all()) or not bool(gradient.any())


def _device(config: TrialConfig) -> str:
    if config.numerics.device != "auto":
        return config.numerics.device
    return "cuda" if torch.cuda.is_available() else "cpu"
