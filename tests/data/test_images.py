import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sweeper.data import images as module
from sweeper.data.images import CLIP_MEAN, CLIP_STD, THINGS_MEAN, THINGS_STD, Channels, ImageSet, Preprocessing
from sweeper.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 10, 14, 3), dtype=np.uint8)
NAMES = ("a", "b", "c", "d")


def array_set() -> ImageSet:
    return ImageSet(names=NAMES, sources=PIXELS)


def file_set(folder: Path) -> ImageSet:
    paths = tuple(folder / f"{name}.png" for name in NAMES)
    for path, pixels in zip(paths, PIXELS, strict=True):
        Image.fromarray(pixels).save(path)
    return ImageSet(names=NAMES, sources=paths)


@pytest.mark.parametrize("size", [7, 10, 32])
@pytest.mark.parametrize("shape", [(10, 10), (10, 14)])
def test_pixels_equal_the_published_steps(size: int, shape: tuple[int, int]) -> None:
    """Spells out torchvision's Resize, ToTensor, Normalize on a PIL image (whose import takes 8 s)."""
    torch = pytest.importorskip("torch")
    pixels = np.ascontiguousarray(PIXELS[:, : shape[0], : shape[1]])
    mean, std = (torch.tensor(c)[:, None, None] for c in (THINGS_MEAN, THINGS_STD))
    for index, picture in enumerate(pixels):
        resized = np.array(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))
        expected = torch.from_numpy(resized).permute(2, 0, 1).float().div(255).sub(mean).div(std)
        ours = ImageSet(names=NAMES, sources=pixels).pixels([index], size)
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours[0], expected.numpy())


def test_files_and_arrays_give_the_same_pixels(tmp_path: Path) -> None:
    np.testing.assert_array_equal(file_set(tmp_path).pixels([2, 0], 8), array_set().pixels([2, 0], 8))
    np.testing.assert_array_equal(file_set(tmp_path).rgb(1), PIXELS[1])


def test_right_size_is_not_resampled() -> None:
    square = ImageSet(names=("a",), sources=PIXELS[:1, :, :10])
    half = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
    back = square.pixels([0], 10, half)[0].transpose(1, 2, 0) * 255
    np.testing.assert_allclose(back, PIXELS[0, :, :10], atol=1e-4)


def test_constants_are_named_and_used() -> None:
    ours = array_set().pixels([0], 4)
    clip = array_set().pixels([0], 4, Preprocessing(mean=CLIP_MEAN, std=CLIP_STD))

    def undone(pixels: NDArray[np.float32], mean: Channels, std: Channels) -> NDArray[np.float32]:
        return pixels * np.array(std)[:, None, None] + np.array(mean)[:, None, None]

    np.testing.assert_allclose(undone(clip, CLIP_MEAN, CLIP_STD), undone(ours, THINGS_MEAN, THINGS_STD), atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(PIXELS[0]).convert(mode).save(path)
    assert ImageSet(names=("a",), sources=(path,)).pixels([0], 5).shape == (1, 3, 5, 5)


def test_digests_are_of_file_bytes_or_of_shape_and_pixels(tmp_path: Path) -> None:
    files, arrays = file_set(tmp_path), array_set()
    assert isinstance(files.sources, tuple)
    assert files.digests[1] == hashlib.sha256(files.sources[1].read_bytes()).hexdigest()
    assert arrays.digests[1] == hashlib.sha256(b"10x14x3\n" + PIXELS[1].tobytes()).hexdigest()
    turned = ImageSet(names=NAMES, sources=PIXELS.reshape(4, 14, 10, 3))
    assert turned.digests[1] != arrays.digests[1]


def test_digest_follows_bytes_and_order_but_not_names(tmp_path: Path) -> None:
    files = file_set(tmp_path)
    renamed = ImageSet(names=("w", "x", "y", "z"), sources=files.sources)
    assert renamed.digest == files.digest
    assert files.subset([1, 0, 2, 3]).digest != files.digest
    assert files.subset(np.array([1, 3])).digests == (files.digests[1], files.digests[3])
    assert files.subset([1, 3]).names == ("b", "d")


def test_changed_file_changes_the_digest(tmp_path: Path) -> None:
    files = file_set(tmp_path)
    before = files.digest
    path = tmp_path / "a.png"
    Image.fromarray(255 - PIXELS[0]).save(path)
    os.utime(path, ns=(0, 12345))
    assert files.digest != before


def test_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = file_set(tmp_path)
    first = files.digests
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read again"))
    assert files.digests == first


def test_bad_files_are_data_errors(tmp_path: Path) -> None:
    files = file_set(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    data = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "c.png").unlink()
    for index in (0, 1, 2):
        with pytest.raises(DataError, match=NAMES[index] + r"\.png"):
            files.pixels([index], 8)
    with pytest.raises(DataError, match=r"c\.png"):
        _ = files.digest


def test_names_and_sources_have_one_length() -> None:
    with pytest.raises(ValueError, match="2 names for 4 images"):
        ImageSet(names=("a", "b"), sources=PIXELS)
    assert len(module.empty_image_set()) == 0


def test_digests_of_484_photographs_are_cheap(real_data: Path) -> None:
    paths = tuple(sorted((real_data / "thingsplus484").glob("*.jpg")))
    photos = ImageSet(names=tuple(path.stem for path in paths), sources=paths)
    start = time.perf_counter()
    digests = photos.digests
    assert time.perf_counter() - start < 5  # well under 1 s on an idle machine
    assert len(set(digests)) == 484


@pytest.mark.parametrize("threads", [2, 7])
def test_threads_decode_the_same_pixels(tmp_path: Path, threads: int) -> None:
    images = file_set(tmp_path)
    assert np.array_equal(images.pixels([3, 0, 3, 1], 8, threads=threads), images.pixels([3, 0, 3, 1], 8))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b\.png: the file is an image that decodes"):
        images.pixels(range(4), 8, threads=threads)
