"""Pruners: what is given up hangs on epochs up to the rung alone, is kept, and is decided alike in every run."""

import statistics
from pathlib import Path
from typing import Any

import pytest

from sweeper.search.study import Study
from sweeper.spec.search import Search

SPACE = {
    "model.adapter.rank": {"low": 1, "high": 6},
    "training.optimizer.lr": {"low": 1e-4, "high": 3e-1, "log": True},
}
MEDIAN = {"name": "median", "options": {"n_startup_trials": 2}, "epochs": [1, 3]}
HYPERBAND = {
    "name": "hyperband",
    "options": {"min_resource": 1, "max_resource": 5, "reduction_factor": 2},
    "epochs": [1, 2, 4],
}
PRUNERS: dict[str, dict[str, Any]] = {
    "median": MEDIAN,
    "percentile": {"name": "percentile", "options": {"percentile": 25.0, "n_startup_trials": 1}, "epochs": [1, 3]},
    "successive halving": {"name": "successive_halving", "options": {"reduction_factor": 2}, "epochs": [1, 2, 4]},
    "hyperband": HYPERBAND,
    "threshold": {"name": "threshold", "options": {"lower": 0.3}, "epochs": [1, 3]},
    "patient": {
        "name": "patient",
        "options": {"patience": 1, "wrapped_pruner": {"name": "threshold", "options": {"lower": 0.9}}},
        "epochs": [2, 4],
    },
    "by its class": {"name": "WilcoxonPruner", "options": {"p_threshold": 0.4}, "epochs": [2, 4]},
}
LAST = 5


def searching(points: int = 6, **search: Any) -> dict[str, Any]:
    section = {"space": SPACE, "limits": {"points": points}, "sampler": {"name": "random"}, "pruner": MEDIAN, **search}
    return {"training": {"max_epochs": LAST}, "search": section}


def kept_points(store: Path) -> list[tuple[dict[str, Any], int | None, bool]]:
    """Returns values and verdict of all points in a store that holds one search."""
    from sweeper.store.local import LocalStore
    from sweeper.store.points import read_points

    objects = LocalStore(store)
    (study,) = {key.partition(".")[0] for key in objects.keys("points")}
    return [(dict(point.values), point.pruned, point.is_judged) for point in read_points(objects, study)]


