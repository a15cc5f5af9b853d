"""CLIP-HBA against the formulas of docs/methods.md 1.3 and 1.4 in plain torch, and what training may change."""

import json
from pathlib import Path

import pytest
import torch
from sweeper_models.dora import trainable_parameters
from sweeper_models.prompts import PROMPTS


def plain_clip_hba(state, config, images, tokens, *, alpha, rank, dora, activation):
    """Compute the outputs from a state dict by the formulas alone (M = W^T as in docs/methods.md 1.4)."""
    act = (lambda x: x * torch.sigmoid(1.702 * x)) if activation == "quick_gelu" else torch.nn.functional.gelu

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * state[f"{name}.weight"]
            + state[f"{name}.bias"]
        )

    def out_proj(x, name):
        if f"{name}.weight" in state:
            return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        m_original = state[f"{name}.base_layer.weight"].T  # in x out
        column_norm = m_original.square().sum(0).sqrt()
        b, a = state[f"{name}.lora_A.default.weight"].T, state[f"{name}.lora_B.default.weight"].T
        delta = alpha / rank * b @ a
        magnitude = state[f"{name}.lora_magnitude_vector.default.weight"]
        if dora == "published":
            v = m_original / column_norm + delta
            adapted = magnitude * v / (v.square().sum(0).sqrt() + 1e-8)
        else:
            v = m_original + delta
            adapted = magnitude * v / v.square().sum(0).sqrt()
        return x @ adapted + state[f"{name}.base_layer.bias"]

    def attention(x, name, heads, causal):
        tokens_, width = x.shape[1:]
        qkv = x @ state[f"{name}.in_proj_weight"].T + state[f"{name}.in_proj_bias"]
        outputs = []
        for head in range(heads):
            size = width // heads
            q, k, v = (qkv[..., part * width + head * size :][..., :size] for part in range(3))
            scores = q @ k.transpose(1, 2) / size**0.5
            if causal:
                scores = scores.masked_fill(torch.ones(tokens_, tokens_).triu(1).bool(), float("-inf"))
            outputs.append(scores.softmax(-1) @ v)
        return out_proj(torch.cat(outputs, -1), f"{name}.out_proj")

    def tower(x, name, depth, heads, causal):
        for index in range(depth):
            block = f"{name}.resblocks.{index}"
            x = x + attention(norm(x, f"{block}.ln_1"), f"{block}.attn", heads, causal)
            hidden = act(
                norm(x, f"{block}.ln_2") @ state[f"{block}.mlp.c_fc.weight"].T + state[f"{block}.mlp.c_fc.bias"]
            )
            x = x + hidden @ state[f"{block}.mlp.c_proj.weight"].T + state[f"{block}.mlp.c_proj.bias"]
        return x

    vision, text = config["vision_cfg"], config["text_cfg"]
    patch = vision["patch_size"]
    patches = images.unfold(2, patch, patch).unfold(3, patch, patch)  # B, 3, rows, columns, patch, patch
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = patches @ state["visual.conv1.weight"].flatten(1).T
    x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], 1) + state["visual.positional_embedding"]
    heads = vision["width"] // vision["head_width"]
    x = tower(norm(x, "visual.ln_pre"), "visual.transformer", vision["layers"], heads, causal=False)
    image = norm(x[:, 0], "visual.ln_post") @ state["visual.proj"]
    rows = []
    for prompt in tokens:  # one at a time, as in the reference
        y = (state["token_embedding.weight"][prompt] + state["positional_embedding"])[None]
        y = norm(tower(y, "transformer", text["layers"], text["heads"], causal=True), "ln_final")
        rows.append(y[0, prompt.argmax()] @ state["text_projection"])
    d, v = torch.stack(rows), image
    cosine = (v / v.norm(dim=1, keepdim=True)) @ (d / d.norm(dim=1, keepdim=True)).T
    return state["logit_scale"].exp() * cosine


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("dora", ["published", "peft"])
def test_model_equals_the_formulas(backbone_of, model_of, images, activation, dora):
    backbone = backbone_of(activation)
    model = model_of(backbone, rank=4, alpha=10.0, dora=dora, vision_layers=2, text_layers=1)
    state = {name: p.detach() for name, p in model.clip.named_parameters()}
    plain = plain_clip_hba(
        state, backbone.config, images, model.tokens, alpha=10.0, rank=4, dora=dora, activation=activation
    )
    torch.testing.assert_close(model(images), plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.forward_prefix(model.prefix(images)), plain, rtol=1e-5, atol=1e-5)


