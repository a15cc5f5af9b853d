"""Saliency series are written and read back."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from sweeper.errors import SpecError, StoreError
from sweeper.reporting.saliency import MOST_IN_STRIP, overlay, parse_times, write_saliency


def series(num_times: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    maps = rng.random((num_times, 20, 20), dtype=np.float32)
    image = rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)
    return maps, image, -25.0 + 25.0 * np.arange(num_times)


@pytest.mark.parametrize("num_times", [1, 5, 30])
def test_files_are_written_and_read_back(tmp_path: Path, num_times: int) -> None:
    maps, image, times = series(num_times)
    paths = write_saliency(maps, image, times, tmp_path / "a" / "b", title="trial t3, image dog.jpg")
    assert all(path.is_file() for path in paths)
    assert [path.name for path in paths[:3]] == ["saliency.npz", "saliency.gif", "strip.png"]
    assert paths[3].name == "000_-25ms.png"
    assert len(paths) == 3 + num_times
    with np.load(paths[0]) as arrays:
        assert (arrays["saliency"] == maps).all()
        assert (arrays["times_ms"] == times).all()
        assert arrays["image"].shape == (20, 20, 3)
        picture = arrays["image"]
    with Image.open(paths[-1]) as frame:
        assert (np.asarray(frame) == overlay(maps[-1], picture)).all()
    with Image.open(paths[1]) as moving:
        assert getattr(moving, "n_frames", 1) == num_times
        assert moving.size == (20, 20)
    with Image.open(paths[2]) as strip:
        shown = min(num_times, MOST_IN_STRIP)
        assert strip.width == pytest.approx(110 * 1.3 * shown, abs=2)


def test_the_moving_picture_keeps_its_pace(tmp_path: Path) -> None:
    """24 frames a second are not whole hundredths: over 48 frames the roundings must even out."""
    maps, image, times = series(48)
    path = write_saliency(maps, image, times, tmp_path)[1]
    durations = []
    with Image.open(path) as moving:
        for index in range(48):
            moving.seek(index)
            durations.append(moving.info["duration"])
    assert sum(durations) == 2000
    assert set(durations) == {40, 50}


def test_the_overlay_is_half_jet_half_picture() -> None:
    picture = np.full((1, 3, 3), 100, dtype=np.uint8)
    mixed = overlay(np.array([[0.0, 0.5, 1.0]], dtype=np.float32), picture)
    for column, value in enumerate((0.0, 0.5, 1.0)):
        expected = [round(0.5 * 255 * channel + 50) for channel in colormaps["jet"](value)[:3]]
        np.testing.assert_allclose(mixed[0, column], expected, atol=1)


def test_the_same_series_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again = (write_saliency(*series(4), tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_shapes_must_belong_together(tmp_path: Path) -> None:
    maps, image, times = series(4)
    for shape, axis in ((maps[0], times), (maps, times[:3]), (maps[:0], times[:0])):
        with pytest.raises(ValueError, match="saliency must be"):
            write_saliency(shape, image, axis, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError, match="file system failed"):
        write_saliency(*series(2), tmp_path / "taken")


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("0:800:25", np.arange(0, 801, 25)),
        ("-100:-50:20", [-100, -80, -60]),
        ("0:0.3:0.1", [0, 0.1, 0.2, 0.3]),
        ("40:40:5", [40]),
    ],
)
def test_times_are_read(text: str, times: object) -> None:
    np.testing.assert_allclose(parse_times(text), times, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "three numbers"),
        ("0:800", "three numbers"),
        ("0:800:25:1", "three numbers"),
        ("0:end:25", "three numbers"),
        ("800:0:25", "go up"),
        ("0:800:0", "go up"),
        ("0:800:-25", "go up"),
        ("0:inf:25", "go up"),
        ("nan:800:25", "go up"),
        ("0:800:0.001", "at most 10,000 times"),
    ],
)
def test_times_that_make_no_sense_are_told(text: str, rule: str) -> None:
    with pytest.raises(SpecError, match=rule) as caught:
        parse_times(text)
    assert caught.value.problems[0].where == "--times"
    assert caught.value.problems[0].remedy
