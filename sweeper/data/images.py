"""Image sets: names, bytes, digests, and the pixels a backbone sees."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sweeper.errors import DataError, Problem

Channels: TypeAlias = tuple[float, float, float]

# The lab's statistics of THINGS, used for training and for every evaluation set [docs/methods.md 1.2].
THINGS_MEAN: Channels = (0.52997664, 0.48070561, 0.41943838)
THINGS_STD: Channels = (0.27608301, 0.26593025, 0.28238822)
# OpenAI CLIP's own constants, which the published code does not use.
CLIP_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Channels = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """Says how pictures become input.

    Attributes:
        mean: subtracted per channel, on the scale 0..1.
        std: divided by, per channel.
        resize: `stretch` resizes to the square bilinearly, whatever the aspect ratio, without a crop.
    """

    mean: Channels = THINGS_MEAN
    std: Channels = THINGS_STD
    resize: Literal["stretch"] = "stretch"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageSet:
    """Holds images in a fixed order.

    Attributes:
        names: one per image, unique.
        sources: the files, or the pixels: uint8 [N, H, W, 3].
    """

    names: tuple[str, ...]
    sources: tuple[Path, ...] | NDArray[np.uint8]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sources):
            raise ValueError(f"{len(self.names)} names for {len(self.sources)} images")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def digests(self) -> tuple[str, ...]:
        """Returns the SHA-256 of each image: of the file's bytes, or of shape and pixels."""
        if isinstance(self.sources, tuple):
            return tuple(_file_digest(path) for path in self.sources)
        return tuple(_pixel_digest(pixels) for pixels in self.sources)

    @property
    def digest(self) -> str:
        """Returns the SHA-256 of all images' bytes in order; names and paths do not enter."""
        return hashlib.sha256("\n".join(self.digests).encode()).hexdigest()

    def subset(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> "ImageSet":
        """Returns the images at `indices`, in that order."""
        positions = [int(index) for index in indices]
        names = tuple(self.names[i] for i in positions)
        if isinstance(self.sources, tuple):
            return ImageSet(names=names, sources=tuple(self.sources[i] for i in positions))
        return ImageSet(names=names, sources=self.sources[np.array(positions, dtype=np.int64)])

    def rgb(self, index: int) -> NDArray[np.uint8]:
        """Returns one picture as it is stored: uint8 [H, W, 3]."""
        source = self.sources[index]
        return np.asarray(_open(source)) if isinstance(source, Path) else source

    def pixels(
        self,
        indices: Sequence[int] | NDArray[np.integer[Any]],
        size: int,
        preprocessing: Preprocessing | None = None,
        *,
        threads: int = 1,
    ) -> NDArray[np.float32]:
        """Returns preprocessed images: float32 [n, 3, size, size].

        Args:
            indices: positions in this set.
            size: side of the square, in pixels.
            preprocessing: None takes the lab's constants.
            threads: that decode at the same time; the pixels are the same with any number.
        """
        chosen = preprocessing or Preprocessing()
        mean = np.array(chosen.mean, dtype=np.float32)[:, None, None]
        std = np.array(chosen.std, dtype=np.float32)[:, None, None]
        out = np.empty((len(indices), 3, size, size), dtype=np.float32)

        def decode(row: int) -> None:
            square = _stretched(self.sources[int(indices[row])], size)
            out[row] = (square.transpose(2, 0, 1) / np.float32(255) - mean) / std

        if threads == 1:
            for row in range(len(indices)):
                decode(row)
            return out
        with ThreadPoolExecutor(threads, "sweeper-decode") as pool:  # Pillow and numpy let go of the interpreter's lock
            for _ in pool.map(decode, range(len(indices))):
                pass
        return out


def empty_image_set() -> ImageSet:
    """Returns a set without images."""
    return ImageSet(names=(), sources=())


def _stretched(source: Path | NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resizes one picture as torchvision's `Resize((size, size))` does on PIL images: uint8 [size, size, 3]."""
    picture = _open(source) if isinstance(source, Path) else Image.fromarray(source)
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _open(path: Path) -> Image.Image:
    """Decodes a file to RGB, without looking at its EXIF orientation, as the lab's code does."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except Exception as error:  # damaged bytes make Pillow's decoders raise anything
        rule = "the file is an image that decodes"
        raise DataError(Problem(where=str(path), rule=rule, got=str(error), remedy="Fetch the file again")) from error


def _file_digest(path: Path) -> str:
    try:
        stat = path.stat()
        return _digest_of_version(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        problem = Problem(where=str(path), rule="the image can be read", got=error.strerror)
        raise DataError(problem) from error


@lru_cache(maxsize=65536)
def _digest_of_version(path: Path, size: int, mtime_ns: int) -> str:
    """Hashes a file once per version: same path, size and time of change are taken for the same bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _pixel_digest(pixels: NDArray[np.uint8]) -> str:
    shape = "x".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(shape + b"\n" + np.ascontiguousarray(pixels).tobytes()).hexdigest()
