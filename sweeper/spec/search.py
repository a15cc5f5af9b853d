"""The section `search`: which fields are searched, by which sampler, for the best value of what."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from sweeper.spec.base import Flag, Number, PositiveFloat, PositiveInt, Seed, SpecModel, Whole, broken_rule

TEST_METRICS = ("rsa_behavioral", "rsa_targets", "rsa_neural")
"""What is measured on test stimuli: these, and every column that begins with one of them."""

Bound = Whole | Number
T = TypeVar("T")


def is_test(metric: str) -> bool:
    """Tells whether a column is measured on test stimuli."""
    return metric.startswith(TEST_METRICS)


class Sampler(SpecModel):
    """An Optuna sampler by name."""

    name: Annotated[str, Field(min_length=1)] = "tpe"
    """`tpe`, `random`, `grid`, `nsgaii`, or the name of any other class of `optuna.samplers`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of that class, by their names there."""

    @model_validator(mode="after")
    def _seed_is_not_an_option(self) -> Self:
        if "seed" in self.options:
            raise broken_rule("the sampler's seed is search.seed", "options.seed", remedy="Leave it out here")
        return self


class Range(SpecModel):
    """What one field may be: one of some choices, or a number between two bounds, both included."""

    choices: tuple[Any, ...] | None = None
    """Values in any order, of any kind."""
    low: Bound | None = None
    """Least value; with whole bounds and a whole step, values are whole numbers."""
    high: Bound | None = None
    """Greatest value."""
    log: Flag = False
    """Even by the logarithm; then without a step, except 1 for whole numbers."""
    step: Annotated[Bound, Field(gt=0)] | None = None
    """Distance of neighbouring values, counted from `low`."""

    @model_validator(mode="after")
    def _is_either_choices_or_bounds(self) -> Self:
        bounds = [name for name in ("low", "high", "step") if getattr(self, name) is not None]
        bounds += ["log"] if self.log else []
        if self.choices is not None and bounds:
            rule = f"a searched field has choices, or low and high; {bounds[0]} does not go with choices"
            raise broken_rule(rule, bounds[0], "choices")
        if self.choices is None:
            self._check_bounds()
        elif not self.choices:
            raise broken_rule("choices must be a list of at least one value", "choices", got=[])
        elif _has_equal(self.choices):
            raise broken_rule("choices must differ from each other", "choices", got=list(self.choices))
        return self

    def _check_bounds(self) -> None:
        for name in ("low", "high"):
            if getattr(self, name) is None:
                rule = f"a searched field has choices, or low and high; {name} is missing"
                raise broken_rule(rule, "low" if self.low is not None else "high", "low", "high")
        assert self.low is not None
        assert self.high is not None
        if self.low > self.high:
            raise broken_rule("low must not be greater than high", "low", "high", got=self.low)
        if self.log and self.low <= 0:
            raise broken_rule("with log, low must be greater than 0", "low", "log", got=self.low)
        if self.log and self.step is not None and not (self.is_whole and self.step == 1):
            raise broken_rule("step does not go with log", "step", "log", got=self.step)

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole: bounds and step are."""
        return all(isinstance(bound, int) for bound in (self.low, self.high, self.step) if bound is not None)

    def contains(self, value: Any) -> bool:
        """Tells whether a value is one that a sampler may suggest."""
        if self.choices is not None:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.is_whole and value != int(value)):
            return False
        assert self.low is not None
        assert self.high is not None
        if not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-8

    def ends(self) -> tuple[tuple[str | int, Any], ...]:
        """Returns the values that are tried when a spec is read, each with where it stands below the field's name."""
        if self.choices is not None:
            return tuple((index, value) for index, value in enumerate(self.choices))
        return (("low", self.low), ("high", self.high))

    def grid(self) -> tuple[Any, ...] | None:
        """Returns all values, None where there are too many to name: a range without a step."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        step = 1 if self.step is None and self.is_whole else self.step
        if step is None or self.log:
            return None
        count = int((self.high - self.low) / step + 1e-8) + 1
        return tuple(self.low + index * step for index in range(count))


def corners(ends: Mapping[str, Sequence[T]]) -> Iterator[dict[str, T]]:
    """Yields assignments that together have every value of every field, and all first and all last ones at once.

    Args:
        ends: values by field.
    """
    first = {name: values[0] for name, values in ends.items()}
    yield first
    yield {name: values[-1] for name, values in ends.items()}
    for name, values in ends.items():
        for value in values[1:]:
            yield {**first, name: value}


def _has_equal(choices: tuple[Any, ...]) -> bool:
    """Tells whether two choices are equal, as 1 and 1.0 are, which no sampler can tell apart."""
    return any(one == other for index, one in enumerate(choices) for other in choices[:index])


class Objective(SpecModel):
    """One value that is to be as large, or as small, as possible."""

    metric: Annotated[str, Field(min_length=1)] = "rsa_validation"
    """A column of the trials' curves."""
    direction: Literal["maximize", "minimize"] | None = None
    """Which way is better; default: minimize a loss, maximize all else."""
    at: Literal["best_val_loss", "last"] = "best_val_loss"
    """The epoch whose value counts: that of the smallest validation loss, or the last one."""

    @property
    def is_maximized(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize" or (self.direction is None and "_loss" not in self.metric)


class Pruner(SpecModel):
    """An Optuna pruner by name: it gives up points that are not worth the rest of their training."""

    name: Annotated[str, Field(min_length=1)] = "median"
    """`median`, `percentile`, `successive_halving`, `hyperband`, `threshold`, `patient`, or another class of
    `optuna.pruners`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of that class, by their names there; a step is an epoch. A pruner in a pruner has name and options."""
    metric: Annotated[str, Field(min_length=1)] = "rsa_validation"
    """What it is told of each epoch: a column of the trials' curves, the mean over the seeds."""
    epochs: tuple[PositiveInt, ...]
    """Rungs: when it is asked. A point is trained up to a rung first, and on when it is not given up there."""

    @model_validator(mode="after")
    def _rungs_ascend(self) -> Self:
        if not self.epochs:
            raise broken_rule("search.pruner.epochs must name at least one epoch", "epochs", got=[])
        if any(later <= earlier for earlier, later in pairwise(self.epochs)):
            raise broken_rule("search.pruner.epochs must ascend", "epochs", got=list(self.epochs))
        return self


class Limits(SpecModel):
    """When a search asks no more; the one that is reached first."""

    points: PositiveInt | None = None
    """Points in all, `first` included. Raised later, the search goes on."""
    hours: PositiveFloat | None = None
    """Time of one run; what is being trained then is finished."""
    gpu_hours: PositiveFloat | None = None
    """Time of GPUs that the search has taken so far: measured epochs times the GPUs of one trial."""

    @model_validator(mode="after")
    def _some_limit_is_set(self) -> Self:
        if self.points is None and self.hours is None and self.gpu_hours is None:
            raise broken_rule("limits must name points, hours or gpu_hours", "points", got=None)
        return self


class Search(SpecModel):
    """A search: points are asked of a sampler, each is trained with every seed, and what came out is told."""

    sampler: Sampler = Sampler()
    """Who suggests points."""
    seed: Seed = 0
    """What the sampler draws from, together with the number of the point."""
    space: dict[str, Range]
    """Searched fields by dotted name."""
    first: tuple[dict[str, Any], ...] = ()
    """Points to begin with, such as the published one; fields that are left out are the sampler's."""
    objectives: tuple[Objective, ...] = (Objective(),)
    """What is searched for; of several, the Pareto front."""
    pruner: Pruner | None = None
    """Who gives points up before they are trained to their end; default: nobody."""
    seeds: tuple[Seed, ...] = ()
    """Each point is trained with each of these, as `seeds`, and its value is the mean; none: as `seeds` says."""
    batch: PositiveInt = 1
    """Points asked at once; the next are asked when all of them have ended."""
    limits: Limits
    """When it ends."""
    storage: str | None = None
    """Any URL of an Optuna storage that shows the search; default: `optuna.db` beside the ledger."""
    allow_test_objective: Flag = False
    """Let an objective see test stimuli; tables then say so."""

    @model_validator(mode="after")
    def _something_is_searched_for(self) -> Self:
        if not self.space:
            raise broken_rule("search.space must name at least one field", "space")
        if not self.objectives:
            raise broken_rule("search.objectives must name at least one metric", "objectives", got=[])
        named = [(objective.metric, objective.at, objective.is_maximized) for objective in self.objectives]
        twice = next((each[0] for each in named if named.count(each) > 1), None)
        if twice is not None:
            raise broken_rule("search.objectives must differ from each other", "objectives", got=twice)
        return self

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise broken_rule("search.seeds must differ from each other", "seeds", got=list(self.seeds))
        return self

    @model_validator(mode="after")
    def _the_pruner_knows_the_objective(self) -> Self:
        if self.pruner is None:
            return self
        if len(self.objectives) > 1:
            rule = "a pruner goes with one objective: Optuna's pruners rank points by one value"
            raise broken_rule(rule, "pruner", "objectives", remedy="Leave the pruner out, or name one objective")
        metric, objective = self.pruner.metric, self.objectives[0]
        if Objective(metric=metric).is_maximized != objective.is_maximized:
            rule = f"a pruner ranks points in the direction of the objective: {metric} is better the other way"
            remedy = "Leave the pruner out, or rank and prune by one metric"
            raise broken_rule(rule, "pruner", "objectives", remedy=remedy)
        return self

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which points are judged; none without a pruner."""
        return () if self.pruner is None else self.pruner.epochs

    @property
    def metrics(self) -> tuple[str, ...]:
        """The columns that points are compared by, in objectives or by the pruner."""
        pruned_by = () if self.pruner is None else (self.pruner.metric,)
        return tuple(dict.fromkeys([*(objective.metric for objective in self.objectives), *pruned_by]))

    @property
    def sees_test_stimuli(self) -> bool:
        """Whether an objective, or what the pruner is told, is measured on test stimuli."""
        return any(is_test(metric) for metric in self.metrics)

    @property
    def needs_validation_rsa(self) -> bool:
        """Whether points are compared by what is measured on the validation stimuli's outputs."""
        return any(metric.startswith("rsa_validation") for metric in self.metrics)
