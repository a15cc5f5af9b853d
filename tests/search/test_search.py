"""Searches: interrupted or not, extended or not, the same points bit for bit; what was asked lies in the store."""

from pathlib import Path
from typing import Any

import pytest

from sweeper.search.study import Study
from sweeper.spec.search import Search

SPACE = {
    "model.adapter.rank": {"low": 1, "high": 6},
    "model.adapter.alpha": {"choices": [2, 8.5]},
    "training.optimizer.lr": {"low": 1e-3, "high": 1e-1, "log": True},
}
GRID = {
    "model.adapter.rank": {"low": 1, "high": 3, "step": 2},
    "training.optimizer.lr": {"choices": [0.003, 0.03, 0.01]},
}
SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"sampler": {"name": "tpe", "options": {"n_startup_trials": 3}}},
    "tpe in batches": {"sampler": {"name": "TPESampler", "options": {"n_startup_trials": 3}}, "batch": 2},
    "random": {"sampler": {"name": "random"}},
    "nsgaii": {
        "sampler": {"name": "nsgaii", "options": {"population_size": 3}},
        "objectives": [{"metric": "rsa_validation"}, {"metric": "val_loss"}],
    },
    "grid": {"sampler": {"name": "grid"}, "space": GRID},
    "qmc": {"sampler": {"name": "QMCSampler"}, "batch": 2},
}


def searching(points: int = 7, **search: Any) -> dict[str, Any]:
    """Returns the changes that make a small spec a search."""
    section = {"space": SPACE, "limits": {"points": points}, "sampler": {"name": "random"}, **search}
    return {"training": {"max_epochs": 2}, "search": section}


def points_of(store: Path) -> list[dict[str, Any]]:
    """Returns the values of all points in a store that holds one search."""
    from sweeper.store.local import LocalStore
    from sweeper.store.points import read_points

    objects = LocalStore(store)
    (study,) = {key.partition(".")[0] for key in objects.keys("points")}
    return [dict(point.values) for point in read_points(objects, study)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_that_is_begun_anew_anywhere_asks_the_same_points(name: str) -> None:
    """What was asked before is given to it again, up to any point, within batches too."""
    search = Search.model_validate(searching(6, **SAMPLERS[name])["search"])

    def asked(known: list[dict[str, Any]]) -> list[dict[str, Any]]:
        study, points = Study(search), list[dict[str, Any]]()
        for first in range(0, 6, search.batch):
            numbers = range(first, first + search.batch)
            points += [study.ask(number, known[number] if number < len(known) else None) for number in numbers]
            for number in numbers:
                rank, lr = points[number]["model.adapter.rank"], points[number]["training.optimizer.lr"]
                study.tell(number, [rank * lr, lr - rank][: len(search.objectives)], {})
        return points

    whole = asked([])
    assert len({repr(point) for point in whole}) == 6
    assert all(asked(whole[:cut]) == whole for cut in range(6))


@pytest.mark.parametrize("name", ["tpe in batches", "grid"])
def test_interrupted_anywhere_and_resumed_a_search_ends_with_the_same_numbers(
    name: str, engine: Any, tmp_path: Path, reading: Any
) -> None:
    """Stopped after every fifth epoch, so within trials, within batches and between them; Optuna's file is lost."""
    changes = searching(6, **SAMPLERS[name])
    whole = engine.run(tmp_path / "whole", **changes)
    assert whole.status == "done"
    status, runs = "interrupted", 0
    while status == "interrupted":
        ran = engine.run(tmp_path / "parts", stop_after=5, **changes)
        status, runs = ran.status, runs + 1
        (tmp_path / "parts" / "optuna.db").unlink()
    assert (status, runs >= 3) == ("done", True)
    assert points_of(tmp_path / "parts") == points_of(tmp_path / "whole")
    assert reading.records(tmp_path / "parts") == reading.records(tmp_path / "whole")
    assert reading.states(tmp_path / "parts").items() >= reading.states(tmp_path / "whole").items()


def test_a_raised_limit_goes_on_as_if_it_had_been_there(engine: Any, tmp_path: Path) -> None:
    """Five points are no whole number of batches of two."""
    name = "tpe in batches"
    engine.run(tmp_path / "store", **searching(5, **SAMPLERS[name]))
    first = points_of(tmp_path / "store")
    more = engine.run(tmp_path / "store", **searching(6, **SAMPLERS[name]))
    engine.run(tmp_path / "whole", **searching(6, **SAMPLERS[name]))
    assert len(first) == 5
    assert points_of(tmp_path / "store") == points_of(tmp_path / "whole")
    assert more.epochs_trained == 2
    assert more.outcome.view.revision.number == 2


def test_a_finished_search_costs_nothing_and_forgets_nothing_with_its_files(engine: Any, tmp_path: Path) -> None:
    store, changes = tmp_path / "store", searching(4, **SAMPLERS["tpe"])
    engine.run(store, **changes)
    for name in ("optuna.db", "ledger.sqlite"):
        (store / name).unlink()
    again = engine.run(store, **changes)
    assert (again.status, again.epochs_trained, again.backends) == ("done", 0, 0)
    assert len(again.outcome.view.revision.points) == 4


def test_a_damaged_point_is_asked_again_and_is_the_same(engine: Any, tmp_path: Path) -> None:
    store, changes = tmp_path / "store", searching(4, **SAMPLERS["tpe"])
    engine.run(store, **changes)
    before = points_of(store)
    path = sorted((store / "points").rglob("*.000001"))[0]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-3])
    again = engine.run(store, **changes)
    assert (again.status, again.epochs_trained) == ("done", 0)
    assert points_of(store) == before


