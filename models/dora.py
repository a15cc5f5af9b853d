"""Add weight-decomposed low-rank adapters (DoRA) to linear layers: the published form beside peft's own.

Both forms live inside peft and have the same three trainable tensors per layer, in torch's layout (W is [out, in]):
`lora_A` [r, in], `lora_B` [out, r] and the magnitude m [out]. In the letters of
docs/methods.md 1.4 lora_A = B^T, lora_B = A^T.

    published: V = W / |W| + (alpha / r) lora_B lora_A    W' = m V / (|V| + 1e-8), gradients flow through |V|
    peft:      V = W       + (alpha / r) lora_B lora_A    W' = m V / |V|,          |V| is a constant for gradients

with |.| the norm of each row (an output's weight vector; a column of M = W^T in docs/methods.md 1.4).
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import peft
import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraVariant
from sweeper_models.adapter import AdapterConfig, Init
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "AdapterConfig",
    "adapter_layers",
    "base_norms",
    "count_trainable",
    "effective_weight",
    "freeze_magnitudes",
    "from_peft",
    "inject_adapters",
    "reset_adapters",
    "to_peft",
    "trainable_parameters",
]

EPSILON = 1e-8  # added to the norm in the published form (docs/methods.md 1.4)
ADAPTER = "default"
_LORA_B = f".lora_B.{ADAPTER}.weight"


class PublishedDora(nn.Module):
    """Hold magnitude and unit rows of one layer and combine them with its factors."""

    def __init__(self, base_weight: Tensor) -> None:
        super().__init__()
        norm = base_weight.detach().norm(dim=1)
        self.weight = nn.Parameter(norm)  # m, named as in peft's own form
        self.unit: Tensor
        self.register_buffer("unit", base_weight.detach() / norm[:, None], persistent=False)

    def forward(self, lora_a: Tensor, lora_b: Tensor, scaling: float) -> Tensor:
        """Compute the effective weight, float32 [out, in]."""
        with torch.autocast(lora_a.device.type, enabled=False):  # a small change of a weight needs all of fp32
            direction = self.unit + scaling * (lora_b @ lora_a)
            return (self.weight / (direction.norm(dim=1) + EPSILON))[:, None] * direction


class PublishedDoraVariant(LoraVariant):
    """Join the published form to peft's injecting, saving and merging."""

    def supports_lora_conversion(self) -> bool:
        """Refuse conversion: the change of the weight is not of low rank."""
        return False

    @staticmethod
    def init(module: LoraLinear, adapter_name: str, **_: Any) -> None:
        """Add magnitude and unit rows to a layer."""
        module.lora_magnitude_vector[adapter_name] = PublishedDora(module.get_base_layer().weight)

    @staticmethod
    def merge_safe(module: LoraLinear, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """Return the effective weight and remember the original one."""
        module._cache_store(f"{active_adapter}-original", module.get_base_layer().weight.detach().clone())
        return effective_weight(module).detach().to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: LoraLinear, active_adapter: str, orig_weight: Tensor) -> None:
        """Replace the weight by the effective one; as a new tensor, for models share the original."""
        orig_weight.data = PublishedDoraVariant.merge_safe(module, active_adapter, orig_weight)

    @staticmethod
    def unmerge(module: LoraLinear, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """Return the remembered original weight."""
        return module._cache_pop(f"{active_adapter}-original")


class PublishedDoraLinear(LoraLinear):
    """Compute a linear layer with its effective weight, once per call, instead of base output plus change."""

    @property
    def lora_variants(self) -> dict[tuple[str, ...], type[LoraVariant] | None]:
        """Offer the published form wherever a configuration asks for DoRA."""
        return {("use_dora",): PublishedDoraVariant}

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Apply the adapted layer to float32 [..., in]."""
        if self.disable_adapters or self.merged:
            return super().forward(x, *args, **kwargs)
        return functional.linear(x, effective_weight(self), self.get_base_layer().bias)


def inject_adapters(clip: nn.Module, names: Sequence[str], config: AdapterConfig) -> None:
    """Replace the named linear layers by adapted ones, in place; all other parameters stop asking for gradients.

    The adapters' values are undefined until `reset_adapters`. No global random state is read or left changed.
    """
    if not names:
        return
    lora = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        use_dora=True,
        init_lora_weights=False,
        # A pattern, since a plain list matches suffixes: `transformer.x` would match `visual.transformer.x` as well.
        target_modules="|".join(re.escape(name) for name in names),
    )
    if config.dora == "published":
        lora._register_custom_module({nn.Linear: PublishedDoraLinear})
    with torch.random.fork_rng(devices=[]):
        peft.inject_adapter_in_model(lora, clip, adapter_name=ADAPTER)


def adapter_layers(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Yield every adapted layer with its name in the model."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))


@torch.no_grad()
def reset_adapters(clip: nn.Module, *, init: Init, seed: int) -> None:
    """Set all adapters to their start: m = |W|, factors drawn on the CPU from (seed, layer name) alone.

    Science 1.4: Kaiming-uniform with a = sqrt(5) is U(+-1/sqrt(fan_in)) with fan_in = r for lora_A and = out for
    lora_B. `zero` keeps the same lora_A, so that the two starts differ in lora_B only. peft's form gets the same
    draws: its Delta is added to W itself, so that the initial change is larger where |W| is small.
    """
    for name, layer in adapter_layers(clip):
        generator = torch.Generator().manual_seed(_derive(seed, name))
        lora_a, lora_b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        lora_a.copy_(_uniform(lora_a.shape, fan_in=lora_a.shape[0], generator=generator))
        lora_b.copy_(_uniform(lora_b.shape, fan_in=lora_b.shape[0], generator=generator))
        if init == "zero":
            lora_b.zero_()
        layer.lora_magnitude_vector[ADAPTER].weight.copy_(layer.get_base_layer().weight.norm(dim=1))


def freeze_magnitudes(model: nn.Module) -> None:
    """Stop every m from asking for a gradient; A and B go on."""
    for _, layer in adapter_layers(model):
        layer.lora_magnitude_vector.requires_grad_(False)


def effective_weight(layer: LoraLinear) -> Tensor:
    """Compute the weight that an adapted layer acts with, float32 [out, in]."""
    lora_a, lora_b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    dora, scaling = layer.lora_magnitude_vector[ADAPTER], layer.scaling[ADAPTER]
    if isinstance(dora, PublishedDora):
        return dora(lora_a, lora_b, scaling)
    direction = layer.get_base_layer().weight + scaling * (lora_b @ lora_a)
    return (dora.weight / direction.norm(dim=1).detach())[:, None] * direction


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Collect the parameters that learn, sorted by name: the whole trainable state of a model."""
    return {name: p for name, p in sorted(model.named_parameters()) if p.requires_grad}


def count_trainable(model: nn.Module) -> int:
    """Count the numbers that learn (183,040 in the published configuration on ViT-L-14)."""
    return sum(parameter.numel() for parameter in trainable_parameters(model).values())


def base_norms(model: nn.Module) -> dict[str, Tensor]:
    """Collect |W| of every adapted layer by its name, float32 [out]."""
    return {name: layer.get_base_layer().weight.detach().norm(dim=1) for name, layer in adapter_layers(model)}


def to_peft(state: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map a published adapter state to the state with which peft's form computes the same outputs.

    Science 1.4: peft's lora_B is diag(|W|) times the published one; m and lora_A stay. `norms` is `base_norms`.
    """
    return {
        name: norms[name.removesuffix(_LORA_B)][:, None].to(tensor) * tensor if name.endswith(_LORA_B) else tensor
        for name, tensor in state.items()
    }


def from_peft(state: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map an adapter state of peft's form to the published form; the inverse of `to_peft`."""
    return to_peft(state, {name: norm.reciprocal() for name, norm in norms.items()})


def _uniform(shape: torch.Size, *, fan_in: int, generator: torch.Generator) -> Tensor:
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def _derive(seed: int, name: str) -> int:
    # One stream per layer: adapting one block more leaves the start of the others as it was.
    digest = hashlib.sha256(f"sweeper_models.init/{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
