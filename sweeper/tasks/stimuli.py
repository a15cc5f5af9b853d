"""How a CLIP-HBA network is fed: from the cached frozen prefix, or, as the reference does, by full forwards."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from sweeper.data.features import FeatureCache
from sweeper.data.images import ImageSet, Preprocessing
from sweeper.spec.schema import Numerics
from sweeper.tasks.feeding import Batch, Stimuli

Parameters = Mapping[str, Tensor]

_STORAGE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Network(Protocol):
    """Scores batches with a state's own parameters; the module's stay as they are."""

    def stimuli(self, images: ImageSet) -> Stimuli:
        """Returns the features of an image set."""

    def of_images(self, images: NDArray[np.float32], batch_size: int) -> Batch:
        """Returns the features of preprocessed images [B or 1, 3, H, W]; one image stands for the whole batch."""

    def outputs(self, parameters: Parameters, batch: Batch, text: Tensor | None = None) -> Tensor:
        """Returns outputs [B, D]; `text` saves computing the prompts again."""

    def embedding(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Returns image embeddings [B, E]."""

    def text(self, parameters: Parameters) -> Tensor:
        """Returns the prompts' features [D, E]."""


class _Calls(nn.Module):
    """Gives `functional_call` one forward for each of the model's verbs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, verb: str, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = getattr(self.model, verb)(*args, **kwargs)
        return result


class PrefixFeed:
    """Feeds a model with what lies before its first adapter, computed once per image and kept."""

    def __init__(
        self, model: Any, size: int, preprocessing: Preprocessing, numerics: Numerics, cache: FeatureCache
    ) -> None:
        """Takes a model with the verbs `prefix` and `prefix_signature`, and the side of its images."""
        self._model, self._size, self._preprocessing = model, size, preprocessing
        self._numerics, self._cache = numerics, cache
        self._calls = _Calls(model)
        self._device = next(model.parameters()).device
        self._storage = _STORAGE[numerics.features]

    def stimuli(self, images: ImageSet) -> Stimuli:
        """See `Network.stimuli`; builds the cache entry where there is none."""
        return self.kept(images, {}, lambda rows: self._model.prefix(self._pixels(images, rows)))

    def kept(self, images: ImageSet, of: Mapping[str, Any], build: Callable[[range], Batch]) -> Stimuli:
        """Returns features of an image set from the cache, made where they are not there.

        Args:
            images: N images.
            of: what can change the features besides prefix, images and numerics, as JSON values.
            build: makes the features of some images, [n, ...] by name.
        """
        signature = {
            "prefix": self._model.prefix_signature(),
            "images": images.digest,
            "preprocessing": [list(self._preprocessing.mean), list(self._preprocessing.std)],
            "numerics": self._numerics.model_dump(exclude={"strict", "prefix", "device"}),
            "device": self._device.type,
            **of,
        }

        def stored(rows: range) -> dict[str, NDArray[Any]]:
            return {name: self._stored(tensor) for name, tensor in build(rows).items()}

        return Stimuli(self._cache.get(signature, len(images), stored), self._storage, self._device)

    def of_images(self, images: NDArray[np.float32], batch_size: int) -> Batch:
        """See `Network.of_images`."""
        prefix = self._model.prefix(torch.from_numpy(images).to(self._device, non_blocking=True))
        return {name: tensor.expand(batch_size, *tensor.shape[1:]) for name, tensor in prefix.items()}

    def call(self, parameters: Parameters, verb: str, *args: Any, **kwargs: Any) -> Tensor:
        """Calls a verb of the model with other parameters than its own."""
        own = {f"model.{name}": tensor for name, tensor in parameters.items()}
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._numerics.precision == "bf16"):
            result: Tensor = functional_call(self._calls, own, (verb, *args), kwargs, tie_weights=False)
        return result

    def _pixels(self, images: ImageSet, rows: range) -> Tensor:
        return torch.from_numpy(images.pixels(rows, self._size, self._preprocessing)).to(self._device)

    def _stored(self, tensor: Tensor) -> NDArray[Any]:
        stored = tensor.to(self._storage).cpu()
        if self._storage is torch.bfloat16:  # numpy has no bfloat16: its bits are kept
            stored = stored.view(torch.int16)
        array: NDArray[Any] = stored.numpy()
        return array


class PixelFeed(PrefixFeed):
    """Feeds a model with pixels, to be pushed through the whole network, as the references do: the oracle."""

    def stimuli(self, images: ImageSet) -> Stimuli:
        """See `Network.stimuli`; the features are the pixels."""
        pixels = images.pixels(range(len(images)), self._size, self._preprocessing)
        return Stimuli({"pixels": pixels}, torch.float32, self._device)

    def of_images(self, images: NDArray[np.float32], batch_size: int) -> Batch:
        """See `Network.of_images`."""
        pixels = torch.from_numpy(images).to(self._device, non_blocking=True)
        return {"pixels": pixels.expand(batch_size, *pixels.shape[1:])}


class CachedPrefix(PrefixFeed):
    """Scores images on the dimensions, on what lies behind the frozen prefix."""

    def outputs(self, parameters: Parameters, batch: Batch, text: Tensor | None = None) -> Tensor:
        """See `Network.outputs`."""
        return self.call(parameters, "forward_prefix", batch, text)

    def embedding(self, parameters: Parameters, batch: Batch) -> Tensor:
        """See `Network.embedding`."""
        return self.call(parameters, "embed_prefix", batch)

    def text(self, parameters: Parameters) -> Tensor:
        """See `Network.text`."""
        return self.call(parameters, "text_features")


class FullForward(PixelFeed):
    """Scores images by the whole network, prompts included."""

    def outputs(self, parameters: Parameters, batch: Batch, text: Tensor | None = None) -> Tensor:
        """See `Network.outputs`; the prompts are computed again, too."""
        return self.call(parameters, "forward", batch["pixels"])

    def embedding(self, parameters: Parameters, batch: Batch) -> Tensor:
        """See `Network.embedding`."""
        return self.call(parameters, "image_features", batch["pixels"])

    def text(self, parameters: Parameters) -> Tensor:
        """See `Network.text`."""
        return self.call(parameters, "text_features")
