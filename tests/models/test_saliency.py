"""Dynamic saliency against plain loops over masks and pixels."""

import math

import numpy as np
import pytest
import torch
from sweeper_models.adapter import AdapterConfig
from sweeper_models.clip_hba_meg import ClipHbaMeg
from sweeper_models.errors import TensorMismatch, UndefinedLoss
from sweeper_models.saliency import bilinear_weights, draw_masks, saliency


def rng():
    return np.random.Generator(np.random.Philox(key=3))


def plain_masks(num_masks, grid, side):
    """Enlarge each drawn grid by bilinear interpolation, pixel by pixel, and crop it."""
    generator, cell = rng(), math.ceil(side / grid)
    cells = (generator.random((num_masks, grid, grid)) < 0.5).astype(float)
    shifts = generator.integers(0, cell, (num_masks, 2))
    size = (grid + 1) * cell

    def corner(pixel):
        place = min(max((pixel + 0.5) * grid / size - 0.5, 0.0), grid - 1.0)
        low = min(int(place), grid - 2)
        return low, place - low

    masks = np.zeros((num_masks, side, side))
    for n in range(num_masks):
        for y in range(side):
            for x in range(side):
                (top, v), (left, u) = corner(y + shifts[n, 0]), corner(x + shifts[n, 1])
                a, b = cells[n, top, left], cells[n, top, left + 1]
                c, d = cells[n, top + 1, left], cells[n, top + 1, left + 1]
                masks[n, y, x] = (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * c + u * d)
    return masks


def plain_saliency(embed, image, masks):
    """Go over times, pixels and masks one by one, as the reference does."""
    anchor = embed(image[None])[:, 0].double()
    distances = np.zeros((len(anchor), len(masks)))
    for j, mask in enumerate(masks):
        masked = embed((torch.from_numpy(mask).float() * image)[None])[:, 0].double()
        for t in range(len(anchor)):
            norms = anchor[t].norm() * masked[t].norm()
            distances[t, j] = 1 - float(anchor[t] @ masked[t] / norms) if norms > 0 else 1.0
    side = image.shape[-1]
    maps = np.zeros((len(anchor), side, side))
    for t in range(len(anchor)):
        for y in range(side):
            for x in range(side):
                occluding = [distances[t, j] for j, mask in enumerate(masks) if mask[y, x] < 0.5]
                maps[t, y, x] = sum(occluding) / len(occluding) if occluding else 0.0
        maps[t] = (maps[t] - maps[t].min()) / (maps[t].max() - maps[t].min())
    return maps


@pytest.fixture
def embed(backbone_of):
    """Embed by a small CLIP-HBA-MEG with curves, noise-free."""
    adapter = AdapterConfig(rank=2, vision_layers=2, text_layers=0, init="reference")
    draw = torch.Generator().manual_seed(1)
    curves = {"alpha": torch.rand(5, generator=draw), "beta": torch.ones(5), "noise": torch.ones(5)}
    text = torch.randn(7, 24, generator=draw)
    model = ClipHbaMeg(backbone_of(), adapter, text=text, half_width=1, **curves)
    torch.nn.init.normal_(model.layer_weights, generator=draw)
    model.requires_grad_(False)
    return lambda images: model.embeddings(model.layers(images))


@pytest.fixture
def image(images):
    return images[0]


@pytest.mark.parametrize(("num_masks", "grid", "side"), [(9, 4, 16), (5, 3, 20), (4, 8, 40), (3, 2, 15)])
def test_masks_are_enlarged_grids(num_masks, grid, side):
    masks = torch.cat(list(draw_masks(rng(), num_masks, grid, side, chunk=4))).numpy()
    plain = plain_masks(num_masks, grid, side)
    np.testing.assert_allclose(masks, plain, atol=1e-12)
    clear = abs(plain - 0.5) > 1e-9
    assert ((masks < 0.5) == (plain < 0.5))[clear].all()
    assert 0.3 < masks.mean() < 0.7


def test_one_half_is_kept_exactly():
    """A grid of two cells enlarged to an odd size has its middle exactly between them."""
    weights = bilinear_weights(2, 3) / 6
    assert weights.tolist() == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    assert torch.equal(bilinear_weights(8, 252).sum(dim=1), torch.full((252,), 504.0, dtype=torch.float64))


