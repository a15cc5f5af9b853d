"""Optuna's pruners by name."""

import inspect
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner

from sweeper.errors import Problem, SpecError
from sweeper.search.samplers import quietly
from sweeper.spec.search import Search

SHORT_NAMES = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "threshold": "ThresholdPruner",
    "patient": "PatientPruner",
}


def make_pruner(search: Search) -> BasePruner:
    """Returns the pruner of a search, one that never prunes where it has none.

    Raises:
        SpecError: there is no such pruner, or it does not take the options.
    """
    if search.pruner is None:
        return NopPruner()
    return _made(search.pruner.name, search.pruner.options, "search.pruner")


def _made(name: str, options: Mapping[str, Any], where: str) -> BasePruner:
    kind = _class_of(name, where)
    arguments = {key: _argument(value, f"{where}.options.{key}") for key, value in options.items()}
    try:
        with quietly():
            return kind(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        remedy = f"See optuna.pruners.{kind.__name__} for its arguments"
        problem = Problem(
            where=f"{where}.options", rule="the pruner takes these options", got=str(error), remedy=remedy
        )
        raise SpecError(problem) from error


def _argument(value: Any, where: str) -> Any:
    """Returns an option as the pruner takes it: a pruner where it has the name of one."""
    if not isinstance(value, Mapping):
        return value
    if not isinstance(value.get("name"), str) or not isinstance(value.get("options", {}), Mapping):
        rule = "an option that is a mapping is a pruner, with name and options"
        raise SpecError(Problem(where=where, rule=rule, got=str(dict(value))))
    return _made(value["name"], value.get("options", {}), where)


def _class_of(name: str, where: str) -> type[BasePruner]:
    known = {found: getattr(optuna.pruners, found) for found in optuna.pruners.__all__}
    usable = {found: kind for found, kind in known.items() if not inspect.isabstract(kind) and kind is not NopPruner}
    kind: type[BasePruner] | None = usable.get(SHORT_NAMES.get(name, name))
    if kind is None:
        choices = ", ".join([*SHORT_NAMES, *(found for found in usable if found not in SHORT_NAMES.values())])
        rule, remedy = "is a pruner of Optuna", f"Known: {choices}"
        raise SpecError(Problem(where=f"{where}.name", rule=rule, got=name, remedy=remedy))
    return kind
