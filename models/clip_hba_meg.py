"""CLIP-HBA-MEG: dimension scores of an image at every time, mixed from all blocks (docs/methods.md 4).

The tower runs once. What follows is a matrix product of layer weights with the scores of every block, for all times
together.

Shapes: B images, L vision blocks, E joint space, D prompts (66), T times.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from sweeper_models.adapter import AdapterConfig, Magnitude, prefix_signature, vision_cut
from sweeper_models.backbones import Backbone, share
from sweeper_models.clip_hba import CLS, adapted_names, drop_prefix
from sweeper_models.dora import freeze_magnitudes, inject_adapters, reset_adapters, trainable_parameters
from sweeper_models.errors import AdapterMismatch, TensorMismatch
from sweeper_models.frozen_prefix import Prefix, resume, run_blocks, split
from torch import Tensor, nn
from torch.nn import functional

LAYER_WEIGHTS = "layer_weights"
ZeroWeights = Literal["learn", "stay"]

EPSILON = 1e-10  # added to both denominators of the layer weights (docs/methods.md 4.3)


class ClipHbaMeg(nn.Module):
    """Score images on the dimensions named by prompts, at every time of a neural recording.

    Trained: the factors of the adapters and `layer_weights` [T, L]. Everything random is handed in, so the module is
    a deterministic function of weights and input; `train()` changes nothing. Backbone tensors are shared, not copied.
    """

    def __init__(
        self,
        backbone: Backbone,
        adapter: AdapterConfig,
        *,
        text: Tensor,
        alpha: Tensor,
        beta: Tensor,
        noise: Tensor,
        half_width: int,
        magnitude: Magnitude = "frozen",
        zero_weights: ZeroWeights = "learn",
        seed: int = 0,
    ) -> None:
        """Build the model.

        Args:
            backbone: the frozen network; it stays untouched. Of one loaded behind the cuts only prefixes can be scored.
            adapter: what is adapted in the last `vision_layers` blocks; `text_layers` is 0.
            text: float32 [D, E], features of the prompts before normalisation; they stay as they are.
            alpha: [T], the visual scaler at each time, 0 or more.
            beta: [T], semantic binding at each time, 0 or more.
            noise: [T], level of the embedding noise at each time, 0 or more.
            half_width: h; layer weights, alpha and beta are means over the times i - h .. i + h that exist.
            magnitude: whether m of the adapters learns; published: `frozen`.
            zero_weights: whether a layer weight that is exactly 0 passes a gradient. Published: `stay`, by a ReLU that
                changes no value; at the start it leaves W a gradient of rounding errors only.
            seed: of the adapters' start.

        Raises:
            AdapterMismatch: the adapter does not fit the backbone, or adapts text blocks.
            TensorMismatch: a curve or `text` has another shape, or values that have no meaning.
        """
        super().__init__()
        self.adapter, self.magnitude, self.zero_weights = adapter, magnitude, zero_weights
        self.vision_cut = vision_cut(backbone.config, adapter)
        self._require_usable(adapter)
        curves = {"alpha": alpha, "beta": beta, "noise": noise}
        num_times = _require_curves(curves)
        _require_shape("text", text, (None, backbone.embed_dim))
        self._signature = prefix_signature(
            backbone.config,
            weights_sha256=backbone.weights_sha256,
            activation=backbone.activation,
            adapter=adapter,
            every_block=True,
        )
        self.clip = nn.ModuleDict({"visual": share(backbone.clip.visual)})  # tensors are named as in CLIP-HBA
        inject_adapters(self.clip, adapted_names(backbone.config, adapter), adapter)
        if magnitude == "frozen":
            freeze_magnitudes(self.clip)
        self.scale = math.exp(backbone.logit_scale)
        self.layer_weights = nn.Parameter(torch.empty(num_times, self.vision_cut.num_blocks))
        window = window_means(num_times, half_width)
        self._hold("window", window)
        self._hold("alpha", window @ alpha.double().cpu())
        self._hold("beta", window @ beta.double().cpu())
        self._hold("noise", noise)
        self._hold("text", functional.normalize(text.detach().float(), dim=-1))
        self.reset_parameters(seed)
        self.dropped = backbone.behind is not None
        if self.dropped:
            drop_prefix(self.clip, self.vision_cut, self.vision_cut)
        self.eval()

    def layers(self, images: Tensor) -> Tensor:
        """Embed images after every block by the full tower; the oracle of the cached path.

        The CLS row is projected as it is, without the tower's last norm and without normalisation: with all weight on
        the last block this is not CLIP's image feature.

        Args:
            images: float32 [B, 3, H, W], preprocessed.

        Returns:
            float32 [B, L, E].
        """
        self._require_all()
        visual = self.clip["visual"]
        x, rows = visual._embeds(images), []
        for block in visual.transformer.resblocks:
            x = block(x)
            rows.append(x[:, CLS])
        return self._project(rows)

    @torch.no_grad()
    def prefix(self, images: Tensor) -> Prefix:
        """Compute the part of the tower that no adapter can change.

        Args:
            images: float32 [B, 3, H, W], preprocessed.

        Returns:
            Tensors [B, ...] by name; names and shapes stand in `prefix_signature()["tensors"]`: `layers`, the output of
            the blocks before the first adapted one, and what that block needs.
        """
        self._require_all()
        visual, cut = self.clip["visual"], self.vision_cut
        blocks = visual.transformer.resblocks
        rows = []
        x = tokens = visual._embeds(images)
        for x in run_blocks(blocks, tokens, range(cut.block), row=CLS, mask=None):
            rows.append(x[:, 0])
        frozen = {"layers": self._project(rows)} if rows else {}
        return frozen if cut.at == "embedding" else frozen | split(blocks, x, cut=cut, row=CLS, mask=None)

    def layers_from_prefix(self, prefix: Mapping[str, Tensor]) -> Tensor:
        """Embed images from their prefix, in any float type: outputs and gradients of `layers`, float32 [B, L, E]."""
        prefix = {name: tensor.to(self.layer_weights.dtype) for name, tensor in prefix.items()}
        frozen = [prefix["layers"]] if "layers" in prefix else []
        if self.vision_cut.at == "embedding":
            return frozen[0]
        blocks = self.clip["visual"].transformer.resblocks
        adapted = [x[:, 0] for x in resume(blocks, prefix, cut=self.vision_cut, row=CLS, mask=None)]
        return torch.cat([*frozen, self._project(adapted)], dim=1)

    def embeddings(
        self, layers: Tensor, *, noise: Tensor | None = None, jitter: Tensor | None = None, times: Tensor | None = None
    ) -> Tensor:
        """Compute the scores of a batch at every time (docs/methods.md 4.3).

        Without noise an image's scores do not depend on the other images of the batch. Without jitter they are exactly
        0 where alpha or beta is: no RDM exists there, `defined_times` tells where.

        Args:
            layers: float [B, L, E], what `layers` returned, or kept from it.
            noise: draws of N(0, 1), [T, B, D]; left out: none is added.
            jitter: u itself, [T, B, D], published as 1e-6 + 1e-5 U(0, 1); left out: none is added.
            times: int64 or bool index of the times wanted, in this order; `noise` and `jitter` are for these alone.

        Returns:
            float32 [T, B, D], 0 or more.

        Raises:
            TensorMismatch: a shape does not fit, or there is noise and only one image: a batch of one has no SD.
        """
        chosen = slice(None) if times is None else times
        num_blocks, width = self.layer_weights.shape[1], self.clip["visual"].proj.shape[1]
        _require_shape("layers", layers, (None, num_blocks, width))
        with torch.autocast(layers.device.type, enabled=False):  # as in CLIP-HBA: scores reach 100
            mixing = self.mixing_weights(times)
            scores = self.layer_scores(layers)
            num_images, _, num_prompts = scores.shape
            shape = (len(mixing), num_images, num_prompts)
            r = functional.relu(mixing @ scores.transpose(0, 1).flatten(1)).view(shape)
            if noise is not None:
                _require_noise(noise, shape)
                r = r + self.noise[chosen][:, None, None] * noise * r.std(dim=1, keepdim=True)
            embeddings = functional.relu(self.beta[chosen][:, None, None] * r)
            if jitter is not None:
                _require_shape("jitter", jitter, shape)
                embeddings = embeddings + jitter
            return embeddings

    def layer_scores(self, layers: Tensor) -> Tensor:
        """Score every block's embedding on every prompt, float32 [B, L, D] from [B, L, E]."""
        return layers.to(self.text.dtype) @ (self.scale * self.text.T)

    def mixing_weights(self, times: Tensor | None = None) -> Tensor:
        """Compute by how much each block enters each time, alpha included, float32 [T, L].

        Weights are means over the window, scaled to 0..1 over the blocks and divided by their sum. At the start all
        blocks but the last are the least one. The gradient of a minimum or maximum is shared evenly among those that
        reach it: a subgradient that does not depend on the order of blocks or on the device. Where all blocks have the
        same weight, all are 0.
        """
        chosen = slice(None) if times is None else times
        mean = self.window[chosen] @ self.layer_weights
        least, most = mean.amin(dim=1, keepdim=True), mean.amax(dim=1, keepdim=True)
        scaled = (mean - least) / (most - least + EPSILON)
        shares = scaled / (scaled.sum(dim=1, keepdim=True) + EPSILON)
        if self.zero_weights == "stay":
            shares = functional.relu(shares)
        return self.alpha[chosen][:, None] * shares

    def defined_times(self) -> Tensor:
        """Tell at which times images can differ without jitter: alpha and beta are not 0, bool [T]."""
        return (self.alpha > 0) & (self.beta > 0)

    def adapter_names(self) -> list[str]:
        """List the trained tensors of the adapters, sorted; with `layer_weights` they are all that learns."""
        return [name for name in trainable_parameters(self) if name != LAYER_WEIGHTS]

    def prefix_signature(self) -> dict[str, Any]:
        """Describe everything in the model that can change a prefix, as plain JSON values."""
        return copy.deepcopy(self._signature)

    @torch.no_grad()
    def reset_parameters(self, seed: int) -> None:
        """Set adapters and layer weights to their start for a seed, in place: all weight on the last block."""
        reset_adapters(self.clip, init=self.adapter.init, seed=seed)
        self.layer_weights.zero_()
        self.layer_weights[:, -1] = 1.0

    def train(self, mode: bool = True) -> "ClipHbaMeg":
        """Stay in eval mode whatever is asked."""
        return super().train(False)

    def _require_all(self) -> None:
        if self.dropped:
            raise RuntimeError("the frozen prefix was not loaded: only cached prefixes can be scored")

    def _project(self, rows: list[Tensor]) -> Tensor:
        """Project CLS rows, L' times [B, W], to [B, L', E]."""
        projection = self.clip["visual"].proj
        with torch.autocast(projection.device.type, enabled=False):
            return torch.stack(rows, dim=1).to(projection.dtype) @ projection

    def _hold(self, name: str, values: Tensor) -> None:
        """Keep a constant as a buffer that moves with the module and is not saved."""
        self.register_buffer(name, values.detach().float(), persistent=False)

    def _require_usable(self, adapter: AdapterConfig) -> None:
        if adapter.text_layers:
            raise AdapterMismatch(
                where="adapter.text_layers",
                rule="the text features are given and frozen, so no text block is adapted",
                got=str(adapter.text_layers),
                remedy="Use 0; adapters of the text belong to the model that made the features.",
            )
        if self.vision_cut.num_blocks < 2:
            raise AdapterMismatch(
                where="backbone",
                rule="layer weights are scaled over the blocks of the tower, so there are at least 2",
                got="1 block",
                remedy="Use a deeper backbone.",
            )


