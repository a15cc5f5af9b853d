"""Loads a network in two parts: what is trained at once, the frozen rest only while something is made with it."""

import ctypes
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sweeper_models.adapter import AdapterConfig, text_cut, vision_cut
from sweeper_models.backbones import Backbone, load_backbone
from sweeper_models.clip_hba import ClipHba, text_signature
from sweeper_models.configs import read_config
from sweeper_models.frozen_prefix import Prefix
from sweeper_models.prompts import PROMPTS
from sweeper_models.weights import WeightsFile

from sweeper.data.features import Chunk, FeatureCache
from sweeper.spec.schema import Numerics


class WholeNetwork:
    """A network with its frozen prefix: loaded when it is asked for, until it is let go of."""

    def __init__(self, weights: WeightsFile, build: Callable[[Backbone], Any]) -> None:
        """Takes where the weights are, and what makes the model on its device from them; loads nothing yet."""
        self._weights, self._build = weights, build
        self._backbone: Backbone | None = None
        self._model: Any = None

    @property
    def image_size(self) -> int:
        """Height and width of its images in pixels."""
        return int(read_config(self._weights.config_name)["vision_cfg"]["image_size"])

    def backbone(self) -> Backbone:
        """Returns the frozen network."""
        if self._backbone is None:
            self._backbone = load_backbone(self._weights)
        return self._backbone

    def model(self) -> Any:
        """Returns the model."""
        if self._model is None:
            self._model = self._build(self.backbone())
        return self._model

    def release(self) -> None:
        """Lets go of both, and gives their memory back to the system."""
        if self._backbone is None:
            return
        self._backbone = self._model = None
        _give_back()


def load_suffix(weights: WeightsFile, adapter: AdapterConfig) -> Backbone:
    """Returns the frozen network without what lies before the adapters."""
    config = read_config(weights.config_name)
    loaded = load_backbone(weights, behind=(vision_cut(config, adapter), text_cut(config, adapter)))
    if weights.path is None:
        _give_back()  # random weights are drawn in one row, the prefix with them
    return loaded


def _give_back() -> None:
    """Gives memory that is free back to the system and to other users of the GPU."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc, which else keeps what was freed
    if trim is not None:
        trim(0)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def text_prefix(
    suffix: Backbone, adapter: AdapterConfig, numerics: Numerics, cache: FeatureCache, whole: Callable[[], Backbone]
) -> Prefix:
    """Returns the constant part of the prompts, float32 [66, ...] by name, made on the CPU where it is not cached.

    Args:
        suffix: the frozen network, as a whole or behind its cuts.
        adapter: says where the text tower is cut.
        numerics: of the trial; the constant is kept in fp32 whatever `features` says.
        cache: of this machine.
        whole: loads the whole frozen network.
    """

    def build(_: range) -> Chunk:
        made = ClipHba(whole(), adapter).text_prefix()
        return {name: tensor.numpy() for name, tensor in made.items()}

    signature = {"prompts": text_signature(suffix, adapter), "threads": numerics.threads}
    found = cache.get(signature, len(PROMPTS), build, chunk=len(PROMPTS))
    return {name: torch.from_numpy(np.array(values)) for name, values in found.items()}
