"""Exports, read as their receivers read them: in a process that has open_clip and peft, but no sweeper."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from sweeper.cli import main

# Has what receivers have, forbids the engine, and runs scripts, each in a fork: their imports are what takes long.
ELSEWHERE = """\
import json, os, runpy, sys, traceback
sys.modules["sweeper"] = sys.modules["sweeper_models"] = None
import numpy, open_clip, peft, torch
for line in sys.stdin:
    if (child := os.fork()) == 0:
        folder, *sys.argv = json.loads(line)
        os.chdir(folder)
        sys.path[0] = os.path.dirname(sys.argv[0])
        with open("said", "w") as sys.stderr:
            try:
                runpy.run_path(sys.argv[0], run_name="__main__")
            except SystemExit as end:
                print(end.code, file=sys.stderr)
            except Exception:
                traceback.print_exc()
        os._exit(0)
    os.waitpid(child, 0)
    print(flush=True)
"""
# Computes by what is in the folder alone.
READER = """\
import numpy as np, open_clip, torch
import load
about, network = load.read(), load.load()
images = torch.from_numpy(np.load("images.npy"))
with torch.no_grad():
    found = dict(
        outputs=load.predict(network, images, about),
        image=network.encode_image(images),
        text=network.encode_text(torch.tensor(about["tokens"])),
    )
    if about["what"] == "merged":
        by_factory = open_clip.create_model_and_transforms(f"local-dir:{load.FOLDER}")[0].eval()
        found["by_factory"] = by_factory.encode_image(images)
np.savez("found.npz", **{name: tensor.numpy() for name, tensor in found.items()})
"""
PLAIN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
ADAPTER_FILES = ["README.txt", "adapter_config.json", "adapter_model.safetensors", "export.json", "load.py"]

ONE_FORM = pytest.mark.parametrize("ran", ["published"], indirect=True)


def export(store: Path, *words: str, rc: int = 0) -> Result:
    result = CliRunner().invoke(main, ["export", "test", "--store", str(store), *words])
    assert result.exit_code == rc, f"{result.output}\n{result.exception!r}"
    assert "Traceback" not in result.output
    return result


def row_of(store: Path, *words: str) -> dict[str, Any]:
    (row,) = json.loads(export(store, *words, "--json").stdout)["rows"]
    return dict(row)


@pytest.fixture(scope="module", params=["published", "peft"])
def ran(request: Any, engine: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A store of one disturbed trial and its baseline, both factors of their adapters far from zero."""
    store = tmp_path_factory.mktemp("export") / "store"
    ran = engine.run(
        store,
        model={"adapter": {"rank": 4, "dora": request.param, "init": "reference"}},
        perturbation={"kind": "random_target"},
        axes={"perturbation.start": [2], "perturbation.length": [1]},
    )
    assert ran.status == "done"
    return store, ran


def held_out_pixels(trial: Any) -> Any:
    from sweeper.inputs import dataset_of

    images = dataset_of(trial.config).held_out.images
    return images, images.pixels(range(len(images)), 40)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[..., str]]:
    """Runs a script without sweeper in a folder; returns what it said."""
    with subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=PLAIN
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(folder: Path, *words: str) -> str:
            print(json.dumps([str(folder), *words]), file=process.stdin, flush=True)
            assert process.stdout.readline(), "it has ended"
            return (folder / "said").read_text()

        yield run
        process.stdin.close()


def ours(trial: Any, state_id: str, store: Path, pixels: Any) -> dict[str, Any]:
    """Computes features and outputs by the network that trains, from the state in the store."""
    import torch
    from sweeper_models.adapter import AdapterConfig
    from sweeper_models.backbones import load_backbone
    from sweeper_models.clip_hba import ClipHba
    from sweeper_models.dora import trainable_parameters

    from sweeper.inputs import weights_of
    from sweeper.store.local import LocalStore
    from sweeper.tasks.state import load_state

    model = ClipHba(load_backbone(weights_of(trial.config.model)), AdapterConfig(**dict(trial.config.model.adapter)))
    state = load_state(LocalStore(store).get("states", state_id) or b"", "cpu")
    images = torch.from_numpy(pixels)
    with torch.no_grad():
        for name, parameter in trainable_parameters(model).items():
            parameter.copy_(state.parameters[name])
        found = {"outputs": model(images), "image": model.image_features(images), "text": model.text_features()}
    return {name: tensor.numpy() for name, tensor in found.items()}


def assert_equal(theirs: Any, own: Any) -> None:
    assert theirs.shape == own.shape
    assert np.abs(theirs - own).max() <= 1e-5 * np.abs(own).max()


