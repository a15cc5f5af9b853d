"""Optuna's samplers by name, made anew for every point: what they draw depends on the seed and the point's number."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GridSampler, QMCSampler, RandomSampler

from sweeper.errors import Problem, SpecError
from sweeper.randomness import stream
from sweeper.search.space import encoded
from sweeper.spec.search import Search

SHORT_NAMES = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "GridSampler", "nsgaii": "NSGAIISampler"}
_ONE_SEED = (GridSampler, QMCSampler)  # they number their points in an order that one seed gives


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps Optuna from telling that a feature is experimental, and what it finds out by the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        yield


def make_sampler(search: Search, number: int) -> BaseSampler:
    """Returns the sampler that suggests a point.

    A restarted sampler would repeat its first suggestions; one whose seed is a function of the point's number goes on.

    Raises:
        SpecError: there is no such sampler, or it does not take the options or the space.
    """
    kind = _class_of(search)
    seed = search.seed if issubclass(kind, _ONE_SEED) else _seed_of(search, number)
    arguments: dict[str, Any] = dict(search.sampler.options)
    if "seed" in inspect.signature(kind).parameters:
        arguments["seed"] = seed
    if issubclass(kind, QMCSampler):  # its first point is another sampler's
        arguments.setdefault("independent_sampler", RandomSampler(seed=_seed_of(search, number)))
        arguments.setdefault("warn_independent_sampling", False)
    if issubclass(kind, GridSampler):
        arguments["search_space"] = _grid(search)
    try:
        with quietly():
            return kind(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        remedy = f"See optuna.samplers.{kind.__name__} for its arguments"
        raise _wrong("options", "the sampler takes these options", str(error), remedy) from error


def num_grid_points(search: Search) -> int | None:
    """Returns how many points there are for a sampler that visits each once, None for the others."""
    if not issubclass(_class_of(search), GridSampler):
        return None
    count = 1
    for values in _grid(search).values():
        count *= len(values)
    return count


def _seed_of(search: Search, number: int) -> int:
    return int(stream(search.seed, "search", number).integers(2**31))


def _class_of(search: Search) -> type[BaseSampler]:
    name = search.sampler.name
    known = {found: getattr(optuna.samplers, found) for found in optuna.samplers.__all__ if found.endswith("Sampler")}
    wrappers = (optuna.samplers.PartialFixedSampler,)  # made of a sampler, not of values that a file can hold
    usable = {found: kind for found, kind in known.items() if not inspect.isabstract(kind) and kind not in wrappers}
    kind = usable.get(SHORT_NAMES.get(name, name))
    if kind is None:
        choices = ", ".join([*SHORT_NAMES, *(found for found in usable if found not in SHORT_NAMES.values())])
        raise _wrong("name", "is a sampler of Optuna", name, f"Known: {choices}")
    if len(search.objectives) > 1 and kind is optuna.samplers.CmaEsSampler:
        raise _wrong("name", "with several objectives, the sampler knows several", name, "Take tpe or nsgaii")
    if issubclass(kind, GridSampler) and search.first:
        rule = "a grid has no points to begin with: it visits each of its points once"
        raise SpecError(Problem(where="search.first", rule=rule, remedy="Leave search.first out"))
    return kind  # type: ignore[no-any-return]


def _grid(search: Search) -> Mapping[str, list[Any]]:
    grid: dict[str, list[Any]] = {}
    for name, searched in search.space.items():
        values = searched.grid()
        if values is None:
            rule = f"a grid needs choices, or a step without log; {name} has neither"
            raise SpecError(Problem(where="search.space", rule=rule, remedy="Name its choices, or take tpe or random"))
        grid[name] = [encoded(value) if searched.choices is not None else value for value in values]
    return grid


def _wrong(field: str, rule: str, got: str, remedy: str) -> SpecError:
    return SpecError(Problem(where=f"search.sampler.{field}", rule=rule, got=got, remedy=remedy))
