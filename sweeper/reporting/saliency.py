"""Writes a saliency series for people and programs: frames, a strip, a moving picture, an array (docs/methods.md 6)."""

import io
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sweeper.disk import explained
from sweeper.errors import Problem, SpecError
from sweeper.reporting.caption import new_figure
from sweeper.reporting.figures import png

Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]
Times = NDArray[np.float64]

OPACITY = 0.5  # of the map over the picture, as published
MOST_IN_STRIP = 12
MOST_FRAMES = 10_000


def parse_times(text: str, where: str = "--times") -> Times:
    """Reads `START:STOP:STEP` in ms; the end belongs to it where a step falls on it.

    Args:
        text: e.g. `0:800:25`.
        where: name of the option, for the message.

    Raises:
        SpecError: it is not three numbers, or they give no time.
    """
    remedy = "Write START:STOP:STEP in ms, e.g. 0:800:25"
    try:
        start, stop, step = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise SpecError(Problem(where=where, rule="times are three numbers", got=repr(text), remedy=remedy)) from error
    if not all(math.isfinite(number) for number in (start, stop, step)) or step <= 0 or stop < start:
        rule = "times go up from START to STOP, by a STEP above 0"
        raise SpecError(Problem(where=where, rule=rule, got=repr(text), remedy=remedy))
    count = math.floor((stop - start) / step + 1e-9) + 1
    if count > MOST_FRAMES:
        rule = f"at most {MOST_FRAMES:,} times are drawn at once"
        raise SpecError(Problem(where=where, rule=rule, got=f"{count:,} by {text!r}", remedy="Use a larger step"))
    return start + step * np.arange(count, dtype=np.float64)


def write_saliency(
    saliency: Maps, image: Pixels, times_ms: Times, out: Path, *, title: str = "", fps: float = 24.0
) -> list[Path]:
    """Writes a saliency series into a folder, over what lies there under the same names.

    `frames/000_+0ms.png` and so on: the picture with the map laid over it in jet colours, the scale fixed at 0..1.
    `saliency.gif`: all frames; GIF counts in hundredths of a second, so frames last 40 or 50 ms at 24 per second.
    `strip.png`: at most 12 of the frames, evenly chosen, with their times.
    `saliency.npz`: `saliency`, `times_ms`, `image` (as shown).

    Args:
        saliency: float32 [T, H, W] in 0..1.
        image: uint8 [h, w, 3]; stretched to H x W, as the network saw it.
        times_ms: [T], ascending.
        out: the folder; made where it is absent.
        title: stands above the strip, e.g. trial and image.
        fps: frames per second.

    Returns:
        The files: array, moving picture, strip, frames.

    Raises:
        ValueError: the shapes do not belong together, or there is no frame.
        StoreError: the folder cannot be written.
    """
    if saliency.ndim != 3 or len(saliency) != len(times_ms) or len(saliency) == 0:
        raise ValueError(f"saliency must be [T, H, W] with T = {len(times_ms)} above 0; got {saliency.shape}")
    height, width = saliency.shape[1:]
    picture = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    frames = [overlay(each, picture) for each in saliency]
    names = [f"{number:03d}_{time:+g}ms.png" for number, time in enumerate(times_ms)]
    array, moving, strip = out / "saliency.npz", out / "saliency.gif", out / "strip.png"
    paths = [out / "frames" / name for name in names]
    with explained(out, "--out"):
        (out / "frames").mkdir(parents=True, exist_ok=True)
        np.savez_compressed(array, saliency=saliency, times_ms=times_ms, image=picture)
        moving.write_bytes(_gif(frames, fps))
        strip.write_bytes(_strip(frames, times_ms, title))
        for path, frame in zip(paths, frames, strict=True):
            Image.fromarray(frame).save(path)
    return [array, moving, strip, *paths]


def overlay(saliency: Maps, picture: Pixels) -> Pixels:
    """Lays one map over a picture: uint8 [H, W, 3] from [H, W] and [H, W, 3]."""
    from matplotlib import colormaps

    colors: NDArray[Any] = 255.0 * colormaps["jet"](saliency.astype(np.float64))[..., :3]
    return np.rint(OPACITY * colors + (1 - OPACITY) * picture).astype(np.uint8)


def _gif(frames: list[Pixels], fps: float) -> bytes:
    ends = [round(100 * number / fps) for number in range(len(frames) + 1)]  # in 1/100 s: rounding never adds up
    durations = [max(10 * (end - start), 10) for start, end in itertools.pairwise(ends)]
    first, *others = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()


def _strip(frames: list[Pixels], times_ms: Times, title: str) -> bytes:
    chosen = np.unique(np.rint(np.linspace(0, len(frames) - 1, min(len(frames), MOST_IN_STRIP))).astype(int))
    figure, ((*row,),) = new_figure(1.3 * len(chosen), 1.8 if title else 1.6, 1, len(chosen))
    for axes, index in zip(row, chosen, strict=True):
        axes.imshow(frames[index], interpolation="nearest")
        axes.set_title(f"{times_ms[index]:g} ms", fontsize=8)
        axes.axis("off")
    if title:
        figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return png(figure)
