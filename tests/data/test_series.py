"""Series of RDMs over time: whatever file they lie in, the same values; never a whole file at once."""

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from sweeper.data import blocks, facts
from sweeper.data import series as series_module
from sweeper.data.blocks import open_blocks, survey
from sweeper.data.dataset import Dataset, open_dataset
from sweeper.data.fields import SeriesSource
from sweeper.data.manifest import load_manifest
from sweeper.data.series import RdmSeries
from sweeper.data.series_reading import series_of as open_series
from sweeper.data.verify import verify_manifest
from sweeper.errors import DataError

PEOPLE, TIMES, STIMULI = 3, 7, 8
NAMES = tuple(f"s{i}" for i in range(STIMULI))
MANIFEST = """\
name: meg
source: made for a test
licence: none needed
images: {folder: images, pattern: "*.png"}
held_out: {rows: [s6, s1, s3]}
series:
  - {name: meg, rows: row_ids, start_ms: -20, step_ms: 10, SERIES}
"""


def stored(seed: int = 0) -> NDArray[np.float64]:
    """RDMs of each person and time, with NaN on the diagonals and at two pairs."""
    rng = np.random.default_rng(seed)
    rdms = np.triu(0.3 + rng.random((PEOPLE, TIMES, STIMULI, STIMULI)), 1)
    rdms += rdms.swapaxes(2, 3)
    rdms[:, :, range(STIMULI), range(STIMULI)] = np.nan
    rdms[1, 2, 0, 3] = rdms[1, 2, 3, 0] = np.nan
    return rdms


def published(rdms: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN as 0, one global minimum and maximum, entry by entry."""
    filled = np.array([0.0 if np.isnan(x) else x for x in rdms.ravel()])
    low, high = min(filled), max(filled)
    return np.array([(x - low) / (high - low) for x in filled]).reshape(rdms.shape)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    for i, name in enumerate(NAMES):
        Image.fromarray(np.full((4, 4, 3), 20 * i, np.uint8)).save(tmp_path / "images" / f"{name}.png")
    np.save(tmp_path / "rdms.npy", stored())
    return tmp_path


def written(lab: Path, entry: str = "file: rdms.npy", manifest: str = MANIFEST) -> Path:
    path = lab / "manifest.yaml"
    path.write_text(manifest.replace("SERIES", entry))
    return path


def opened(lab: Path, entry: str = "file: rdms.npy", **options: Any) -> Dataset:
    return open_dataset(load_manifest(written(lab, entry)), **options)


@pytest.mark.parametrize("rows", ["[s6, s1]", "[s6]"])
def test_two_held_out_stimuli_are_no_rdm(lab: Path, rows: str) -> None:
    path = written(lab, manifest=MANIFEST.replace("[s6, s1, s3]", rows).replace("SERIES", "file: rdms.npy"))
    with pytest.raises(DataError) as raised:
        open_dataset(load_manifest(path))
    told = f"{path}:5:12: an RDM needs 3 held-out stimuli or more. Got {rows.count('s')}. Hold out more"
    assert [str(problem).startswith(told) for problem in raised.value.problems] == [True]
    errors = [finding for finding in verify_manifest(load_manifest(path)) if finding.level == "error"]
    assert [finding.where for finding in errors] == [f"{path}:5:12"]


def series_of(lab: Path, entry: str = "file: rdms.npy") -> RdmSeries:
    (series,) = opened(lab, entry).series
    return series


def problems_of(lab: Path, entry: str) -> str:
    with pytest.raises(DataError) as caught:
        opened(lab, entry)
    return "\n".join(str(problem) for problem in caught.value.problems)


def change(path: Path, rdms: NDArray[np.float64]) -> None:
    """Replaces a file, a second later by its time."""
    later = path.stat().st_mtime_ns + 10**9
    np.save(path, rdms)
    os.utime(path, ns=(later, later))


def save_mat73(path: Path, name: str, array: NDArray[np.float64]) -> None:
    """Writes an array as MATLAB does in version 7.3: its axes in reverse."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        file[name] = array.T
        file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(512))


