"""Dynamic saliency: which parts of an image move its embedding at each time when they are occluded (docs/methods.md 6).

A variant of RISE: the score of a pixel is the mean distance that occluding it, with others, makes; RISE itself takes
the expectation over masks that keep it.

Shapes: N masks, G x G cells of a grid, H = W pixels of a side, T times, D dimensions.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from sweeper_models.errors import TensorMismatch, UndefinedLoss
from torch import Tensor

RESOLUTION = 1e-13  # float32 embeddings that differ by rounding are about (1e-7)^2 apart: such a map shows nothing

Embed = Callable[[Tensor], Tensor]
"""From float32 images [B, 3, H, W] to float32 [T, B, D], without noise and jitter."""


def saliency(
    embed: Embed,
    image: Tensor,
    rng: np.random.Generator,
    *,
    num_masks: int = 1000,
    grid: int = 8,
    chunk: int = 50,
    alpha: Tensor | None = None,
) -> Tensor:
    """Compute the saliency of every pixel at every time.

    A masked image is mask times normalised image, so what is occluded gets the mean colour. Its distance from the
    image is 1 - cosine; an embedding of zeros has no angle and counts as 1. A pixel counts as occluded by masks
    below one half. Maps are scaled to 0..1 at each time; a map that is the same everywhere becomes 0.

    Args:
        embed: the model; free of noise, or the map would depend on the batch.
        image: float32 [3, H, H], preprocessed.
        rng: gives the masks; nothing else is drawn.
        num_masks: N, published 1000.
        grid: G, published 8.
        chunk: masks that are embedded together; changes no number beyond rounding.
        alpha: [T], multiplies the scaled maps, so that the model's visual scaler sets their extent.

    Returns:
        float32 [T, H, H], 0 or more, on the image's device.

    Raises:
        UndefinedLoss: the image's own embedding is 0 at some time, so nothing can be compared with it.
        TensorMismatch: the image is not [3, H, H].
    """
    if image.ndim != 3 or image.shape[1] != image.shape[2]:
        raise TensorMismatch(
            where="image",
            rule="one preprocessed, square image",
            got=str(list(image.shape)),
            remedy="Give [3, H, H].",
        )
    anchor = _anchor(embed(image[None])[:, 0])
    side = image.shape[-1]
    total = torch.zeros(len(anchor), side * side, dtype=torch.float64, device=image.device)
    count = torch.zeros(side * side, dtype=torch.float64, device=image.device)
    for masks in draw_masks(rng, num_masks, grid, side, chunk):
        masks = masks.to(image.device)
        distances = _distances(anchor, embed(masks[:, None].to(image.dtype) * image))
        occluded = (masks < 0.5).flatten(1).double()  # [n, H W]
        total += distances @ occluded
        count += occluded.sum(dim=0)
    maps = _scaled(torch.where(count > 0, total / count.clamp(min=1), 0.0))
    if alpha is not None:
        maps = maps * alpha.to(maps)[:, None]
    return maps.float().unflatten(1, (side, side))


def draw_masks(rng: np.random.Generator, num_masks: int, grid: int, side: int, chunk: int) -> Iterator[Tensor]:
    """Draw masks and yield them in chunks, float64 [n, H, H] in 0..1.

    Each cell of a grid is kept with probability one half; the grid is enlarged bilinearly to a square one cell larger
    than the image (cells of ceil(H / G) pixels) and cropped at a random place.
    """
    cell = math.ceil(side / grid)
    cells = rng.random((num_masks, grid, grid)) < 0.5
    shifts = rng.integers(0, cell, (num_masks, 2))
    enlarge = bilinear_weights(grid, (grid + 1) * cell)
    pixels = np.arange(side)
    for first in range(0, num_masks, chunk):
        rows, columns = (
            enlarge[torch.from_numpy(shifts[first : first + chunk, axis, None] + pixels)] for axis in (0, 1)
        )
        kept = torch.from_numpy(cells[first : first + chunk]).double()
        # Weights are whole numbers, so the product is exact and a value of one half falls on one side everywhere.
        yield (rows @ kept @ columns.mT) / (2.0 * len(enlarge)) ** 2


def bilinear_weights(num_cells: int, size: int) -> Tensor:
    """Build the matrix that enlarges a row of cells bilinearly, times 2 size: whole numbers, float64 [size, num_cells].

    Pixel and cell centres lie at halves, as in every image library; beyond the outer centres the outer cell holds.
    """
    centres = (2 * np.arange(size) + 1) * num_cells - size  # in cells from the first centre, times 2 size
    centres = centres.clip(0, 2 * size * (num_cells - 1))
    lower, weight = np.divmod(centres, 2 * size)
    matrix = np.zeros((size, num_cells))
    matrix[np.arange(size), lower] = 2 * size - weight
    matrix[np.arange(size), (lower + 1).clip(max=num_cells - 1)] += weight
    return torch.from_numpy(matrix)


def _anchor(embeddings: Tensor) -> Tensor:
    """Scale the image's own embeddings to unit norm, float64 [T, D]."""
    norms = embeddings.double().norm(dim=-1, keepdim=True)
    undefined = (~(norms > 0)).squeeze(-1).nonzero()
    if len(undefined):
        raise UndefinedLoss(
            where="times",
            rule="the image's embedding is not 0, else nothing can be compared with it",
            got=f"zeros at {len(undefined)} of {len(norms)} times, the first with time index {int(undefined[0])}",
            remedy="Leave out times at which alpha or beta is 0, as before the stimulus.",
        )
    return embeddings.double() / norms


def _distances(anchor: Tensor, masked: Tensor) -> Tensor:
    """Compute 1 - cosine, float64 [T, n] from [T, D] of unit norm and [T, n, D]."""
    masked = masked.double()
    norms = masked.norm(dim=-1)
    products = (masked @ anchor[:, :, None]).squeeze(-1)
    return 1.0 - torch.where(norms > 0, products / norms.where(norms > 0, 1.0), 0.0)


def _scaled(maps: Tensor) -> Tensor:
    least, most = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    varies = most - least > RESOLUTION
    return torch.where(varies, (maps - least) / (most - least).where(varies, 1.0), 0.0)
