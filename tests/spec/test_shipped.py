"""Shipped specs: documents that run, with the published counts and numbers."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sweeper.spec.axes import expand
from sweeper.spec.document import parse_document
from sweeper.spec.file_schema import json_schema
from sweeper.spec.load import load_spec
from sweeper.spec.perturbations import KINDS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SHIPPED = sorted(EXPERIMENTS.glob("*.yaml"))
COUNTS = {
    "backbone_scale": 21,
    "controls": 36,
    "dora_rank": 21,
    "behavior": 1,
    "length_grid": 136,
    "loss_weights": 34,
    "meg_group": 2,
    "perturbation_types": 28,
    "photos484": 20,
    "quickstart": 6,
    "quickstart_seeds": 3,
    "single_epoch_sweep": 98,
    "subjects": 2,  # by curves; each is a trial for each participant once the data are open
    "training_set_size": 21,
}


def raw(path: Path) -> dict[str, Any]:
    root = parse_document(path.read_text("utf-8"), path.name).root
    assert root is not None
    return dict(root.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_spec_loads_as_it_is_and_as_stand_in(path: Path) -> None:
    spec, stand_in = load_spec(path), load_spec(path, stand_in=True)
    assert spec.name == path.stem
    assert stand_in.name == f"{path.stem}--stand-in"
    if path.stem in COUNTS:
        assert len(expand(spec)) == COUNTS[path.stem]
    for trial in expand(stand_in):
        config = trial.config
        drawn = "builtin:selfmade-meg" if config.model.over_time else "builtin:selfmade"
        assert (config.data.manifest, config.model.backbone) == (drawn, "tiny-clip")
        assert config.training.max_epochs <= 160


def test_every_spec_of_the_issue_is_shipped() -> None:
    assert set(COUNTS) <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_spec_opens_with_its_document(path: Path) -> None:
    header = [line for line in path.read_text("utf-8").splitlines() if line.startswith("# ")]
    titles = [re.match(r"# (Question|Command|Hardware, hours|Expected): \S", line) for line in header]
    assert [title[1] for title in titles if title] == ["Question", "Command", "Hardware, hours", "Expected"]
    assert f"sweeper run experiments/{path.name}" in "".join(header)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_spec_fits_the_json_schema(path: Path) -> None:
    jsonschema.validate(raw(path), json_schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_manifest_lies_beside_it(path: Path) -> None:
    spec = load_spec(path)
    for manifest in (spec.base["data"]["manifest"], *spec.evaluation.sets):
        assert Path(manifest).is_file(), manifest


def test_the_published_length_grid() -> None:
    trials = expand(load_spec(EXPERIMENTS / "length_grid.yaml"))
    windows = {(trial.config.perturbation[0].start, trial.config.perturbation[0].length) for trial in trials}
    many = {
        (start, length) for start in (1, 2, 3, 6, 7, 8, *range(10, 91, 10)) for length in (2, 5, 10, 20, 30, 40, 50)
    }
    few = {(start, length) for start in (13, 16, 19, 58, 94) for length in (5, 10, 20, 30, 40, 50)}
    assert windows == many | few | {(22, 5)}
    assert {trial.config.perturbation[0].model_dump()["noise"] for trial in trials} == {"published"}


@pytest.mark.parametrize("name", ["length_grid", "single_epoch_sweep", "perturbation_types"])
def test_the_published_numbers(name: str) -> None:
    for trial in expand(load_spec(EXPERIMENTS / f"{name}.yaml")):
        config = trial.config
        optimizer, adapter = config.training.optimizer, config.model.adapter
        assert (config.model.backbone, config.model.pretrained) == ("ViT-L-14", "openai")
        assert (adapter.rank, adapter.alpha, adapter.vision_layers, adapter.text_layers) == (32, 16, 2, 1)
        assert (adapter.dora, adapter.init) == ("published", "reference")
        assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adamw", 3e-4, 0.01)
        assert (optimizer.betas, optimizer.eps) == ((0.9, 0.999), 1e-8)
        assert (config.training.batch_size, config.training.max_epochs, config.training.order) == (64, 500, "published")
        assert (config.data.relabel, config.data.split, config.data.train_fraction) == ("none", "published", 0.8)
        assert (config.seeds.split, config.seeds.init, config.seeds.order) == (1, 1, 1)
        assert config.seeds.noise == (0 if name == "length_grid" else 42)
        assert (config.stopping.rule, config.stopping.patience) == ("vp", 10 if name == "single_epoch_sweep" else 20)


def test_controls_stand_beside_random_targets_at_the_same_windows() -> None:
    windows: dict[str, set[tuple[int, int]]] = {}
    for trial in expand(load_spec(EXPERIMENTS / "controls.yaml")):
        (window,) = trial.config.perturbation
        windows.setdefault(window.kind, set()).add((window.start, window.length))
    assert set(windows) == {"random_target", *(name for name, kind in KINDS.items() if kind.control)}
    assert len({frozenset(found) for found in windows.values()}) == 1


def test_every_field_is_described_in_the_json_schema() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    types = {
        name: part for name, part in schema["$defs"].items() if not name.startswith("Axes") and name != "AxisGroup"
    }
    for name, part in [("spec", schema), *types.items()]:
        for field, properties in part.get("properties", {}).items():
            assert properties.get("description"), f"{name}.{field}"


@pytest.mark.parametrize(
    "change",
    [
        {"trainning": {}},
        {"training": {"batchsize": 3}},
        {"training": {"batch_size": "many"}},
        {"axes": {"perturbation.strat": [1]}},
        {"axes": {"perturbation.start": []}},
        {"axes": {"zip": {"resources.gpu": [1]}}},
        {"perturbation": {"kind": "freeze", "noise": "fresh"}},
        {"perturbation": 5},
    ],
)
def test_the_json_schema_refuses_what_loading_refuses(change: dict[str, Any]) -> None:
    broken = raw(EXPERIMENTS / "quickstart.yaml") | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json_schema())
