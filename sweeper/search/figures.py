"""Figures of a search by Optuna's own plotting: history, importances of the searched fields, Pareto front."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeper.reporting.caption import caption, titled
from sweeper.reporting.figures import png
from sweeper.reporting.points import PointResult, results_of
from sweeper.reporting.view import SweepView
from sweeper.search.samplers import quietly
from sweeper.search.space import distributions_of, to_optuna
from sweeper.search.study import directions_of
from sweeper.spec.search import Search

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEST_STIMULI = "THE OBJECTIVE SEES TEST STIMULI"
_FEWEST_FOR_IMPORTANCES = 4  # ended points; of fewer the forest of trees tells nothing


def save_search_figures(view: SweepView, folder: Path) -> list[Path]:
    """Writes the figures of a search as PNG files; none, where the sweep is no search or no point has ended."""
    search = view.revision.spec.search
    study = None if search is None else _study(search, results_of(view))
    if search is None or study is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, axes in _figures(search, study):
        paths.append(folder / f"{name}.png")
        with _drawing():
            title = axes.get_title() or axes.get_title(loc="left")  # Optuna's plots differ in where they put it
            for place in ("left", "center"):
                axes.set_title("", loc=place)
            figure = axes.get_figure(root=True)
            assert figure is not None
            figure.set_layout_engine("tight")
            note = TEST_STIMULI if search.sees_test_stimuli else ""
            paths[-1].write_bytes(png(titled(figure, caption(view), title, note)))
    return paths


def _figures(search: Search, study: optuna.Study) -> "Iterator[tuple[str, Axes]]":
    from optuna.visualization import matplotlib as plots

    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state is TrialState.COMPLETE]
    searched = [name for name, distribution in distributions_of(search).items() if not distribution.single()]
    for index, objective in enumerate(search.objectives):

        def target(trial: FrozenTrial, index: int = index) -> float:
            return float(trial.values[index])

        several = f"_{objective.metric}" if len(search.objectives) > 1 else ""
        about: dict[str, Any] = {"target_name": objective.metric, "target": target if several else None}
        with _drawing():
            axes = plots.plot_optimization_history(study, **about)
            axes.set_xlabel("point")  # Optuna's trial is our point; ours are its seeds
            yield f"search_history{several}", axes
        if len(ended) >= _FEWEST_FOR_IMPORTANCES and len({target(trial) for trial in ended}) > 1 and searched:
            judge = FanovaImportanceEvaluator(seed=search.seed)
            with _drawing():
                axes = plots.plot_param_importances(study, evaluator=judge, params=searched, **about)
            yield f"search_importances{several}", axes
    if 2 <= len(search.objectives) <= 3:
        with _drawing():
            names = [objective.metric for objective in search.objectives]
            yield "search_pareto", plots.plot_pareto_front(study, target_names=names)


def _study(search: Search, results: tuple[PointResult, ...]) -> optuna.Study | None:
    """Returns what has ended as a study, failed points too, since Optuna counts; None where nothing has ended well."""
    distributions = distributions_of(search)
    with quietly():
        study = optuna.create_study(directions=directions_of(search))
        for result in results:
            params = to_optuna(search, result.point.values)
            how = {"state": TrialState.FAIL} if result.values is None else {"values": list(result.values)}
            study.add_trial(create_trial(params=params, distributions=distributions, **how))
    return study if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) else None


@contextmanager
def _drawing() -> Iterator[None]:
    """Lets Optuna set a style, and takes it back; no figure stays open."""
    import matplotlib.pyplot as plt

    with quietly(), plt.rc_context():
        yield
    plt.close("all")
