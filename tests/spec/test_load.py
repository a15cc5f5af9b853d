"""Loading: YAML 1.2 values, paths, environment variables, sections beside the trial."""

import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.spec.axes import expand
from sweeper.spec.document import parse_document
from sweeper.spec.load import load_spec, parse_spec

HEAD = "name: x\ndata: {manifest: m.yaml}\nmodel: {backbone: tiny-clip}\n"


def value(scalar: str) -> object:
    root = parse_document(f"a: {scalar}", "f.yaml").root
    assert root is not None
    return root.value["a"]


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        ("1e-4", 1e-4),
        ("3.0E-4", 3e-4),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("+3", 3),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("-.inf", float("-inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        ('"null"', "null"),
        ("!!str 5", "5"),
        ("1e", "1e"),
        ("9" * 500, "9" * 500),
    ],
)
def test_scalars_follow_yaml_1_2(scalar: str, expected: object) -> None:
    got = value(scalar)
    assert got == expected
    assert type(got) is type(expected)


def test_places_of_keys_and_values() -> None:
    document = parse_document("a:\n  - 1\n  - {b: 2}\nc:\n", "f.yaml")
    assert document.where(()) == "f.yaml:1:1"
    assert document.where(("a",)) == "f.yaml:2:3"
    assert document.where(("a",), key=True) == "f.yaml:1:1"
    assert document.where(("a", 1, "b")) == "f.yaml:3:9"
    assert document.where(("a", 1, "b"), key=True) == "f.yaml:3:6"
    assert document.where(("a", 1, "nowhere", "at all")) == "f.yaml:3:5"
    assert document.where(("c",)) == "f.yaml:4:1"


@pytest.mark.parametrize("merged", ["3", "[*a, 3]", "null"])
def test_only_mappings_are_merged(merged: str) -> None:
    document = parse_document(f"a: &a {{x: 1}}\nb: {{<<: {merged}}}\n", "f.yaml")
    assert [problem.where for problem in document.problems] == ["f.yaml:2:5"]


def test_anchors_and_merge_keys() -> None:
    document = parse_document("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n", "f.yaml")
    assert document.root is not None
    assert document.root.value == {"a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}, "c": {"x": 1, "y": 2}}
    assert document.where(("b", "x")) == "f.yaml:1:11"


def test_a_byte_order_mark_and_windows_lines_are_read() -> None:
    assert parse_spec("\ufeff" + HEAD.replace("\n", "\r\n"), "f.yaml").name == "x"


def test_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    path = folder / "a.yaml"
    path.write_text(
        "name: x\ndata: {manifest: ../data/m.yaml}\nmodel: {backbone: b, pretrained: w.safetensors, activation: gelu}\n"
        "axes: {data: [{manifest: n.yaml}], model.pretrained: [./v/w.safetensors, openai]}\n"
        "exclude: [{model.pretrained: v/w.safetensors}]\n"
        "evaluation: {sets: [s.yaml, /abs/t.yaml, builtin:u]}\n"
    )
    spec = load_spec(path)
    assert spec.base["data"]["manifest"] == str(tmp_path / "data" / "m.yaml")
    assert spec.base["model"]["pretrained"] == str(folder / "w.safetensors")
    assert spec.evaluation.sets == (str(folder / "s.yaml"), "/abs/t.yaml", "builtin:u")
    (trial,) = expand(spec)
    assert trial.config.data.manifest == str(folder / "n.yaml")
    assert trial.config.model.pretrained == "openai"


def test_builtin_manifests_are_no_paths() -> None:
    spec = parse_spec("name: x\ndata: {manifest: 'builtin:selfmade'}\nmodel: {}", "f.yaml")
    assert spec.base["data"]["manifest"] == "builtin:selfmade"


def test_environment_variables_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_THINGS", "/lab")
    monkeypatch.delenv("SWEEPER_OTHER", raising=False)
    text = "name: x\ndata: {manifest: '${SWEEPER_THINGS}/a/../${SWEEPER_OTHER:-b}.yaml'}\nmodel: {}"
    assert parse_spec(text, "f.yaml").base["data"]["manifest"] == "/lab/b.yaml"


def test_an_unset_variable_does_not_matter_to_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWEEPER_OTHER", raising=False)
    text = "name: x\ndata: {manifest: '${SWEEPER_OTHER}/b.yaml'}\nmodel: {}"
    with pytest.raises(SpecError, match=r"f\.yaml:2:18: environment variable SWEEPER_OTHER must be set"):
        parse_spec(text, "f.yaml")
    assert parse_spec(text, "f.yaml", stand_in=True).base["data"]["manifest"] == "builtin:selfmade"


def test_sections_beside_the_trial() -> None:
    body = "evaluation: {rsa: [a, b], metric: cosine}\nrecovery: {comparator: fixed}\nresources: {gpu: 0.25}\n"
    spec = parse_spec(HEAD + body + "tracking: {uri: 'http://x'}\n", "f.yaml")
    assert spec.evaluation.rsa == ("a", "b")
    assert spec.recovery.comparator == "fixed"
    assert spec.resources.gpu == 0.25
    assert spec.tracking.uri == "http://x"
    assert not spec.stand_in


def test_numbers_of_a_spec_are_numbers() -> None:
    spec = parse_spec(HEAD + "training: {optimizer: {lr: 1e-4, weight_decay: 0}}\n", "f.yaml")
    optimizer = expand(spec)[0].config.training.optimizer
    assert optimizer.lr == 1e-4
    assert optimizer.weight_decay == 0


def test_loading_needs_nothing_heavy() -> None:
    code = (
        "import sys, sweeper.spec.load, sweeper.spec.file_schema\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'scipy', 'open_clip', 'peft'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("sections", "place", "text"),
    [
        ("training: {batch_size: 2}", "4:24", "training.batch_size is at least 3. Got 2"),
        ("subject: [1]", "4:10", "subject must be text"),
        ("axes: {subject: 5}", "4:17", "axis subject must be a list of values"),
        ("axes: {model.loss.w1: [0, 1], model.loss.w2: [0], model.loss.w3: [0]}", "4:24", "one of model.loss.w1, w2"),
        (
            "axes: {subject: [1, 2], model.targets.participants: [['1', '2']]}",
            "4:54",
            "model.targets.participants does not go with a subject, who is trained on alone. Got ['1', '2']",
        ),
    ],
)
def test_what_a_meg_spec_must_not_say_is_told_at_its_place(sections, place, text):
    head = "name: x\ndata: {manifest: m}\nmodel: {variant: clip-hba-meg, loss: {w1: 1}, stages: {patience: 3}}\n"
    with pytest.raises(SpecError) as error:
        parse_spec(head + sections, "f.yaml")
    told = [str(problem) for problem in error.value.problems]
    assert len(told) == 1, told
    assert told[0].startswith(f"f.yaml:{place}: "), told
    assert text in told[0]
