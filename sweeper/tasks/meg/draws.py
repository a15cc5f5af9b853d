"""What the model draws: embedding noise and jitter, from streams of their own (docs/methods.md 4.3)."""

import numpy as np
import torch
from torch import Tensor

from sweeper.randomness import stream

Drawn = tuple[Tensor | None, Tensor]
"""Noise, N(0, 1), None where there is none, and jitter: [T', B, D] each."""


class Draws:
    """Draws for batches of any size."""

    def __init__(self, *, num_times: int, num_prompts: int, seed: int, is_noisy: bool, device: torch.device) -> None:
        self._num_times, self._num_prompts = num_times, num_prompts
        self._seed, self._is_noisy, self._device = seed, is_noisy, device

    def training(self, num_images: int, epoch: int, step: int) -> Drawn:
        """Returns the draws of one training batch."""
        noise = stream(self._seed, "meg/noise", epoch, step) if self._is_noisy else None
        return self._drawn(num_images, noise, stream(self._seed, "meg/jitter", epoch, step))

    def evaluation(self, num_images: int, part: int, *, noisy: bool) -> Drawn:
        """Returns the draws of one part of the validation stimuli: the same at every epoch, for every seed."""
        noise = stream(0, "meg/evaluation noise", part) if noisy and self._is_noisy else None
        return self._drawn(num_images, noise, stream(0, "meg/evaluation jitter", part))

    def _drawn(self, num_images: int, noise: np.random.Generator | None, jitter: np.random.Generator) -> Drawn:
        shape = (self._num_times, num_images, self._num_prompts)
        eps = None if noise is None else self._tensor(noise.standard_normal(shape, dtype=np.float32))
        small = np.float32(1e-6) + np.float32(1e-5) * jitter.random(shape, dtype=np.float32)
        return eps, self._tensor(small)

    def _tensor(self, values: np.typing.NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values).to(self._device, non_blocking=True)
