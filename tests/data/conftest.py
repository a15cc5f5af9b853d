import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = Path(os.environ.get("SWEEPER_TEST_DATA") or ROOT / "../shared/data").resolve()
    if not (folder / "lab_files").is_dir():
        pytest.skip(f"real data not found in {folder}: set SWEEPER_TEST_DATA")
    return folder


@pytest.fixture
def experiments(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPER_TEST_DATA", str(real_data))
    return ROOT / "experiments" / "data"


class Lab:
    """A small data set on disk: 12 pictures in the pool, 5 held out, one RDM."""

    names = tuple(f"thing{i:02d}" for i in range(12))
    held_out_names = ("kiwi", "apple", "lamp", "boat", "duck")

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.folder = folder
        self.targets = (rng.random((12, 4)) * 100).astype(np.float32)
        self.held_out_targets = (rng.random((5, 4)) * 100).astype(np.float32)
        self.rdm = 1 - np.corrcoef(self.held_out_targets.astype(np.float64))
        self.rdm = (self.rdm + self.rdm.T) / 2
        np.fill_diagonal(self.rdm, 0)
        (folder / "images").mkdir()
        for name in self.names + self.held_out_names:
            pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        self.write_table("targets.csv", self.names, self.targets)
        self.write_table("held_out.csv", self.held_out_names, self.held_out_targets)
        np.savez(folder / "rdm.npz", rdm=self.rdm)
        np.savez(folder / "trials.npz", triplets=np.array([[0, 1, 2], [3, 4, 11]]), odd_position=np.array([0, 2]))

    def write_table(self, file: str, names: tuple[str, ...], values: NDArray[np.float32]) -> None:
        lines = ["name," + ",".join(f"dim{i}" for i in range(values.shape[1]))]
        lines += [f"{name}," + ",".join(map(repr, map(float, row))) for name, row in zip(names, values, strict=True)]
        (self.folder / file).write_text("\n".join(lines) + "\n")

    def manifest(self, text: str | None = None) -> Path:
        path = self.folder / "manifest.yaml"
        path.write_text(self.text if text is None else text)
        return path

    text = """\
name: small
source: made for a test
licence: none needed
images: {folder: images, pattern: "{name}.png"}
targets: {file: targets.csv, names: name}
held_out:
  targets: {file: held_out.csv, names: name}
references:
  - {name: judged, kind: behavioral, file: rdm.npz, key: rdm, rows: held_out}
triplets: {file: trials.npz}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
