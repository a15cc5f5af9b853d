import re
from pathlib import Path

import pytest

from sweeper.data.manifest import Manifest, load_manifest
from sweeper.errors import DataError

POOL = "images: {folder: images}\ntargets: {file: a.csv, names: name}\n"
RDM = "kind: neural, file: r.npy"
SERIES = "name: s, file: s.npy, start_ms: -100, step_ms: 5"
ALIASES = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]

# kind: text, line and column of a problem, words that its message has
BROKEN = {
    "empty": ("", 1, 1, "mapping of fields"),
    "list": ("- 1\n", 1, 1, "mapping of fields"),
    "scalar": ("hello\n", 1, 1, "mapping of fields"),
    "syntax": ("name: a\nimages: {folder: [x}\n", 2, 20, "the file must be valid YAML"),
    "tab": ("name: a\n\timages: 1\n", 2, 1, "indented by spaces. Got a tab"),
    "two documents": ("name: a\n---\nname: b\n", 2, 1, "one YAML document"),
    "duplicate key": ("name: a\nname: b\n" + POOL, 2, 1, "not occur twice. Got name. First at line 1"),
    "unknown key": ("name: a\nimags: {}\n" + POOL, 2, 1, "Did you mean `images`"),
    "nested unknown key": ("name: a\nimages: {foldr: x}\ntargets: {file: a.npy}\n", 2, 10, "Did you mean `folder`"),
    "no name": (POOL, 1, 1, "`name` is required"),
    "name not text": ("name: 5\n" + POOL, 1, 1, "valid string"),
    "name with blanks": ("name: a b\n" + POOL, 1, 1, "match pattern"),
    "unset variable": ("name: a\nimages: {folder: '${NO_SUCH}/x'}\ntargets: {file: a.npy}\n", 2, 10, "export NO_SUCH"),
    "bad variable": ("name: a\nimages: {folder: '${HOME/x'}\ntargets: {file: a.npy}\n", 2, 10, "${NAME:-default}"),
    "path not text": ("name: a\nimages: {folder: 3}\ntargets: {file: a.npy}\n", 2, 10, "a path is text"),
    "unknown format": ("name: a\nimages: {folder: x}\ntargets: {file: a, format: xls}\n", 3, 20, "'spose-csv'"),
    "csv without names": ("name: a\nimages: {folder: x}\ntargets: {file: a.csv}\n", 3, 1, "names: COLUMN"),
    "npz without values": ("name: a\nimages: {folder: x}\ntargets: {file: a.npz, names: n}\n", 3, 1, "values: KEY"),
    "spose-csv with names": (
        "name: a\nimages: {folder: x}\ntargets: {file: a.csv, format: spose-csv, names: n}\n",
        3,
        1,
        "fixed columns",
    ),
    "folder and file": ("name: a\nimages: {folder: x, file: y.npz}\ntargets: {file: a.npy}\n", 2, 1, "Got both"),
    "no images source": ("name: a\nimages: {}\ntargets: {file: a.npy}\n", 2, 1, "Got neither"),
    "pattern placeholder": ("name: a\nimages: {folder: x, pattern: '{n}'}\ntargets: {file: a.npy}\n", 2, 21, "Got {n}"),
    "constant pattern": ("name: a\nimages: {folder: x, pattern: a.jpg}\ntargets: {file: a.npy}\n", 2, 21, "apart"),
    "nothing": ("name: a\n", 1, 1, "names a pool or a held-out set"),
    "images without targets": ("name: a\nimages: {folder: x}\nheld_out: {images: {folder: y}}\n", 1, 1, "together"),
    "empty held_out": ("name: a\nheld_out: {}\n" + POOL, 2, 1, "Leave `held_out` out"),
    "held_out twice": ("name: a\nheld_out: {rows: [b], targets: {file: a.npy}}\n" + POOL, 2, 1, "both"),
    "held_out rows a word": ("name: a\nheld_out: {rows: all}\n" + POOL, 2, 12, "a list, or a mapping"),
    "held_out rows of nothing": ("name: a\nheld_out: {rows: [b], images: {folder: x}}\n", 1, 1, "no `rows`"),
    "rows without held_out": (f"name: a\n{POOL}references: [{{name: r, {RDM}, rows: held_out}}]\n", 1, 1, "needs a"),
    "no rows": (f"name: a\n{POOL}references: [{{name: r, {RDM}}}]\n", 4, 14, "rows` is required"),
    "wrong rows": (f"name: a\n{POOL}references: [{{name: r, {RDM}, rows: heldout}}]\n", 4, 51, "'held_out'"),
    "unknown kind": (f"name: a\n{POOL}references: [{{name: r, kind: x, file: r.npy, rows: [b]}}]\n", 4, 24, "'neural'"),
    "negative index": (f"name: a\n{POOL}references: [{{name: r, {RDM}, rows: [b], select: [-1]}}]\n", 4, 71, "greater"),
    "reserved name": (f"name: a\n{POOL}references: [{{name: targets, {RDM}, rows: [b]}}]\n", 4, 15, "another name"),
    "same name twice": (
        f"name: a\n{POOL}references: [{{name: r, {RDM}, rows: [b]}}, {{name: r, {RDM}, rows: [b]}}]\n",
        4,
        1,
        "unique",
    ),
    "series of nothing": (f"name: a\nseries: [{{{SERIES}, rows: row_ids}}]\n", 1, 1, "names a pool or a held-out set"),
    "series without rows": (f"name: a\n{POOL}series: [{{{SERIES}}}]\n", 4, 10, "rows` is required"),
    "series rows unknown": (f"name: a\n{POOL}series: [{{{SERIES}, rows: ids}}]\n", 4, 61, "'row_ids'"),
    "series of held_out": (f"name: a\n{POOL}series: [{{{SERIES}, rows: held_out}}]\n", 1, 1, "needs a `held_out` set"),
    "series axes": (f"name: a\n{POOL}series: [{{{SERIES}, rows: row_ids, axes: [time, stimulus]}}]\n", 4, 76, "twice"),
    "series axes named otherwise": (
        f"name: a\n{POOL}series: [{{{SERIES}, rows: row_ids, axes: [time, image, image]}}]\n",
        4,
        89,
        "'stimulus'",
    ),
    "series step": (
        f"name: a\n{POOL}series: [{{name: s, file: s.npy, start_ms: 0, step_ms: 0, rows: row_ids}}]\n",
        4,
        46,
        "greater than 0",
    ),
    "series people twice": (
        f"name: a\n{POOL}series: [{{{SERIES}, rows: row_ids, participants: [1, '1']}}]\n",
        4,
        76,
        "different names. Got 1 more than once",
    ),
    "series twice": (
        f"name: a\n{POOL}series: [{{{SERIES}, rows: row_ids}}, {{{SERIES}, rows: row_ids}}]\n",
        4,
        1,
        "series names are unique",
    ),
    "triplets of nothing": ("name: a\nheld_out: {images: {folder: x}}\ntriplets: {file: t.npz}\n", 1, 1, "Give `rows`"),
    "generator and files": ("name: a\ngenerator: {name: drawings, seed: 1}\n" + POOL, 1, 1, "also images, targets"),
    "generator number": ("name: a\ngenerator: {name: drawings, seed: 1, num_train: '5'}\n", 2, 38, "valid integer"),
    "generator unknown": ("name: a\ngenerator: {name: paintings, seed: 1}\n", 2, 13, "'drawings'"),
    "relabel unknown": ("name: a\nrelabel: yes\n" + POOL, 2, 1, "'things-uniqueid'"),
    "self-containing": (
        "name: a\nimages: &x {folder: *x}\ntargets: {file: a.npy}\n",
        2,
        21,
        "an anchor above it. Got *x",
    ),
    "unknown tag": ("name: !python/object a\n" + POOL, 1, 7, "tags must not be used. Got !python/object"),
    "unprintable": ("name: a\nsource: '\x01'\n" + POOL, 2, 10, "Got the character '\\x01'"),
    "half a character": ('name: a\nsource: "\\ud800"\n' + POOL, 2, 9, "Got the character '\\ud800'"),
    "a key of two lines": ('name: a\n"b\\nc": 1\n' + POOL, 2, 1, "`b\\nc` is no field"),
    "depth": ("name: " + "[" * 400 + "]" * 400, 1, 37, "nesting must not be deeper than 30"),
    "aliases of aliases": ("\n".join(["a0: &a0 [x]", *ALIASES]), 7, 5, "aliases must not make more than"),
    "1e-4 is a number": ("name: a\ngenerator: {name: drawings, seed: 1e-4}\n", 2, 29, "Got 0.0001"),
    "names of an array": ("name: a\nimages: {folder: x, names: [a, 5]}\ntargets: {file: a.npy}\n", 2, 32, "names.1"),
    "names a number": ("name: a\nimages: {folder: x, names: 5}\ntargets: {file: a.npy}\n", 2, 21, "`images.names` "),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_manifest_is_refused_at_its_place(kind: str, tmp_path: Path) -> None:
    text, line, column, words = BROKEN[kind]
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_manifest(path)
    messages = [str(problem) for problem in caught.value.problems]
    assert any(m.startswith(f"{path}:{line}:{column}: ") and words in m for m in messages), messages
    assert "Traceback" not in str(caught.value)


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("relabel: maybe\nimages: {foldr: x}\ntargets: {fil: y}\ngenerator: {name: drawings, sed: 1}\n")
    with pytest.raises(DataError) as caught:
        load_manifest(path)
    places = [tuple(map(int, re.findall(r":(\d+):(\d+)$", p.where)[0])) for p in caught.value.problems]
    assert len(places) == 7
    assert places == sorted(places)


def test_all_duplicate_keys_are_named_beside_what_else_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("name: a\nname: b\nimages: {folder: x, folder: y}\n")
    with pytest.raises(DataError) as caught:
        load_manifest(path)
    assert [p.where for p in caught.value.problems] == [f"{path}:1:1", f"{path}:2:1", f"{path}:3:21"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"name: \x00"])
