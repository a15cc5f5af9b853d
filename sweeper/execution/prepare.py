"""From a spec to what a run is made of: trials with their ids, and what is measured on them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from sweeper.errors import Problem, SpecError
from sweeper.evaluation import Item, items_of
from sweeper.inputs import dataset_of, held_out_sets, inputs_of, require_inputs
from sweeper.neural import neural_part, series_of, subjects_named
from sweeper.plan.lineage import Inputs, root_id
from sweeper.plan.tree import Tree, build_tree
from sweeper.plan.trials import Trial, farthest, resolve
from sweeper.spec.axes import SweptTrial, expand
from sweeper.spec.overlap import batches_per_epoch, check_noise_overlap
from sweeper.spec.rewrite import GIVEN, is_spec
from sweeper.spec.schema import SweepSpec, TrialConfig
from sweeper.specs import spec_in
from sweeper.store.given import Source


@dataclass(frozen=True, kw_only=True)
class ResolvedSweep:
    """A spec joined with the data and weights that it names.

    Attributes:
        spec: the spec.
        trials: trials followed by their baselines.
        items: what is measured, by trial.
        merged: combinations of the axes that name a trial which another one names, too.
        sources: specs whose trials' states are taken, by these trials' ids.
    """

    spec: SweepSpec
    trials: tuple[Trial, ...]
    items: Mapping[str, tuple[Item, ...]]
    merged: int = 0
    sources: Mapping[str, Source] = field(default_factory=dict)

    @cached_property
    def tree(self) -> Tree:
        """The segments of all trials."""
        return build_tree(self.trials)

    @cached_property
    def items_by_state(self) -> Mapping[str, tuple[Item, ...]]:
        """What is measured on each state of the sweep."""
        pieces = self.tree.segments.values()
        return {state: self.items[piece.trials[0]] for piece in pieces for state in piece.states.values()}

    def cut(self, trials: Iterable[Trial]) -> Self:
        """Returns the sweep with its trials as far as they go among some others."""
        as_far = {trial.trial_id: trial for trial in farthest(trials)}
        return replace(self, trials=tuple(as_far.get(trial.trial_id, trial) for trial in self.trials))

    def all_items(self) -> tuple[Item, ...]:
        """Returns every item once under each of its columns, in the order of the trials."""
        found = {(item.item_id, item.column): item for trial in self.trials for item in self.items[trial.trial_id]}
        return tuple(found.values())


def resolve_sweep(spec: SweepSpec, *, device: str, device_model: str | None = None) -> ResolvedSweep:
    """Opens data and weights of every trial of a spec and gives each trial its identity; see `Resolver`."""
    return Resolver(spec, device=device, device_model=device_model).resolve(expand(spec))


class Resolver:
    """Opens data and weights of trials of one spec and gives each trial its identity."""

    def __init__(self, spec: SweepSpec, *, device: str, device_model: str | None = None) -> None:
        """Takes the spec.

        Args:
            spec: as loaded.
            device: what `numerics.device: auto` means here: `cpu` or `cuda`.
            device_model: for `numerics.strict`.
        """
        self.spec = spec
        self._device, self._device_model = device, device_model
        self._inputs: dict[tuple[object, ...], Inputs] = {}
        self._sources: dict[str, Source] = {}
        self._items: dict[tuple[object, ...], tuple[Item, ...]] = {}

    def resolve(self, swept: Sequence[SweptTrial]) -> ResolvedSweep:
        """Returns trials with their identities, and the baselines that belong to them.

        Raises:
            SweeperError: data or weights cannot be had, or do not fit the spec.
        """
        swept = self._with_subjects([self._with_given(trial) for trial in swept])
        require_inputs(trial.config for trial in swept)
        _refuse_overlap(self.spec, swept)
        _refuse_other_held_out_sets([trial.config for trial in swept], self._inputs_of, self._items_of)
        trials = resolve([(trial.swept, trial.config) for trial in swept], self._inputs_of)
        items = {trial.trial_id: self._items_of(trial.config) for trial in trials}
        merged = len(swept) - sum(trial.role != "baseline" for trial in trials)
        sources = {source.trial.trial_id: source for source in self._sources.values()}
        return ResolvedSweep(spec=self.spec, trials=trials, items=items, merged=merged, sources=sources)

    def _with_subjects(self, swept: Iterable[SweptTrial]) -> list[SweptTrial]:
        """Returns trials in which `subject: all` and ranges are one trial for each participant."""
        found: dict[TrialConfig, SweptTrial] = {}
        for trial in swept:
            for config in self._of_each_subject(trial.config):
                fields = tuple((name, config.subject if name == "subject" else value) for name, value in trial.swept)
                if config.subject != trial.config.subject and "subject" not in dict(fields):
                    fields = (*fields, ("subject", config.subject))
                found.setdefault(config, SweptTrial(swept=fields, config=config))
        return list(found.values())

    def _of_each_subject(self, config: TrialConfig) -> Iterator[TrialConfig]:
        if config.subject is None:
            yield config
            return
        for subject in subjects_named(config.subject, series_of(config, dataset_of(config))):
            yield config.model_copy(update={"subject": subject})

    def _with_given(self, trial: SweptTrial) -> SweptTrial:
        """Returns a trial in which specs that its model takes states from are replaced by their trials' ids."""
        model = trial.config.model
        named = {field: getattr(model, field, None) for field in GIVEN}
        specs = {field: name for field, name in named.items() if name and is_spec(name)}
        found = {field: self._source(field, name).trial.trial_id for field, name in specs.items()}
        if not found:
            return trial
        config = trial.config.model_copy(update={"model": model.model_copy(update=found)})
        return SweptTrial(swept=trial.swept, config=config)

    def _source(self, field: str, path: str) -> Source:
        """Returns a spec with its one trial."""
        if path not in self._sources:
            named = spec_in(Path(path), stand_in=self.spec.stand_in)
            resolver = Resolver(named.spec, device=self._device, device_model=self._device_model)
            with named.located():
                sweep = resolver.resolve(expand(named.spec))
            trials = [trial for trial in sweep.trials if trial.role != "baseline"]
            if len(trials) != 1:
                rule, remedy = "a spec that a state is taken from has one trial", "Name the trial by its id"
                problem = Problem(where=f"model.{field}", rule=rule, got=f"{len(trials)} in {path}", remedy=remedy)
                raise SpecError(problem)
            self._sources[path] = Source(path=path, trial=trials[0])
        return self._sources[path]

    def computes_on(self, device: str) -> bool:
        """Tells whether anything that was resolved is trained on a device."""
        return any(inputs.device == device for inputs in self._inputs.values())

    def _inputs_of(self, config: TrialConfig) -> Inputs:
        key = (dataset_of(config), config.model, config.numerics, config.subject)
        if key not in self._inputs:
            wanted = self._device if config.numerics.device == "auto" else config.numerics.device
            self._inputs[key] = inputs_of(config, device=wanted, device_model=self._device_model)
        return self._inputs[key]

    def _items_of(self, config: TrialConfig) -> tuple[Item, ...]:
        evaluation = self.spec.evaluation
        split = config.seeds.split if evaluation.validation else None
        key = (dataset_of(config), config.data, split, config.subject, neural_part(config))
        if key not in self._items:
            sets = held_out_sets(config, evaluation)
            self._items[key] = items_of(evaluation, sets, config.data.preprocessing)
        return self._items[key]


