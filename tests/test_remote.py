"""`--address` before anything is sent: which address holds, and what is refused here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

from sweeper.addresses import cluster_address
from sweeper.cli import main
from sweeper.errors import ClusterError
from sweeper.spec.load import parse_spec

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SPEC = """\
name: tiny
data: {manifest: builtin:selfmade}
model: {backbone: tiny-clip, pretrained: builtin}
training: {max_epochs: 5}
"""
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_ADDRESS", "SWEEPER_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SPEC)
    return tmp_path / "tiny.yaml"


def call(*words: str, rc: int) -> Result:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == rc, f"{words}: {result.output}\n{result.exception!r}"
    assert "Traceback" not in result.output
    return result


def test_the_option_goes_before_the_spec_and_the_spec_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = parse_spec(SPEC, "tiny.yaml")
    addressed = parse_spec(f"{SPEC}resources: {{address: spec:1}}\n", "tiny.yaml")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address(None, plain) is None
    monkeypatch.setenv("RAY_ADDRESS", "environment:1")
    assert cluster_address("option:1", addressed) == "option:1"
    assert cluster_address(None, addressed) == "spec:1"
    assert cluster_address(None, plain) == cluster_address(None, None) == "environment:1"


def test_a_client_address_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ClusterError, match="http://HEAD:8265"):
        cluster_address(None, None)


@pytest.mark.parametrize("way", ["option", "spec", "environment"])
@pytest.mark.parametrize("verb", ["run", "status"])
def test_three_ways_to_name_a_head(verb: str, way: str, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [verb, "tiny.yaml", "--store", "/shared/store"]
    if way == "option":
        words += ["--address", NOBODY]
        monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8")  # Ray itself would prefer it
    elif way == "spec":
        spec.write_text(f"{SPEC}resources: {{address: '{NOBODY}'}}\n")
    else:
        monkeypatch.setenv("RAY_ADDRESS", NOBODY)
    told = call(*words, rc=3).stderr
    assert f"error: {NOBODY}: the head of a Ray cluster answers there. Got Failed to connect" in told
    assert f"at address: {NOBODY}." in told, "Ray itself was given this one"


def test_the_local_backend_stays_here_unless_it_is_sent(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", NOBODY)
    words = ("run", "tiny.yaml", "--backend", "local")
    spec.write_text(SPEC.replace("builtin:selfmade", "absent.yaml"))
    assert "readable text file" in call(*words, rc=2).stderr
    spec.write_text(SPEC)
    call(*words, "--store", "/shared/store", "--address", NOBODY, rc=3)


def test_a_mistake_in_the_spec_is_told_before_anything_is_sent(spec: Path) -> None:
    spec.write_text(SPEC.replace("max_epochs: 5", "max_epochs: none"))
    result = call("run", "tiny.yaml", "--store", "/shared/store", "--address", NOBODY, rc=2)
    assert "tiny.yaml:4:24" in result.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "--store"),
        (["--store", "store"], "--store"),
        (["--store", "/store", "--cache", "features"], "--cache"),
        (["--store", "/store", "--figures", "figures"], "--figures"),
    ],
)
def test_places_on_a_cluster_are_absolute(words: list[str], what: str, spec: Path) -> None:
    result = call("run", "tiny.yaml", "--address", NOBODY, *words, rc=2)
    assert f"error: {what}: on a cluster this is an absolute path there." in result.stderr


def test_an_object_store_is_no_relative_path(spec: Path) -> None:
    call("status", "tiny", "--store", "s3://bucket/prefix", "--address", NOBODY, rc=3)


def test_watching_is_for_stores_that_are_seen_from_here(spec: Path) -> None:
    result = call("status", "tiny", "--watch", "--store", "/store", "--address", NOBODY, rc=2)
    assert "--watch" in result.stderr


class PlayedHead:
    """Takes jobs and ends them at once, interrupted; keeps what it was sent."""

    sent: ClassVar[list[list[str]]] = []
    typed: ClassVar[list[str]] = []
    job_id = "sweeper-run-1"

    def __init__(self, address: str) -> None:
        assert address == NOBODY

    def submit(self, verb: list[str], parcel: Any, output: str, variables: dict[str, str]) -> "PlayedHead":
        self.sent.append([*verb, output])
        self.typed.append(variables["SWEEPER_TYPED"])
        return self

    def follow(self, show: Callable[[str], None], again: str) -> Any:
        from sweeper.execution.ray_jobs import Ended

        show("3 epochs trained\n")
        return Ended(exit_code=130, output=b"table\n", said="interrupted\n")

    def wait(self) -> Any:
        return self.follow(lambda text: None, "")


def test_what_goes_on_is_said_as_the_user_types_it() -> None:
    from sweeper.launch import Request

    there = Request(
        spec=Path("spec.yaml"),
        store="/store",
        stand_in=True,
        backend="ray",
        address="auto",
        cache=None,
        tracking_uri="off",
        max_failed=3,
    )
    ending = "--store /store --backend ray --tracking-uri off --max-failed 3"
    assert there.command() == f"sweeper run spec.yaml --stand-in --address auto {ending}"
    sent = replace(there, typed=("my specs/tiny.yaml", "--stand-in", "--address", NOBODY))
    assert sent.command() == f"sweeper run 'my specs/tiny.yaml' --stand-in --address {NOBODY} {ending}"


@pytest.mark.parametrize(
    ("sent", "head", "option", "line"),
    [
        (False, None, None, ": sweeper ui tiny --store {store}"),
        (False, "http://127.0.0.1:5000", None, ": sweeper ui tiny --store {store}"),  # the same variable serves `ui`
        (True, None, "off", None),
        (True, "http://lab:5000", None, ": sweeper ui tiny --store {store} --tracking-uri http://lab:5000"),
        (
            True,
            "http://127.0.0.1:5000",
            None,
            ", once the head's port is forwarded (`ray attach cluster.yaml -p 5000`): "
            "sweeper ui tiny --store {store} --tracking-uri http://127.0.0.1:5000",
        ),
        (
            True,
            "sqlite:////home/head/mlflow.db",
            None,
            ", on a machine that sees the store: first sweeper sync tiny --store {store}, "
            "then sweeper ui tiny --store {store}",
        ),
        (
            True,
            "http://lab:1",
            "http://u:secret@lab:2",
            ": sweeper ui tiny --store {store} --tracking-uri 'http://u:***@lab:2'",
        ),
    ],
)
def test_where_a_sweep_is_compared_is_said_for_who_typed_it(
    sent: bool, head: str | None, option: str | None, line: str | None, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper.launch import Request, comparison
    from sweeper.store.opening import open_store

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if head is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", head)
    store = str(spec.parent / "store")
    open_store(store)
    typed = ("tiny.yaml", "--address", NOBODY) if sent else ()
    asked = Request(spec=spec, store=store, tracking_uri=option, typed=typed)
    outcome: Any = SimpleNamespace(
        view=SimpleNamespace(revision=SimpleNamespace(spec=parse_spec(SPEC, "tiny.yaml"))), is_tracked=True
    )
    said = line and f"compare in MLflow{line.format(store=store)}"
    assert comparison(asked, outcome) == said


def test_a_verb_is_sent_as_it_was_typed(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.execution.ray_jobs.Head", PlayedHead)
    monkeypatch.setenv("SWEEPER_STORE", "/store")
    run = call("run", "tiny.yaml", "--wait", "--tracking-uri", "off", "--address", NOBODY, rc=130)
    assert run.stdout == "table\n"
    assert run.stderr.splitlines()[1:] == ["3 epochs trained", "interrupted"]
    call("status", "tiny.yaml", "--stand-in", "--json", "--address", NOBODY, rc=130)
    call("logs", "tiny", "-f", "--trial", "a", "--trial", "b", "--address", NOBODY, rc=130)
    call("status", "--address", NOBODY, rc=130)
    store, there = ["--store", "/store"], ["--address", "auto"]
    assert PlayedHead.sent == [
        ["run", "tiny.yaml", *store, "--tracking-uri", "off", "--wait", *there, "plain"],
        ["status", "tiny--stand-in", *store, "--json", *there, "encoded"],
        ["logs", "tiny", *store, "-f", "--trial", "a", "--trial", "b", *there, "live"],
        ["status", *store, *there, "encoded"],
    ]
    named = ["tiny.yaml", "tiny.yaml --stand-in", "tiny", "''"]
    assert PlayedHead.typed == [f"{name} --address {NOBODY}" for name in named]