@pytest.mark.parametrize("what", ["adapter", "merged"])
def test_features_and_predictions_without_sweeper_are_ours(
    ran: tuple[Path, Any], elsewhere: Callable[..., str], what: str, tmp_path: Path
) -> None:
    from sweeper.evaluation import OutputKey, set_id
    from sweeper.inputs import dataset_of
    from sweeper.store.local import LocalStore
    from sweeper.store.outputs import read_outputs

    store, engine_run = ran
    trial = engine_run.trial(start=2, length=1)
    row = row_of(store, "--trial", trial.trial_id[:10], "--what", what, "--out", str(tmp_path / "out"))
    assert row["largest_difference"] < 1e-5
    _, pixels = held_out_pixels(trial)
    np.save(tmp_path / "images.npy", pixels)
    (tmp_path / "out" / "reader.py").write_text(READER)
    assert elsewhere(tmp_path, str(tmp_path / "out" / "reader.py")) == ""
    with np.load(tmp_path / "found.npz") as arrays:
        theirs, own = dict(arrays), ours(trial, row["state_id"], store, pixels)
    assert theirs["outputs"].shape == (12, 66)
    for name, array in own.items():
        assert_equal(theirs[name], array)
    if what == "merged":
        assert_equal(theirs["by_factory"], own["image"])
    key = OutputKey(set_id=set_id(dataset_of(trial.config).held_out, "things"), layer="output")
    stored = read_outputs(LocalStore(store), row["state_id"], key)
    assert_equal(theirs["outputs"], stored)
    untrained = read_outputs(LocalStore(store), trial.lineage.state_ids[0], key)
    assert np.abs(theirs["outputs"] - untrained).max() > 0.01 * np.abs(untrained).max()


@ONE_FORM
def test_the_script_prints_the_predictions_of_a_picture(
    ran: tuple[Path, Any], elsewhere: Callable[..., str], tmp_path: Path
) -> None:
    store, engine_run = ran
    trial = engine_run.trial(start=2, length=1)
    row = row_of(store, "--trial", trial.trial_id, "--epoch", "2", "--out", str(tmp_path / "out"))
    assert row["epoch"] == 2
    images, pixels = held_out_pixels(trial)
    Image.fromarray(images.rgb(3)).save(tmp_path / "picture.png")
    command = [str(tmp_path / "out" / "load.py"), "picture.png"]
    ended = subprocess.run([sys.executable, *command], cwd=tmp_path, env=PLAIN, stdout=subprocess.PIPE, check=True)
    lines = ended.stdout.decode().splitlines()
    assert lines[0] == "dimension\tpicture.png"
    printed = dict(line.split("\t") for line in lines[1:])
    assert list(printed) == json.loads((tmp_path / "out" / "export.json").read_text())["dimensions"]
    expected = ours(trial, row["state_id"], store, pixels[3:4])["outputs"][0]
    assert_equal(np.array([float(value) for value in printed.values()]), expected)

    said = elsewhere(tmp_path, *command, "--weights", str(tmp_path / "picture.png"))
    assert "--weights: the backbone's own weights" in said
    assert "Traceback" not in said


@ONE_FORM
def test_the_page_says_what_it_is(ran: tuple[Path, Any], tmp_path: Path) -> None:
    store, engine_run = ran
    trial = engine_run.trial()
    result = export(store, "--trial", trial.trial_id[:8], "--state", "final", "--out", str(tmp_path / "out"))
    page, about = (tmp_path / "out" / "README.txt").read_text(), json.loads((tmp_path / "out/export.json").read_text())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*ADAPTER_FILES, "open_clip_config.json"]
    assert all(str(tmp_path / "out" / name) in result.stdout for name in ADAPTER_FILES)
    facts = (trial.trial_id, trial.lineage.state_ids[6], about["weights"]["sha256"], "activation gelu", "0.52997664")
    assert all(fact in page for fact in facts)
    assert "STAND-IN" not in page
    assert (about["epoch"], about["stand_in"], len(about["dimensions"]), len(about["tokens"])) == (6, False, 66, 66)
    assert about["best_val_loss"] <= about["val_loss"]
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["use_dora"]


