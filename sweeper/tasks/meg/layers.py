"""Feeds CLIP-HBA-MEG: what every block makes of an image, from the frozen prefix or, before training, kept whole."""

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from sweeper_models.clip_hba_meg import LAYER_WEIGHTS, ClipHbaMeg
from torch import Tensor

from sweeper.data.features import FeatureCache
from sweeper.data.images import ImageSet, Preprocessing
from sweeper.spec.schema import Numerics
from sweeper.tasks.feeding import Batch, Stimuli
from sweeper.tasks.stimuli import Parameters, PixelFeed, PrefixFeed

CHUNK = 64  # images that go through the tower at once where no gradient is wanted


class LayerStimuli:
    """An image set as the tower sees it; nothing is computed before it is asked for."""

    def __init__(self, feed: PrefixFeed, images: ImageSet) -> None:
        self._feed, self.images = feed, images

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def prefix(self) -> Stimuli:
        """What no adapter can change."""
        return self._feed.stimuli(self.images)


class LayerFeed:
    """Computes embeddings of every block, and what the model makes of them over time."""

    def __init__(
        self,
        model: ClipHbaMeg,
        whole: Callable[[], ClipHbaMeg],
        size: int,
        preprocessing: Preprocessing,
        numerics: Numerics,
        cache: FeatureCache,
        *,
        decoders: int = 1,
    ) -> None:
        """Takes the model and what its images are made by; see `PrefixFeed`."""
        kind = PrefixFeed if numerics.prefix == "cached" else PixelFeed
        self._feed = kind(model, whole, size, preprocessing, numerics, cache, decoders=decoders)
        self._adapter = model.adapter
        self._kept: dict[tuple[str, str], Stimuli] = {}

    def stimuli_of(self, images: ImageSet) -> LayerStimuli:
        """Returns an image set, to be asked for layers."""
        return LayerStimuli(self._feed, images)

    def layers(
        self, parameters: Parameters, stimuli: LayerStimuli, rows: NDArray[np.int64], *, untrained: bool
    ) -> Tensor:
        """Returns the projected CLS row after every block for some stimuli: float32 [n, L, E].

        Args:
            parameters: of the model.
            stimuli: the image set.
            rows: int64 [n].
            untrained: the adapters are as they were at the start, under which the layers of all stimuli are kept: as
                long as the tower is frozen, an epoch costs no pass through it.
        """
        if untrained:
            return self._untrained(parameters, stimuli).batch(rows)["layers"].float()
        if torch.is_grad_enabled():
            return self._from(parameters, stimuli.prefix.batch(rows))
        return self._in_chunks(parameters, stimuli, rows)

    def layers_of(
        self, parameters: Parameters, images: NDArray[np.float32], batch_size: int, *, repeats: bool
    ) -> Tensor:
        """Returns the layers of preprocessed images; see `Network.of_images`."""
        return self._from(parameters, self._feed.of_images(images, batch_size, repeats=repeats))

    def forget_images(self) -> None:
        """Lets go of what was kept of images that replaced a batch's own."""
        self._feed.forget_images()

    def embeddings(
        self,
        parameters: Parameters,
        layers: Tensor,
        noise: Tensor | None,
        jitter: Tensor | None,
        times: NDArray[np.int64] | None,
    ) -> Tensor:
        """Returns scores over time, [T', n, D]; see `ClipHbaMeg.embeddings`."""
        index = None if times is None else torch.from_numpy(times).to(layers.device, non_blocking=True)
        return self._feed.call(parameters, "embeddings", layers, noise=noise, jitter=jitter, times=index)

    def _from(self, parameters: Parameters, batch: Batch) -> Tensor:
        if isinstance(self._feed, PixelFeed):
            return self._feed.call(parameters, "layers", batch["pixels"])
        return self._feed.call(parameters, "layers_from_prefix", batch)

    def _in_chunks(self, parameters: Parameters, stimuli: LayerStimuli, rows: NDArray[np.int64]) -> Tensor:
        chunks = (rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK))
        return torch.cat([self._from(parameters, stimuli.prefix.batch(chunk)) for chunk in chunks])

    def _untrained(self, parameters: Parameters, stimuli: LayerStimuli) -> Stimuli:
        adapters = {name: tensor for name, tensor in parameters.items() if name != LAYER_WEIGHTS}
        key = stimuli.images.digest, _digest(adapters)
        if key not in self._kept:
            of = {"layers": key[1], "dora": self._adapter.dora, "alpha": self._adapter.alpha}

            @torch.no_grad()
            def build(rows: range) -> Batch:
                return {"layers": self._in_chunks(parameters, stimuli, np.arange(rows.start, rows.stop))}

            self._kept[key] = self._feed.kept(stimuli.images, of, build)
        return self._kept[key]


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
