"""How a CLIP-HBA network is fed: from the cached frozen prefix, or, as the reference does, by full forwards."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sweeper_models.clip_hba import ClipHba
from torch import Tensor, nn
from torch.func import functional_call

from sweeper.data.features import FeatureCache
from sweeper.data.images import ImageSet, Preprocessing
from sweeper.spec.schema import Numerics

Parameters = Mapping[str, Tensor]
Batch = Mapping[str, Tensor]

RESIDENT_BYTES = 2**30  # smaller feature sets are held in memory, larger ones read through the memory map
_STORAGE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Stimuli:
    """Features of an image set, ready to be gathered into batches."""

    def __init__(self, features: Mapping[str, NDArray[Any]], dtype: torch.dtype, device: torch.device) -> None:
        self._device = device
        self._dtype = dtype
        self._mapped = features
        total = sum(array.nbytes for array in features.values())
        self._resident = (
            {name: self._tensor(array) for name, array in features.items()} if total <= RESIDENT_BYTES else None
        )

    def __len__(self) -> int:
        return len(next(iter(self._mapped.values())))

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Returns the features of some rows, [n, ...] by name."""
        if self._resident is not None:
            index = torch.from_numpy(rows).to(self._device)
            return {name: tensor[index] for name, tensor in self._resident.items()}
        return {name: self._tensor(array[rows]) for name, array in self._mapped.items()}

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.array(array))  # a copy: torch refuses read-only memory
        return (tensor.view(self._dtype) if tensor.dtype != self._dtype else tensor).to(self._device)


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

    def __init__(self, model: ClipHba) -> None:
        super().__init__()
        self.model = model

    def forward(self, verb: str, *args: Any) -> Tensor:
        result: Tensor = getattr(self.model, verb)(*args)
        return result


class CachedPrefix:
    """Trains on what lies behind the frozen prefix; the prefix is computed once per image and kept."""

    def __init__(
        self, model: ClipHba, size: int, preprocessing: Preprocessing, numerics: Numerics, cache: FeatureCache
    ) -> None:
        self._model, self._size, self._preprocessing = model, size, preprocessing
        self._numerics, self._cache = numerics, cache
        self._calls = _Calls(model)
        self._device = model.tokens.device
        self._storage = _STORAGE[numerics.features]

    def stimuli(self, images: ImageSet) -> Stimuli:
        """See `Network.stimuli`; builds the cache entry where there is none."""
        signature = {
            "prefix": self._model.prefix_signature(),
            "images": images.digest,
            "preprocessing": [list(self._preprocessing.mean), list(self._preprocessing.std)],
            "numerics": self._numerics.model_dump(exclude={"strict", "prefix", "device"}),
            "device": self._device.type,
        }

        def build(rows: range) -> dict[str, NDArray[Any]]:
            pixels = torch.from_numpy(images.pixels(rows, self._size, self._preprocessing)).to(self._device)
            return {name: self._stored(tensor) for name, tensor in self._model.prefix(pixels).items()}

        return Stimuli(self._cache.get(signature, len(images), build), self._storage, self._device)

    def of_images(self, images: NDArray[np.float32], batch_size: int) -> Batch:
        """See `Network.of_images`."""
        prefix = self._model.prefix(torch.from_numpy(images).to(self._device))
        return {name: tensor.expand(batch_size, *tensor.shape[1:]) for name, tensor in prefix.items()}

    def outputs(self, parameters: Parameters, batch: Batch, text: Tensor | None = None) -> Tensor:
        """See `Network.outputs`."""
        return self._call(parameters, "forward_prefix", batch, text)

    def embedding(self, parameters: Parameters, batch: Batch) -> Tensor:
        """See `Network.embedding`."""
        return self._call(parameters, "embed_prefix", batch)

    def text(self, parameters: Parameters) -> Tensor:
        """See `Network.text`."""
        return self._call(parameters, "text_features")

    def _call(self, parameters: Parameters, verb: str, *args: Any) -> Tensor:
        own = {f"model.{name}": tensor for name, tensor in parameters.items()}
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._numerics.precision == "bf16"):
            result: Tensor = functional_call(self._calls, own, (verb, *args), tie_weights=False)
        return result

    def _stored(self, tensor: Tensor) -> NDArray[Any]:
        stored = tensor.to(self._storage).cpu()
        if self._storage is torch.bfloat16:  # numpy has no bfloat16: its bits are kept
            stored = stored.view(torch.int16)
        array: NDArray[Any] = stored.numpy()
        return array


class FullForward(CachedPrefix):
    """Pushes every image and every prompt through the whole network, as the reference does: the oracle."""

    def stimuli(self, images: ImageSet) -> Stimuli:
        """See `Network.stimuli`; the features are the pixels."""
        pixels = images.pixels(range(len(images)), self._size, self._preprocessing)
        return Stimuli({"pixels": pixels}, torch.float32, self._device)

    def of_images(self, images: NDArray[np.float32], batch_size: int) -> Batch:
        """See `Network.of_images`."""
        pixels = torch.from_numpy(images).to(self._device)
        return {"pixels": pixels.expand(batch_size, *pixels.shape[1:])}

    def outputs(self, parameters: Parameters, batch: Batch, text: Tensor | None = None) -> Tensor:
        """See `Network.outputs`; the prompts are computed again, too."""
        return self._call(parameters, "forward", batch["pixels"])

    def embedding(self, parameters: Parameters, batch: Batch) -> Tensor:
        """See `Network.embedding`."""
        return self._call(parameters, "image_features", batch["pixels"])