def test_a_grid_is_over_when_every_point_was_asked_once(engine: Any, tmp_path: Path) -> None:
    ran = engine.run(tmp_path / "store", **searching(50, **SAMPLERS["grid"]))
    found = {tuple(sorted(point.items())) for point in points_of(tmp_path / "store")}
    assert ran.status == "done"
    assert len(points_of(tmp_path / "store")) == len(found) == 6


def test_it_begins_with_the_first_points_and_the_sampler_fills_in_what_they_leave_out(
    engine: Any, tmp_path: Path
) -> None:
    published = {"model.adapter.rank": 4, "model.adapter.alpha": 8.5, "training.optimizer.lr": 0.01}
    engine.run(tmp_path / "store", **searching(3, first=[published, {"model.adapter.rank": 2}]))
    points = points_of(tmp_path / "store")
    assert points[0] == published
    assert points[1]["model.adapter.rank"] == 2
    assert 1e-3 <= points[1]["training.optimizer.lr"] <= 1e-1
    assert len(points) == 3


def test_values_are_means_over_seeds_at_the_best_validation_loss(engine: Any, tmp_path: Path) -> None:
    from sweeper.reporting.points import results_of

    objectives = [{"metric": "rsa_validation"}, {"metric": "val_loss", "at": "last"}]
    ran = engine.run(tmp_path / "store", **searching(2, seeds=[1, 5], objectives=objectives))
    view = ran.outcome.view
    for result in results_of(view):
        assert [dict(trial.swept)["seeds"] for trial in result.point.trials] == [1, 5]
        curves = [view.rows(trial.trial_id) for trial in result.point.trials]
        best = [min(range(1, 3), key=lambda epoch, rows=rows: rows[epoch]["val_loss"]) for rows in curves]
        rsa = [rows[epoch]["rsa_validation"] for rows, epoch in zip(curves, best, strict=True)]
        assert result.scores[0].by_seed == tuple(rsa)
        assert result.values == (
            pytest.approx(sum(rsa) / 2),
            pytest.approx(sum(rows[2]["val_loss"] for rows in curves) / 2),
        )
        assert result.scores[0].spread == pytest.approx(abs(rsa[0] - rsa[1]) / 2**0.5)


