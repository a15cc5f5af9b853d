"""Figures of a search by Optuna's own plotting: history, importances, Pareto front, and what the pruner saw."""

from collections.abc import Iterator
from contextlib import contextmanager
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

_FEWEST_FOR_IMPORTANCES = 4  # ended points; of fewer the forest of trees tells nothing


def search_figures(view: SweepView) -> Iterator[tuple[str, bytes]]:
    """Yields name and PNG bytes of each figure; none, where the sweep is no search or no point has ended."""
    search = view.revision.spec.search
    study = None if search is None else _study(search, results_of(view))
    if search is None or study is None:
        return
    for name, axes in _figures(search, study):
        with _drawing():
            title = axes.get_title() or axes.get_title(loc="left")  # Optuna's plots differ in where they put it
            for place in ("left", "center"):
                axes.set_title("", loc=place)
            figure = axes.get_figure(root=True)
            assert figure is not None
            figure.set_layout_engine("tight")
            data = png(titled(figure, caption(view), title))
        yield name, data


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
            _mark_pruned(axes, study)
            yield f"search_history{several}", axes
        if len(ended) >= _FEWEST_FOR_IMPORTANCES and len({target(trial) for trial in ended}) > 1 and searched:
            judge = FanovaImportanceEvaluator(seed=search.seed)
            with _drawing():
                axes = plots.plot_param_importances(study, evaluator=judge, params=searched, **about)
            yield f"search_importances{several}", axes
    if search.pruner is not None:
        with _drawing():
            axes = plots.plot_intermediate_values(study)
            axes.set_title(f"{search.pruner.metric} up to the last rung")
            axes.set_xlabel("epoch")
            axes.set_ylabel(search.pruner.metric)
            if (legend := axes.get_legend()) is not None:
                legend.remove()  # a line for each point; which is which, the table says
            yield "search_pruning", axes
    if 2 <= len(search.objectives) <= 3:
        with _drawing():
            names = [objective.metric for objective in search.objectives]
            yield "search_pareto", plots.plot_pareto_front(study, target_names=names)


def _mark_pruned(axes: "Axes", study: optuna.Study) -> None:
    """Adds the points that were given up, which Optuna leaves out: at the last value seen, with its epoch."""
    pruned = [trial for trial in study.get_trials(deepcopy=False) if trial.state is TrialState.PRUNED and trial.values]
    if not pruned:
        return
    values = [trial.values[0] for trial in pruned]
    axes.scatter([trial.number for trial in pruned], values, marker="x", color="tab:gray", label="Pruned after epoch")
    for trial, value in zip(pruned, values, strict=True):
        axes.annotate(f" {trial.last_step}", (trial.number, value), fontsize="x-small", color="tab:gray")
    axes.legend()


def _study(search: Search, results: tuple[PointResult, ...]) -> optuna.Study | None:
    """Returns what has ended as a study, all points, since Optuna counts; None where nothing has ended well."""
    distributions = distributions_of(search)
    with quietly():
        study = optuna.create_study(directions=directions_of(search))
        for result in results:
            params = to_optuna(search, result.point.values)
            state, values = _end_of(result)
            trial = create_trial(
                params=params,
                distributions=distributions,
                intermediate_values=dict(result.course),
                state=state,
                values=values,
            )
            study.add_trial(trial)
    return study if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) else None


def _end_of(result: PointResult) -> tuple[TrialState, list[float] | None]:
    """Returns how Optuna knows the end of a point: of one that was pruned, with the last value that was reported."""
    if result.values is not None:
        return TrialState.COMPLETE, list(result.values)
    if result.status != "pruned":
        return TrialState.FAIL, None
    return TrialState.PRUNED, [result.course[max(result.course)]] if result.course else None


@contextmanager
def _drawing() -> Iterator[None]:
    """Lets Optuna set a style, and takes it back; no figure stays open."""
    import matplotlib.pyplot as plt

    with quietly(), plt.rc_context():
        yield
    plt.close("all")