def window_means(num_times: int, half_width: int) -> Tensor:
    """Build the matrix that averages over the times i - h .. i + h that exist, float64 [T, T]; its rows sum to 1."""
    if half_width < 0:
        raise TensorMismatch(
            where="half_width", rule="the half width is 0 or more", got=str(half_width), remedy="Use 0 for no window."
        )
    times = torch.arange(num_times)
    band = ((times[:, None] - times).abs() <= half_width).double()
    return band / band.sum(dim=1, keepdim=True)


def _require_curves(curves: Mapping[str, Tensor]) -> int:
    """Return T, the number of times that all curves have."""
    num_times = curves["alpha"].numel()
    for name, curve in curves.items():
        _require_shape(name, curve, (num_times,))
        if not bool((curve.isfinite() & (curve >= 0)).all()):
            raise TensorMismatch(
                where=name,
                rule="a time curve is finite and 0 or more",
                got=f"{float(curve.min())} to {float(curve.max())}",
                remedy="Make the curves by the rules of docs/methods.md 4.2, or use ones.",
            )
    return num_times


def _require_noise(noise: Tensor, shape: tuple[int, int, int]) -> None:
    _require_shape("noise", noise, shape)
    if shape[1] < 2:
        raise TensorMismatch(
            where="noise",
            rule="noise has the size of the SD over the batch, so a batch has at least 2 images",
            got="1 image",
            remedy="Leave the noise out, or use a batch size that leaves no single image over.",
        )


def _require_shape(where: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """Refuse a tensor of another shape (None: any length above 0); broadcasting would hide the mistake."""
    fits = len(shape) == tensor.ndim and all(
        length > 0 if wanted is None else length == wanted for wanted, length in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.numel() == 0:
        shown = ", ".join("any" if wanted is None else str(wanted) for wanted in shape)
        raise TensorMismatch(
            where=where,
            rule=f"its shape is [{shown}]",
            got=str(list(tensor.shape)),
            remedy="Curves, noise and layer outputs of one model share T, L and the prompts.",
        )