@pytest.fixture(scope="module")
def pruned(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A search by random points under the median pruner, in one go: its store, and the run."""
    store = tmp_path_factory.mktemp("pruned") / "store"
    return store, engine.run(store, **searching())


# -- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRUNERS)
def test_a_study_that_is_begun_anew_anywhere_asks_and_prunes_alike(name: str) -> None:
    """With TPE, which learns from what was pruned; within batches of two."""
    section = searching(10, pruner=PRUNERS[name], batch=2, sampler={"name": "tpe", "options": {"n_startup_trials": 2}})
    search = Search.model_validate(section["search"])
    rungs = PRUNERS[name]["epochs"]

    def course(point: dict[str, Any], last: int) -> dict[int, float]:
        rank, lr = point["model.adapter.rank"], point["training.optimizer.lr"]
        return {epoch: 1 - lr - 0.2 * abs(epoch - rank) for epoch in range(1, last + 1)}  # best at its rank

    def asked(known: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int | None]]:
        study, found = Study(search), list[tuple[dict[str, Any], int | None]]()
        for first in range(0, 10, 2):
            numbers = (first, first + 1)
            values = {n: study.ask(n, known[n] if n < len(known) else None) for n in numbers}
            verdicts: dict[int, int] = {}
            for rung in rungs:
                for n in (n for n in numbers if n not in verdicts):
                    study.report(n, course(values[n], rung))
                verdicts |= {n: rung for n in numbers if n not in verdicts and study.should_prune(n)}
            for n in numbers:
                ended = None if n in verdicts else [max(course(values[n], LAST).values())]
                study.tell(n, ended, {}, pruned=n in verdicts)
            found += [(values[n], verdicts.get(n)) for n in numbers]
        return found

    whole = asked([])
    assert len({verdict for _, verdict in whole}) > 1, "some are pruned, some are not"
    assert all(asked([values for values, _ in whole[:cut]]) == whole for cut in range(10))


def test_the_median_prunes_what_a_plain_loop_prunes(pruned: tuple[Path, Any]) -> None:
    """The best value so far against the median of the points at their end, once there are two of these."""
    store, ran = pruned
    view = ran.outcome.view
    ended: list[dict[int, float]] = []
    verdicts: list[int | None] = []
    for point in view.revision.points:
        (trial,) = point.trials
        rsa = view.curve(trial.trial_id, "rsa_validation")
        worse = (
            rung
            for rung in (1, 3)
            if len(ended) >= 2
            and max(value for epoch, value in rsa.items() if 1 <= epoch <= rung)
            < statistics.median(other[rung] for other in ended)
        )
        verdicts.append(next(worse, None))
        if verdicts[-1] is None:
            ended.append(rsa)
    assert [verdict for _, verdict, _ in kept_points(store)] == verdicts
    assert {None, 1} < set(verdicts)
    assert all(is_judged for _, _, is_judged in kept_points(store))


def test_a_pruned_point_costs_its_rung_and_a_survivor_its_training_once(pruned: tuple[Path, Any]) -> None:
    _, ran = pruned
    wanted = sum(point.pruned or LAST for point in ran.outcome.view.revision.points)
    assert ran.epochs_trained == wanted < 6 * LAST
    assert len(set(ran.watch.trained)) == len(ran.watch.trained) == wanted
    assert ran.status == "done"
    ids = [trial.trial_id for trial in ran.outcome.view.trials.values()]
    assert set(ids) == {trial.trial_id for point in ran.outcome.view.revision.points for trial in point.trials}


def test_what_else_the_store_holds_decides_nothing(engine: Any, pruned: tuple[Path, Any], tmp_path: Path) -> None:
    """The same points were trained to their end before: nothing is left to train, and the same are given up."""
    store, ran = pruned
    without = engine.run(tmp_path / "store", **searching(pruner=None))
    assert without.epochs_trained == 6 * LAST
    again = engine.run(tmp_path / "store", **searching())
    assert (again.status, again.epochs_trained, again.backends) == ("done", 0, 0)
    points = again.outcome.view.revision.points
    assert [(dict(point.values), point.pruned, True) for point in points] == kept_points(store)
    assert again.outcome.view.standing.counts() == ran.outcome.view.standing.counts()
    rows = {trial_id: ran.outcome.view.rows(trial_id).keys() for trial_id in ran.outcome.view.trials}
    assert {trial_id: again.outcome.view.rows(trial_id).keys() for trial_id in again.outcome.view.trials} == rows


def test_from_rung_to_rung_a_task_is_prepared_once(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper.execution import worker
    from sweeper.execution.local import LocalBackend

    prepared, prepare = list[str](), worker.prepare
    monkeypatch.setattr(worker, "prepare", lambda config, *rest: (prepared.append("once"), prepare(config, *rest))[1])
    backend = LocalBackend()
    ran = engine.run(tmp_path / "store", lambda: backend, **searching(1))
    assert (ran.backends, ran.epochs_trained, len(prepared)) == (3, LAST, 1)


def test_halting_at_rungs_keeps_no_more_states_than_planned(engine: Any, pruned: tuple[Path, Any]) -> None:
    from sweeper.sizes import disk_of, kept_states
    from sweeper.store.local import LocalStore

    store = LocalStore(pruned[0])
    sweep = engine.searcher(pruned[0], **searching()).asked_before
    assert [trial.lineage.last_epoch for trial in sweep.trials] == [
        point.pruned or LAST for point in pruned[1].outcome.view.revision.points
    ]
    kept = len(list(store.keys("states")))
    assert kept <= sum(kept_states(segment, 2) for segment in sweep.tree.segments.values())
    plain, halting = (disk_of(sweep.trials, sweep.tree, sweep.spec.evaluation, rungs) for rungs in (0, 2))
    assert plain.states < halting.states


# -- going on -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pruner", "points"), [(MEDIAN, 6), (HYPERBAND, 4)], ids=["median", "hyperband"])
def test_interrupted_anywhere_and_resumed_the_same_points_are_given_up(
    pruner: dict[str, Any], points: int, engine: Any, tmp_path: Path, reading: Any
) -> None:
    """Stopped after every fourth epoch: before, at and behind rungs, within batches of two; Optuna's file is lost."""
    sampler = {"name": "tpe", "options": {"n_startup_trials": 2}}
    changes = searching(points, pruner=pruner, sampler=sampler, batch=2, seed=2)
    whole = engine.run(tmp_path / "whole", **changes)
    assert whole.status == "done"
    status, runs = "interrupted", 0
    while status == "interrupted":
        ran = engine.run(tmp_path / "parts", stop_after=4, **changes)
        status, runs = ran.status, runs + 1
        (tmp_path / "parts" / "optuna.db").unlink()
    assert (status, runs >= 4) == ("done", True)
    assert kept_points(tmp_path / "parts") == kept_points(tmp_path / "whole")
    assert {pruned for _, pruned, _ in kept_points(tmp_path / "whole")} > {None}
    assert reading.records(tmp_path / "parts") == reading.records(tmp_path / "whole")
    assert reading.states(tmp_path / "parts").items() >= reading.states(tmp_path / "whole").items()
    assert ran.outcome.view.standing.counts() == whole.outcome.view.standing.counts()


@pytest.fixture
def copied(pruned: tuple[Path, Any], tmp_path: Path) -> Path:
    """The store of the finished search, to be changed."""
    import shutil

    return Path(shutil.copytree(pruned[0], tmp_path / "copy"))


def test_a_lost_verdict_is_given_again(engine: Any, copied: Path) -> None:
    before = kept_points(copied)
    verdicts = sorted((copied / "points").rglob("*.verdict"))
    assert len(verdicts) == 6
    verdicts[0].unlink()
    for path in verdicts[3:]:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-2])
    again = engine.run(copied, **searching())
    assert (again.status, again.epochs_trained) == ("done", 0)
    assert kept_points(copied) == before


