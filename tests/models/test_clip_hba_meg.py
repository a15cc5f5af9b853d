"""CLIP-HBA-MEG against plain loops over times and blocks in float64, and what training may change."""

import math

import numpy as np
import pytest
import torch
from sweeper_models.adapter import AdapterConfig, count_meg_parameters
from sweeper_models.clip_hba import ClipHba
from sweeper_models.clip_hba_meg import ClipHbaMeg, window_means
from sweeper_models.configs import read_config
from sweeper_models.dora import count_trainable, trainable_parameters
from sweeper_models.errors import AdapterMismatch, TensorMismatch, UndefinedLoss
from sweeper_models.prompts import PROMPTS
from sweeper_models.rdm_losses import pearson_long, rdm_series

TOLERANCE = 1e-5
NUM_PROMPTS, WIDTH = 7, 24


def draws(*shape, seed=0, normal=False):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) if normal else torch.rand(*shape, generator=generator)


def relative(a, b):
    if not b.any():
        return 0.0 if not a.any() else math.inf
    return ((a - b).norm() / b.norm()).item()


@pytest.fixture
def meg_of(backbone_of):
    """Build a model on a small random backbone: adapter fields and arguments as keywords."""

    def build(backbone=None, *, num_times=6, half_width=1, curves=None, seed=1, zero_weights="learn", **adapter):
        magnitude = adapter.pop("magnitude", "frozen")
        adapter = {"rank": 4, "init": "reference", "text_layers": 0} | adapter
        curves = curves or {name: draws(num_times, seed=index) for index, name in enumerate(("alpha", "beta", "noise"))}
        return ClipHbaMeg(
            backbone or backbone_of(),
            AdapterConfig(**adapter),
            text=draws(NUM_PROMPTS, WIDTH, seed=7, normal=True),
            half_width=half_width,
            magnitude=magnitude,
            zero_weights=zero_weights,
            seed=seed,
            **curves,
        )

    return build


def plain_embeddings(layers, weights, text, curves, h, scale, noise=None, jitter=None, relu=False):
    """Compute E_t of science's section 4.3 by loops over times and blocks."""
    num_times, num_blocks = weights.shape
    alpha, beta, level = (curves[name].double() for name in ("alpha", "beta", "noise"))
    series = []
    for i in range(num_times):
        first, last = max(0, i - h), min(num_times, i + h + 1)
        w = weights[first:last].mean(0)
        w = (w - w.min()) / (w.max() - w.min() + 1e-10)
        w = w / (w.sum() + 1e-10)
        if relu:
            w = torch.relu(w)
        f = 0.0
        for index in range(num_blocks):
            f = f + w[index] * layers[:, index]
        f = alpha[first:last].mean() * f
        r = torch.relu(torch.stack([scale * f @ (d / d.norm()) for d in text], 1))
        if noise is not None:
            r = r + level[i] * noise[i] * r.std(0, correction=1)
        e = torch.relu(beta[first:last].mean() * r)
        series.append(e if jitter is None else e + jitter[i])
    return torch.stack(series)


def curves_of(num_times):
    return {name: draws(num_times, seed=20 + index) for index, name in enumerate(("alpha", "beta", "noise"))}


@pytest.mark.parametrize(("num_times", "half_width"), [(1, 0), (2, 3), (6, 0), (9, 2), (13, 3)])
@pytest.mark.parametrize("vision_layers", [3, 5])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("zero_weights", ["learn", "stay"])
def test_embeddings_equal_loops_over_times_and_blocks(
    backbone_of, meg_of, num_times, half_width, vision_layers, noisy, zero_weights
):
    curves = curves_of(num_times)
    backbone = backbone_of(vision_layers=vision_layers)
    model = meg_of(backbone, curves=curves, half_width=half_width, vision_layers=0, zero_weights=zero_weights)
    torch.nn.init.normal_(model.layer_weights, generator=torch.Generator().manual_seed(3))
    layers = draws(5, vision_layers, WIDTH, seed=4, normal=True)
    noise = draws(num_times, 5, NUM_PROMPTS, seed=5, normal=True) if noisy else None
    jitter = 1e-6 + 1e-5 * draws(num_times, 5, NUM_PROMPTS, seed=6) if noisy else None
    weights = model.layer_weights.detach().double().requires_grad_()
    text = draws(NUM_PROMPTS, WIDTH, seed=7, normal=True).double()
    doubles = [None if tensor is None else tensor.double() for tensor in (noise, jitter)]
    scale, relu = math.exp(backbone.logit_scale), zero_weights == "stay"
    expected = plain_embeddings(layers.double(), weights, text, curves, half_width, scale, *doubles, relu)
    embeddings = model.embeddings(layers, noise=noise, jitter=jitter)
    assert relative(embeddings.double(), expected) < 1e-6
    probe = draws(*embeddings.shape, seed=8)
    (gradient,) = torch.autograd.grad((embeddings * probe).sum(), model.layer_weights)
    (expected_gradient,) = torch.autograd.grad((expected * probe).sum(), weights)
    assert relative(gradient.double(), expected_gradient) < TOLERANCE