def test_unreadable_file_is_a_data_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_manifest(path)


def test_folder_instead_of_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="readable text file"):
        load_manifest(tmp_path)


def test_scalars_are_those_of_a_spec(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"name: a\nlicence: 2024-01-01\n{POOL}held_out: {{rows: [no, 1_000, 017, '017', 0x1F]}}\n")
    manifest = load_manifest(path)
    assert manifest.licence == "2024-01-01"
    assert manifest.held_out is not None
    assert manifest.held_out.rows == ("no", "1_000", 17, "017", 31)


def test_paths_follow_manifest_variables_and_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path / "there"))
    monkeypatch.setenv("RELATIVE_FOLDER", "here")
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    path = folder / "m.yaml"
    path.write_text(
        "name: a\nimages: {folder: '${SOME_FOLDER}/x'}\ntargets: {file: '../${UNSET:-b}/t.npy'}\n"
        "held_out: {images: {folder: '${RELATIVE_FOLDER}/y'}}\n"
    )
    manifest = load_manifest(path)
    assert manifest.images is not None
    assert manifest.images.folder == tmp_path / "there" / "x"
    assert manifest.targets is not None
    assert manifest.targets.file == tmp_path / "deep" / "b" / "t.npy"
    assert manifest.held_out is not None
    assert manifest.held_out.images is not None
    assert manifest.held_out.images.folder == tmp_path / "here" / "y"


def test_where_names_the_nearest_place(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("name: a\n" + POOL)
    manifest = load_manifest(path)
    assert manifest.where("targets", "file") == f"{path}:3:11"
    assert manifest.where("targets", "format") == f"{path}:3:1"
    assert manifest.where("triplets") == f"{path}:1:1"


def test_manifest_cannot_change() -> None:
    manifest = Manifest.model_validate({"name": "a", "generator": {"name": "drawings", "seed": 1}})
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "b"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["things", "photos484", "objects92", "selfmade"])
def test_shipped_manifests_load(name: str) -> None:
    path = Path(__file__).parents[2] / "experiments" / "data" / f"{name}.yaml"
    assert load_manifest(path).name == name
