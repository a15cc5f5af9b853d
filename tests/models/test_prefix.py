"""The frozen prefix is exact: outputs, loss and every adapter gradient equal the full forward's."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import _without_prefix, share
from sweeper_models.clip_hba import ClipHba
from sweeper_models.dora import trainable_parameters
from sweeper_models.errors import AdapterMismatch
from sweeper_models.prompts import PROMPTS

TOLERANCE = 1e-5
SHORT_PROMPTS = PROMPTS[:7]
LAYERS = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (2, 2), (3, 0), (3, 2)]  # of 3 vision and 2 text blocks


def relative(a, b):
    """|a - b| / |b| per tensor; a tensor that is exactly zero must be exactly zero on both sides."""
    if not b.any():
        return 0.0 if not a.any() else float("inf")
    return ((a - b).norm() / b.norm()).item()


def loss_and_gradients(model, outputs, targets):
    loss = (outputs - targets).square().mean()
    parameters = trainable_parameters(model)
    if not parameters:
        return loss, {}
    return loss, dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def assert_prefix_is_exact(model, images, targets):
    prefix = model.prefix(images)
    full, cached = model(images), model.forward_prefix(prefix)
    assert relative(cached, full) < TOLERANCE
    assert relative(model.embed_prefix(prefix), model.image_features(images)) < TOLERANCE
    full_loss, full_gradients = loss_and_gradients(model, full, targets)
    cached_loss, cached_gradients = loss_and_gradients(model, cached, targets)
    assert relative(cached_loss, full_loss) < TOLERANCE
    assert list(cached_gradients) == list(full_gradients)
    worst = {name: relative(cached_gradients[name], full_gradients[name]) for name in full_gradients}
    assert all(value < TOLERANCE for value in worst.values()), worst
    return full_gradients


@pytest.mark.parametrize("dora", ["published", "peft"])
@pytest.mark.parametrize("init", ["reference", "zero"])
@pytest.mark.parametrize(("vision_layers", "text_layers"), LAYERS)
def test_prefix_equals_full_forward(model_of, images, targets, vision_layers, text_layers, dora, init):
    model = model_of(vision_layers=vision_layers, text_layers=text_layers, dora=dora, init=init)
    gradients = assert_prefix_is_exact(model, images, targets)
    assert len(gradients) == 3 * (vision_layers + text_layers)
    for name, gradient in gradients.items():
        # With lora_B = 0 nothing flows back into lora_A: exactly zero, in both paths.
        assert gradient.any() != (init == "zero" and ".lora_A." in name), name


@pytest.mark.parametrize(
    "architecture",
    [
        {"width": 64, "vision_layers": 4, "text_layers": 3, "head_width": 32},
        {"width": 48, "vision_layers": 2, "text_layers": 1, "head_width": 12, "patch_size": 4},
        {"width": 32, "vision_layers": 1, "text_layers": 1, "activation": "gelu"},
    ],
)
@pytest.mark.parametrize("rank", [1, 6])
def test_prefix_is_exact_for_other_architectures_and_ranks(backbone_of, model_of, images, targets, architecture, rank):
    backbone = backbone_of(seed=3, **architecture)
    layers = min(2, architecture["vision_layers"])
    assert_prefix_is_exact(model_of(backbone, rank=rank, vision_layers=layers), images, targets)


@pytest.mark.parametrize(
    "target_modules", [("mlp.c_fc",), ("mlp.c_proj",), ("attn.out_proj", "mlp.c_fc"), ("mlp.c_proj", "mlp.c_fc")]
)
@pytest.mark.parametrize(("vision_layers", "text_layers"), [(1, 1), (2, 2)])
def test_the_cut_follows_the_adapted_linears(model_of, images, targets, target_modules, vision_layers, text_layers):
    model = model_of(targets=target_modules, vision_layers=vision_layers, text_layers=text_layers)
    assert model.vision_cut.at == ("attention" if "attn.out_proj" in target_modules else "mlp")
    assert_prefix_is_exact(model, images, targets)


@st.composite
def cases(draw):
    """Draw an architecture and an adapter anywhere on it, none and all blocks included."""
    depths = {"vision_layers": draw(st.integers(1, 4)), "text_layers": draw(st.integers(1, 3))}
    heads, head_width = draw(st.sampled_from([(1, 16), (2, 8), (2, 16), (4, 12)]))
    architecture = {
        **depths,
        "width": heads * head_width,
        "head_width": head_width,
        "patch_size": draw(st.sampled_from([4, 8, 16])),
        "activation": draw(st.sampled_from(["gelu", "quick_gelu"])),
    }
    adapter = {
        **{name: draw(st.integers(0, depth)) for name, depth in depths.items()},
        "rank": draw(st.integers(1, 9)),
        "alpha": draw(st.sampled_from([1.0, 16.0])),
        "dora": draw(st.sampled_from(["published", "peft"])),
        "init": draw(st.sampled_from(["reference", "zero"])),
        "targets": draw(
            st.sampled_from([("attn.out_proj",), ("mlp.c_fc", "mlp.c_proj"), ("attn.out_proj", "mlp.c_fc")])
        ),
    }
    return architecture, adapter


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(), seed=st.integers(0, 3))
def test_prefix_is_exact_anywhere(backbone_of, model_of, images, targets, case, seed):
    """Outputs, their RDM, loss and every gradient; the suffix loaded alone has the bits of the whole network."""
    architecture, adapter = case
    backbone = backbone_of(seed=seed, **architecture)
    model = model_of(backbone, **adapter)
    assert_prefix_is_exact(model, images, targets)
    prefix = model.prefix(images)
    full, cached = model(images), model.forward_prefix(prefix)
    rdms = [1 - torch.corrcoef(outputs.double()) for outputs in (cached, full)]
    assert (rdms[0] - rdms[1]).abs().max() < TOLERANCE, "of 0 to 2: where outputs are nearly alike 1 - r cancels"
    text, before = model.text_prefix(), loss_and_gradients(model, cached, targets)
    alone = ClipHba(
        _without_prefix(copy_of(backbone), (model.vision_cut, model.text_cut)),
        model.adapter,
        SHORT_PROMPTS,
        seed=1,
        text_prefix=text,
    )
    assert torch.equal(alone.forward_prefix(prefix), cached)
    loss, gradients = loss_and_gradients(alone, alone.forward_prefix(prefix), targets)
    assert torch.equal(loss, before[0])
    assert all(torch.equal(gradients[name], before[1][name]) for name in before[1])
    assert not any(tensor.is_meta for tensor in [*alone.parameters(), *alone.buffers()])


def copy_of(backbone):
    return replace(backbone, clip=share(backbone.clip))


def test_prefix_stays_exact_after_training_steps(model_of, images, targets):
    model = model_of()
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-2)
    prefix = model.prefix(images)
    for _ in range(5):
        optimizer.zero_grad()
        (model.forward_prefix(prefix) - targets).square().mean().backward()
        optimizer.step()
    after = model.prefix(images)
    assert all(torch.equal(prefix[name], after[name]) for name in prefix)
    assert_prefix_is_exact(model, images, targets)


@pytest.mark.parametrize(("vision_layers", "text_layers"), LAYERS)
def test_prefix_has_the_signed_shapes(model_of, images, vision_layers, text_layers):
    model = model_of(vision_layers=vision_layers, text_layers=text_layers)
    signed = model.prefix_signature()["tensors"]
    assert {name: list(tensor.shape[1:]) for name, tensor in model.prefix(images).items()} == signed
    tokens = {0: None, 1: 1, 2: 5, 3: 5}[vision_layers]
    assert signed == ({"embedding": [24]} if tokens is None else {n: [tokens, 32] for n in ("context", "residual")})


def test_signature_names_the_cut_and_not_what_lies_behind_it(backbone_of, model_of):
    signature = model_of().prefix_signature()
    assert signature == model_of(rank=2, alpha=3.0, dora="peft", init="zero", text_layers=2, seed=5).prefix_signature()
    assert signature != model_of(vision_layers=1).prefix_signature()
    assert signature != model_of(targets=("mlp.c_fc",)).prefix_signature()
    assert signature != model_of(backbone_of(seed=9)).prefix_signature()
    assert signature != model_of(backbone_of("gelu")).prefix_signature()


@pytest.mark.parametrize("target_modules", [("attn.out_proj",), ("mlp.c_fc",)])
@pytest.mark.parametrize(("vision_layers", "text_layers"), LAYERS)
def test_dropped_prefix_leaves_outputs_and_frees_tensors(
    model_of, images, targets, vision_layers, text_layers, target_modules
):
    model = model_of(vision_layers=vision_layers, text_layers=text_layers, targets=target_modules)
    before_numel = sum(p.numel() for p in model.parameters())
    names = list(trainable_parameters(model))
    prefix = model.prefix(images)
    expected = model.forward_prefix(prefix)
    _, gradients = loss_and_gradients(model, expected, targets)
    model.drop_frozen_prefix()
    again = model.forward_prefix(prefix)
    assert torch.equal(again, expected)
    _, gradients_again = loss_and_gradients(model, again, targets)
    assert list(trainable_parameters(model)) == names
    assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)
    assert sum(p.numel() for p in model.parameters()) < before_numel
    with pytest.raises(RuntimeError, match="frozen prefix was dropped"):
        model(images)
    with pytest.raises(RuntimeError, match="frozen prefix was dropped"):
        model.prefix(images)


def test_text_prefix_can_be_handed_over(backbone_of, model_of, images):
    first = model_of()
    config = AdapterConfig(rank=4, init="reference")
    prompts = ("metallic; artificial", "food-related")
    full = ClipHba(backbone_of(), config, prompts, seed=1)
    handed = ClipHba(backbone_of(), config, prompts, seed=1, text_prefix=full.text_prefix())
    prefix = first.prefix(images)
    assert torch.equal(handed.forward_prefix(prefix), full.forward_prefix(prefix))


def test_batches_of_prefixes_are_rows(model_of, images):
    model = model_of()
    prefix = model.prefix(images)
    part = model.forward_prefix({name: tensor[1:3] for name, tensor in prefix.items()}, model.text_features())
    torch.testing.assert_close(part, model.forward_prefix(prefix)[1:3], rtol=1e-5, atol=1e-4)


def test_half_precision_prefix_is_computed_in_fp32(model_of, images):
    model = model_of()
    half = {name: tensor.half() for name, tensor in model.prefix(images).items()}
    outputs = model.forward_prefix(half)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, model(images), rtol=0.0, atol=0.5)


@pytest.mark.parametrize("dora", ["published", "peft"])
def test_autocast_keeps_scores_in_fp32(model_of, images, dora):
    model = model_of(dora=dora)
    exact = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model.forward_prefix(model.prefix(images))
    assert outputs.dtype == torch.float32
    assert 0 < (outputs - exact).abs().max() < 1.0


def test_more_adapted_blocks_than_there_are_is_refused(model_of):
    with pytest.raises(AdapterMismatch, match="the tower has 3 blocks") as caught:
        model_of(vision_layers=4)
    assert caught.value.where == "adapter.vision_layers"