def test_the_start_puts_all_weight_on_the_last_block_and_shares_gradients_among_ties(backbone_of, meg_of):
    curves = curves_of(8)
    backbone = backbone_of(vision_layers=5)
    model = meg_of(backbone, curves=curves, half_width=2)
    assert model.layer_weights.tolist() == [[0.0, 0.0, 0.0, 0.0, 1.0]] * 8
    layers = draws(4, 5, WIDTH, seed=4, normal=True)
    torch.testing.assert_close(model.mixing_weights()[:, -1], model.alpha)
    assert not model.mixing_weights()[:, :-1].any()
    weights = model.layer_weights.detach().double().requires_grad_()
    text = draws(NUM_PROMPTS, WIDTH, seed=7, normal=True).double()
    # torch shares the gradient of min() over a whole tensor evenly.
    expected = plain_embeddings(layers.double(), weights, text, curves, 2, math.exp(backbone.logit_scale))
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), weights)
    (gradient,) = torch.autograd.grad(model.embeddings(layers).square().sum(), model.layer_weights)
    assert relative(gradient.double(), expected_gradient) < TOLERANCE
    assert gradient[:, :-1].any(dim=0).all()
    order = torch.tensor([3, 1, 0, 2, 4])
    (permuted,) = torch.autograd.grad(model.embeddings(layers[:, order]).square().sum(), model.layer_weights)
    torch.testing.assert_close(permuted, gradient[:, order], rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize("index", [torch.tensor([4, 0, 3]), torch.tensor([True, False, False, True, True, False])])
def test_some_times_are_rows_of_all(meg_of, index):
    model = meg_of()
    layers, noise, jitter = draws(5, 3, WIDTH, normal=True), draws(6, 5, NUM_PROMPTS), draws(6, 5, NUM_PROMPTS, seed=9)
    everything = model.embeddings(layers, noise=noise, jitter=jitter)
    some = model.embeddings(layers, noise=noise[index], jitter=jitter[index], times=index)
    torch.testing.assert_close(some, everything[index], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dora", ["published", "peft"])
@pytest.mark.parametrize("vision_layers", [0, 1, 2, 3])
def test_layers_are_projected_rows_behind_every_block(backbone_of, model_of, meg_of, images, dora, vision_layers):
    """The same adapters in CLIP-HBA, whose network has an oracle of its own, give the rows behind each block."""
    config = {"dora": dora, "vision_layers": vision_layers}
    reference, model = model_of(**config, text_layers=0), meg_of(**config)
    visual, rows = reference.clip.visual, []
    hooks = [
        block.register_forward_hook(lambda _module, _inputs, x: rows.append(x[:, 0].double()))
        for block in visual.transformer.resblocks
    ]
    features = reference.image_features(images)
    for hook in hooks:
        hook.remove()
    expected = torch.stack([row @ visual.proj.double() for row in rows], dim=1)
    layers = model.layers(images)
    assert relative(layers.double(), expected) < 1e-6
    last = visual.ln_post(rows[-1].float()) @ visual.proj
    torch.testing.assert_close(last, features, rtol=1e-5, atol=1e-5)
    assert relative(layers[:, -1], features) > 0.1  # without the last norm it is not CLIP's feature


def loss_and_gradients(model, layers):
    loss = model.embeddings(layers).square().mean()
    parameters = trainable_parameters(model)
    return loss, dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def test_the_published_relu_keeps_the_start_from_learning(backbone_of, meg_of):
    """It changes no value, but weights of 0 get no gradient: at the start what is left is rounding."""
    layers = draws(4, 5, WIDTH, seed=4, normal=True)
    gradients = {}
    for rule in ("learn", "stay"):
        model = meg_of(backbone_of(vision_layers=5), zero_weights=rule)
        embeddings = model.embeddings(layers)
        (gradients[rule],) = torch.autograd.grad(embeddings.square().sum(), model.layer_weights)
    assert torch.equal(embeddings, meg_of(backbone_of(vision_layers=5)).embeddings(layers))
    assert gradients["stay"].abs().max() < 1e-5 * gradients["learn"].abs().max()


def assert_prefix_is_exact(model, images):
    torch.nn.init.normal_(model.layer_weights, generator=torch.Generator().manual_seed(3))
    prefix = model.prefix(images)
    signed = model.prefix_signature()["tensors"]
    assert {name: list(tensor.shape[1:]) for name, tensor in prefix.items()} == signed
    full, cached = model.layers(images), model.layers_from_prefix(prefix)
    assert relative(cached, full) < TOLERANCE
    full_loss, gradients = loss_and_gradients(model, full)
    cached_loss, cached_gradients = loss_and_gradients(model, cached)
    assert relative(cached_loss, full_loss) < TOLERANCE
    worst = {name: relative(cached_gradients[name], gradients[name]) for name in gradients}
    assert all(value < TOLERANCE for value in worst.values()), worst
    return gradients


@pytest.mark.parametrize("dora", ["published", "peft"])
@pytest.mark.parametrize("init", ["reference", "zero"])
@pytest.mark.parametrize("magnitude", ["frozen", "trained"])
@pytest.mark.parametrize("vision_layers", [0, 1, 2, 3])
def test_prefix_equals_full_forward(meg_of, images, vision_layers, magnitude, init, dora):
    model = meg_of(vision_layers=vision_layers, dora=dora, init=init, magnitude=magnitude)
    gradients = assert_prefix_is_exact(model, images)
    assert len(gradients) == 1 + vision_layers * (3 if magnitude == "trained" else 2)
    for name, gradient in gradients.items():
        # With lora_B = 0 nothing flows back into lora_A: exactly zero, in both paths.
        assert gradient.any() != (init == "zero" and ".lora_A." in name), name


@pytest.mark.parametrize(
    ("architecture", "adapter"),
    [
        ({"width": 64, "vision_layers": 4, "head_width": 32}, {"vision_layers": 3}),
        ({"width": 48, "vision_layers": 2, "head_width": 12, "patch_size": 4}, {"vision_layers": 2, "rank": 6}),
        ({"activation": "gelu"}, {"vision_layers": 1, "targets": ("mlp.c_fc",)}),
        ({}, {"vision_layers": 2, "targets": ("attn.out_proj", "mlp.c_proj")}),
    ],
)
def test_prefix_is_exact_for_other_architectures_and_targets(backbone_of, meg_of, images, architecture, adapter):
    assert_prefix_is_exact(meg_of(backbone_of(seed=3, **architecture), **adapter), images)


def test_prefix_stays_exact_after_training_steps(meg_of, images):
    model = meg_of(vision_layers=2)
    prefix, target = model.prefix(images), draws(6, 10)
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        jitter = 1e-6 + 1e-5 * draws(6, 5, NUM_PROMPTS)
        pearson_long(rdm_series(model.embeddings(model.layers_from_prefix(prefix), jitter=jitter)), target).backward()
        optimizer.step()
    after = model.prefix(images)
    assert all(torch.equal(prefix[name], after[name]) for name in prefix)
    assert relative(model.layers_from_prefix(prefix), model.layers(images)) < TOLERANCE


def test_signature_is_that_of_every_block(meg_of, model_of):
    one, all_three = meg_of(vision_layers=1), meg_of(vision_layers=3)
    assert one.prefix_signature()["tensors"] == {"layers": [2, 24], "context": [1, 32], "residual": [1, 32]}
    assert all_three.prefix_signature()["tensors"] == {"context": [5, 32], "residual": [5, 32]}
    assert meg_of(vision_layers=0).prefix_signature()["tensors"] == {"layers": [3, 24]}
    assert one.prefix_signature() != model_of(vision_layers=1).prefix_signature()
    assert one.prefix_signature() == meg_of(vision_layers=1, rank=2, num_times=3, dora="peft").prefix_signature()


@pytest.mark.parametrize("dora", ["published", "peft"])
@pytest.mark.parametrize("magnitude", ["frozen", "trained"])
def test_what_learns_is_alive_and_nothing_else_moves(backbone_of, meg_of, images, dora, magnitude):
    model = meg_of(dora=dora, magnitude=magnitude)
    everything = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: tensor.detach().clone() for name, tensor in everything.items()}
    backbone_before = {name: tensor.clone() for name, tensor in backbone_of().clip.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    embeddings = model.embeddings(model.layers(images))
    embeddings.square().mean().backward()
    trainable = trainable_parameters(model)
    assert all(p.grad is not None and p.grad.any() for p in trainable.values())
    optimizer.step()
    for name, tensor in everything.items():
        assert torch.equal(tensor, before[name]) == (name not in trainable), name
    assert not torch.equal(model.embeddings(model.layers(images)), embeddings)
    after = backbone_of().clip.state_dict()
    assert all(torch.equal(after[name], backbone_before[name]) for name in after)


def test_trainable_names_are_stable(meg_of):
    """States are stored by these names: renaming one makes old states unreadable."""
    blocks = [f"clip.visual.transformer.resblocks.{index}.attn.out_proj" for index in (1, 2)]
    adapters = [f"{block}.{factor}.default.weight" for block in blocks for factor in ("lora_A", "lora_B")]
    assert list(trainable_parameters(meg_of())) == [*adapters, "layer_weights"]
    assert meg_of().adapter_names() == adapters


@pytest.mark.parametrize(
    ("rank", "num_times", "magnitude", "count"),
    [
        (32, 281, "frozen", 1_579_608),
        (6, 221, "frozen", 300_216),
        (32, 281, "trained", 1_579_608 + 24 * 1024),
    ],
)
def test_the_published_configurations_have_the_published_numbers_of_parameters(rank, num_times, magnitude, count):
    adapter = AdapterConfig(rank=rank, vision_layers=24, text_layers=0)
    assert count_meg_parameters(read_config("ViT-L-14"), adapter, num_times=num_times, magnitude=magnitude) == count


@pytest.mark.parametrize("magnitude", ["frozen", "trained"])
@pytest.mark.parametrize("vision_layers", [0, 2])
def test_the_planner_counts_what_is_trained(backbone_of, meg_of, magnitude, vision_layers):
    model = meg_of(magnitude=magnitude, vision_layers=vision_layers, num_times=11)
    counted = count_meg_parameters(backbone_of().config, model.adapter, num_times=11, magnitude=magnitude)
    assert counted == count_trainable(model)


def test_a_seed_starts_the_adapters_of_both_tasks_alike(meg_of, model_of):
    behaviour = trainable_parameters(model_of(seed=5, text_layers=0))
    model = meg_of(seed=5)
    assert all(
        torch.equal(tensor, behaviour[name]) for name, tensor in trainable_parameters(model).items() if "A" in name
    )
    torch.nn.init.normal_(model.layer_weights, generator=torch.Generator().manual_seed(3))
    model.reset_parameters(6)
    again = trainable_parameters(meg_of(seed=6))
    assert all(torch.equal(tensor, again[name]) for name, tensor in trainable_parameters(model).items())


def test_model_is_deterministic_and_blind_to_train_mode(meg_of, images):
    model = meg_of()
    embeddings = model.embeddings(model.layers(images))
    model.train()
    assert not any(module.training for module in model.modules())
    assert torch.equal(model.embeddings(model.layers(images)), embeddings)
    assert torch.equal(meg_of().embeddings(meg_of().layers(images)), embeddings)


def test_only_noise_makes_an_image_depend_on_its_batch(meg_of):
    model = meg_of()
    layers, noise = draws(5, 3, WIDTH, normal=True), draws(6, 5, NUM_PROMPTS, seed=2, normal=True)
    alone = model.embeddings(layers[:2])
    torch.testing.assert_close(alone, model.embeddings(layers)[:, :2], rtol=1e-6, atol=1e-6)
    noisy = model.embeddings(layers[:2], noise=noise[:, :2])
    assert not torch.allclose(noisy, model.embeddings(layers, noise=noise)[:, :2], rtol=1e-2)


def test_times_without_scaler_or_binding_are_told_and_refused(meg_of):
    curves = {
        "alpha": torch.tensor([0, 0, 0, 0.5, 1, 1, 1]),
        "beta": torch.tensor([1, 1, 1, 1, 1, 0, 0.0]),
        "noise": torch.ones(7),
    }
    model = meg_of(curves=curves, half_width=1)
    # Means over three times: alpha is 0 at 0 and 1, beta at 6 (of 5 and 6) only.
    assert model.defined_times().tolist() == [False, False, True, True, True, True, False]
    layers = draws(5, 3, WIDTH, normal=True).abs()
    defined = model.defined_times()
    with torch.no_grad():
        model.text.abs_()
    assert rdm_series(model.embeddings(layers, times=defined)).isfinite().all()
    with pytest.raises(UndefinedLoss, match="time index 0, stimulus 0"):
        rdm_series(model.embeddings(layers))
    jitter = 1e-6 + 1e-5 * draws(7, 5, NUM_PROMPTS)
    assert rdm_series(model.embeddings(layers, jitter=jitter)).isfinite().all()


def test_window_means_are_clipped_at_the_ends():
    values = np.arange(5.0) ** 2
    expected = [values[max(0, i - 2) : min(5, i + 3)].mean() for i in range(5)]
    np.testing.assert_allclose(window_means(5, 2).numpy() @ values, expected, rtol=1e-15)
    assert torch.equal(window_means(4, 0), torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("dora", ["published", "peft"])
def test_half_precision_and_autocast_leave_the_scores_in_fp32(meg_of, images, dora):
    model = meg_of(dora=dora)
    exact = model.layers(images)
    half = model.layers_from_prefix({name: tensor.half() for name, tensor in model.prefix(images).items()})
    assert half.dtype == torch.float32
    assert 0 < relative(half, exact) < 1e-2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layers = model.layers_from_prefix(model.prefix(images))
        assert 0 < relative(layers, exact) < 5e-2
        assert torch.equal(model.embeddings(exact), model.embeddings(exact.double()))
    assert layers.dtype == torch.float32


def test_tiny_clip_trains_behind_its_prompts(tiny_backbone):
    """The built-in network: text of a CLIP-HBA, three steps on the layer weights alone reduce the loss."""
    text = ClipHba(tiny_backbone, AdapterConfig(vision_layers=0, text_layers=0), PROMPTS).text_features()
    ones = torch.ones(9)
    adapter = AdapterConfig(rank=2, vision_layers=2, text_layers=0)
    model = ClipHbaMeg(tiny_backbone, adapter, text=text, alpha=ones, beta=ones, noise=0 * ones, half_width=1)
    size = tiny_backbone.image_size
    with torch.no_grad():
        layers = model.layers(draws(6, 3, size, size, normal=True))
    jitter = 1e-6 + 1e-5 * draws(9, 6, 66, seed=1)
    target, losses = draws(9, 15, seed=2), []
    optimizer = torch.optim.AdamW([model.layer_weights], lr=3e-3)
    for _ in range(4):
        optimizer.zero_grad()
        loss = pearson_long(rdm_series(model.embeddings(layers, jitter=jitter)), target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[3] < losses[0]


def mismatches():
    curve, text = torch.ones(4), draws(NUM_PROMPTS, WIDTH)
    curves = {"alpha": curve, "beta": curve, "noise": curve}
    return {
        "curves of two lengths": ("beta", {"text": text, **curves, "beta": torch.ones(5)}),
        "a curve below 0": ("alpha", {"text": text, **curves, "alpha": -curve}),
        "a curve with a NaN": ("noise", {"text": text, **curves, "noise": curve * math.nan}),
        "a matrix for a curve": ("beta", {"text": text, **curves, "beta": curve[:, None]}),
        "no time": ("alpha", {"text": text, **dict.fromkeys(curves, torch.ones(0))}),
        "text of another width": ("text", {"text": text[:, 1:], **curves}),
        "a window below 0": ("half_width", {"text": text, **curves, "half_width": -1}),
    }


@pytest.mark.parametrize("case", mismatches())
def test_arguments_that_do_not_fit_are_refused(backbone_of, case):
    where, arguments = mismatches()[case]
    arguments = {"half_width": 1} | arguments
    with pytest.raises(TensorMismatch) as caught:
        ClipHbaMeg(backbone_of(), AdapterConfig(text_layers=0), **arguments)
    assert caught.value.where == where


def test_inputs_that_do_not_fit_are_refused(meg_of):
    model = meg_of()
    layers = draws(5, 3, WIDTH)
    for where, arguments in {
        "layers": {"layers": layers[:, :2]},
        "noise": {"layers": layers, "noise": draws(5, NUM_PROMPTS)},
        "jitter": {"layers": layers, "jitter": draws(6, 5, 1)},
    }.items():
        with pytest.raises(TensorMismatch) as caught:
            model.embeddings(**arguments)
        assert caught.value.where == where
    with pytest.raises(TensorMismatch, match="at least 2 images"):
        model.embeddings(layers[:1], noise=draws(6, 1, NUM_PROMPTS))
    assert model.embeddings(layers[:1]).isfinite().all()


def test_adapters_that_do_not_fit_are_refused(backbone_of, meg_of):
    with pytest.raises(AdapterMismatch, match="no text block is adapted"):
        meg_of(text_layers=1)
    with pytest.raises(AdapterMismatch, match="at least 2"):
        meg_of(backbone_of(vision_layers=1), vision_layers=1)
    with pytest.raises(AdapterMismatch, match="the tower has 3 blocks"):
        meg_of(vision_layers=4)
