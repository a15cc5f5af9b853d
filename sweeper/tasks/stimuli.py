"""How a CLIP-HBA network is fed: from the cached frozen prefix, or, as the reference does, by full forwards."""

import hashlib
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
from sweeper.tasks.feeding import RESIDENT_BYTES, Batch, Stimuli

Parameters = Mapping[str, Tensor]

_STORAGE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Network(Protocol):
    """Scores batches with a state's own parameters; the module's stay as they are."""

    def stimuli(self, images: ImageSet) -> Stimuli:
        """Returns the features of an image set."""

    def of_images(self, images: NDArray[np.float32], batch_size: int, *, repeats: bool) -> Batch:
        """Returns the features of preprocessed images.

        Args:
            images: [B or 1, 3, H, W]; one image stands for the whole batch.
            batch_size: B.
            repeats: whether the same images come again in other epochs, so that their features are kept.
        """

    def forget_images(self) -> None:
        """Lets go of what `of_images` kept, once a window is over."""

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
        self,
        model: Any,
        whole: Callable[[], Any],
        size: int,
        preprocessing: Preprocessing,
        numerics: Numerics,
        cache: FeatureCache,
        *,
        decoders: int = 1,
    ) -> None:
        """Takes what features are made with.

        Args:
            model: with the verb `prefix_signature`; it need not have its frozen part.
            whole: gives one with the verb `prefix`, where features must be made.
            size: height and width of its images in pixels.
            preprocessing: of the images.
            numerics: of the trial.
            cache: of this machine.
            decoders: images that are decoded at the same time.
        """
        self._decoders = decoders
        self._repeated: dict[str, Batch] = {}  # prefixes of images that replace a batch's own, by their content
        self._model, self._whole, self._size, self._preprocessing = model, whole, size, preprocessing
        self._numerics, self._cache = numerics, cache
        self._calls = _Calls(model)
        self._device = next(model.parameters()).device
        self._storage = _STORAGE[numerics.features]

    def stimuli(self, images: ImageSet) -> Stimuli:
        """See `Network.stimuli`; builds the cache entry where there is none."""
        return self.kept(images, {}, lambda rows: self._whole().prefix(self._pixels(images, rows)))

    def kept(self, images: ImageSet, of: Mapping[str, Any], build: Callable[[range], Batch]) -> Stimuli:
        """Returns features of an image set from the cache, made where they are not there.

        Args:
            images: N images.
            of: what can change the features besides prefix, images and numerics, as JSON values.
            build: makes the features of some images, [n, ...] by name.
        """
        signature = {
            **self._signature(),
            "images": images.digest,
            "preprocessing": [list(self._preprocessing.mean), list(self._preprocessing.std)],
            **of,
        }

        def stored(rows: range) -> dict[str, NDArray[Any]]:
            return {name: self._stored(tensor) for name, tensor in build(rows).items()}

        return Stimuli(self._cache.get(signature, len(images), stored), self._storage, self._device)

    def of_images(self, images: NDArray[np.float32], batch_size: int, *, repeats: bool) -> Batch:
        """See `Network.of_images`; a constant is one row of the cache, noise is kept in memory as far as it fits."""
        prefix = self._repeated_prefix(images) if repeats else self._prefix_of(images)
        return {name: tensor.expand(batch_size, *tensor.shape[1:]) for name, tensor in prefix.items()}

    def forget_images(self) -> None:
        """See `Network.forget_images`."""
        self._repeated.clear()

    def _repeated_prefix(self, images: NDArray[np.float32]) -> Batch:
        key = hashlib.sha256(f"{images.shape}".encode() + images.tobytes()).hexdigest()
        if key in self._repeated:
            return self._repeated[key]
        made = self._constant(images, key) if len(images) == 1 else self._prefix_of(images)
        held = sum(tensor.nbytes for batch in (made, *self._repeated.values()) for tensor in batch.values())
        if held <= RESIDENT_BYTES:
            self._repeated[key] = made
        return made

    def _constant(self, image: NDArray[np.float32], key: str) -> Batch:
        """Returns the prefix of one image from the cache; in fp32 whatever `features` says, as that of noise is."""

        def build(_: range) -> dict[str, NDArray[Any]]:
            return {name: tensor.cpu().numpy() for name, tensor in self._prefix_of(image).items()}

        found = self._cache.get({**self._signature(), "pixels": key}, 1, build, chunk=1)
        return {name: torch.from_numpy(np.array(values)).to(self._device) for name, values in found.items()}

    def _prefix_of(self, images: NDArray[np.float32]) -> Batch:
        prefix: Batch = self._whole().prefix(torch.from_numpy(images).to(self._device, non_blocking=True))
        return prefix

    def _signature(self) -> dict[str, Any]:
        """Returns what can change the prefix of given pixels, as JSON values."""
        return {
            "prefix": self._model.prefix_signature(),
            "numerics": self._numerics.model_dump(exclude={"strict", "prefix", "device"}),
            "device": self._device.type,
        }

    def call(self, parameters: Parameters, verb: str, *args: Any, **kwargs: Any) -> Tensor:
        """Calls a verb of the model with other parameters than its own."""
        own = {f"model.{name}": tensor for name, tensor in parameters.items()}
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._numerics.precision == "bf16"):
            result: Tensor = functional_call(self._calls, own, (verb, *args), kwargs, tie_weights=False)
        return result

    def _pixels(self, images: ImageSet, rows: range) -> Tensor:
        return torch.from_numpy(self._decoded(images, rows)).to(self._device)

    def _decoded(self, images: ImageSet, rows: range) -> NDArray[np.float32]:
        return images.pixels(rows, self._size, self._preprocessing, threads=self._decoders)

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
        pixels = self._decoded(images, range(len(images)))
        return Stimuli({"pixels": pixels}, torch.float32, self._device)

    def of_images(self, images: NDArray[np.float32], batch_size: int, *, repeats: bool) -> Batch:
        """See `Network.of_images`; nothing is kept."""
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
