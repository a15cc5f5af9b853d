from pathlib import Path

import pytest

from sweeper.reporting.load import open_view
from sweeper.reporting.remarks import PLUMBING
from sweeper.reporting.text import header

from .conftest import GRID, HandMade

PHOTOS = Path(__file__).parents[2] / "experiments" / "data" / "photos484.yaml"
DRAWINGS = PHOTOS.with_name("selfmade.yaml")


def told(root, manifest, *, folds=True):
    text = GRID.replace("builtin:selfmade", f"{manifest}, folds: 2" if folds else str(manifest))
    if folds:
        text = text.replace("axes:\n", "axes:\n  data.fold: [0, 1]\n")
    return header(open_view(HandMade(root / "store", text).store, "hand"))


def test_a_sweep_over_folds_says_where_its_answer_is(tmp_path):
    assert "human odd-one-out choices and RSA: sweeper results hand --folds" in told(tmp_path, PHOTOS)


def test_without_triplets_no_choices_are_promised(tmp_path):
    text = told(tmp_path, "builtin:selfmade")
    assert "together, RSA: sweeper results hand --folds" in text
    assert "odd-one-out" not in text


def test_without_folds_there_is_no_pointer(tmp_path):
    assert "--folds" not in told(tmp_path, PHOTOS, folds=False)


@pytest.mark.parametrize(
    ("manifest", "is_told"),
    [(PHOTOS, True), ("not/here.yaml", True), (DRAWINGS, False), ("builtin:selfmade", False)],
)
def test_the_tiny_clip_on_other_images_tests_the_plumbing(tmp_path, manifest, is_told):
    assert (PLUMBING in told(tmp_path, manifest, folds=False)) == is_told
