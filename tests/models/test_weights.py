"""Locating weights, their identity, and every refusal."""

import hashlib
import os
import pickle
import subprocess
import sys
import zipfile

import pytest
import safetensors.torch
import torch
from sweeper_models import backbones
from sweeper_models.backbones import build_clip, load_backbone
from sweeper_models.configs import TINY_CLIP_DIR, read_config
from sweeper_models.errors import BackboneUnsupported, WeightsMismatch, WeightsUnavailable
from sweeper_models.weights import HUB_FILE, HUB_WEIGHTS, locate_weights

REPOSITORY = "timm/vit_large_patch14_clip_224.openai"
needs_tiny_clip = pytest.mark.skipif(
    not (TINY_CLIP_DIR / "weights.safetensors").is_file(), reason="the built-in tiny CLIP is not there yet"
)


@pytest.fixture(autouse=True)
def _empty_hub_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def small_file(tmp_path, backbone_of):
    path = tmp_path / "small.safetensors"
    safetensors.torch.save_file(backbone_of().clip.state_dict(), path)
    return path


def place(folder, content=b"\x02\x00\x00\x00\x00\x00\x00\x00{}"):
    folder.mkdir(parents=True)
    (folder / HUB_FILE).write_bytes(content)
    return folder / HUB_FILE


def test_locating_loads_neither_torch_nor_open_clip():
    code = (
        "import sys; from sweeper_models.weights import locate_weights; from sweeper_models import adapter, prompts; "
        "locate_weights('ViT-L-14', 'random'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'open_clip', 'peft', 'huggingface_hub', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hub_table_agrees_with_open_clip():
    from open_clip.pretrained import get_pretrained_cfg

    for (backbone, tag), (repository, activation) in HUB_WEIGHTS.items():
        registered = get_pretrained_cfg(backbone, tag)
        assert registered["hf_hub"] == f"{repository}/"
        assert ("quick_gelu" if registered.get("quick_gelu") else "gelu") == activation
        read_config(backbone)


def test_absent_weights_say_what_to_download_and_where_to_put_it(tmp_path):
    with pytest.raises(WeightsUnavailable) as caught:
        locate_weights("ViT-L-14", "openai", cache_dir=tmp_path / "cache")
    expected = tmp_path / "cache" / REPOSITORY / HUB_FILE
    assert f"https://huggingface.co/{REPOSITORY}/resolve/main/{HUB_FILE} to {expected} " in caught.value.remedy
    place(expected.parent)  # doing what it says helps
    found = locate_weights("ViT-L-14", "openai", cache_dir=tmp_path / "cache")
    assert (found.path, found.activation, found.config_name) == (expected, "quick_gelu", "ViT-L-14")
    assert found.sha256 == hashlib.sha256(expected.read_bytes()).hexdigest()


@pytest.mark.parametrize("where", ["cache_dir", "HF_HUB_CACHE", "HF_HOME"])
def test_weights_are_found_in_the_hub_layout(tmp_path, monkeypatch, where):
    hub = {"cache_dir": tmp_path / "a", "HF_HUB_CACHE": tmp_path / "hub", "HF_HOME": tmp_path / "home" / "hub"}[where]
    cached = hub / "models--timm--vit_large_patch14_clip_224.openai"
    place(cached / "snapshots" / "aaa", b"older")
    path = place(cached / "snapshots" / "bbb")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("bbb")
    if where == "HF_HOME":
        monkeypatch.delenv("HF_HUB_CACHE")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    cache_dir = tmp_path / "a" if where == "cache_dir" else None
    assert locate_weights("ViT-L-14-quickgelu", "openai", cache_dir=cache_dir).path == path


def test_a_changed_file_is_hashed_again(tmp_path):
    path = place(tmp_path / REPOSITORY)
    before = locate_weights("ViT-L-14", "openai", cache_dir=tmp_path).sha256
    path.write_bytes(b"\x03\x00\x00\x00\x00\x00\x00\x00{ }")
    os.utime(path, ns=(1, 1))
    assert locate_weights("ViT-L-14", "openai", cache_dir=tmp_path).sha256 != before


@pytest.mark.parametrize(
    ("backbone", "pretrained", "activation"),
    [
        ("ViT-L-14", "openai", "gelu"),  # open_clip itself only warns here
        ("ViT-L-14-quickgelu", "laion2b_s32b_b82k", None),
        ("ViT-L-14-quickgelu", "random", "gelu"),
        ("ViT-L-14", "random", "relu"),
    ],
)
def test_activation_of_other_weights_is_refused(backbone, pretrained, activation):
    with pytest.raises(WeightsMismatch) as caught:
        locate_weights(backbone, pretrained, activation=activation)
    assert caught.value.where == "activation"


def test_a_file_must_name_its_activation(small_file):
    with pytest.raises(WeightsMismatch, match="Set activation: quick_gelu"):
        locate_weights("ViT-L-14", str(small_file))
    found = locate_weights("ViT-L-14", str(small_file), activation="gelu")
    assert (found.path, found.activation) == (small_file, "gelu")


@pytest.mark.parametrize(
    ("backbone", "pretrained", "error"),
    [
        ("ViT-L14", "openai", BackboneUnsupported),
        ("RN50", "openai", BackboneUnsupported),
        ("ViT-B-16-SigLIP", "webli", BackboneUnsupported),
        ("ViT-L-14-CLIPA", "random", BackboneUnsupported),
        ("ViT-L-14", "opnai", WeightsUnavailable),
        ("ViT-L-14", "builtin", WeightsUnavailable),
        ("ViT-L-14", "random:x", WeightsUnavailable),
        ("ViT-L-14", "nowhere/file.safetensors", WeightsUnavailable),
    ],
)
def test_unknown_names_are_refused_with_a_way_out(backbone, pretrained, error):
    with pytest.raises(error) as caught:
        locate_weights(backbone, pretrained)
    problem = caught.value
    assert all((problem.where, problem.rule, problem.got, problem.remedy))
    copied = pickle.loads(pickle.dumps(problem))  # errors travel from workers to the driver
    assert (str(copied), copied.remedy) == (str(problem), problem.remedy)


def test_pickles_are_refused_with_a_conversion_that_works(tmp_path, backbone_of, monkeypatch):
    state = backbone_of().clip.state_dict()
    torch.save({"state_dict": state}, tmp_path / "clip.pt")
    with pytest.raises(WeightsMismatch, match="safetensors only") as caught:
        locate_weights("ViT-L-14", str(tmp_path / "clip.pt"), activation="gelu")
    command = caught.value.remedy.removeprefix("Convert it once: ")
    exec(command.removeprefix('python -c "').removesuffix('"'), {})
    converted = safetensors.torch.load_file(tmp_path / "clip.safetensors")
    assert all(torch.equal(converted[name], state[name]) for name in state)


def test_torchscript_archives_are_refused_under_any_name(tmp_path):
    path = tmp_path / "ViT-L-14.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ViT-L-14/code/__torch__.py", "")
    with pytest.raises(WeightsMismatch, match="a TorchScript archive") as caught:
        locate_weights("ViT-L-14", str(path), activation="quick_gelu")
    assert "torch.jit.load" in caught.value.remedy


