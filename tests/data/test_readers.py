import builtins
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from sweeper.data.readers import READERS, read_array, read_arrays
from sweeper.errors import DataError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


SPOSE = ",image_name,0,1,2\n7,a_01b.jpg,1.5,2,0\n3,b_01b.jpg,0.25,1e-3,9\n"


def test_spose_csv_has_ids_names_and_values(tmp_path: Path) -> None:
    arrays = read_arrays(write(tmp_path, "t.csv", SPOSE), "spose-csv")
    assert arrays["row_id"].tolist() == [7, 3]
    assert arrays["image_name"].tolist() == ["a_01b.jpg", "b_01b.jpg"]
    np.testing.assert_array_equal(arrays["values"], [[1.5, 2, 0], [0.25, 1e-3, 9]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,0,1\na,1,2\n", "unnamed first column"),
        (SPOSE.replace("0,1,2", "0,2,1", 1), "'2' where '1' belongs"),
        (SPOSE.replace("1e-3", "x"), "'x' in row 2"),
        (SPOSE + "9,c\n", "every row has 5 cells"),
        ("", "an empty file"),
    ],
)
def test_spose_csv_that_is_none_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        read_arrays(write(tmp_path, "t.csv", text), "spose-csv")


def test_csv_columns_are_numbers_or_text(tmp_path: Path) -> None:
    arrays = read_arrays(write(tmp_path, "t.csv", "\ufeffname,a,b\nx,1,\n\ny,2,3\n"))
    assert arrays["name"].tolist() == ["x", "y"]
    np.testing.assert_array_equal(arrays["a"], [1, 2])
    np.testing.assert_array_equal(arrays["b"], [np.nan, 3])


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "0,1\n1,2\n3,4\n", ",0,1\n0,1,2\n1,3,4\n"])
def test_csv_of_numbers_is_a_matrix_with_or_without_header(text: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_array(write(tmp_path, "m.csv", text)), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "words"),
    [("a,a\n1,2\n", "`a` more than once"), ('a,b\n"1,2\n', "as `csv`"), ("a,b\n1\n", ":2: every row has 2")],
)
def test_broken_csv_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        read_arrays(write(tmp_path, "t.csv", text))


def test_tsv_and_txt(tmp_path: Path) -> None:
    assert read_arrays(write(tmp_path, "t.tsv", "n\tv\na\t1\n"))["v"].tolist() == [1.0]
    assert read_array(write(tmp_path, "t.txt", "kiwi\n\n apple \n")).tolist() == ["kiwi", "apple"]


def test_npy_npz_and_mat_give_the_same_array(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array, names=np.array([b"kiwi", b"fig"]))
    cells = np.array([["kiwi"], ["music box"]], dtype=object)
    scipy.io.savemat(tmp_path / "a.mat", {"x": array, "names": cells})
    for file in ("a.npz", "a.mat"):
        np.testing.assert_array_equal(read_array(tmp_path / file, None, "x"), array)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), array)
    assert read_array(tmp_path / "a.npz", None, "names").tolist() == ["kiwi", "fig"]
    assert read_array(tmp_path / "a.mat", None, "names").tolist() == ["kiwi", "music box"]


def write_mat73(path: Path, array: np.ndarray[Any, Any]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        item = file.create_dataset("x", data=array.T)
        item.attrs["MATLAB_class"] = np.bytes_("double")
        codes = {word: np.array([[ord(c)] for c in word], np.uint16) for word in ("ab", "c")}
        words = [file.create_dataset(f"#refs#/{word}", data=code) for word, code in codes.items()]
        cell = file.create_dataset("names", (1, 2), dtype=h5py.ref_dtype)
        cell[0, 0], cell[0, 1] = words[0].ref, words[1].ref
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, for a test".ljust(512, b" "))


def test_mat73_has_matlab_axes(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    write_mat73(tmp_path / "a.mat", array)
    np.testing.assert_array_equal(read_array(tmp_path / "a.mat", None, "x"), array)
    assert read_array(tmp_path / "a.mat", None, "names").tolist() == ["ab", "c"]
    with pytest.raises(DataError, match="It holds `names`, `x`"):
        read_array(tmp_path / "a.mat", None, "y")


def test_mat73_without_h5py_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    original = builtins.__import__

    def without_h5py(name: str, *args: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    with pytest.raises(DataError, match=r"sweeper\[matlab73\]"):
        read_array(tmp_path / "a.mat", None, "x")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "o.npz", o=objects)
    for file in ("o.npy", "o.npz"):
        with pytest.raises(DataError, match="without pickled objects"):
            read_array(tmp_path / file)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".csv", ".txt"])
def test_garbage_is_a_data_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"g{suffix}"
    path.write_bytes(b"\x93\x00\xff garbage \x80" * 40)
    with pytest.raises(DataError, match=r"g\."):
        read_array(path)


def test_truncated_npz_is_a_data_error(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(10000.0))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "b.npz").write_bytes(data[:40] + bytes(40) + data[80:])
    with pytest.raises(DataError):
        read_array(tmp_path / "b.npz")


def test_missing_things_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", rdm=np.eye(2), other=np.eye(2))
    with pytest.raises(DataError, match="did you mean `rdm`"):
        read_array(tmp_path / "a.npz", None, "rmd")
    with pytest.raises(DataError, match="a `key` says which"):
        read_array(tmp_path / "a.npz")
    with pytest.raises(DataError, match="the file exists"):
        read_array(tmp_path / "nowhere.npz")
    with pytest.raises(DataError, match="format follows from the suffix"):
        read_array(tmp_path / "a.xls")


def test_every_format_has_a_reader() -> None:
    assert list(READERS) == ["spose-csv", "csv", "txt", "npy", "npz", "mat"]


def test_lab_files(real_data: Path) -> None:
    lab = real_data / "lab_files"
    train = read_arrays(lab / "spose_embedding66d_rescaled_1806train.csv", "spose-csv")
    assert train["values"].shape == (1806, 66)
    assert train["values"].astype(np.float32).mean(dtype=np.float64) == pytest.approx(5.690615, abs=1e-6)
    assert train["values"].std() == pytest.approx(10.178653, abs=1e-6)
    rdm = read_array(lab / "RDM48_triplet.mat")
    np.testing.assert_allclose(rdm[0, :4], [0, 0.83076923, 0.14925373, 0.75373134], atol=1e-8)
