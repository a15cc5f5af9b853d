"""From axes to trials: products, zipped groups, unions of blocks, exclusions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, product
from math import prod
from typing import Any, NamedTuple

from pydantic import ValidationError

from sweeper.errors import Problem, SpecError
from sweeper.spec.document import Path
from sweeper.spec.fields import holds_list
from sweeper.spec.messages import findings
from sweeper.spec.schema import AxisBlock, SweepSpec, TrialConfig

Swept = tuple[tuple[str, Any], ...]
Placed = tuple[tuple[Path, "Choice"], ...]
MAX_TRIALS = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptTrial:
    """One trial of a sweep.

    Attributes:
        swept: dotted field names with their values, in the order of the axes.
        config: the resolved configuration.
    """

    swept: Swept
    config: TrialConfig


class Choice(NamedTuple):
    """One value of one axis.

    Attributes:
        name: dotted name of the field.
        value: what it is set to.
        origin: where the value stands: (block, "product", name, index) or (block, "zip", group, name, index).
    """

    name: str
    value: Any
    origin: Path


def expand(spec: SweepSpec) -> tuple[SweptTrial, ...]:
    """Returns the trials of a spec in the order of its axes, equal ones once, at their first place.

    Raises:
        SpecError: a trial breaks a rule. Specs that were loaded from a file have been checked for that.
    """
    trials: dict[TrialConfig, SweptTrial] = {}
    problems: dict[Problem, None] = {}
    configs = Configs(spec.base)
    for choices in assignments(spec.axes, spec.exclude):
        try:
            config = configs.of(choices)
        except ValidationError as error:
            raw, _ = assign(spec.base, choices)
            problems |= dict.fromkeys(found.problem(spec.name) for found in findings(error, raw))
            continue
        if config not in trials:
            swept = tuple((choice.name, choice.value) for choice in choices)
            trials[config] = SweptTrial(swept=swept, config=config)
    if problems:
        raise SpecError(tuple(problems))
    return tuple(trials.values())


class Configs:
    """Makes the configurations of a spec's assignments. A section that trials have in common is checked once."""

    def __init__(self, base: Mapping[str, Any]) -> None:
        """Takes the sections as written."""
        self._base = base
        self._known: dict[tuple[object, ...], Any] = {}

    def of(self, choices: Sequence[Choice]) -> TrialConfig:
        """Returns the configuration of an assignment.

        Raises:
            ValidationError: it breaks a rule; as for the sections that `assign` makes.
        """
        keys: dict[str, tuple[object, ...]] = {section: (section,) for section in self._base}
        for choice in choices:
            section = choice.name.partition(".")[0]
            keys[section] = (*keys.get(section, (section,)), choice.origin)
        if not all(key in self._known for key in keys.values()):
            config = TrialConfig.model_validate(assign(self._base, choices)[0])
            self._known |= {key: getattr(config, section) for section, key in keys.items()}
            return config
        return TrialConfig.model_validate({section: self._known[key] for section, key in keys.items()})


def count(blocks: Iterable[AxisBlock]) -> int:
    """Returns how many assignments the blocks make, before exclusions."""
    return sum(prod(len(factor) for factor in _factors(index, block)) for index, block in enumerate(blocks))


def assignments(blocks: Sequence[AxisBlock], exclude: Sequence[Mapping[str, Any]] = ()) -> Iterator[tuple[Choice, ...]]:
    """Yields every assignment of the swept fields; without axes, one that is empty."""
    for index, block in enumerate(blocks or (AxisBlock(),)):
        for factors in product(*_factors(index, block)):
            choices = tuple(chain.from_iterable(factors))
            if not any(matches(choices, partial) for partial in exclude):
                yield choices


def matches(choices: Iterable[Choice], partial: Mapping[str, Any]) -> bool:
    """Tells whether an assignment has all the values of a partial one."""
    values = {choice.name: choice.value for choice in choices}
    return all(name in values and values[name] == value for name, value in partial.items())


def _factors(index: int, block: AxisBlock) -> list[list[tuple[Choice, ...]]]:
    factors: list[list[tuple[Choice, ...]]] = [
        [(Choice(name, value, (index, "product", name, i)),) for i, value in enumerate(values)]
        for name, values in block.product.items()
    ]
    for group, axes in enumerate(block.zip):
        if not axes:
            continue
        columns = [
            [Choice(name, value, (index, "zip", group, name, i)) for i, value in enumerate(values)]
            for name, values in axes.items()
        ]
        factors.append(list(zip(*columns, strict=True)))
    return factors


def assign(base: Mapping[str, Any], choices: Iterable[Choice]) -> tuple[dict[str, Any], Placed]:
    """Returns the sections of a trial with its choices set, and where each choice went.

    Whole sections are set first, so that `perturbation` and `perturbation.start` can both be swept.
    """
    raw = dict(base)
    placed = []
    for choice in sorted(choices, key=lambda choice: choice.name.count(".")):
        path = field_path(choice.name, raw)
        _put(raw, path, choice.value)
        placed.append((path, choice))
    return raw, tuple(placed)


def field_path(name: str, raw: Mapping[str, Any]) -> Path:
    """Returns the path of a dotted name in a trial's sections: a list needs an index, a single part has none."""
    section, *rest = name.split(".")
    if not holds_list(section) or not rest:
        return (section, *rest)
    index = int(rest.pop(0)) if rest[0].isdecimal() else 0
    is_list = isinstance(raw.get(section), list | tuple) or index > 0
    return (section, index, *rest) if is_list else (section, *rest)


def _put(raw: dict[str, Any], path: Path, value: Any) -> None:
    """Sets one value; the containers on the way are copied, never changed."""
    is_bare_seed = path == ("seeds",) and isinstance(value, int) and not isinstance(value, bool)
    if is_bare_seed and isinstance(raw.get("seeds"), Mapping):
        value = {**raw["seeds"], "split": value, "init": value, "order": value}  # keeps seeds.noise
    node: Any = raw
    for part, following in pairwise(path):
        child = _copy(node[part] if isinstance(part, int) else node.get(part), part, isinstance(following, int))
        if isinstance(following, int):
            child.extend({} for _ in range(following + 1 - len(child)))
        node[part] = child
        node = child
    node[path[-1]] = value


def _copy(child: Any, part: str | int, as_list: bool) -> Any:
    if as_list:
        return list(child) if isinstance(child, list | tuple) else [] if child is None else [child]
    if part == "seeds" and isinstance(child, int) and not isinstance(child, bool):
        return {"split": child, "init": child, "order": child}
    return dict(child) if isinstance(child, Mapping) else {}
