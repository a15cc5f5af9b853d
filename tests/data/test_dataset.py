from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from sweeper.data.dataset import Dataset, open_dataset
from sweeper.data.manifest import load_manifest
from sweeper.data.relabel import MISLABELLED
from sweeper.errors import DataError

from .conftest import Lab


def opened(path: Path, **options: Any) -> Dataset:
    return open_dataset(load_manifest(path), **options)


def problems_of(path: Path, **options: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        opened(path, **options)
    return [str(problem) for problem in caught.value.problems]


def test_small_lab_opens(lab: Lab) -> None:
    data = opened(lab.manifest())
    assert data.name == "small"
    assert data.pool.names == lab.names
    np.testing.assert_array_equal(data.targets, lab.targets)
    assert data.targets.dtype == np.float32
    assert data.row_ids.tolist() == list(range(12))
    assert data.dimensions == ("dim0", "dim1", "dim2", "dim3")
    assert data.held_out is not None
    assert data.held_out.images.names == lab.held_out_names
    np.testing.assert_array_equal(data.held_out.targets, lab.held_out_targets)
    (reference,) = data.held_out.references
    assert (reference.name, reference.kind, reference.source) == ("judged", "behavioral", "rdm.npz rdm")
    np.testing.assert_array_equal(reference.rdm, lab.rdm)
    assert data.triplets is not None
    assert data.triplets.rows.tolist() == [[0, 1, 2], [3, 4, 11]]
    assert data.triplets.names == lab.names
    assert data.held_out_digest == data.held_out.images.digest
    assert data.notes == ()


def test_target_digest_follows_values_and_order(lab: Lab) -> None:
    first = opened(lab.manifest()).target_digest
    assert opened(lab.manifest()).target_digest == first
    lab.write_table("targets.csv", lab.names[::-1], lab.targets[::-1])
    assert opened(lab.manifest()).target_digest != first


def test_rdm_rows_by_name_are_brought_into_held_out_order(lab: Lab) -> None:
    order = [3, 0, 4, 1, 2]
    np.savez(lab.folder / "rdm.npz", rdm=lab.rdm[np.ix_(order, order)])
    names = ", ".join(lab.held_out_names[i] for i in order)
    data = opened(lab.manifest(lab.text.replace("rows: held_out", f"rows: [{names}]")))
    assert data.held_out is not None
    np.testing.assert_array_equal(data.held_out.references[0].rdm, lab.rdm)


def test_rdm_axes_are_selected_and_averaged(lab: Lab) -> None:
    stack = np.stack([np.stack([lab.rdm * (s + 1) * (t + 1) for t in range(2)]) for s in range(3)])
    np.save(lab.folder / "stack.npy", stack)
    line = "  - {name: X, kind: neural, file: stack.npy, rows: held_out, Y}\n"
    for extra, factor in [("select: [2, 1]", 6), ("select: [1], mean_over: 1", 3), ("mean_over: [0, 1]", 3)]:
        text = lab.text.replace("triplets:", line.replace("X", "stack").replace("Y", extra) + "triplets:")
        data = opened(lab.manifest(text))
        assert data.held_out is not None
        np.testing.assert_allclose(data.held_out.references[1].rdm, lab.rdm * factor)
    for extra in ("select: [3, 0]", "select: [0, 0, 0]", "select: [0], mean_over: 0", "select: [0]"):
        text = lab.text.replace("triplets:", line.replace("X", "stack").replace("Y", extra) + "triplets:")
        assert "manifest.yaml:10:" in problems_of(lab.manifest(text))[0]


def test_nan_in_an_rdm_is_refused_or_zeroed(lab: Lab) -> None:
    rdm = lab.rdm.copy()
    rdm[0, 1] = rdm[1, 0] = np.nan
    np.fill_diagonal(rdm, np.nan)
    np.savez(lab.folder / "rdm.npz", rdm=rdm)
    assert "2 entries NaN" in problems_of(lab.manifest())[0]
    data = opened(lab.manifest(lab.text.replace("rows: held_out", "rows: held_out, nan: zero")))
    assert data.held_out is not None
    assert data.held_out.references[0].rdm[0, 1] == 0
    assert data.notes == ("judged: the diagonal was NaN, taken as 0", "judged: 2 NaN taken as 0 (nan: zero)")


def test_held_out_rows_leave_the_pool(lab: Lab) -> None:
    text = "name: a\nimages: {folder: images, pattern: '{name}.png'}\ntargets: {file: targets.csv, names: name}\n"
    by_name = opened(lab.manifest(text + "held_out: {rows: [thing07, thing01, thing02]}\n"))
    by_id = opened(lab.manifest(text + "held_out: {rows: [7, 1, 2]}\n"))
    for data in (by_name, by_id):
        assert data.held_out is not None
        assert data.held_out.images.names == ("thing07", "thing01", "thing02")
        np.testing.assert_array_equal(data.held_out.targets, lab.targets[[7, 1, 2]])
        assert data.row_ids.tolist() == [0, 3, 4, 5, 6, 8, 9, 10, 11]
    assert by_name.target_digest == by_id.target_digest
    messages = problems_of(lab.manifest(text + "held_out: {rows: [thing07, kiwi, 99]}\n"))
    assert "2 others, first kiwi, #99" in messages[0]


def test_array_without_names_follows_the_whole_table(lab: Lab) -> None:
    pixels = np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    np.savez(lab.folder / "pictures.npz", images=pixels)
    text = "name: a\nimages: {file: pictures.npz, key: images}\ntargets: {file: targets.csv, names: name}\n"
    data = opened(lab.manifest(text + "held_out: {rows: [thing07, thing01, thing04]}\n"))
    assert data.held_out is not None
    assert [int(data.held_out.images.rgb(i)[0, 0, 0]) for i in range(3)] == [7, 1, 4]
    assert [int(data.pool.rgb(i)[0, 0, 0]) for i in range(9)] == [0, 2, 3, 5, 6, 8, 9, 10, 11]


def test_folds_cover_the_pool_once_whatever_the_order_of_the_file(lab: Lab) -> None:
    folds = [opened(lab.manifest(), folds=4, fold=fold) for fold in range(4)]
    held_out = [data.held_out.images.names for data in folds if data.held_out is not None]
    assert sorted(name for names in held_out for name in names) == sorted(lab.names)
    for data, names in zip(folds, held_out, strict=True):
        assert len(names) == 3
        assert not set(names) & set(data.pool.names)
        assert len(data.pool) == len(data.targets) == 9
    lab.write_table("targets.csv", lab.names[::-1], lab.targets[::-1])
    backwards = opened(lab.manifest(), folds=4, fold=2)
    assert backwards.held_out is not None
    assert folds[2].held_out is not None
    assert backwards.held_out.images.names == held_out[2]
    np.testing.assert_array_equal(backwards.held_out.targets, folds[2].held_out.targets)
    assert opened(lab.manifest(), folds=4, fold=2, fold_seed=1).held_out_digest != folds[2].held_out_digest


def test_fold_keeps_only_references_that_cover_it(lab: Lab) -> None:
    big = np.abs(np.subtract.outer(np.arange(12.0), np.arange(12.0)))
    np.save(lab.folder / "big.npy", big)
    line = f"  - {{name: big, kind: neural, file: big.npy, rows: [{', '.join(lab.names)}]}}\n"
    text = lab.text.replace("triplets:", line + "triplets:")
    data = opened(lab.manifest(text), folds=3, fold=0)
    assert data.held_out is not None
    (reference,) = data.held_out.references
    index = [lab.names.index(name) for name in data.held_out.images.names]
    np.testing.assert_array_equal(reference.rdm, big[np.ix_(index, index)])
    assert "reference judged is left out: it does not cover the held-out set" in data.notes
    assert "the manifest's own held-out set (5 images) is left out" in data.notes
    assert "`big` covers the held-out set" in problems_of(lab.manifest(text))[0]


def test_smaller_train_sizes_are_part_of_larger_ones(lab: Lab) -> None:
    small, large = (opened(lab.manifest(), train_size=n) for n in (4, 8))
    assert set(small.pool.names) < set(large.pool.names)
    assert list(small.pool.names) == sorted(small.pool.names)
    np.testing.assert_array_equal(small.targets, lab.targets[small.row_ids])
    assert opened(lab.manifest(), train_size=12).target_digest == opened(lab.manifest()).target_digest


@pytest.mark.parametrize(
    "options",
    [{"folds": 4}, {"fold": 0}, {"folds": 1, "fold": 0}, {"folds": 4, "fold": 4}, {"folds": 9, "fold": 0},
     {"train_size": 13}, {"train_size": 0}],
)  # fmt: skip
def test_impossible_options_are_data_errors(options: dict[str, int], lab: Lab) -> None:
    assert problems_of(lab.manifest(), **options)[0].startswith("data")


def test_evaluation_set_has_an_empty_pool(lab: Lab) -> None:
    np.savez(lab.folder / "set.npz", images=np.zeros((5, 4, 4, 3), np.uint8), names=np.array(lab.held_out_names))
    text = "name: a\nheld_out: {images: {file: set.npz, key: images, names: names}}\n"
    text += "references: [{name: r, kind: neural, file: rdm.npz, rows: held_out}]\n"
    data = opened(lab.manifest(text))
    assert len(data.pool) == 0
    assert data.targets.shape == (0, 0)
    assert data.held_out is not None
    assert data.held_out.targets is None
    assert data.held_out.images.names == lab.held_out_names
    assert len(data.held_out.references) == 1
    assert data.held_out.images.pixels([4, 0], 8).shape == (2, 3, 8, 8)
    assert problems_of(lab.manifest(), folds=2, fold=7)


def test_images_may_be_listed_by_a_pattern(lab: Lab) -> None:
    data = opened(lab.manifest("name: a\nheld_out: {images: {folder: images, pattern: 'thing*.png'}}\n"))
    assert data.held_out is not None
    assert data.held_out.images.names == lab.names


def test_problems_in_files_are_located_in_the_manifest_all_at_once(lab: Lab) -> None:
    (lab.folder / "images" / "thing03.png").unlink()
    (lab.folder / "held_out.csv").unlink()
    np.savez(lab.folder / "rdm.npz", rdm=np.arange(25.0).reshape(5, 5))
    np.savez(lab.folder / "trials.npz", triplets=np.array([[0, 1, 12]]), odd_position=np.array([3]))
    messages = problems_of(lab.manifest())
    words = ["1 of 12 are missing, first thing03.png", "the file exists", "symmetric", "diagonal", "0..11", "0, 1 or 2"]
    lines = [4, 7, 9, 9, 10, 10]
    for word, line in zip(words, lines, strict=True):
        assert any(word in m and f"manifest.yaml:{line}:" in m for m in messages), (word, messages)
    assert len(messages) == 6


def change(lab: Lab, kind: str) -> None:
    """Breaks one file of the small lab."""
    targets = lab.folder / "targets.csv"
    text = targets.read_text()
    if kind == "name twice":
        targets.write_text(text.replace("thing01", "thing00"))
    elif kind == "nan target":
        targets.write_text(text.replace(text.splitlines()[2].split(",")[1], "nan"))
    elif kind == "text target":
        targets.write_text(text.replace(text.splitlines()[2].split(",")[1], "high"))
    elif kind == "no rows":
        targets.write_text(text.splitlines()[0] + "\n")
    elif kind == "no column":
        targets.write_text(text.replace("name", "file", 1))
    elif kind == "held out in pool":
        targets.write_text(text.replace("thing01", "kiwi"))
    elif kind == "other width":
        lab.write_table("held_out.csv", lab.held_out_names, lab.held_out_targets[:, :3])
    elif kind == "rdm size":
        np.savez(lab.folder / "rdm.npz", rdm=lab.rdm[:4, :4])
    elif kind == "rdm oblong":
        np.savez(lab.folder / "rdm.npz", rdm=lab.rdm[:4])
    elif kind == "rdm vector":
        np.savez(lab.folder / "rdm.npz", rdm=lab.rdm[0])
    elif kind == "rdm text":
        np.savez(lab.folder / "rdm.npz", rdm=np.full((5, 5), "a"))
    elif kind == "rdm key":
        np.savez(lab.folder / "rdm.npz", rmd=lab.rdm)
    elif kind == "similarities":
        np.savez(lab.folder / "rdm.npz", rdm=1 - lab.rdm)
    elif kind == "trials of two":
        np.savez(lab.folder / "trials.npz", triplets=np.array([[0, 1]]), odd_position=np.array([0]))


@pytest.mark.parametrize(
    ("kind", "line", "words"),
    [
        ("name twice", 5, "thing00 more than once"),
        ("nan target", 5, "first thing01"),
        ("text target", 5, "`dim0` are numbers"),
        ("no rows", 5, "rows and columns"),
        ("no column", 5, "It holds `file`"),
        ("held out in pool", 7, "first kiwi"),
        ("other width", 7, "Got 4 and 3"),
        ("rdm size", 9, "4 rows for 5 names"),
        ("rdm oblong", 9, "square"),
        ("rdm vector", 9, "(5,)"),
        ("rdm text", 9, "<U1"),
        ("rdm key", 9, "It holds `rmd`"),
        ("similarities", 9, "give 1 - similarity"),
        ("trials of two", 10, "three whole numbers"),
    ],
)
def test_broken_files_are_located_data_errors(kind: str, line: int, words: str, lab: Lab) -> None:
    change(lab, kind)
    messages = problems_of(lab.manifest())
    assert any(words in m and f"manifest.yaml:{line}:" in m for m in messages), messages


def test_selfmade_set_opens(lab: Lab) -> None:
    pytest.importorskip("sweeper.data.synthetic")
    data = opened(lab.manifest("name: a\ngenerator: {name: drawings, num_train: 24, num_test: 12, seed: 3}\n"))
    assert data.targets.shape == (24, 66)
    assert data.held_out is not None
    assert [r.name for r in data.held_out.references] == ["behavioral12", "early", "late"]
    folded = opened(lab.folder / "manifest.yaml", folds=3, fold=0)
    assert len(folded.pool) == 16


def test_photos484_opens_in_folds(experiments: Path) -> None:
    data = opened(experiments / "photos484.yaml", folds=5, fold=0)
    assert data.targets.shape == (387, 66)
    assert data.held_out is not None
    assert len(data.held_out.images) == 97
    assert data.dimensions[:2] == ("metallic/artificial", "food-related")
    assert data.triplets is not None
    assert data.triplets.rows.shape == (282, 3)
    pixels = data.pool.pixels([0, 1], 224)
    assert pixels.shape == (2, 3, 224, 224)


def test_objects92_gives_the_known_correlations(experiments: Path) -> None:
    data = opened(experiments / "objects92.yaml")
    assert data.held_out is not None
    upper = np.triu_indices(92, 1)
    rdms = {reference.name: reference.rdm[upper] for reference in data.held_out.references}
    for a, b, expected in [("hIT", "mIT", 0.439), ("hIT", "cichy_IT", 0.528), ("behavior", "hIT", 0.373)]:
        assert spearmanr(rdms[a], rdms[b]).statistic == pytest.approx(expected, abs=5e-4)


THINGS = """\
name: things
images: {file: pictures.npz, key: images, names: names}
targets: {file: LAB/spose_embedding66d_rescaled_1806train.csv, format: spose-csv}
held_out:
  targets: {file: LAB/spose_embedding66d_rescaled_48val_reordered.csv, format: spose-csv}
references:
  - {name: behavioral48, kind: behavioral, file: LAB/RDM48_triplet.mat, key: RDM48_triplet, rows: held_out}
"""


@pytest.fixture(scope="module")
def things(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a manifest of the lab's tables, with one-pixel pictures in place of the images."""
    folder = tmp_path_factory.mktemp("things")
    with np.load(real_data / "things_behaviour.npz", allow_pickle=False) as file:
        names = file["image_name"]
    np.savez(folder / "pictures.npz", images=np.zeros((1854, 1, 1, 3), np.uint8), names=names)
    path = folder / "things.yaml"
    path.write_text(THINGS.replace("LAB", str(real_data / "lab_files")))
    return path


def ceiling(data: Dataset) -> float:
    assert data.held_out is not None
    assert data.held_out.targets is not None
    upper = np.triu_indices(48, 1)
    rdm = 1 - np.corrcoef(data.held_out.targets.astype(np.float64))
    return float(spearmanr(rdm[upper], data.held_out.references[0].rdm[upper]).statistic)


def test_lab_tables_as_published(things: Path) -> None:
    data = opened(things, relabel="none")
    assert ceiling(data) == pytest.approx(0.8644036894441381, abs=1e-6)
    assert data.targets.mean(dtype=np.float64) == pytest.approx(5.690615, abs=1e-6)
    assert data.row_ids[53:55].tolist() == [53, 55]
    assert data.notes == ("21 mislabelled SPoSE rows kept as published (relabel: none)",)


def test_relabel_gives_every_image_its_own_row(things: Path, real_data: Path) -> None:
    published, repaired = opened(things, relabel="none"), opened(things)
    assert ceiling(repaired) == pytest.approx(0.8648, abs=5e-5)
    assert repaired.pool.names == published.pool.names
    assert repaired.held_out is not None
    assert repaired.held_out.targets is not None
    assert repaired.held_out.row_ids is not None
    with np.load(real_data / "things_behaviour.npz", allow_pickle=False) as file:
        truth = dict(zip(file["image_name"].tolist(), file["spose66"], strict=True))
    for names, targets in [
        (repaired.pool.names, repaired.targets),
        (repaired.held_out.images.names, repaired.held_out.targets),
    ]:
        np.testing.assert_array_equal(targets, np.stack([truth[name] for name in names]))
    assert int((published.targets != repaired.targets).any(axis=1).sum()) == 20
    ids = [*repaired.row_ids.tolist(), *repaired.held_out.row_ids.tolist()]
    assert sorted(ids) == list(range(1854))
    assert repaired.held_out.row_ids[26] == 247
    assert any("camera1_01b.jpg took row 247" in note for note in repaired.notes)


def test_relabel_table_follows_from_the_two_sortings(real_data: Path) -> None:
    with np.load(real_data / "things_behaviour.npz", allow_pickle=False) as file:
        by_file = [name.rsplit("_", 1)[0] for name in file["image_name"].tolist()]
    by_unique_id = sorted(by_file, key=lambda concept: concept.replace("_", " "))
    differing = {i: (a, b) for i, (a, b) in enumerate(zip(by_file, by_unique_id, strict=True)) if a != b}
    assert {row: known[:2] for row, known in MISLABELLED.items()} == differing
    assert len(differing) == 21


def test_relabel_without_the_other_table_says_what_is_missing(things: Path) -> None:
    path = things.with_name("alone.yaml")
    text = things.read_text()
    own_images = text[: text.index("targets:")].replace("images: {", "held_out:\n  images: {")
    path.write_text(own_images + text[text.index("  targets:") :])
    messages = problems_of(path)
    assert "camera1_01b.jpg (row id 247)" in messages[0]
    assert "relabel: none" in messages[0]
    assert opened(path, relabel="none").held_out is not None


def test_right_tables_are_left_alone(experiments: Path) -> None:
    as_is, repaired = (opened(experiments / "photos484.yaml", relabel=r) for r in ("none", "things-uniqueid"))
    assert as_is.target_digest == repaired.target_digest
    assert as_is.notes == repaired.notes == ()