def test_a_failed_trial_is_told_as_failed_and_the_search_goes_on(engine: Any, tmp_path: Path) -> None:
    """A learning rate of 1e30 ends in a loss that is no number."""
    from sweeper.reporting.points import results_of

    space = {"training.optimizer.lr": {"choices": [0.01, 1e30]}}
    changes = searching(2, space=space, sampler={"name": "grid"})
    ran = engine.run(tmp_path / "store", **changes)
    assert ran.status == "failed"
    statuses = {result.point.values["training.optimizer.lr"]: result.status for result in results_of(ran.outcome.view)}
    assert statuses == {0.01: "complete", 1e30: "failed"}
    study = optuna_study(tmp_path / "store")
    assert sorted(trial.state.name for trial in study.trials) == ["COMPLETE", "FAIL"]


def test_a_point_whose_values_do_not_go_together_is_refused_and_the_search_goes_on(engine: Any, tmp_path: Path) -> None:
    """A start at 3 with two epochs in all; when the spec was read, each was fine beside the other's first value."""
    from sweeper.reporting.points import results_of

    space = {"perturbation.start": {"choices": [1, 3, 2]}, "training.max_epochs": {"choices": [3, 2]}}
    changes = searching(9, space=space, sampler={"name": "grid"}, objectives=[{"metric": "val_loss"}])
    window = {"kind": "freeze", "length": 1}
    ran = engine.run(tmp_path / "store", **{**changes, "perturbation": window, "training": {"batch_size": 16}})
    results = results_of(ran.outcome.view)
    (refused,) = [result for result in results if result.status == "failed"]
    assert dict(refused.point.values) == {"perturbation.start": 3, "training.max_epochs": 2}
    assert "must not lie after the last epoch" in str(refused.reason)
    assert (len(results), ran.status) == (6, "done")


def test_the_optuna_storage_shows_what_was_told(engine: Any, tmp_path: Path) -> None:
    from sweeper.reporting.points import results_of

    ran = engine.run(tmp_path / "store", **searching(3, **SAMPLERS["nsgaii"]))
    study = optuna_study(tmp_path / "store")
    told = {result.point.number: result.values for result in results_of(ran.outcome.view)}
    assert {trial.number: tuple(trial.values) for trial in study.trials} == told
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert set(study.trials[0].params) == set(SPACE)
    assert study.metric_names == ["rsa_validation", "val_loss"]


def test_every_field_of_the_dynamic_model_is_searched_by_its_validation_rsa(meg_engine: Any, tmp_path: Path) -> None:
    """No item measures it: it is a value of the training record, undefined where the model has no RDM."""
    from sweeper.reporting.points import results_of

    space = {
        "model.loss.w1": {"low": 0.5, "high": 1.0},
        "model.loss.w2": {"low": 0.01, "high": 1.0, "log": True},
        "model.loss.w3": {"choices": [0.0, 0.15]},
        "model.adapter.rank": {"low": 1, "high": 3},
        "model.stages.lr_layers": {"low": 1e-3, "high": 1e-1, "log": True},
        "training.optimizer.lr": {"low": 1e-3, "high": 1e-1, "log": True},
        "model.curves.window_ms": {"choices": [0.0, 25.0]},
    }
    ran = meg_engine.run(tmp_path / "store", **searching(3, space=space))
    results = results_of(ran.outcome.view)
    assert (ran.status, [result.status for result in results]) == ("done", ["complete"] * 3)
    assert len({result.values for result in results}) == 3
    for result in results:
        (trial,) = result.point.trials
        rows = {epoch: row for epoch, row in ran.outcome.view.rows(trial.trial_id).items() if epoch}
        best = min(rows, key=lambda epoch, rows=rows: rows[epoch]["val_loss"])
        assert result.values == (rows[best]["rsa_validation"],)


def test_lists_can_be_choices(engine: Any, tmp_path: Path) -> None:
    space = {"training.optimizer.betas": {"choices": [[0.9, 0.999], [0.8, 0.99]]}}
    ran = engine.run(tmp_path / "store", **searching(2, space=space, sampler={"name": "grid"}))
    configs = {trial.config.training.optimizer.betas for trial in ran.outcome.view.trials.values()}
    assert configs == {(0.9, 0.999), (0.8, 0.99)}