@pytest.mark.parametrize("num_masks", [25, 2])
def test_saliency_equals_loops_over_masks_and_pixels(embed, image, num_masks):
    # Two masks leave pixels that none occludes.
    maps = saliency(embed, image, rng(), num_masks=num_masks, grid=4, chunk=7)
    masks = torch.cat(list(draw_masks(rng(), num_masks, 4, 16, chunk=num_masks))).numpy()
    uncovered = (masks >= 0.5).all(axis=0)
    assert uncovered.any() == (num_masks == 2)
    assert maps.shape == (5, 16, 16)
    np.testing.assert_allclose(maps, plain_saliency(embed, image, masks), atol=1e-6)
    assert maps.amin(dim=(1, 2)).tolist() == [0.0] * 5
    assert maps.amax(dim=(1, 2)).tolist() == [1.0] * 5


def test_a_mask_of_one_half_keeps_the_pixel():
    weights = torch.randn(192, 5, generator=torch.Generator().manual_seed(2))
    image = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(3))

    def embed(images):
        return (images.flatten(1) @ weights).relu()[None]

    masks = torch.cat(list(draw_masks(rng(), 30, 4, 8, chunk=30))).numpy()
    assert (masks == 0.5).any()
    maps = saliency(embed, image, rng(), num_masks=30, grid=4)
    np.testing.assert_allclose(maps, plain_saliency(embed, image, masks), atol=1e-6)


def test_alpha_sets_the_extent(embed, image):
    alpha = torch.tensor([0.0, 0.1, 0.5, 1.0, 0.3])
    plain = saliency(embed, image, rng(), num_masks=20, grid=4)
    scaled = saliency(embed, image, rng(), num_masks=20, grid=4, alpha=alpha)
    torch.testing.assert_close(scaled, alpha[:, None, None] * plain)


def test_the_same_generator_gives_the_same_map(embed, image):
    first, again = (saliency(embed, image, rng(), num_masks=20, grid=4) for _ in range(2))
    assert torch.equal(first, again)
    torch.testing.assert_close(saliency(embed, image, rng(), num_masks=20, grid=4, chunk=3), first, atol=1e-5, rtol=0)
    other = saliency(embed, image, np.random.Generator(np.random.Philox(key=4)), num_masks=20, grid=4)
    assert not torch.allclose(other, first, atol=1e-2)


def test_the_patch_that_is_read_stands_out():
    """A model that sees one corner only: occluding that corner is what moves it."""

    def corner(images):
        seen = images[:, :, :8, :8].flatten(1)
        return torch.stack([seen, seen])

    image = torch.ones(3, 32, 32)
    image[0, :4] = 3.0
    maps = saliency(corner, image, rng(), num_masks=400, grid=8)
    assert maps[0, :8, :8].mean() > 2 * maps[0, 16:, 16:].mean()


def test_a_masked_image_that_shows_nothing_is_as_far_as_can_be():
    def bright(images):
        return torch.relu(images.mean(dim=1).flatten(1) - 0.99)[None]

    image = torch.ones(3, 16, 16)
    maps = saliency(bright, image, rng(), num_masks=30, grid=4)
    assert maps.isfinite().all()


def test_a_model_that_never_moves_has_an_empty_map():
    def still(images):
        rounding = 1 + 3e-7 * torch.rand(2, len(images), 7, generator=torch.Generator().manual_seed(len(images)))
        return torch.linspace(0.1, 3.0, 7) * rounding

    assert not saliency(still, torch.ones(3, 16, 16), rng(), num_masks=300, grid=4).any()


def test_what_cannot_be_compared_is_refused(image):
    def late(images):
        return torch.stack([torch.zeros(len(images), 3), images.mean(dim=(2, 3)).abs()])

    with pytest.raises(UndefinedLoss, match="time index 0"):
        saliency(late, image, rng(), num_masks=4, grid=4)
    with pytest.raises(TensorMismatch, match="square image"):
        saliency(late, image[:, 1:], rng(), num_masks=4, grid=4)
