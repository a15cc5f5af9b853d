"""The command line as a new user meets it: exit codes, shapes of what is printed, messages instead of tracebacks."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sweeper.cli import main

SPEC = """\
name: tiny
data: {manifest: manifest.yaml}
model: {backbone: tiny-clip, pretrained: builtin, adapter: {rank: 4}}
training: {optimizer: {lr: 1e-2}, batch_size: 16, max_epochs: 5}
stopping: {horizon_after_window: 2}
perturbation: {kind: random_target}
axes:
  perturbation.start: [1, 2]
  perturbation.length: [1, 2]
evaluation: {bootstraps: 10}
"""
MANIFEST = "name: small\ngenerator: {name: drawings, num_train: 45, num_test: 12, seed: 1}\n"

PLAN_INTEGERS = (
    "trials",
    "baselines",
    "segments",
    "epochs_requested",
    "epochs_in_ledger",
    "epochs_to_run",
    "epochs_to_rebuild",
)
RESULT_COLUMNS = (
    "trial_id",
    "role",
    "status",
    "perturbation.start",
    "perturbation.length",
    "best_val_loss",
    "final_val_loss",
    "rsa_at_best_val_loss",
    "final_rsa",
    "max_rsa",
    "last_epoch",
    *(
        f"recovery_{what}_epochs{comparator}"
        for what in ("loss", "rsa")
        for comparator in ("", "_published", "_fixed", "_clean")
    ),
)


class Shell:
    """Runs verbs in one folder with a spec, a manifest and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.spec, self.store = folder, folder / "tiny.yaml", folder / "store"
        self.spec.write_text(SPEC)
        (folder / "manifest.yaml").write_text(MANIFEST)

    def __call__(self, *words: str, rc: int = 0) -> Result:
        result = CliRunner().invoke(main, list(words))
        assert result.exit_code == rc, f"{words}: {result.output}\n{result.exception!r}"
        assert words[0] == "logs" or "Traceback" not in result.output
        return result

    def on_store(self, verb: str, *words: str, rc: int = 0) -> Result:
        return self(verb, str(self.spec), "--store", str(self.store), *words, rc=rc)

    def run(self, *words: str, rc: int = 0) -> Result:
        return self.on_store("run", "--backend", "local", "--tracking-uri", "off", *words, rc=rc)

    def plan(self) -> dict[str, Any]:
        return dict(json.loads(self.on_store("plan", "--json").stdout))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A sweep that ran to its end, for verbs that only read."""
    shell = Shell(tmp_path_factory.mktemp("finished"))
    shell.run()
    return shell


def test_a_plan_before_and_after_a_run(finished: Shell, shell: Shell) -> None:
    before, after = shell.plan(), finished.plan()
    assert not shell.store.exists(), "a plan writes nothing"
    assert all(isinstance(before[key], int) for key in PLAN_INTEGERS)
    assert (before["trials"], before["baselines"], before["is_upper_bound"]) == (4, 1, False)
    # alone: windows (1,1) (1,2) (2,1) (2,2) end two epochs after their window: 3, 4, 4, 5; the baseline takes 5
    assert before["epochs_requested"] == 3 + 4 + 4 + 5 + 5
    # together: trunk 5; from start 1: window 2, after length 1: 2, after length 2: 2; from start 2 alike
    assert before["epochs_to_run"] == 5 + (2 + 2 + 2) + (2 + 2 + 2)
    assert before["epochs_in_ledger"] == 0
    assert (after["epochs_in_ledger"], after["epochs_to_run"], after["epochs_to_rebuild"]) == (17, 0, 0)
    assert after["seconds_per_epoch"] is not None


def test_a_plan_with_a_new_reading_of_old_epochs(finished: Shell) -> None:
    def epochs() -> list[int]:
        plan = finished.plan()
        names = ("epochs_in_ledger", "epochs_to_run", "epochs_to_rebuild", "epochs_to_measure")
        return [plan[name] for name in names]

    try:
        finished.spec.write_text(SPEC.replace("bootstraps: 10", "bootstraps: 10, metric: cosine, rsa: [targets]"))
        assert epochs() == [17, 0, 0, 0]
        finished.spec.write_text(SPEC.replace("bootstraps: 10", "bootstraps: 10, layers: [output, embedding]"))
        assert epochs() == [17, 0, 4, 13], "13 states are kept, and evaluated only"
    finally:
        finished.spec.write_text(SPEC)


def test_results_as_a_list_of_rows(finished: Shell) -> None:
    rows = json.loads(finished.on_store("results", "--format", "json").stdout)
    assert [row["role"] for row in rows] == ["trial"] * 4 + ["baseline"]
    assert {row["status"] for row in rows} == {"complete"}
    assert all(column in row for row in rows for column in RESULT_COLUMNS)
    assert [(row["perturbation.start"], row["perturbation.length"]) for row in rows[:4]] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]
    assert rows[-1]["perturbation.start"] is None


def test_results_by_name_equal_results_by_spec(finished: Shell) -> None:
    by_spec = finished.on_store("results", "--format", "json").stdout
    assert finished("results", "tiny", "--store", str(finished.store), "--format", "json").stdout == by_spec


def test_curves_begin_with_the_untrained_model(finished: Shell) -> None:
    rows = list(csv.DictReader(io.StringIO(finished.on_store("results", "--curves", "--format", "csv").stdout)))
    assert list(rows[0])[:5] == ["trial_id", "epoch", "train_loss", "val_loss", "rsa_behavioral"]
    assert (rows[0]["epoch"], rows[0]["train_loss"]) == ("0", "")
    assert "rsa_neural_early" in rows[0]
    per_trial: dict[str, list[int]] = {}
    for row in rows:
        per_trial.setdefault(row["trial_id"], []).append(int(row["epoch"]))
    assert sorted(map(len, per_trial.values())) == [4, 5, 5, 6, 6]
    assert all(epochs == list(range(len(epochs))) for epochs in per_trial.values())


def test_status_counts(finished: Shell) -> None:
    assert "5 complete" in finished.on_store("status").stdout
    envelope = json.loads(finished.on_store("status", "--json").stdout)
    assert envelope["schema_version"] == 1
    assert len(envelope["rows"]) == 5


def test_a_second_run_trains_nothing(finished: Shell) -> None:
    def states() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (finished.store / "states").glob("*/*")}

    before = states()
    finished.run()
    assert states() == before


def test_a_failed_trial_is_exit_1_and_named(shell: Shell) -> None:
    shell.spec.write_text(SPEC.replace("{lr: 1e-2}", "{lr: 1e30}"))
    result = shell.run(rc=1)
    assert "epoch" in result.output
    assert "nan" in result.output.lower() or "inf" in result.output.lower()
    shell.run(rc=1)  # known, and not tried again
    rows = json.loads(shell.on_store("results", "--format", "json").stdout)
    assert all(row["status"] == "failed" and row["failure"] for row in rows)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("kind: random_target", "kind: random_targets", 6, "random_target"),
        ("[1, 2]", "[1, 99]", 8, "99"),
        ("max_epochs: 5", "max_epoch: 5", 4, "max_epochs"),
        ("lr: 1e-2", "lr: fast", 4, "number"),
    ],
)
def test_a_broken_spec_is_located(shell: Shell, old: str, new: str, line: int, says: str) -> None:
    shell.spec.write_text(SPEC.replace(old, new, 1))
    for verb in ("validate", "plan", "run"):
        result = shell(verb, str(shell.spec), rc=2)
        assert f"tiny.yaml:{line}:" in result.output
        assert says in result.output


def test_missing_things_are_explained(shell: Shell) -> None:
    assert "no store" in shell.on_store("results", rc=2).output
    (shell.folder / "manifest.yaml").unlink()
    assert "manifest.yaml" in shell.on_store("plan", rc=2).output


def test_an_unknown_sweep_names_the_known_ones(finished: Shell) -> None:
    assert "tiny" in finished("results", "nothing", "--store", str(finished.store), rc=2).output


def test_missing_weights_say_what_to_fetch_and_the_stand_in(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    shell.spec.write_text(
        SPEC.replace("{backbone: tiny-clip, pretrained: builtin", "{backbone: ViT-B-32, pretrained: openai")
    )
    output = shell.on_store("plan", rc=2).output
    assert "safetensors" in output
    assert "--stand-in" in output


def test_the_stand_in_has_a_name_of_its_own(shell: Shell) -> None:
    planned = json.loads(shell.on_store("plan", "--stand-in", "--json").stdout)
    assert planned["name"] == "tiny--stand-in"


@pytest.mark.parametrize("how", ["ctrl-c", "stop", "cancel"])
def test_who_ends_a_run_keeps_every_finished_epoch(shell: Shell, how: str) -> None:
    shell.spec.write_text(SPEC.replace("max_epochs: 5", "max_epochs: 400").replace("_window: 2", "_window: 300"))
    command = ["run", str(shell.spec), "--store", str(shell.store), "--backend", "local", "--tracking-uri", "off"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline, records = time.monotonic() + 300, shell.store / "records"
    while len(list(records.glob("*/*"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)  # the first is of the untrained model
    if how == "ctrl-c":
        process.send_signal(signal.SIGINT)
    else:
        assert f"to {how}" in shell.on_store(how).stdout
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert ("the same command goes on" if how == "cancel" else "go on with: sweeper run") in errors
    assert "Traceback" not in errors
    planned = shell.plan()
    assert planned["epochs_in_ledger"] >= 1
    assert how == "cancel" or planned["epochs_to_rebuild"] == 0
    assert "Got no run" in shell.on_store("stop", rc=2).output


def test_logs_tell_who_trained_what_and_what_failed(shell: Shell) -> None:
    shell.spec.write_text(
        SPEC.replace("[1, 2]\n  perturbation.length: [1, 2]", "[2]").replace("{lr: 1e-2}", "{lr: 1e30}")
    )
    shell.run(rc=1)
    lines = json.loads(shell.on_store("logs", "--json").stdout)["rows"]
    assert lines[0]["text"].startswith("the run begins")
    assert lines[-1]["text"].startswith("the run ends: failed")
    assert any("trains epoch" in line["text"] for line in lines)
    failed = [line for line in lines if line["level"] == "error"]
    assert any("failed in epoch 1" in line["text"] and "Traceback" in line["text"] for line in failed)
    trials = [row["trial_id"] for row in json.loads(shell.on_store("status", "--json").stdout)["rows"]]
    shown = json.loads(shell.on_store("logs", "--json", "--trial", trials[0][:10]).stdout)["rows"]
    assert 0 < len(shown) < len(lines)
    (run,) = json.loads(shell.on_store("logs", "--runs", "--json").stdout)["rows"]
    for words in ([], ["-f"], ["--run", run["run"]]):
        assert "error: failed in epoch 1" in shell.on_store("logs", *words).stdout
    assert "names one run" in shell.on_store("logs", "--run", "1999", rc=2).output
    assert "none has" in shell.on_store("logs", "--trial", "xyz", rc=2).output
    assert "before it" not in shell.on_store("logs").output
    shell.run(rc=1)
    assert "1 before it" in shell.on_store("logs").output


def test_a_changed_data_file_is_said_before_anything_is_trained_again(finished: Shell, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shutil.copytree(finished.store, shell.store)
    before = finished.plan()
    assert before["changed"] is None
    (shell.folder / "manifest.yaml").write_text(MANIFEST.replace("seed: 1", "seed: 2"))
    planned = shell.plan()
    assert (
        "the training images (other bytes), the targets (other bytes); none of its 17 epochs is" in planned["changed"]
    )
    assert planned["epochs_in_ledger"] == 0
    assert "changed since revision 1" in shell.on_store("plan").stdout
    assert "none of its 17 epochs is reused" in shell.run().stderr


def test_targets_as_the_main_reference_stand_under_both_their_names(finished: Shell) -> None:
    """One comparison, two columns: `rsa_behavioral` is whatever is named first."""
    try:
        finished.spec.write_text(SPEC.replace("bootstraps: 10", "bootstraps: 10, rsa: [targets]"))
        finished.run()
        rows = json.loads(finished.on_store("results", "--format", "json").stdout)
        assert all(isinstance(row["rsa_at_best_val_loss"], float) for row in rows)
        curves = finished.on_store("results", "--curves", "--format", "csv").stdout
        for row in csv.DictReader(io.StringIO(curves)):
            assert row["rsa_behavioral"] == row["rsa_targets"] != ""
    finally:
        finished.spec.write_text(SPEC)
        finished.run()
