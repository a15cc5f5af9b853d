"""CLIP-HBA-Behavior: 66 dimension scores of an image by its similarity with 66 prompts (docs/methods.md 1.3).

`forward` is the plain network, written with open_clip's own modules; `prefix` and `forward_prefix` compute the same
outputs and gradients with everything before the first adapter taken from a cache.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sweeper_models.adapter import (
    SIGNATURE_VERSION,
    AdapterConfig,
    Cut,
    prefix_names,
    prefix_signature,
    text_cut,
    vision_cut,
)
from sweeper_models.backbones import Backbone, share
from sweeper_models.dora import inject_adapters, reset_adapters
from sweeper_models.frozen_prefix import Prefix, run_prefix, run_suffix
from sweeper_models.prompts import PROMPTS
from torch import Tensor, nn
from torch.nn import functional

CLS = 0  # the row of the vision tower that is read out


class ClipHba(nn.Module):
    """Score images on the dimensions named by prompts.

    The module is a deterministic function of weights and input: `train()` changes nothing
    (docs/methods.md 1.4, dropout).
    Backbone tensors are shared, not copied; only the adapters are its own.

    Shapes: B images, D prompts (66), E joint space.
    """

    def __init__(
        self,
        backbone: Backbone,
        adapter: AdapterConfig,
        prompts: Sequence[str] = PROMPTS,
        *,
        seed: int = 0,
        text_prefix: Prefix | None = None,
    ) -> None:
        """Build the model.

        Args:
            backbone: the frozen network; it stays untouched. Of one loaded behind the cuts only prefixes can be scored.
            adapter: what is adapted and how.
            prompts: D texts, one per output.
            seed: of the adapters' start.
            text_prefix: what `text_prefix()` of a model with the same backbone, prompts and cut returned; computed
                here when left out.
        """
        super().__init__()
        self.adapter = adapter
        self.vision_cut, self.text_cut = vision_cut(backbone.config, adapter), text_cut(backbone.config, adapter)
        self._signature = prefix_signature(
            backbone.config,
            weights_sha256=backbone.weights_sha256,
            activation=backbone.activation,
            adapter=adapter,
        )
        self.clip = share(backbone.clip)
        inject_adapters(self.clip, adapted_names(backbone.config, adapter), adapter)
        self._hold_text(backbone.tokenize(list(prompts)), text_prefix)
        self.reset_adapters(seed)
        self.dropped = False
        self.eval()
        if backbone.behind is not None:
            self.drop_frozen_prefix()

    def forward(self, images: Tensor) -> Tensor:
        """Score images by the full network, prompts included; the oracle of the cached path.

        Args:
            images: float32 [B, 3, H, W], preprocessed.

        Returns:
            float32 [B, D], within +-exp(logit_scale).
        """
        self._require_all()
        return self._score(self.clip.encode_image(images), self.clip.encode_text(self.tokens))

    def image_features(self, images: Tensor) -> Tensor:
        """Embed images by the full network: the projection before normalisation, float32 [B, E]."""
        self._require_all()
        return self.clip.encode_image(images)

    @torch.no_grad()
    def prefix(self, images: Tensor) -> Prefix:
        """Compute the part of the vision tower that no adapter can change.

        Args:
            images: float32 [B, 3, H, W], preprocessed.

        Returns:
            Tensors [B, ...] by name; names and shapes stand in `prefix_signature()["tensors"]`.
        """
        self._require_all()
        visual = self.clip.visual
        return run_prefix(
            visual.transformer.resblocks,
            visual._embeds(images),
            cut=self.vision_cut,
            finish=self._finish_vision,
            row=CLS,
            mask=None,
        )

    def forward_prefix(self, prefix: Mapping[str, Tensor], text: Tensor | None = None) -> Tensor:
        """Score images from their prefix: the outputs and gradients of `forward`, float32 [B, D].

        Args:
            prefix: what `prefix` returned for B images, in any float type.
            text: what `text_features` returned for the present adapters; computed here when left out.
        """
        return self._score(self.embed_prefix(prefix), self.text_features() if text is None else text)

    def embed_prefix(self, prefix: Mapping[str, Tensor]) -> Tensor:
        """Embed images from their prefix: the output of `image_features`, float32 [B, E]."""
        dtype = self.clip.logit_scale.dtype
        return run_suffix(
            self.clip.visual.transformer.resblocks,
            {name: tensor.to(dtype) for name, tensor in prefix.items()},
            cut=self.vision_cut,
            finish=self._finish_vision,
            row=CLS,
            mask=None,
        )

    def text_features(self) -> Tensor:
        """Embed all prompts at once from their held prefix: before normalisation, float32 [D, E]."""
        return run_suffix(
            self.clip.transformer.resblocks,
            self.text_prefix(),
            cut=self.text_cut,
            finish=self._finish_text,
            row=self.text_rows,
            mask=self.text_mask,
        )

    def text_prefix(self) -> Prefix:
        """Return the constant part of the prompts, for a model that starts without the text tower."""
        return {name: getattr(self, f"text_{name}") for name in self._text_names}

    def prefix_signature(self) -> dict[str, Any]:
        """Describe everything in the model that can change a prefix, as plain JSON values."""
        return copy.deepcopy(self._signature)

    def reset_adapters(self, seed: int) -> None:
        """Set the adapters to their start for a seed, in place."""
        reset_adapters(self.clip, init=self.adapter.init, seed=seed)

    def train(self, mode: bool = True) -> "ClipHba":
        """Stay in eval mode whatever is asked."""
        return super().train(False)

    def drop_frozen_prefix(self) -> None:
        """Let go of everything before the cuts; afterwards only prefixes can be scored.

        Memory is freed once the backbone is dropped as well. Call it before moving the model to a device.
        """
        if not self.dropped:
            self.dropped = True
            drop_prefix(self.clip, self.vision_cut, self.text_cut)

    def _require_all(self) -> None:
        if self.dropped:
            raise RuntimeError("the frozen prefix was dropped: only cached prefixes can be scored")

    def _score(self, image: Tensor, text: Tensor) -> Tensor:
        """Scale the cosines of [B, E] and [D, E] (docs/methods.md 1.3): no softmax, no ReLU, no bias."""
        scale = self.clip.logit_scale.exp()
        with torch.autocast(scale.device.type, enabled=False):  # outputs reach 100: bf16 would round them to 0.5
            image, text = (functional.normalize(features.to(scale.dtype), dim=-1) for features in (image, text))
            return scale * (image @ text.T)

    def _finish_vision(self, row: Tensor) -> Tensor:
        with torch.autocast(row.device.type, enabled=False):
            return self.clip.visual.ln_post(row) @ self.clip.visual.proj

    def _finish_text(self, row: Tensor) -> Tensor:
        with torch.autocast(row.device.type, enabled=False):
            return self.clip.ln_final(row) @ self.clip.text_projection

    def _hold_text(self, tokens: Tensor, text_prefix: Prefix | None) -> None:
        """Keep tokens and the constant part of the prompts as buffers that move with the module and are not saved."""
        clip, device = self.clip, self.clip.logit_scale.device
        rows = tokens.argmax(dim=-1)  # end of text has the highest id
        length = int(rows.max()) + 1  # the mask is causal: nothing behind the last end of text can matter
        self.register_buffer("tokens", tokens.to(device), persistent=False)
        self.register_buffer("text_rows", rows.to(device), persistent=False)
        self.register_buffer("text_mask", clip.attn_mask[:length, :length], persistent=False)
        if text_prefix is None:
            text_prefix = self._compute_text_prefix(length)
        self._text_names = tuple(sorted(text_prefix))
        for name, tensor in text_prefix.items():
            self.register_buffer(f"text_{name}", tensor.to(device), persistent=False)

    @torch.no_grad()
    def _compute_text_prefix(self, length: int) -> Prefix:
        clip = self.clip
        return run_prefix(
            clip.transformer.resblocks,
            clip.token_embedding(self.tokens[:, :length]) + clip.positional_embedding[:length],
            cut=self.text_cut,
            finish=self._finish_text,
            row=self.text_rows,
            mask=self.text_mask,
        )


def adapted_names(config: Mapping[str, Any], adapter: AdapterConfig) -> list[str]:
    """List the linear layers of open_clip's CLIP that carry an adapter, by name."""
    towers = {"visual.transformer": vision_cut(config, adapter), "transformer": text_cut(config, adapter)}
    return [
        f"{tower}.resblocks.{block}.{target}"
        for tower, cut in towers.items()
        for block in range(cut.block, cut.num_blocks)
        for target in adapter.targets
    ]


def drop_prefix(clip: nn.Module, vision: Cut, text: Cut) -> None:
    """Let go of the tensors of a CLIP that only the prefixes of its towers need."""
    for name in prefix_names(dict(clip.named_parameters()), vision, text):
        owner, _, leaf = name.rpartition(".")
        setattr(clip.get_submodule(owner), leaf, None)


def text_signature(backbone: Backbone, adapter: AdapterConfig, prompts: Sequence[str] = PROMPTS) -> dict[str, Any]:
    """Describe everything that can change the constant part of the prompts, as plain JSON values."""
    cut = text_cut(backbone.config, adapter)
    return {
        "version": SIGNATURE_VERSION,
        "weights_sha256": backbone.weights_sha256,
        "activation": backbone.activation,
        "embed_dim": backbone.config["embed_dim"],
        "text": {key: value for key, value in sorted(backbone.config["text_cfg"].items()) if key != "block_type"},
        "cut": {"block": cut.block, "at": cut.at, "rows": cut.rows},
        "tokens": backbone.tokenize(list(prompts)).tolist(),
    }