def test_file_and_network_must_match_key_by_key(small_file, backbone_of, monkeypatch):
    monkeypatch.setattr(backbones, "read_config", lambda _: backbone_of().config)
    located = locate_weights("ViT-L-14", str(small_file), activation="quick_gelu")
    state = safetensors.torch.load_file(small_file)
    state["extra"] = state.pop("visual.proj")
    state["ln_final.bias"] = torch.zeros(3)
    safetensors.torch.save_file(state, small_file)
    with pytest.raises(WeightsMismatch) as caught:
        load_backbone(located, tokenize=backbone_of().tokenize)
    assert all(
        part in caught.value.got for part in ("missing visual.proj", "unexpected extra", "ln_final.bias is (3,)")
    )


def test_a_file_gives_the_network_it_was_saved_from(small_file, backbone_of, images, monkeypatch):
    original = backbone_of()
    monkeypatch.setattr(backbones, "read_config", lambda _: original.config)
    located = locate_weights("ViT-L-14", str(small_file), activation="quick_gelu")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    loaded = load_backbone(located, tokenize=original.tokenize)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert loaded.weights_sha256 == located.sha256
    assert torch.equal(loaded.clip.encode_image(images), original.clip.encode_image(images))
    tokens = original.tokenize(["food-related", "metallic; artificial"])
    assert torch.equal(loaded.clip.encode_text(tokens), original.clip.encode_text(tokens))
    assert not loaded.clip.training
    assert not any(p.requires_grad or p.is_meta for p in loaded.clip.parameters())
    assert not any(buffer.is_meta for buffer in loaded.clip.buffers())


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_custom_blocks_equal_the_default_ones(backbone_of, images, activation):
    custom = backbone_of(activation)
    with torch.random.fork_rng(devices=[]):
        default = build_clip(custom.config, activation=activation, block_type="default").eval()
    default.load_state_dict(custom.clip.state_dict())
    tokens = custom.tokenize(["food-related", "metallic; artificial"])
    with torch.no_grad():
        torch.testing.assert_close(custom.clip.encode_image(images), default.encode_image(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(custom.clip.encode_text(tokens), default.encode_text(tokens), rtol=1e-5, atol=1e-5)


def test_activation_makes_another_network(backbone_of, images):
    assert not torch.allclose(
        backbone_of("quick_gelu").clip.encode_image(images), backbone_of("gelu").clip.encode_image(images), atol=1e-4
    )


def test_random_weights_follow_their_seed_and_leave_the_global_state(backbone_of):
    torch.manual_seed(77)
    before = torch.random.get_rng_state()
    first = backbone_of.__wrapped__(seed=6)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(78)
    again, other = backbone_of.__wrapped__(seed=6), backbone_of.__wrapped__(seed=7)
    assert torch.equal(first.clip.visual.proj, again.clip.visual.proj)
    assert not torch.equal(first.clip.visual.proj, other.clip.visual.proj)
    assert first.weights_sha256 == locate_weights("ViT-B-32", "random:6").sha256 == "random:6"


def test_word_tokenizer_splits_cuts_and_ends(backbone_of):
    tokenize = backbone_of().tokenize
    ids = tokenize.vocabulary
    row, long = tokenize(["Metallic; unheard-of", "white " * 40])
    expected = [ids["<start>"], ids["metallic"], ids["<unk>"], ids["<unk>"], ids["<end>"]]
    assert row.tolist() == expected + [ids["<pad>"]] * 7
    assert long[-1] == ids["<end>"] == max(ids.values())


@needs_tiny_clip
def test_tiny_clip_is_a_backbone(model_of):
    located = locate_weights("tiny-clip", "builtin")
    backbone = load_backbone(located)
    assert located.activation == ("quick_gelu" if backbone.config.get("quick_gelu") else "gelu")
    other = "gelu" if located.activation == "quick_gelu" else "quick_gelu"
    with pytest.raises(WeightsMismatch):
        locate_weights("tiny-clip", "builtin", activation=other)
    tokens = backbone.tokenize(["food-related", "no such wörd"])
    assert tokens.max() == backbone.config["text_cfg"]["vocab_size"] - 1
    size = backbone.image_size
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    model = model_of(backbone)
    torch.testing.assert_close(model.forward_prefix(model.prefix(images)), model(images), rtol=1e-5, atol=1e-4)