def test_a_kept_verdict_counts_should_optuna_decide_otherwise_by_now(
    engine: Any, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept_points(copied)
    monkeypatch.setattr(Study, "should_prune", lambda study, number: number == 0)
    again = engine.run(copied, **searching())
    assert (again.status, again.epochs_trained) == ("done", 0)
    assert kept_points(copied) == before
    assert any("point 0 was not pruned after epoch 1 when it was judged first" in note for note in again.watch.notes)
    assert any("was pruned after epoch" in note for note in again.watch.notes)


def test_pruned_points_count_as_points_and_their_epochs_as_gpu_hours(engine: Any, copied: Path) -> None:
    more = engine.run(copied, **searching(7))
    assert len(kept_points(copied)) == 7
    assert more.epochs_trained <= LAST
    changes = searching(9, limits={"gpu_hours": 1e-9, "points": 9})
    ran = engine.run(copied, gpu=lambda measured: 0.5, **changes)
    assert (ran.epochs_trained, len(kept_points(copied))) == (0, 7)


# -- what is told -------------------------------------------------------------------------------------------------


EARLY = {"rule": "vp", "patience": 1, "horizon_after_window": None}


def test_the_mean_over_the_seeds_is_told_and_what_has_ended_keeps_its_last_value(engine: Any, tmp_path: Path) -> None:
    """Early stopping ends one seed before the other, which goes on."""
    from sweeper.reporting.points import standing_at

    space = {"training.optimizer.lr": {"choices": [0.2]}}
    changes = searching(1, space=space, sampler={"name": "grid"}, seeds=[1, 2], pruner=None)
    ran = engine.run(tmp_path / "store", **changes, stopping=EARLY)
    view = ran.outcome.view
    (point,) = view.revision.points
    curves = [view.curve(trial.trial_id, "rsa_validation") for trial in point.trials]
    ends = sorted(max(curve) for curve in curves)
    assert ends[0] < ends[-1] < LAST, "or the seeds tell nothing"
    padded = [[curve[min(epoch, max(curve))] for epoch in range(1, LAST)] for curve in curves]
    expected = {epoch: statistics.fmean(values) for epoch, values in enumerate(zip(*padded, strict=True), start=1)}
    assert standing_at(view, point, "rsa_validation", 4).course == pytest.approx(expected)
    statuses = [standing_at(view, point, "rsa_validation", epoch).status for epoch in (ends[-1] - 1, ends[-1])]
    assert statuses == ["pruned", "complete"], "it would go on as long as one of its seeds does"


def test_a_point_that_has_ended_by_itself_is_not_pruned(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Study, "should_prune", lambda study, number: True)
    space = {"training.optimizer.lr": {"choices": [0.3, 1e-3]}}
    changes = searching(2, space=space, sampler={"name": "grid"}, pruner={**MEDIAN, "epochs": [3]})
    ran = engine.run(tmp_path / "store", **changes, stopping=EARLY)
    ends = {dict(trial.swept)["training.optimizer.lr"]: trial.trial_id for trial in ran.outcome.view.trials.values()}
    statuses = {lr: ran.outcome.view.status(trial_id) for lr, trial_id in ends.items()}
    assert statuses == {0.3: "complete", 1e-3: "pruned"}
    points = ran.outcome.view.revision.points
    assert {point.values["training.optimizer.lr"]: point.pruned for point in points} == {0.3: None, 1e-3: 3}
    assert max(ran.outcome.view.rows(ends[0.3])) <= 3


def test_a_failed_point_is_told_as_failed(engine: Any, tmp_path: Path) -> None:
    """A learning rate of 1e30 ends in a loss that is no number, before the first rung or behind it."""
    space = {"training.optimizer.lr": {"choices": [0.01, 1e30]}}
    ran = engine.run(tmp_path / "store", **searching(2, space=space, sampler={"name": "grid"}))
    states = {trial.params["training.optimizer.lr"]: trial.state.name for trial in optuna_trials(tmp_path / "store")}
    assert (ran.status, states) == ("failed", {0.01: "COMPLETE", 1e30: "FAIL"})


def test_a_perturbed_point_is_judged_from_its_own_start_on_and_pruned_with_its_baseline(
    engine: Any, tmp_path: Path
) -> None:
    window = {"kind": "random_target", "start": 2, "length": 1}
    pruner = {"name": "threshold", "options": {"lower": 2.0}, "epochs": [1, 2, 3]}
    space = {"training.optimizer.lr": {"choices": [0.01]}}
    changes = searching(1, space=space, sampler={"name": "grid"}, pruner=pruner)
    ran = engine.run(tmp_path / "store", **changes, perturbation=window)
    (point,) = ran.outcome.view.revision.points
    assert point.pruned == 2, "nothing is known of it after epoch 1, where its baseline is alone"
    assert ran.outcome.view.standing.counts() == {"pruned": 2}
    assert (ran.status, ran.epochs_trained) == ("done", 3)


def optuna_trials(store: Path) -> Any:
    import optuna

    (name,) = optuna.get_all_study_names(f"sqlite:///{store / 'optuna.db'}")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{store / 'optuna.db'}").trials


def test_the_optuna_storage_shows_what_was_pruned(pruned: tuple[Path, Any]) -> None:
    from sweeper.reporting.points import results_of

    store, ran = pruned
    results = results_of(ran.outcome.view)
    for trial, result in zip(optuna_trials(store), results, strict=True):
        assert trial.state.name == ("COMPLETE" if result.point.pruned is None else "PRUNED")
        assert trial.intermediate_values == result.course
        assert max(trial.intermediate_values) == (result.point.pruned or 3)
    assert {result.status for result in results} == {"complete", "pruned"}


def test_readers_see_where_points_were_given_up(pruned: tuple[Path, Any]) -> None:
    from sweeper.reporting.load import open_view
    from sweeper.reporting.points import point_rows, points_text
    from sweeper.reporting.status import status_text, sweep_rows, sweeps_text
    from sweeper.search.figures import search_figures
    from sweeper.store.garbage import find_garbage
    from sweeper.store.local import LocalStore

    objects = LocalStore(pruned[0])
    view = open_view(objects, "test")
    assert view.standing.counts() == pruned[1].outcome.view.standing.counts()
    count = view.standing.counts()["pruned"]
    rows = point_rows(view)
    assert sum(row["status"] == "pruned" for row in rows) == count
    assert all((row["pruned_after_epoch"] is None) == (row["status"] != "pruned") for row in rows)
    assert all(
        (row["place"] is None, row["rsa_validation"] is None) == (row["status"] == "pruned",) * 2 for row in rows
    )
    assert "Pruned, and not compared with these: " in points_text(view)
    assert f"{6 - count} complete, {count} pruned" in status_text(view.standing)
    assert "Open:" not in status_text(view.standing)
    assert f"{count} pruned" in sweeps_text(sweep_rows(objects), "here")
    assert {"search_history", "search_pruning"} <= {name for name, _ in search_figures(view)}
    unclaimed = next(each for each in find_garbage(objects, now=4e12) if each.sort == "results of no sweep")
    assert unclaimed.files == ()
