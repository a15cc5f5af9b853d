"""A search on the command line, once through: validate, plan, run, status, results, figures."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sweeper.cli import main
from sweeper.reporting.caption import caption
from sweeper.reporting.points import TEST_STIMULI

SPEC = """\
name: small
data: {manifest: manifest.yaml}
model: {backbone: tiny-clip, pretrained: builtin}
training: {batch_size: 16, max_epochs: 2}
search:
  sampler: {name: random}
  space:
    model.adapter.rank: {low: 1, high: 6}
    training.optimizer.lr: {low: 1e-3, high: 1e-1, log: true}
  objectives: [{metric: rsa_validation}, {metric: val_loss}]
  seeds: [1, 2]
  batch: 4
  limits: {points: 5}
evaluation: {bootstraps: 0}
numerics: {device: cpu}
"""
MANIFEST = "name: small\ngenerator: {name: drawings, num_train: 45, num_test: 12, seed: 1}\n"


def sweeper(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs")
    (folder / "manifest.yaml").write_text(MANIFEST)
    (folder / "small.yaml").write_text(SPEC)
    return folder


@pytest.fixture(scope="module")
def ran(folder: Path, engine: Any) -> list[str | Path]:
    """The spec that was run, and where its store is."""
    words: list[str | Path] = [folder / "small.yaml", "--store", folder / "store"]
    result = sweeper("run", *words, "--backend", "local", "--cache", engine.cache, "--tracking-uri", "off")
    assert "Best points (*: Pareto front); at the best validation loss, means over 2 seeds" in result.output
    assert "On test stimuli, which chose nothing, point" in result.output
    return words


def test_before_anything_runs_the_plan_is_an_upper_bound(folder: Path) -> None:
    plan = json.loads(sweeper("plan", folder / "small.yaml", "--store", folder / "none", "--json").output)
    assert (plan["trials"], plan["epochs_to_run"], plan["is_upper_bound"]) == (10, 20, True)
    assert plan["search"] == "search: at most 5 points x 2 seeds; 0 asked, 5 to come"
    assert plan["disk"]["total"] > 0


def test_afterwards_the_plan_has_nothing_left(ran: list[str | Path]) -> None:
    plan = json.loads(sweeper("plan", *ran, "--json").output)
    assert (plan["epochs_to_run"], plan["epochs_in_ledger"]) == (0, 20)
    assert "5 asked, 0 to come" in plan["search"]


def test_status_counts_points(ran: list[str | Path]) -> None:
    text = sweeper("status", *ran).output
    assert "10 trials; 10 complete" in text
    assert "search (random): 5 points asked of at most 5, 2 seeds each; 5 complete" in text


def test_points_are_rows_in_every_format(ran: list[str | Path], tmp_path: Path) -> None:
    rows = json.loads(sweeper("results", *ran, "--points", "--json").output)["rows"]
    assert [row["point"] for row in rows] == list(range(5))
    assert {"rsa_validation", "rsa_validation_sd", "val_loss", "test_rsa_behavioral", "pareto"} <= rows[0].keys()
    assert sorted(row["place"] for row in rows) == [1, 2, 3, 4, 5]
    assert not any(row["objective_sees_test_stimuli"] for row in rows)
    trials = json.loads(sweeper("results", *ran, "--json").output)["rows"]
    assert {trial["trial_id"] for trial in trials} == {one for row in rows for one in row["trial_ids"].split()}
    table = list(csv.DictReader(io.StringIO(sweeper("results", *ran, "--points", "--format", "csv").output)))
    assert [float(row["val_loss"]) for row in table] == [row["val_loss"] for row in rows]
    sweeper("results", *ran, "--points", "--format", "parquet", "--out", tmp_path / "points.parquet")
    assert (tmp_path / "points.parquet").stat().st_size > 0


def test_points_are_a_data_frame(ran: list[str | Path]) -> None:
    import sweeper as package

    points = package.load_sweep("small", ran[-1]).points
    assert list(points["point"]) == list(range(5))
    assert points.loc[points["place"] == 1, "pareto"].all()


def test_optuna_draws_history_importances_and_front(ran: list[str | Path], tmp_path: Path) -> None:
    sweeper("results", *ran, "--figures", tmp_path)
    drawn = {path.name for path in tmp_path.glob("search_*.png")}
    assert drawn == {
        "search_pareto.png",
        *(
            f"search_{what}_{metric}.png"
            for what in ("history", "importances")
            for metric in ("rsa_validation", "val_loss")
        ),
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("search_*.png"))


@pytest.mark.parametrize(
    ("written", "instead", "told"),
    [
        (
            "name: random",
            "name: tpee",
            "small.yaml:6:19: search.sampler.name: is a sampler of Optuna. Got tpee. Known: tpe",
        ),
        ("name: random", "name: BaseSampler", "small.yaml:6:19: search.sampler.name: is a sampler of Optuna"),
        ("name: random", "name: CmaEsSampler", "small.yaml:6:19: search.sampler.name: with several objectives"),
        (
            "{name: random}",
            "{name: tpe, options: {startup: 3}}",
            "small.yaml:6:33: search.sampler.options: the sampler",
        ),
        (
            "  seeds:",
            "  pruner: {name: medium, epochs: [1]}\n  seeds:",
            "small.yaml:11:18: search.pruner.name: is a pruner",
        ),
        (
            "  seeds:",
            "  pruner: {epochs: [1], options: {warmup: 3}}\n  seeds:",
            "small.yaml:11:34: search.pruner.options: the pruner takes these options",
        ),
        (
            "  seeds:",
            "  pruner: {name: patient, epochs: [1], options: {patience: 1, wrapped_pruner: {nam: x}}}\n  seeds:",
            "small.yaml:11:79: search.pruner.options.wrapped_pruner: an option that is a mapping is a pruner",
        ),
        ("{name: random}", "{name: grid}", "small.yaml:8:5: search.space: a grid needs choices, or a step without log"),
    ],
)
def test_what_only_optuna_knows_is_refused_at_its_place(
    written: str, instead: str, told: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "manifest.yaml").write_text(MANIFEST)
    spec = SPEC.replace(written, instead)
    (tmp_path / "small.yaml").write_text(spec.replace(", {metric: val_loss}", "") if "pruner" in spec else spec)
    for verb in (("validate",), ("plan",), ("run", "--backend", "local")):
        result = sweeper(*verb, tmp_path / "small.yaml", "--store", tmp_path / "store", code=2)
        assert told in result.output
        assert "Traceback" not in result.output


def test_an_objective_that_is_not_measured_and_a_storage_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(MANIFEST)
    words = ["--store", tmp_path / "store", "--backend", "local", "--tracking-uri", "off"]
    spec = SPEC.replace("rsa_validation}", "rsa_neural_v9}").replace("limits:", "allow_test_objective: true\n  limits:")
    (tmp_path / "small.yaml").write_text(spec)
    result = sweeper("run", tmp_path / "small.yaml", *words, code=2)
    assert (
        "small.yaml:10:25: search.objectives.0.metric: is measured on these data. Got rsa_neural_v9." in result.output
    )
    (tmp_path / "small.yaml").write_text(SPEC.replace("limits:", "storage: nowhere://x\n  limits:"))
    result = sweeper("run", tmp_path / "small.yaml", *words, code=2)
    assert "search.storage: an Optuna storage answers there" in result.output


@pytest.fixture(scope="module")
def sees_test(folder: Path, engine: Any) -> list[str | Path]:
    """A search of two points by a test metric, run in a store of its own."""
    spec = SPEC.replace("[{metric: rsa_validation}, {metric: val_loss}]", "[{metric: rsa_behavioral}]")
    spec = spec.replace("limits: {points: 5}", "allow_test_objective: true\n  limits: {points: 2}")
    (folder / "test.yaml").write_text(spec.replace("seeds: [1, 2]", "seeds: [1]").replace("epochs: 2", "epochs: 1"))
    words: list[str | Path] = [folder / "test.yaml", "--store", folder / "test_store"]
    result = sweeper("run", *words, "--backend", "local", "--cache", engine.cache, "--tracking-uri", "off")
    assert TEST_STIMULI in result.output
    return words


@pytest.mark.parametrize("verb", ["results", "status"])
def test_that_test_stimuli_chose_stands_above_what_is_shown(sees_test: list[str | Path], verb: str) -> None:
    assert sweeper(verb, *sees_test).output.count(TEST_STIMULI) == 1


@pytest.mark.parametrize("table", [(), ("--curves",), ("--points",)])
def test_that_test_stimuli_chose_is_a_column_of_every_table(
    ran: list[str | Path], sees_test: list[str | Path], table: tuple[str, ...]
) -> None:
    for sweep, expected in ((sees_test, True), (ran, False)):
        rows = json.loads(sweeper("results", *sweep, *table, "--json").output)["rows"]
        assert {row["objective_sees_test_stimuli"] for row in rows} == {expected}
    text = sweeper("results", *sees_test, *table, "--format", "csv").output
    found = {row["objective_sees_test_stimuli"].lower() for row in csv.DictReader(io.StringIO(text))}
    assert found == {"true"}


def test_that_test_stimuli_chose_is_a_tag_of_every_run_and_in_every_figure(sees_test: list[str | Path]) -> None:
    from sweeper.reporting.load import open_view
    from sweeper.store.local import LocalStore
    from sweeper.tracking.labels import sweep_tags, trial_tags

    view = open_view(LocalStore(Path(sees_test[-1])), "small")
    (first, *_) = view.trials.values()
    for tags in (sweep_tags(view), trial_tags(view, first, None)):
        assert tags["sweeper.objective_sees_test_stimuli"] == "true"
    assert caption(view).sweep == "small (THE OBJECTIVE SEES TEST STIMULI)"


def test_the_report_has_the_search_and_its_warning(
    ran: list[str | Path], sees_test: list[str | Path], tmp_path: Path
) -> None:
    sweeper("results", *sees_test, "--html", tmp_path / "test.html")
    page = (tmp_path / "test.html").read_text()
    assert page.count(f'<p class="mark">{TEST_STIMULI}</p>') == page.count(TEST_STIMULI) == 1
    assert 'id="search_history"' in page
    sweeper("results", *ran, "--html", tmp_path / "small.html")
    page = (tmp_path / "small.html").read_text()
    assert "Best points (*: Pareto front)" in page
    assert 'id="search_pareto"' in page
    assert TEST_STIMULI not in page


def test_status_says_it_too(ran: list[str | Path], sees_test: list[str | Path]) -> None:
    for sweep, expected in ((sees_test, True), (ran, False)):
        rows = json.loads(sweeper("status", *sweep, "--json").output)["rows"]
        assert {row["objective_sees_test_stimuli"] for row in rows} == {expected}
