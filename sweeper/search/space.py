"""The searched fields as Optuna's distributions."""

import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from sweeper.spec.search import Range, Search


def distributions_of(search: Search) -> dict[str, BaseDistribution]:
    """Returns the distribution of each searched field; the order, in which samplers draw, is that of the names."""
    return {name: _distribution(searched) for name, searched in sorted(search.space.items())}


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> None:
    """Lets a trial have a value of a field."""
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    elif isinstance(distribution, FloatDistribution):
        trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def encoded(value: Any) -> Any:
    """Returns a choice as Optuna can keep it: lists and mappings as JSON text."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, sort_keys=True)


def to_optuna(search: Search, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a point's values as Optuna's parameters."""
    return {name: encoded(value) if search.space[name].choices else value for name, value in values.items()}


def from_optuna(search: Search, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns Optuna's parameters as a point's values, in the order of the space."""
    return {name: _decoded(searched, params[name]) for name, searched in search.space.items()}


def _decoded(searched: Range, value: Any) -> Any:
    if searched.choices is None:
        return value
    return next(choice for choice in searched.choices if encoded(choice) == value)


def _distribution(searched: Range) -> BaseDistribution:
    if searched.choices is not None:
        return CategoricalDistribution(tuple(encoded(choice) for choice in searched.choices))
    assert searched.low is not None
    assert searched.high is not None
    values = None if searched.step is None else searched.grid()
    high = values[-1] if values else searched.high  # the last one that a whole number of steps leads to
    if searched.is_whole:
        return IntDistribution(int(searched.low), int(high), log=searched.log, step=int(searched.step or 1))
    step = None if searched.step is None else float(searched.step)
    return FloatDistribution(float(searched.low), float(high), log=searched.log, step=step)
