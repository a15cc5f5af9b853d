"""A study in memory: what was asked and told so far, as an Optuna study that samplers read."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import optuna
from optuna.samplers import GridSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeper.search.pruners import make_pruner
from sweeper.search.samplers import make_sampler, quietly
from sweeper.search.space import distributions_of, from_optuna, suggest, to_optuna
from sweeper.spec.search import Search


class Study:
    """Asks for points and is told their values, strictly in the order of their numbers."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._distributions = distributions_of(search)
        with quietly():
            self._study = optuna.create_study(
                study_name=f"search {search.seed}",  # part of what Hyperband draws brackets from
                directions=directions_of(search),
                sampler=make_sampler(search, 0),
                pruner=make_pruner(search),
            )
        self._open: dict[int, optuna.Trial] = {}
        self._reported: dict[int, int] = {}  # last epoch, by point

    def ask(self, number: int, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the values of the next point.

        Args:
            number: of that point.
            given: values that are known: those of a point to begin with, or of one that was asked before.
        """
        sampler = make_sampler(self._search, number)
        with quietly():
            self._study.sampler = sampler
            if given is not None and not isinstance(sampler, GridSampler):  # which marks no given point as visited
                self._study.enqueue_trial(to_optuna(self._search, given))
            trial = self._study.ask()
            _ = trial.relative_params  # Optuna leaves it out for given points: no generation of NSGA-II would have them
            for name, distribution in self._distributions.items():
                suggest(trial, name, distribution)
        assert trial.number == number
        self._open[number] = trial
        return from_optuna(self._search, trial.params)

    def report(self, number: int, course: Mapping[int, float]) -> None:
        """Notes what the pruner is told of a point; what it was told already stays.

        Args:
            number: of the point.
            course: value by epoch.
        """
        for epoch in sorted(epoch for epoch in course if epoch > self._reported.get(number, -1)):
            self._open[number].report(course[epoch], epoch)
            self._reported[number] = epoch

    def should_prune(self, number: int) -> bool:
        """Asks the pruner whether to give a point up, by what was reported of it and of all others."""
        with quietly():
            return self._open[number].should_prune()

    def tell(
        self, number: int, values: Sequence[float] | None, attributes: Mapping[str, Any], *, pruned: bool = False
    ) -> None:
        """Notes what came out of a point.

        Args:
            number: of the point.
            values: of the objectives; None where it failed or was pruned.
            attributes: shown beside it.
            pruned: it was given up.
        """
        trial = self._open.pop(number)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        with quietly(), suppress(RuntimeError):  # a grid that has been visited wants to stop a loop that is not there
            state = TrialState.PRUNED if pruned else TrialState.FAIL if values is None else TrialState.COMPLETE
            self._study.tell(trial, list(values) if values is not None else None, state=state)

    def ended(self) -> list[FrozenTrial]:
        """Returns what was told, by number."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]

    @property
    def optuna(self) -> optuna.Study:
        """The study itself, for what Optuna draws of one."""
        return self._study


def check_search(search: Search) -> None:
    """Refuses a sampler or a pruner that Optuna does not have, or that does not take what it is given.

    Raises:
        SpecError: all that.
    """
    make_sampler(search, 0)
    make_pruner(search)


def directions_of(search: Search) -> list[StudyDirection]:
    """Returns Optuna's direction of each objective."""
    signs = {True: StudyDirection.MAXIMIZE, False: StudyDirection.MINIMIZE}
    return [signs[objective.is_maximized] for objective in search.objectives]
