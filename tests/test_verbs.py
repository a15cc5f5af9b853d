"""Every verb that needs no training, on every sort of store: exit codes as a table, and JSON of one shape."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sweeper.cli import main
from sweeper.store.lease import held
from sweeper.store.local import LocalStore
from sweeper.store.shares import asked_share

from .reporting.conftest import HandMade, bump

ONE = """
name: hand
data: {manifest: builtin:selfmade}
model: {backbone: tiny-clip, pretrained: builtin}
training: {max_epochs: 4}
"""
LARGE = f"""
name: hand
data: {{manifest: builtin:selfmade}}
model: {{backbone: tiny-clip, pretrained: builtin}}
training: {{max_epochs: 10}}
stopping: {{rule: horizon, horizon_after_window: 3}}
perturbation: {{kind: random_target}}
axes:
  perturbation.start: [2, 5]
  perturbation.length: [1, 2]
  seeds.noise: {list(range(250))}
"""
PATIENT_S = 60.0

NO_STORE, NO_SWEEP, EMPTY, ONE_TRIAL, FAILED, RUNNING = "no store", "no sweep", "empty", "one", "failed", "running"
ORDER = (NO_STORE, NO_SWEEP, EMPTY, ONE_TRIAL, FAILED, RUNNING)
TABLE = {
    "status hand": (2, 2, 0, 0, 0, 0),
    "results hand": (2, 2, 0, 0, 0, 0),
    "results hand --curves": (2, 2, 0, 0, 0, 0),
    "results hand --tolerances": (2, 2, 0, 0, 0, 0),
    "results hand --courses": (2, 2, 0, 0, 0, 0),
    "results hand --individuals": (2, 2, 0, 0, 0, 0),
    "status": (2, 0, 0, 0, 0, 0),
    "logs hand": (2, 2, 0, 0, 0, 0),
    "logs hand --runs": (2, 2, 0, 0, 0, 0),
    "verify hand": (2, 2, 0, 0, 0, 0),
    "verify": (2, 0, 0, 0, 0, 0),
    "gc": (2, 0, 0, 0, 0, 0),
    "gc --yes": (2, 0, 0, 0, 0, 2),
    "retry hand": (2, 2, 0, 0, 0, 2),
    "stop hand": (2, 2, 2, 2, 2, 0),
    "cancel hand": (2, 2, 2, 2, 2, 0),
    "validate hand": (2, 2, 0, 0, 0, 0),
}
TEXT_ONLY = {
    "status hand --watch": (2, 2, 0, 0, 0, None),  # goes on while it runs
    "logs hand --follow": (2, 2, 0, 0, 0, None),
    "logs hand --trial xyz": (2, 2, 2, 2, 2, 2),
    "logs hand --run xyz": (2, 2, 2, 2, 2, 2),
    "retry hand --trial xyz": (2, 2, 2, 2, 2, 2),
    "export hand --trial xyz --out there": (2, 2, 2, 2, 2, 2),
    "sync hand --tracking-uri bogus://": (2, 2, 2, 2, 2, 2),
    "sync hand --tracking-uri off": (2, 2, 2, 2, 2, 2),
    "ui --tracking-uri mlruns": (2, 2, 2, 2, 2, 2),
    "ui another": (2, 2, 2, 2, 2, 2),
    "sync another": (2, 2, 2, 2, 2, 2),
    "results hand --curves --folds": (2, 2, 2, 2, 2, 2),
    "results hand --subjects 1 2": (2, 2, 2, 2, 2, 2),
    "status --watch": (2, 2, 2, 2, 2, 2),
    "results": (2, 2, 2, 2, 2, 2),
    "no-such-verb": (2, 2, 2, 2, 2, 2),
}


def call(store: Path, words: str, *more: str) -> Result:
    verb, *rest = words.split()
    return CliRunner().invoke(main, [verb, *rest, *more, "--store", str(store)])


@pytest.fixture(params=ORDER)
def situation(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A store in one of the situations: its name and folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = tmp_path / "store"
    if request.param == NO_SWEEP:
        LocalStore(store)
    elif request.param not in (NO_STORE, NO_SWEEP):
        made = HandMade(store, ONE)
        if request.param == ONE_TRIAL:
            made.measure(bump)
            made.store.put("states", made.trials[0].lineage.state_ids[-1], b"made up")
        elif request.param == FAILED:
            made.measure(lambda trial, epoch: bump(trial, epoch) if epoch < 2 else None).fail(made.trials[0], 2)
    if request.param == RUNNING:
        with held(LocalStore(store), "hand"):
            yield request.param, store
    else:
        yield request.param, store


def test_exit_codes(situation) -> None:
    name, store = situation
    for words, codes in {**TABLE, **TEXT_ONLY}.items():
        expected = codes[ORDER.index(name)]
        if expected is None:
            continue
        result = call(store, words)
        assert result.exit_code == expected, f"{words} on {name}: {result.output}\n{result.exception!r}"
        assert "Traceback" not in result.output
        assert result.output.strip(), f"{words} on {name} says something"
        assert expected == 0 or "rror: " in result.output or "Usage: " in result.output
    assert (name == NO_STORE) == (not store.exists()), "who reads makes no store"


def test_json_has_one_shape(situation) -> None:
    name, store = situation
    for words, codes in TABLE.items():
        if codes[ORDER.index(name)] != 0:
            continue
        result = call(store, words, "--json")
        assert result.exit_code == 0, f"{words} on {name}: {result.output}"
        envelope = json.loads(result.stdout)
        assert envelope["schema_version"] == 1
        assert isinstance(envelope["rows"], list), words
        assert words != "verify hand" or envelope["objects_read"]["hand"] >= 1


def test_all_sweeps_are_listed(tmp_path: Path) -> None:
    made = HandMade(tmp_path / "store", ONE)
    assert call(tmp_path / "store", "status").stdout == "hand (revision 1): 1 open\n"
    made.measure(bump)
    with held(made.store, "hand"):
        assert call(tmp_path / "store", "status").stdout == "hand (revision 1): 1 complete, running\n"


def test_help_lists_verbs_in_the_order_of_use_and_whole() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    assert text.index("  run ") < text.index("  status ") < text.index("  gc ")
    assert "..." not in text.partition("Commands:")[2]


def test_a_failure_is_named_and_taken_back_once(tmp_path: Path) -> None:
    made = HandMade(tmp_path / "store", ONE)
    made.fail(made.trials[0], 2, "val_loss is nan")
    assert "val_loss is nan" in call(tmp_path / "store", "status hand").stdout
    assert "epoch 2" in call(tmp_path / "store", "retry hand").stdout
    assert "nothing has failed" in call(tmp_path / "store", "retry hand").stdout


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    made = HandMade(tmp_path_factory.mktemp("thousand") / "store", LARGE)
    assert len(made.trials) == 1001
    made.measure(lambda trial, epoch: bump(trial, epoch) if trial.config.seeds.noise % 2 == 0 else None)
    made.fail(made.trials[-2], 6)
    return made.index()


@pytest.mark.parametrize(
    "words", ["status hand", "status hand --watch", "results hand", "logs hand", "retry hand", "gc", "validate hand"]
)
def test_a_thousand_trials_are_answered_in_seconds(thousand: HandMade, words: str) -> None:
    began = time.monotonic()
    result = call(thousand.store.root, words)
    assert result.exit_code == 0, result.output
    assert time.monotonic() - began < PATIENT_S


def test_a_larger_share_of_a_gpu_can_be_asked_for_and_taken_back(tmp_path: Path) -> None:
    store = HandMade(tmp_path / "store", ONE).store
    for words, share in (("retry hand --gpu 0.5", 0.5), ("retry hand", 0.5), ("retry hand --gpu 0", 0.0)):
        assert call(tmp_path / "store", words).exit_code == 0
        assert asked_share(store, "hand") == share
    assert asked_share(store, "another") == 0.0
    assert "at least 2 GPU" in call(tmp_path / "store", "retry hand --gpu 2").stdout
    assert call(tmp_path / "store", "retry hand --gpu -1").exit_code == 2


def test_who_sent_a_verb_to_a_head_is_told_what_to_type_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = HandMade(tmp_path / "store", ONE).store
    monkeypatch.setenv("SWEEPER_TYPED", "hand.yaml --address http://head:8265")
    told = call(tmp_path / "store", "retry hand --gpu 1").stdout
    assert f"; sweeper run hand.yaml --address http://head:8265 --store {store.root} goes on" in told


def test_a_table_that_a_sweep_cannot_have_says_why(tmp_path: Path) -> None:
    HandMade(tmp_path / "store", ONE)
    for flag, why in (("--points", "hand is no search"), ("--courses", "hand has no model over time")):
        result = call(tmp_path / "store", f"results hand {flag}")
        assert (result.exit_code, result.stdout) == (0, "")
        assert why in result.stderr