def _refuse_other_held_out_sets(
    configs: Iterable[TrialConfig],
    inputs_for: Callable[[TrialConfig], Inputs],
    items_for: Callable[[TrialConfig], tuple[Item, ...]],
) -> None:
    """Refuses configurations that share states, but not what is measured on them: they would be one trial."""
    configs = list(configs)
    if len({tuple(_measures(items_for(config))) for config in configs}) < 2:
        return
    measured: dict[str, TrialConfig] = {}
    for config in configs:
        other = measured.setdefault(root_id(config, inputs_for(config)), config)
        if _measures(items_for(other)) != _measures(items_for(config)):
            problem = Problem(
                where="data.manifest",
                rule="trials that train on the same stimuli are measured on the same held-out sets",
                got=f"{other.data.manifest} and {config.data.manifest} hold out different ones",
                remedy="Make it two specs in one store (they share their states), or name the sets in evaluation.sets",
            )
            raise SpecError(problem)


def _measures(items: Iterable[Item]) -> list[tuple[str, str]]:
    return [(item.item_id, item.column) for item in items]


def _refuse_overlap(spec: SweepSpec, swept: Sequence[SweptTrial]) -> None:
    if spec.allow_overlap or not any(trial.config.perturbation for trial in swept):
        return
    problems = check_noise_overlap(swept, _batches_per_epoch)
    if problems:
        raise SpecError(problems)


def _batches_per_epoch(config: TrialConfig) -> int:
    return batches_per_epoch(config, len(dataset_of(config).pool))