# How a lab may have stored it: file, fields of the entry, axes that the array is brought to.
FILES = {
    "npy": ("rdms.npy", "file: rdms.npy", (0, 1, 2, 3)),
    "npy, time last": ("t.npy", "file: t.npy, axes: [participant, stimulus, stimulus, time]", (0, 2, 3, 1)),
    "npz": ("rdms.npz", "file: rdms.npz, key: rdms", (0, 1, 2, 3)),
    "mat 5": ("five.mat", "file: five.mat, key: rdms, axes: [stimulus, stimulus, time, participant]", (2, 3, 1, 0)),
    "mat 7.3": ("seven.mat", "file: seven.mat, key: rdms, axes: [stimulus, time, participant, stimulus]", (2, 1, 0, 3)),
    "mat 7.3, only array": ("one.mat", "file: one.mat", (0, 1, 2, 3)),
}


def save(lab: Path, file: str, array: NDArray[np.float64]) -> None:
    path = lab / file
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, rdms=array, other=np.zeros(3))
    elif file == "five.mat":
        scipy.io.savemat(path, {"rdms": array})
    else:
        save_mat73(path, "rdms", array)


@pytest.mark.parametrize("kind", FILES)
def test_every_file_and_order_of_axes_gives_the_same(kind: str, lab: Path) -> None:
    file, entry, axes = FILES[kind]
    save(lab, file, stored().transpose(axes))
    series = series_of(lab, entry)
    assert series.participants == ("1", "2", "3")
    assert series.names == NAMES
    assert series.times.tolist() == [-20, -10, 0, 10, 20, 30, 40]
    assert series.onset == 3
    names, expected = ("s5", "s0", "s3"), published(stored())[np.ix_([0, 2], range(TIMES), [5, 0, 3], [5, 0, 3])]
    view = series.mean(("1", "3"), names)
    np.testing.assert_allclose(view.all(), expected.mean(axis=0), atol=1e-7)
    assert (view.all().dtype, view.names) == (np.float32, names)


def test_a_large_npy_and_a_mat73_stay_in_their_files(lab: Path) -> None:
    save_mat73(lab / "seven.mat", "rdms", stored())
    assert isinstance(series_of(lab).blocks.array, np.memmap)  # type: ignore[attr-defined]
    assert not isinstance(series_of(lab, "file: seven.mat").blocks.array, np.ndarray)  # type: ignore[attr-defined]


