"""The published DoRA and peft's: starts, counts, and how outputs and gradients relate."""

import math

import pytest
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from sweeper_models.adapter import AdapterConfig, count_adapter_parameters
from sweeper_models.backbones import build_clip
from sweeper_models.clip_hba import ClipHba, adapted_names
from sweeper_models.configs import read_config
from sweeper_models.dora import (
    adapter_layers,
    base_norms,
    count_trainable,
    effective_weight,
    from_peft,
    inject_adapters,
    reset_adapters,
    to_peft,
    trainable_parameters,
)
from sweeper_models.errors import AdapterMismatch
from torch import nn


def one_layer(*, width=256, out=None, **adapter):
    """Build one adapted linear layer whose rows have norm 0.5, as in the measurement of docs/methods.md 1.4."""
    weight = torch.randn(out or width, width, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        holder = nn.ModuleDict({"out_proj": nn.Linear(width, out or width)})
    holder["out_proj"].weight.data = 0.5 * weight / weight.norm(dim=1, keepdim=True)
    config = AdapterConfig(**({"init": "reference"} | adapter))
    inject_adapters(holder, ["out_proj"], config)
    reset_adapters(holder, init=config.init, seed=4)
    return holder


def the_layer(holder):
    ((_, layer),) = adapter_layers(holder)
    return layer


def parts(holder):
    layer = the_layer(holder)
    dora = layer.lora_magnitude_vector["default"].weight
    return layer.get_base_layer().weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight, dora


def test_published_configuration_has_183040_trainable_parameters():
    # 2 (1024 + 2 * 32 * 1024) + (768 + 2 * 32 * 768), docs/methods.md 1.4; on the meta device nothing is computed.
    config, adapter = read_config("ViT-L-14"), AdapterConfig()
    clip = build_clip(config, activation="quick_gelu", device="meta").requires_grad_(False)
    inject_adapters(clip, adapted_names(config, adapter), adapter)
    assert count_trainable(clip) == count_adapter_parameters(config, adapter) == 183_040


@pytest.mark.parametrize("targets", [("attn.out_proj",), ("mlp.c_fc", "mlp.c_proj"), ("attn.out_proj", "mlp.c_proj")])
def test_the_planner_counts_what_is_trained(targets):
    config, adapter = read_config("ViT-B-32"), AdapterConfig(rank=3, vision_layers=3, text_layers=2, targets=targets)
    clip = build_clip(config, activation="gelu", device="meta").requires_grad_(False)
    inject_adapters(clip, adapted_names(config, adapter), adapter)
    assert count_trainable(clip) == count_adapter_parameters(config, adapter)


@pytest.mark.parametrize("dora", ["published", "peft"])
def test_count_follows_rank_and_layers(model_of, dora):
    model = model_of(rank=5, vision_layers=3, text_layers=2, dora=dora)
    assert count_trainable(model) == 3 * (32 + 2 * 5 * 32) + 2 * (16 + 2 * 5 * 16)
    assert count_trainable(model_of(vision_layers=0, text_layers=0)) == 0


@pytest.mark.parametrize("dora", ["published", "peft"])
def test_reference_start_draws_both_factors_from_the_published_ranges(dora):
    weight, lora_a, lora_b, magnitude = parts(one_layer(width=256, out=512, rank=16, dora=dora))
    for factor, fan_in in ((lora_a, 16), (lora_b, 512)):  # U(+-1/sqrt(r)), U(+-1/sqrt(out)), docs/methods.md 1.4
        bound = 1 / math.sqrt(fan_in)
        assert factor.abs().max() <= bound
        assert factor.abs().max() > 0.99 * bound
        assert factor.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert factor.mean().abs() < 0.05 * bound
    assert torch.equal(magnitude, weight.norm(dim=1))


@pytest.mark.parametrize(("rank", "change", "cosine"), [(32, 0.167, 0.986), (6, 0.889, 0.75)])
def test_reference_start_changes_the_columns_as_published(rank, change, cosine):
    weight, lora_a, lora_b, magnitude = parts(holder := one_layer(width=512, rank=rank, alpha=16))
    # The root mean square over columns of |Delta_j| is (alpha / r) / 3.
    delta = 16 / rank * (lora_b @ lora_a)
    assert delta.norm(dim=1).square().mean().sqrt().item() == pytest.approx(change, rel=0.02)
    effective = effective_weight(the_layer(holder))
    assert torch.cosine_similarity(effective, weight, dim=1).mean().item() == pytest.approx(cosine, abs=0.01)
    torch.testing.assert_close(effective.norm(dim=1), magnitude, rtol=1e-5, atol=0.0)


def test_peft_form_starts_further_away_where_norms_are_small():
    weight, lora_a, lora_b, _ = parts(one_layer(width=512, rank=32, alpha=16, dora="peft"))
    change = (0.5 * (lora_b @ lora_a)).norm(dim=1) / weight.norm(dim=1)
    assert change.square().mean().sqrt().item() == pytest.approx(0.333, rel=0.02)


@pytest.mark.parametrize("dora", ["published", "peft"])
def test_zero_start_is_plain_clip(backbone_of, model_of, images, dora):
    model = model_of(init="zero", dora=dora)
    torch.testing.assert_close(model.image_features(images), backbone_of().clip.encode_image(images))
    start = trainable_parameters(model)
    reference = trainable_parameters(model_of(init="reference", dora=dora))
    for name in start:
        assert torch.equal(start[name], reference[name]) != (".lora_B." in name)
        assert start[name].any() != (".lora_B." in name)


def test_start_depends_on_seed_and_layer_only(model_of):
    assert_same(model_of(seed=1), model_of(seed=1), equal=True)
    model = model_of(seed=1)
    model.reset_adapters(2)
    assert_same(model, model_of(seed=2), equal=True)
    factors = {n: p for n, p in trainable_parameters(model_of(seed=1)).items() if "magnitude" not in n}
    other = trainable_parameters(model)
    assert not any(torch.equal(factors[name], other[name]) for name in factors)
    more = trainable_parameters(model_of(seed=1, vision_layers=3, text_layers=2))
    assert all(torch.equal(factors[name], more[name]) for name in factors)


def assert_same(a, b, *, equal):
    a, b = trainable_parameters(a), trainable_parameters(b)
    assert list(a) == list(b) == sorted(a)
    assert all(torch.equal(a[name], b[name]) for name in a) == equal


@pytest.mark.parametrize("dora", ["published", "peft"])
def test_global_random_state_is_neither_read_nor_moved(model_of, dora):
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = model_of(dora=dora)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(456)
    assert_same(first, model_of(dora=dora), equal=True)


def test_forms_agree_under_the_map(model_of, images):
    published, by_peft = model_of(dora="published", seed=3), model_of(dora="peft", seed=5)
    state = {name: p.detach() for name, p in trainable_parameters(published).items()}
    state = {n: t * 1.3 if "magnitude" in n else t for n, t in state.items()}  # m need not be |W|
    load(published, state)
    assert not torch.allclose(published(images), by_peft(images), atol=0.1)
    load(by_peft, to_peft(state, base_norms(by_peft)))
    torch.testing.assert_close(published(images), by_peft(images), rtol=1e-5, atol=1e-5)
    back = from_peft(to_peft(state, base_norms(by_peft)), base_norms(by_peft))
    assert all(torch.allclose(back[name], state[name], rtol=1e-6, atol=0.0) for name in state)


def load(model, state):
    with torch.no_grad():
        for name, parameter in trainable_parameters(model).items():
            parameter.copy_(state[name])


def test_gradients_of_the_forms_differ_as_stated():
    """At equal weights the two forms give one output and two gradients.

    With g the gradient by the effective weight V' and u = V / |V|: published sends (g - (g.u) u) m / |V| into V,
    peft sends g m / |V| (norm constant). The gradient of m is the same.
    """
    published, by_peft = one_layer(width=64, rank=8), one_layer(width=64, rank=8, dora="peft")
    state = {name: p.detach() for name, p in trainable_parameters(published).items()}
    norms = base_norms(published)
    load(by_peft, to_peft(state, norms))
    x = torch.randn(20, 64, generator=torch.Generator().manual_seed(7))
    y = torch.randn(20, 64, generator=torch.Generator().manual_seed(8))
    a, b = (gradients_of(holder, x, y) for holder in (published, by_peft))
    (name_a,) = (name for name in a if "lora_A" in name)
    (name_b,) = (name for name in a if "lora_B" in name)
    (name_m,) = (name for name in a if "magnitude" in name)
    torch.testing.assert_close(a[name_m], b[name_m], rtol=1e-4, atol=1e-6)
    cosine = torch.cosine_similarity(a[name_a].flatten(), b[name_a].flatten(), dim=0)
    assert 0.5 < cosine < 0.9999
    # What peft leaves out is the component along the unit weight, row by row; without it, the published one.
    weight, lora_a, lora_b, _ = parts(published)
    direction = weight / weight.norm(dim=1, keepdim=True) + 16 / 8 * (lora_b @ lora_a)
    unit = direction / direction.norm(dim=1, keepdim=True)
    by_v = b[name_b] * norms["out_proj"][:, None]  # peft's gradient in the published lora_B
    effective = effective_weight(the_layer(published)).detach().requires_grad_(True)
    loss = (nn.functional.linear(x, effective, published["out_proj"].base_layer.bias) - y).square().mean()
    (g,) = torch.autograd.grad(loss, effective)
    along = (g * unit).sum(dim=1, keepdim=True) * unit
    factor = (parts(published)[3] / direction.norm(dim=1))[:, None] * 16 / 8
    torch.testing.assert_close(by_v, (factor * g) @ lora_a.T, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(a[name_b], (factor * (g - along)) @ lora_a.T, rtol=1e-4, atol=1e-6)


def gradients_of(holder, x, y):
    parameters = trainable_parameters(holder)
    loss = (holder["out_proj"](x) - y).square().mean()
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


@pytest.mark.parametrize("dora", ["published", "peft"])
@pytest.mark.parametrize("safe", [True, False])
def test_merging_gives_the_same_layer_and_leaves_the_backbone_alone(backbone_of, model_of, images, dora, safe):
    model = model_of(dora=dora)
    original = {name: p.clone() for name, p in backbone_of().clip.named_parameters()}
    outputs = model(images)
    effective = {name: effective_weight(layer).detach() for name, layer in adapter_layers(model)}
    for name, layer in adapter_layers(model):
        layer.merge(safe_merge=safe)
        torch.testing.assert_close(layer.get_base_layer().weight, effective[name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(images), outputs, rtol=1e-4, atol=1e-4)
    for _, layer in adapter_layers(model):
        layer.unmerge()
    torch.testing.assert_close(model(images), outputs, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(p, original[name]) for name, p in backbone_of().clip.named_parameters())


def test_peft_saves_and_reloads_the_published_form(model_of, images):
    first, second = model_of(seed=1), model_of(seed=2)
    saved = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(first.clip).items()}
    assert sum(tensor.numel() for tensor in saved.values()) == count_trainable(first)
    set_peft_model_state_dict(second.clip, saved)
    assert torch.equal(first(images), second(images))


def test_disabled_adapters_are_plain_clip(backbone_of, model_of, images):
    model = model_of()
    for _, layer in adapter_layers(model):
        layer.enable_adapters(False)
    torch.testing.assert_close(model.image_features(images), backbone_of().clip.encode_image(images))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 0),
        ("alpha", -1.0),
        ("vision_layers", -1),
        ("text_layers", -1),
        ("dora", "lora"),
        ("init", "random"),
        ("targets", ("attn.in_proj",)),
        ("targets", ()),
    ],
)
def test_impossible_adapters_are_refused(field, value):
    with pytest.raises(AdapterMismatch) as caught:
        AdapterConfig(**{field: value})
    assert caught.value.where == f"adapter.{field}"


def test_default_block_type_would_leave_the_adapter_dead(backbone_of, images):
    """Why backbones are built with block type `custom`: torch's attention reads out_proj.weight, not the module."""
    backbone, adapter = backbone_of(), AdapterConfig(rank=4, init="reference")
    clip = build_clip(backbone.config, activation="quick_gelu", block_type="default").requires_grad_(False)
    clip.load_state_dict(backbone.clip.state_dict())
    inject_adapters(clip, adapted_names(backbone.config, adapter), adapter)
    reset_adapters(clip, init="reference", seed=1)
    features = clip.encode_image(images)
    assert not features.requires_grad
    torch.testing.assert_close(features, backbone.clip.encode_image(images), rtol=1e-4, atol=1e-5)
    assert ClipHba(backbone, adapter, ("white",)).image_features(images).requires_grad