def test_an_adapter_that_computes_something_else_is_not_left_behind(
    ran: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from sweeper_models.dora import base_norms

    from sweeper.export import network

    store, engine_run = ran
    trial = engine_run.trial()
    monkeypatch.setattr(  # as if |W| were 1
        network, "base_norms", lambda model: {name: torch.ones_like(norm) for name, norm in base_norms(model).items()}
    )
    by_peft = trial.config.model.adapter.dora == "peft"  # needs no map
    result = export(store, "--trial", trial.trial_id, "--out", str(tmp_path / "out"), rc=0 if by_peft else 2)
    assert by_peft or "outputs are those of the trained one to 1e-05. Got " in result.output
    assert (tmp_path / "out").exists() == by_peft


@ONE_FORM
@pytest.mark.parametrize("format_", ["npz", "parquet"])
def test_stored_outputs_come_with_the_names_of_images_and_dimensions(
    ran: tuple[Path, Any], tmp_path: Path, format_: str
) -> None:
    from sweeper_models.prompts import PROMPTS

    from sweeper.reporting.load import load_sweep

    store, engine_run = ran
    trial = engine_run.trial(start=2, length=1)
    words = ("--trial", trial.trial_id, "--epoch", "3", "--what", "embeddings", "--format", format_)
    row = row_of(store, *words, "--out", str(tmp_path / "out"))
    (name,) = (name for name in row["files"] if name.endswith(format_))
    file, names = tmp_path / "out" / name, held_out_pixels(trial)[0].names
    assert name == f"held_out.output.{format_}"
    assert name in (tmp_path / "out" / "README.txt").read_text()
    if format_ == "npz":
        with np.load(file) as loaded:  # no pickle
            table = pd.DataFrame(loaded["outputs"], index=loaded["names"], columns=loaded["dimensions"])
    else:
        table = pd.read_parquet(file)
        assert table.index.name == "name"
    assert (tuple(table.index), tuple(table.columns)) == (names, PROMPTS)
    outputs = load_sweep("test", store).outputs(trial.trial_id, 3)
    assert outputs is not None
    assert np.array_equal(table.to_numpy(), outputs)


@ONE_FORM
def test_mistakes_name_the_way_out(ran: tuple[Path, Any], tmp_path: Path) -> None:
    store, engine_run = ran
    trial, baseline, out = engine_run.trial(start=2, length=1), engine_run.trial(), str(tmp_path / "out")

    def refused(*words: str) -> str:
        return export(store, *words, "--out", out, rc=2).output

    wrong = trial.trial_id[:7] + ("0" if trial.trial_id[7] != "0" else "1")
    unknown = refused("--trial", wrong)
    assert f"has no such trial. Got '{wrong}'. Nearest: {trial.short_id} (start=2 length=1)" in unknown
    assert "measured: 0..4" in refused("--trial", trial.trial_id, "--epoch", "5")
    assert "Got 3 and best" in refused("--trial", trial.trial_id, "--epoch", "3", "--state", "best")
    assert "belongs to --what embeddings" in refused("--trial", baseline.trial_id, "--format", "npz")
    (tmp_path / "out").write_text("")
    assert "the folder can be written" in refused("--trial", baseline.trial_id)


@ONE_FORM
def test_files_are_replaced_only_when_forced(ran: tuple[Path, Any], tmp_path: Path) -> None:
    store, engine_run = ran
    words = ("--trial", engine_run.trial().trial_id, "--what", "embeddings", "--out", str(tmp_path))
    (tmp_path / "README.txt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    assert "no file is replaced unasked. Got README.txt." in export(store, *words, rc=2).output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.txt", "notes.txt"]
    export(store, *words, "--force")
    export(store, *words, "--force", "--epoch", "1")
    assert json.loads((tmp_path / "export.json").read_text())["epoch"] == 1
    names = ["README.txt", "export.json", "held_out.output.npz", "notes.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_dropped_state_is_had_again_as_the_message_says(engine: Any, tmp_path: Path) -> None:
    from sweeper.store.local import LocalStore

    store, out = tmp_path / "store", str(tmp_path / "out")
    trial = engine.run(store, training={"max_epochs": 4}).trial()
    states = LocalStore(store)
    for epoch in (0, 2, 3):
        states.drop("states", trial.lineage.state_ids[epoch])
    message = export(store, "--trial", trial.trial_id, "--epoch", "3", "--out", out, rc=2).output
    kept = [epoch for epoch in (1, 4) if states.has("states", trial.lineage.state_ids[epoch])]
    assert "epoch 3, whose state is gone (dropped, or damaged)" in message
    assert f"Kept: {', '.join(map(str, kept))}. Or run a copy" in message
    assert "training.max_epochs: 3 into another --store" in message
    assert row_of(store, "--trial", trial.trial_id, "--state", "last", "--out", out)["epoch"] == 4

    again = engine.run(tmp_path / "again", training={"max_epochs": 3}).trial()
    row = row_of(tmp_path / "again", "--trial", again.trial_id, "--state", "final", "--out", f"{out}2")
    assert row["state_id"] == trial.lineage.state_ids[3]


def test_an_open_trial_has_no_final_state_but_a_last_one(engine: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    trial = engine.run(store, stop_after=2).trial()
    words = ("--trial", trial.trial_id, "--what", "embeddings", "--out", str(tmp_path / "out"))
    message = export(store, *words, "--state", "final", rc=2).output
    assert f"{trial.short_id} (trial) is open, it is measured up to epoch 2." in message
    assert row_of(store, *words, "--state", "last")["epoch"] == 2


def test_random_weights_go_merged_only(engine: Any, tmp_path: Path) -> None:
    store, out = tmp_path / "store", str(tmp_path / "out")
    model = {"pretrained": "random:3", "adapter": {"dora": "published", "init": "reference"}}
    trial = engine.run(store, model=model, training={"max_epochs": 1}).trial()
    message = export(store, "--trial", trial.trial_id, "--out", out, rc=2).output
    assert "Got random weights (random:3). Use --what merged." in message
    assert row_of(store, "--trial", trial.trial_id, "--what", "merged", "--out", out)["largest_difference"] < 1e-5


def test_a_stand_in_is_marked(engine: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    sweep = engine.sweep(training={"max_epochs": 1})
    sweep = replace(sweep, spec=sweep.spec.model_copy(update={"stand_in": True}))
    trial = engine.run(store, sweep=sweep).trial()
    words = ("--trial", trial.trial_id, "--what", "embeddings", "--out", str(tmp_path / "out"))
    assert row_of(store, *words)["stand_in"]
    assert "STAND-IN" in (tmp_path / "out" / "README.txt").read_text()