def test_no_more_than_a_part_is_read_at_once(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_ENTRIES", 2 * STIMULI**2)
    sizes = []
    read = blocks.FileBlocks.read

    def watched(self: Any, participant: int, times: range, rows: Any = None) -> NDArray[np.float64]:
        sizes.append(len(times))
        return read(self, participant, times, rows)

    monkeypatch.setattr(blocks.FileBlocks, "read", watched)
    view = series_of(lab).mean(("1", "2", "3"), NAMES)
    assert max(sizes) == 2
    np.testing.assert_allclose(view.all(), published(stored()).mean(axis=0), atol=1e-7)


def test_a_file_is_never_in_memory_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_ENTRIES", 2**16)
    mapped = np.lib.format.open_memmap(tmp_path / "r.npy", "w+", np.float64, (2, 20, 256, 256))
    ramp = np.abs(np.subtract.outer(np.arange(256.0), np.arange(256.0)))
    for people in mapped:
        for t, rdm in enumerate(people):
            rdm[:] = ramp * (t + 1)
    size, fields = mapped.nbytes, {"name": "meg", "start_ms": 0, "step_ms": 5, "rows": "row_ids"}
    del mapped, people, rdm
    source = SeriesSource.model_validate({**fields, "file": tmp_path / "r.npy"})
    tracemalloc.start()
    series, _ = open_series(source, None, {}, "here")
    view = series.mean(("1", "2"), series.names[:40])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(view.all()[:, 0, 39], 39 * np.arange(1, 21) / (255 * 20), rtol=1e-6)
    assert peak < size / 4
    if hasattr(psutil.Process, "memory_maps"):  # what is mapped counts, too
        assert sum(m.rss for m in psutil.Process().memory_maps() if m.path == str(tmp_path / "r.npy")) < size / 4


def test_nan_and_scale_are_reported(lab: Path) -> None:
    notes = opened(lab).notes
    assert f"meg: 2 NaN off the diagonals and {PEOPLE * TIMES * STIMULI} on them taken as 0" in notes
    assert any(
        note.startswith("meg: 0..1.29") and note.endswith("mapped to 0..1 (normalize: published)") for note in notes
    )


def test_values_are_taken_as_they_are_when_asked(lab: Path) -> None:
    rdms = np.nan_to_num(stored())
    np.save(lab / "whole.npy", rdms)
    view = series_of(lab, "file: whole.npy, normalize: none").mean(("2",), NAMES)
    np.testing.assert_allclose(view.all(), rdms[1], atol=1e-7)
    assert "2 NaN off the diagonals" in problems_of(lab, "file: rdms.npy, normalize: none")


def test_the_first_time_is_kept_and_the_others_averaged(lab: Path) -> None:
    series = series_of(lab, "file: rdms.npy, average: 3")
    assert series.times.tolist() == [-20, 10, 40]
    whole = published(stored())[1]
    expected = [whole[0], (whole[1] + whole[2] + whole[3]) / 3, (whole[4] + whole[5] + whole[6]) / 3]
    np.testing.assert_allclose(series.mean(("2",), NAMES).all(), expected, atol=1e-7)
    assert "makes whole groups. Got 7 times" in problems_of(lab, "file: rdms.npy, average: 4")


def test_averaging_in_parts_changes_nothing(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = series_of(lab, "file: rdms.npy, average: 2")
    whole = series.mean(("1", "2"), NAMES).all()
    monkeypatch.setattr(blocks, "_ENTRIES", 1)
    np.testing.assert_array_equal(series.mean(("1", "2"), NAMES).all(), whole)


def test_a_batch_is_rows_and_columns(lab: Path) -> None:
    view = series_of(lab).mean(("1", "2"), NAMES)
    rows = np.array([4, 0, 7])
    batch = view.batch(rows)
    for t in range(TIMES):
        for a, i in enumerate(rows):
            for b, j in enumerate(rows):
                assert batch[t, a, b] == view.all()[t, i, j]
    assert batch.flags.c_contiguous


def test_a_mean_depends_on_whom_not_on_their_order(lab: Path) -> None:
    series = series_of(lab)
    one, other, third = (series.mean(people, NAMES) for people in (("1", "3"), ("3", "1"), ("1", "2")))
    assert one.digest == other.digest != third.digest
    np.testing.assert_array_equal(one.all(), other.all())
    assert series.mean(("1", "3"), NAMES[::-1]).digest != one.digest


def test_each_gives_one_person_after_the_other(lab: Path) -> None:
    people = list(series_of(lab).each(("3", "1"), NAMES[:4]))
    expected = published(stored())[[2, 0], :, :4, :4]
    np.testing.assert_allclose(np.stack(people), expected, atol=1e-7)


def test_a_large_mean_is_made_once_and_mapped(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = series_of(lab)
    small = series.mean(("1", "2"), NAMES, folder=lab / "features")
    assert not (lab / "features").exists()
    monkeypatch.setattr(series_module, "LARGE", 0)
    large = series.mean(("1", "2"), NAMES, folder=lab / "features")
    assert isinstance(large.values, np.memmap)
    assert not isinstance(series.mean(("1", "2"), NAMES).values, np.memmap)  # without a folder
    np.testing.assert_array_equal(large.all(), small.all())
    np.testing.assert_array_equal(large.batch(np.array([1, 5])), small.batch(np.array([1, 5])))
    (made,) = (lab / "features").glob("*/rdm.npy")
    before = made.stat().st_mtime_ns
    series_of(lab).mean(("2", "1"), NAMES, folder=lab / "features")
    assert made.stat().st_mtime_ns == before
    series.mean(("1", "3"), NAMES, folder=lab / "features")
    assert len(list((lab / "features").glob("*/rdm.npy"))) == 2


def test_unknown_people_and_stimuli_are_told(lab: Path) -> None:
    series = series_of(lab, "file: rdms.npy, participants: [anna, 7, b]")
    assert series.participants == ("anna", "7", "b")
    for people, words in [(("anna", "dan"), "Got dan. Known: anna, 7, b"), ((), "Got none"), (("7", "7"), "once each")]:
        with pytest.raises(DataError, match=words) as caught:
            series.mean(people, NAMES)
        assert "manifest.yaml:7:" in str(caught.value)
    with pytest.raises(DataError, match="1 of 2 are no rows, 0 repeated; first kiwi"):
        series.mean(("b",), ("s1", "kiwi"))
    with pytest.raises(DataError, match="1 repeated"):
        series.mean(("b",), ("s1", "s1"))


def test_what_a_pass_finds_is_kept_by_content(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "WORTH_KEEPING", 0)
    facts._digest_of_version.cache_clear()
    entry = load_manifest(written(lab)).series[0]
    first = survey(open_blocks(entry))
    assert len(list((lab / "cache" / "facts").iterdir())) == 2
    monkeypatch.setattr(blocks, "_look_through", lambda given: pytest.fail("looked through again"))
    assert survey(open_blocks(entry)) == first
    monkeypatch.undo()
    monkeypatch.setenv("SWEEPER_CACHE", str(lab / "cache"))
    monkeypatch.setattr(facts, "WORTH_KEEPING", 0)
    change(lab / "rdms.npy", 2 * stored())
    assert survey(open_blocks(entry)).high == pytest.approx(2 * first.high)
    for path in (lab / "cache" / "facts").iterdir():
        content = json.loads(path.read_text())
        path.write_text(json.dumps({"key": "another", "facts": {**content["facts"], "high": 0.5, "sha256": "0"}}))
    assert survey(open_blocks(entry)).high == pytest.approx(2 * first.high)


def test_facts_that_cannot_be_kept_are_found_anew(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "WORTH_KEEPING", 0)
    (lab / "cache").write_text("a file where a folder would be")
    assert series_of(lab).high > 1


def test_the_digest_follows_the_bytes_and_the_time_axis(lab: Path) -> None:
    first = series_of(lab).digest
    assert series_of(lab).digest == first
    assert series_of(lab, "file: rdms.npy, average: 2").digest != first
    change(lab / "rdms.npy", stored(seed=1))
    assert series_of(lab).digest != first


# A fault, what is stored, fields of the entry, words of the message.
def broken(fault: str) -> NDArray[np.float64]:
    rdms = np.nan_to_num(stored())
    match fault:
        case "asymmetric":
            rdms[2, 4, 1, 5] += 0.2
            rdms[0, 1, 1, 5] += 0.1
        case "half NaN":
            rdms[2, 4, 1, 5] = np.nan
        case "constant":
            rdms[1, 3], rdms[2, 0] = 0.5 * (1 - np.eye(STIMULI)), 0
        case "a person of NaN":
            rdms[1] = np.nan
        case "infinite":
            rdms[1, 3, 1, 2] = rdms[1, 3, 2, 1] = rdms[2, 0, 1, 2] = rdms[2, 0, 2, 1] = np.inf
        case "similarities":
            rdms[:, :, range(STIMULI), range(STIMULI)] = 1
        case "few":
            rdms = rdms[:, :, :2, :2]
        case "flat":
            rdms = rdms[0, 0]
        case "oblong":
            rdms = rdms[..., :5]
        case "NaN":
            rdms[1, 5, 1, 2] = rdms[1, 5, 2, 1] = np.nan
        case "complex":
            return rdms + 0j
        case "text":
            return np.full(rdms.shape, "a")  # type: ignore[return-value]
    return rdms


FAULTS = {
    "asymmetric": ("", "RDMs are symmetric. Got a difference of 0.2, the largest: participant 3 at 20 ms."),
    "half NaN": ("", "RDMs are symmetric"),
    "constant": ("", "2 of 21 are constant, first participant 2 at 10 ms, participant 3 at -20 ms"),
    "a person of NaN": ("", "are NaN, which counts as 0. Leave these participants"),
    "infinite": ("", "4 infinite entries, first participant 2 at 10 ms, participant 3 at -20 ms."),
    "NaN": (", normalize: none", "RDMs are finite. Got 2 NaN off the diagonals, first participant 2 at 30 ms."),
    "similarities": ("", "the diagonals of RDMs are 0. Got up to 1, participant 1 at -20 ms"),
    "few": (", rows: [a, b]", "at least 3 stimuli. Got 3x7x2x2"),
    "flat": ("", "numbers [participant, time, stimulus, stimulus]. Got shape (8, 8)"),
    "oblong": ("", "square. Got 8 x 5 of shape (3, 7, 8, 5)"),
    "text": ("", "a series is real numbers. Got dtype <U1."),
    "complex": ("", "a series is real numbers. Got dtype complex128. Save the dissimilarities as real numbers"),
    "time axis": (", stop_ms: 50", "ends at `stop_ms` 50. Got 7 times from -20 in steps of 10 ms, the last at 40"),
    "people": (", participants: [a, b]", "names each of the 3 in the array. Got 2 names"),
    "rows": (", rows: [a, b, c]", "as many rows as `rows` names. Got 8 rows for 3 names"),
    "key": (", key: rdm", "the file holds `rdm`"),
    "pool": (
        ", rows: [s0, s1, s2, x3, x4, s5, s6, s7]",
        "`meg` covers the pool. Got 1 of 5 are not among its rows, first s4",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_at_its_place(fault: str, lab: Path) -> None:
    extra, words = FAULTS[fault]
    np.save(lab / "bad.npy", broken(fault))
    path = written(lab, f"file: bad.npy{extra}")
    if "rows:" in extra:
        path.write_text(path.read_text().replace("rows: row_ids, ", ""))
    with pytest.raises(DataError) as caught:
        open_dataset(load_manifest(path))
    (message,) = [str(problem) for problem in caught.value.problems]
    assert words in message
    assert f"{path}:7:" in message
    found = [f for f in verify_manifest(load_manifest(path)) if f.level == "error"]
    assert len(found) == 1
    assert f"{path}:7:" in found[0].where


def test_a_damaged_mat73_is_a_data_error(lab: Path) -> None:
    (lab / "seven.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600))
    assert "can be read as `mat`" in problems_of(lab, "file: seven.mat")
    save_mat73(lab / "seven.mat", "rdms", stored())
    assert "the file holds `rmds`" in problems_of(lab, "file: seven.mat, key: rmds")


def test_verify_shows_the_series(lab: Path) -> None:
    findings = verify_manifest(load_manifest(written(lab)))
    assert [f for f in findings if f.level in ("warning", "error")] == []
    (shown,) = [f.message for f in findings if f.check == "RDM series"]
    assert shown.startswith("meg: 3 participants, 7 times (-20..40 ms, 3 of them up to 0 ms), 8 stimuli, 0..1.29")
    assert any("2 NaN off the diagonals" in f.message for f in findings)


def test_verify_warns_of_an_axis_without_a_time_after_the_onset(lab: Path) -> None:
    path = written(lab)
    path.write_text(path.read_text().replace("start_ms: -20", "start_ms: -60"))
    (warning,) = [finding for finding in verify_manifest(load_manifest(path)) if finding.level == "warning"]
    assert warning.message == "meg: no time is after 0 ms, the onset: losses and scores count these"


def test_verify_names_missing_stimuli(lab: Path) -> None:
    path = written(lab, "file: rdms.npy, rows: [s0, s1, s2, x3, x4, s5, s6, s7]")
    path.write_text(path.read_text().replace("rows: row_ids, ", ""))
    found = [(f.level, f.message) for f in verify_manifest(load_manifest(path)) if f.level in ("warning", "error")]
    assert found == [
        ("error", "meg: 1 images of the pool are no rows of it: s4"),
        ("warning", "meg: 1 held-out images are no rows of it: s3"),
    ]


def test_images_and_a_series_are_a_pool(lab: Path) -> None:
    data = opened(lab)
    assert data.pool.names == ("s0", "s2", "s4", "s5", "s7")
    assert data.targets.shape == (5, 0)
    assert data.row_ids.tolist() == [0, 2, 4, 5, 7]
    assert data.dimensions == ()
    assert data.held_out is not None
    assert data.held_out.images.names == ("s6", "s1", "s3")
    assert data.held_out.targets is None
    held_out = data.series[0].mean(("1",), data.held_out.images.names).all()
    np.testing.assert_allclose(held_out, published(stored())[0][:, [6, 1, 3]][:, :, [6, 1, 3]], atol=1e-7)


def test_such_a_pool_has_folds(lab: Path) -> None:
    path = written(lab)
    path.write_text(path.read_text().replace("held_out: {rows: [s6, s1, s3]}\n", ""))
    folds = [open_dataset(load_manifest(path), folds=2, fold=fold) for fold in range(2)]
    names = [data.held_out.images.names for data in folds if data.held_out is not None]
    assert sorted(names[0] + names[1]) == list(NAMES)
    assert all(data.series[0].uncovered(data.pool.names) == [] for data in folds)


def test_held_out_images_of_their_own_may_follow_the_series(lab: Path) -> None:
    """An evaluation set: no pool, rows in the order of the images, another time axis."""
    text = MANIFEST.replace("images: {folder", "held_out: {images: {folder").replace('"*.png"}', '"*.png"}}')
    text = text.replace("held_out: {rows: [s6, s1, s3]}\n", "").replace("rows: row_ids", "rows: held_out")
    data = open_dataset(load_manifest(written(lab, manifest=text)))
    assert len(data.pool) == 0
    assert data.series[0].names == NAMES


def test_row_ids_of_tables_count_the_rows(lab: Path) -> None:
    """As in THINGS-MEG: the pool's table and the held-out one keep the ids of a larger one, which index the RDM."""
    (lab / "pool.csv").write_text("name,id,v\ns4,0,1\ns0,5,2\ns7,6,3\n")
    (lab / "held.csv").write_text("name,id,v\ns2,3,1\ns1,2,2\ns5,7,3\n")
    text = MANIFEST.replace('"*.png"', '"{name}.png"').replace(
        "held_out: {rows: [s6, s1, s3]}",
        "targets: {file: pool.csv, names: name, row_ids: id}\n"
        "held_out: {targets: {file: held.csv, names: name, row_ids: id}}",
    )
    series = open_dataset(load_manifest(written(lab, manifest=text))).series[0]
    assert series.names == ("s4", "#1", "s1", "s2", "#4", "s0", "s7", "s5")
    view = series.mean(("1",), ("s0", "s2"))
    np.testing.assert_allclose(view.all()[:, 0, 1], published(stored())[0][:, 5, 3], atol=1e-7)


def test_one_array_per_time_and_no_people(lab: Path) -> None:
    rdms = np.nan_to_num(stored())[:, :2]
    np.savez(lab / "two.npz", early=rdms[:, 0], late=rdms[:, 1])
    series = series_of(lab, "file: two.npz, key: [early, late]")
    np.testing.assert_allclose(series.mean(("2",), NAMES).all(), published(rdms)[1], atol=1e-7)
    np.save(lab / "mean.npy", rdms[0])
    series = series_of(lab, "file: mean.npy, axes: [time, stimulus, stimulus]")
    assert series.participants == ("1",)
    np.testing.assert_allclose(series.mean(("1",), NAMES).all(), published(rdms[0]), atol=1e-7)
    np.savez(lab / "two.npz", early=rdms[:, 0], late=rdms[:2, 1])
    assert "the same shape" in problems_of(lab, "file: two.npz, key: [early, late]")


def test_fmri_of_real_people(experiments: Path, real_data: Path) -> None:
    data = open_dataset(load_manifest(experiments / "objects92_subjects.yaml"), folds=4, fold=0)
    fmri, judgements = data.series
    assert (len(fmri.participants), len(fmri.times), len(judgements.times)) == (12, 2, 1)
    assert data.held_out is not None
    assert (len(data.pool), len(data.held_out.images)) == (69, 23)
    real = np.load(real_data / "objects92.npz", allow_pickle=False)
    upper = np.triu_indices(92, 1)
    region = fmri.mean(fmri.participants, fmri.names).all()[1][upper]
    assert spearmanr(region, real["rdm_hIT"][upper])[0] == pytest.approx(0.528, abs=5e-4)
    judged = judgements.mean(judgements.participants, judgements.names).all()[0][upper]
    assert spearmanr(judged, real["rdm_hIT"][upper])[0] == pytest.approx(0.373, abs=5e-4)
    assert judged.max() <= 1
