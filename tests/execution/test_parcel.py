"""What travels to a cluster, and what comes back in a job's log."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.execution.job_log import JobLog, Output, entrypoint
from sweeper.execution.parcel import named_files, packed

SPEC = """\
name: travels
data: {manifest: ../data/pool.yaml}
model: {backbone: tiny-clip, pretrained: builtin}
training: {max_epochs: 3}
axes: {data.manifest: [../data/pool.yaml, "${ELSEWHERE}/there.yaml", builtin:selfmade, other.yaml]}
evaluation: {sets: ["${BESIDE:-.}/set.yaml"]}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELSEWHERE", "/on/the/cluster")
    monkeypatch.delenv("BESIDE", raising=False)
    for name in ("specs/other.yaml", "specs/set.yaml", "data/pool.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("images: {folder: '${IMAGES}'}\n")
    (tmp_path / "specs" / "images.bin").write_text("stays")
    (tmp_path / "specs" / "spec.yaml").write_text(SPEC)
    return tmp_path / "specs" / "spec.yaml"


def test_spec_and_manifests_keep_their_places(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGES", "/images")
    monkeypatch.setenv("SECRET", "stays")
    with packed(spec) as parcel:
        folder = parcel.folder
        files = {str(file.relative_to(folder)) for file in folder.rglob("*.yaml")}
        assert files == {"specs/spec.yaml", "specs/other.yaml", "specs/set.yaml", "data/pool.yaml"}
        assert parcel.spec == Path("specs/spec.yaml")
        assert parcel.variables == {"ELSEWHERE": "/on/the/cluster", "IMAGES": "/images"}
        assert not list(folder.rglob("images.bin"))
    assert not folder.exists()


def test_the_installed_code_travels_with_its_weights(tmp_path: Path) -> None:
    with packed(None) as parcel:
        assert [package.name for package in parcel.packages] == ["sweeper", "sweeper_models"]
        path = os.pathsep.join(str(package.parent) for package in parcel.packages)
        code = "import sweeper.cli, sweeper_models.configs as c; print(sweeper.__path__[0]); print(c.TINY_CLIP_DIR)"
        done = subprocess.run(
            [sys.executable, "-P", "-c", f"{code}; assert list(c.TINY_CLIP_DIR.glob('*.safetensors'))"],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == [str(parcel.packages[0]), str(parcel.packages[1] / "tiny_clip")]


def test_what_is_missing_is_told_at_its_place(spec: Path) -> None:
    spec.write_text(
        SPEC.replace("pool.yaml}", "absent.yaml}").replace("pretrained: builtin", "pretrained: w.safetensors")
    )
    with pytest.raises(SpecError) as caught:
        named_files(spec)
    assert {problem.where.removeprefix(str(spec)) for problem in caught.value.problems} == {":2:18", ":3:42"}


def test_data_that_would_not_be_found_there_are_told_here(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = spec.parent.parent / "data" / "pool.yaml"
    lines = [
        "images: {folder: images}",
        "targets: {file: '${UNSET:-../t.csv}'}",
        "references: [{file: '${SET}/r.mat'}]",
    ]
    manifest.write_text("\n".join([*lines, "triplets: {file: /shared/t.txt}"]))
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.setenv("SET", "beside")
    with pytest.raises(SpecError) as caught:
        named_files(spec)
    found = [(problem.where.removeprefix(str(manifest)), problem.got) for problem in caught.value.problems]
    assert found == [(":1:18", "images"), (":3:21", "${SET}/r.mat")]
    with packed(spec, stand_in=True) as parcel:
        assert [file.name for file in parcel.folder.rglob("*.yaml")] == ["spec.yaml"]


@pytest.mark.parametrize("output", ["plain", "encoded", "live"])
def test_a_log_is_told_apart(output: Output, tmp_path: Path) -> None:
    """Runs the real shell line, with a `python` that says and prints, and cuts the log at every place."""
    python = tmp_path / "python"
    lines = [
        "#!/bin/sh",
        '[ "$1" = -c ] && exit 0',
        'echo said: "$@" >&2',
        'printf "pr\\303\\244nted\\n\\nend"',
        "exit 7",
    ]
    python.write_text("\n".join(lines))
    python.chmod(0o755)
    line = entrypoint(["status", "a b"], "mark", output)
    done = subprocess.run(
        ["sh", "-c", line],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    text = f"Running entrypoint: {line}\n{done.stdout}"
    said, printed = "said: -P -m sweeper.cli status a b\n", "pränted\n\nend"
    for cut in range(len(text)):
        log = JobLog("mark", output)
        assert log.feed(text[:cut]) + log.feed(text[cut:]) == (f"{said}{printed}\n" if output == "live" else said)
        assert log.output() == ("" if output == "live" else printed).encode()
    assert JobLog("mark", output).output() is None


def test_what_is_said_last_needs_no_end_of_line() -> None:
    log = JobLog("mark", "plain")
    assert log.feed("ray\nmark:begin\nfirst\nlastmark:output\nmark:end\n") == "first\nlast\n"
    assert log.output() == b""