def test_outputs_are_scaled_cosines(model_of, images):
    model = model_of()
    v = torch.nn.functional.normalize(model.image_features(images), dim=1)
    d = torch.nn.functional.normalize(model.text_features(), dim=1)
    scale = model.clip.logit_scale.exp()
    torch.testing.assert_close(model(images), scale * v @ d.T, rtol=1e-5, atol=1e-5)
    assert model(images).abs().max() <= scale


@pytest.mark.parametrize("dora", ["published", "peft"])
@pytest.mark.parametrize("path", ["full", "prefix"])
def test_adapters_are_alive_and_nothing_else_moves(backbone_of, model_of, images, targets, dora, path):
    model = model_of(dora=dora)
    forward = model if path == "full" else lambda x: model.forward_prefix(model.prefix(x))
    everything = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: tensor.detach().clone() for name, tensor in everything.items()}
    backbone_before = {name: tensor.clone() for name, tensor in backbone_of().clip.state_dict().items()}
    # Every parameter is handed over: frozen ones have no gradient, so AdamW neither moves nor decays them (1.5).
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    outputs = forward(images)
    (outputs - targets).square().mean().backward()
    trainable = trainable_parameters(model)
    assert len(trainable) == 9
    assert all(p.grad is not None and p.grad.any() for p in trainable.values())
    optimizer.step()
    for name, tensor in everything.items():
        assert torch.equal(tensor, before[name]) == (name not in trainable), name
    assert not torch.equal(forward(images), outputs)
    after = backbone_of().clip.state_dict()
    assert all(torch.equal(after[name], backbone_before[name]) for name in after)


def test_model_is_deterministic_and_blind_to_train_mode(model_of, images):
    model = model_of()
    outputs = model(images)
    model.train()
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(images), outputs)
    assert torch.equal(model_of()(images), outputs)


def test_models_on_one_backbone_share_its_tensors_and_not_each_other(backbone_of, model_of):
    backbone, first, second = backbone_of(), model_of(), model_of(seed=2, vision_layers=3)
    source = backbone.clip.visual.conv1.weight
    assert first.clip.visual.conv1.weight.data_ptr() == source.data_ptr() == second.clip.visual.conv1.weight.data_ptr()
    assert first.clip.visual.conv1.weight is not source
    assert not any("lora" in name for name, _ in backbone.clip.named_parameters())
    own = {p.data_ptr() for p in trainable_parameters(first).values()}
    assert own.isdisjoint(p.data_ptr() for p in trainable_parameters(second).values())


def test_trainable_names_are_stable(model_of):
    """States are stored by these names: renaming one makes old states unreadable."""
    layers = (
        "clip.transformer.resblocks.1",
        "clip.visual.transformer.resblocks.1",
        "clip.visual.transformer.resblocks.2",
    )
    expected = [
        f"{layer}.attn.out_proj.{tensor}.default.weight"
        for layer in layers
        for tensor in ("lora_A", "lora_B", "lora_magnitude_vector")
    ]
    assert list(trainable_parameters(model_of())) == expected


def test_prompts_are_the_66_published_strings():
    assert len(PROMPTS) == len(set(PROMPTS)) == 66
    assert PROMPTS[0] == "metallic; artificial"
    assert PROMPTS[51] == "upright; elongated; volumous"
    assert PROMPTS[65] == "fine-grained; pattern"


def test_prompts_equal_the_projects_file():
    file = Path(__file__).parents[3] / "shared" / "data" / "spose66_prompts.json"
    if not file.is_file():
        pytest.skip("the shared data folder is not on this machine")
    assert list(PROMPTS) == json.loads(file.read_text(encoding="utf-8"))["prompts"]