def test_another_space_is_another_search_that_finds_equal_trials(engine: Any, tmp_path: Path) -> None:
    first = {"model.adapter.rank": 4, "model.adapter.alpha": 2, "training.optimizer.lr": 0.01}
    engine.run(tmp_path / "store", **searching(1, first=[first]))
    wider = {**SPACE, "model.adapter.rank": {"low": 1, "high": 9}}
    again = engine.run(tmp_path / "store", **searching(1, first=[first], space=wider))
    assert (again.status, again.epochs_trained) == ("done", 0)
    assert any("another search" in note for note in again.watch.notes)


def test_a_perturbed_point_brings_its_baseline(engine: Any, tmp_path: Path) -> None:
    space = {"training.optimizer.lr": {"choices": [0.01, 0.02]}}
    window = {"kind": "random_target", "start": 1, "length": 1}
    changes = {**searching(2, space=space, sampler={"name": "grid"}), "perturbation": window}
    ran = engine.run(tmp_path / "store", **changes)
    roles = sorted(trial.role for trial in ran.outcome.view.trials.values())
    assert (ran.status, roles) == ("done", ["baseline", "baseline", "trial", "trial"])


def test_readers_and_gc_see_the_trials_of_all_points(engine: Any, tmp_path: Path) -> None:
    from sweeper.reporting.load import open_view
    from sweeper.store.garbage import find_garbage
    from sweeper.store.local import LocalStore

    ran = engine.run(tmp_path / "store", **searching(3))
    store = LocalStore(tmp_path / "store")
    view = open_view(store, "test")
    assert view.trials.keys() == ran.outcome.view.trials.keys()
    assert view.standing.counts() == {"complete": 3}
    unclaimed = next(each for each in find_garbage(store, now=4e12) if each.sort == "results of no sweep")
    assert unclaimed.files == ()


def test_when_the_time_is_up_no_more_is_asked(engine: Any, tmp_path: Path) -> None:
    first = engine.run(tmp_path / "store", **searching(1))
    ran = engine.run(tmp_path / "store", **searching(limits={"hours": 1e-9}))
    assert (first.status, ran.status) == ("done", "done")
    assert len(points_of(tmp_path / "store")) == 1


def test_gpu_hours_are_those_of_all_runs(engine: Any, tmp_path: Path) -> None:
    changes = searching(9, limits={"gpu_hours": 1e-9, "points": 9})
    ran = engine.run(tmp_path / "store", gpu=lambda measured: 0.5, **changes)
    assert (ran.status, len(points_of(tmp_path / "store"))) == ("done", 1)
    again = engine.run(tmp_path / "store", gpu=lambda measured: 0.5, **changes)
    assert (again.epochs_trained, len(points_of(tmp_path / "store"))) == (0, 1)


def optuna_study(store: Path) -> Any:
    import optuna

    (name,) = optuna.get_all_study_names(f"sqlite:///{store / 'optuna.db'}")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{store / 'optuna.db'}")


def test_a_failed_point_keeps_its_place_in_the_history() -> None:
    from sweeper.reporting.points import PointResult, Score
    from sweeper.search.figures import _study
    from sweeper.store.points import Point

    search = Search.model_validate(searching(3)["search"])
    values = {"model.adapter.rank": 2, "model.adapter.alpha": 2, "training.optimizer.lr": 0.01}
    scores = [(0.1,), (None,), (0.3,)]
    results = tuple(
        PointResult(
            point=Point(number=number, values=values, trials=()),
            status="failed" if None in by_seed else "complete",
            scores=(Score(by_seed=by_seed),),
        )
        for number, by_seed in enumerate(scores)
    )
    study = _study(search, results)
    assert study is not None
    assert [trial.number for trial in study.trials if trial.values] == [0, 2]
    assert _study(search, results[1:2]) is None
