"""Small random CLIPs that every test of the models shares."""

import functools

import pytest
import torch
from sweeper_models.adapter import AdapterConfig
from sweeper_models.backbones import Backbone, WordTokenizer, load_backbone, random_backbone
from sweeper_models.clip_hba import ClipHba
from sweeper_models.configs import TINY_CLIP
from sweeper_models.prompts import PROMPTS
from sweeper_models.weights import locate_weights

SHORT_PROMPTS = PROMPTS[:7]


def small_config(*, width=32, vision_layers=3, text_layers=2, image_size=16, patch_size=8, head_width=16):
    text_width = width // 2
    return {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": image_size,
            "layers": vision_layers,
            "width": width,
            "head_width": head_width,
            "patch_size": patch_size,
        },
        "text_cfg": {"context_length": 12, "vocab_size": 160, "width": text_width, "heads": 2, "layers": text_layers},
    }


def words_tokenizer(context_length=12):
    words = sorted({word for prompt in PROMPTS for word in prompt.replace(";", " ").replace("-", " ").split()})
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", "<start>", *words, "<end>"])}
    return WordTokenizer(vocabulary, context_length=context_length)


@functools.cache
def small_backbone(activation="quick_gelu", seed=0, **config) -> Backbone:
    return random_backbone(small_config(**config), activation=activation, seed=seed, tokenize=words_tokenizer())


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def backbone_of():
    """Build (once) a small random backbone: activation, seed and sizes as keywords."""
    return small_backbone


@pytest.fixture
def model_of():
    """Build a model on a small random backbone: adapter fields and seed as keywords."""

    def build(backbone=None, *, seed=1, **adapter):
        adapter = {"rank": 4, "init": "reference"} | adapter
        return ClipHba(backbone or small_backbone(), AdapterConfig(**adapter), SHORT_PROMPTS, seed=seed)

    return build


@pytest.fixture
def images():
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(11))


@pytest.fixture
def targets():
    return torch.rand(5, len(SHORT_PROMPTS), generator=torch.Generator().manual_seed(12)) * 20


@pytest.fixture(scope="session")
def tiny_backbone():
    """Load the built-in CLIP."""
    return load_backbone(locate_weights(TINY_CLIP, "builtin"))
