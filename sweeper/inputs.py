"""What a trial needs from outside its spec: data sets, weights, and their digests. Free of torch.

The planner asks for the digests, the workers for the data itself; both find them here, so a worker whose
files differ from the planner's is noticed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from sweeper_models.adapter import AdapterConfig, text_cut, vision_cut
from sweeper_models.configs import read_config
from sweeper_models.errors import ModelError as UnusableModel
from sweeper_models.prompts import PROMPTS
from sweeper_models.weights import WeightsFile, locate_weights

from sweeper.data.dataset import VALIDATION, Dataset, HeldOut, choose, open_parts
from sweeper.data.facts import file_digest
from sweeper.data.images import CLIP_MEAN, CLIP_STD, Preprocessing
from sweeper.data.manifest import Manifest, Relabel, load_manifest
from sweeper.data.parts import Parts
from sweeper.data.split import split_pool
from sweeper.errors import DataError, ModelError, Problem, SpecError, SweeperError
from sweeper.neural import (
    elsewhere_over_time,
    neural_digest,
    onset_under_ones,
    over_time,
    rdm_part,
    require_rdms,
    series_of,
)
from sweeper.plan.identity import content_id
from sweeper.plan.lineage import Inputs
from sweeper.spec.rewrite import GIVEN, is_local_weights
from sweeper.spec.schema import DataConfig, Evaluation, TrialConfig
from sweeper.spec.variants import AnyModel
from sweeper.wording import counted

_DRAWINGS = {"name": "drawings", "num_train": 240, "seed": 1}
_SELF_MADE = {
    "builtin:selfmade": {"name": "selfmade", "generator": _DRAWINGS},
    "builtin:selfmade-meg": {"name": "selfmade-meg", "generator": {**_DRAWINGS, "participants": 12}},
}
_PREPROCESSING = {"things": Preprocessing(), "clip": Preprocessing(mean=CLIP_MEAN, std=CLIP_STD)}


def preprocessing_of(data: DataConfig) -> Preprocessing:
    """Returns the pixel constants that a data section names."""
    return _PREPROCESSING[data.preprocessing]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """The part of a configuration that decides which data set is opened."""

    manifest: str
    relabel: Relabel | None
    folds: int | None = None
    fold: int | None = None
    train_size: int | None = None
    seed: int = 0


def dataset_of(config: TrialConfig) -> Dataset:
    """Returns the data set of a configuration, opened once per process.

    Raises:
        DataError: with every problem found.
    """
    data = config.data
    if data.folds is None and data.train_size is None:  # the same for every seed
        return _dataset(_Asked(manifest=data.manifest, relabel=data.relabel))
    return _dataset(
        _Asked(
            manifest=data.manifest,
            relabel=data.relabel,
            folds=data.folds,
            fold=data.fold,
            train_size=data.train_size,
            seed=config.seeds.split,
        )
    )


@lru_cache(maxsize=64)
def _dataset(asked: _Asked) -> Dataset:
    return choose(
        manifest_of(asked.manifest).name,
        _parts(asked.manifest, asked.relabel),
        folds=asked.folds,
        fold=asked.fold,
        fold_seed=asked.seed,
        train_size=asked.train_size,
    )


@lru_cache(maxsize=8)
def _parts(manifest: str, relabel: Relabel | None) -> Parts:
    return open_parts(manifest_of(manifest), relabel)


@lru_cache(maxsize=64)
def manifest_of(path: str) -> Manifest:
    """Returns the manifest at a path, or a set that the package makes itself.

    `builtin:selfmade` is the drawings, `builtin:selfmade-meg` the same with the MEG of 12 simulated people.
    """
    if path in _SELF_MADE:
        return Manifest.model_validate(_SELF_MADE[path])
    return load_manifest(Path(path))


def held_out_sets(config: TrialConfig, evaluation: Evaluation) -> dict[str, HeldOut]:
    """Returns the held-out set of a configuration (named `held_out`) and the further evaluation sets.

    With `evaluation.validation` the last one is `validation`: part of the pool, and another one for every split.

    Raises:
        DataError: a manifest of `evaluation.sets` cannot be read.
        SpecError: nothing is held out at all.
    """
    sets: dict[str, HeldOut] = {}
    own = dataset_of(config)
    if own.held_out is not None:
        sets["held_out"] = own.held_out
        if config.model.over_time:
            names = own.held_out.images.names
            sets["held_out"] = replace(own.held_out, over_time=over_time(config, evaluation, own, names))
    for path in evaluation.sets:
        further = _dataset(_Asked(manifest=path, relabel="things-uniqueid"))
        if further.held_out is not None:
            sets[further.name] = further.held_out
            if config.model.over_time:
                courses = elsewhere_over_time(config, own, further, further.held_out.images.names)
                sets[further.name] = replace(further.held_out, over_time=courses)
    if not sets:
        problem = Problem(
            where=config.data.manifest,
            rule="a sweep measures alignment on held-out stimuli",
            got="neither a held-out set nor folds",
            remedy="Add held_out to the manifest, or data.folds and data.fold to the spec",
        )
        raise SpecError(problem)
    if evaluation.validation and not config.model.over_time:  # which measure it with their validation loss
        sets[VALIDATION] = _validation_set(config, own)
    return sets


def _validation_set(config: TrialConfig, dataset: Dataset) -> HeldOut:
    data = config.data
    rows = split_pool(data.split, config.seeds.split, len(dataset.pool), data.train_fraction).val
    return HeldOut(
        images=dataset.pool.subset(rows),
        targets=dataset.targets[rows],
        row_ids=dataset.row_ids[rows] if len(dataset.row_ids) else None,
        references=(),
    )


def weights_of(model: AnyModel) -> WeightsFile:
    """Returns the weights of a model section.

    Raises:
        ModelError: they cannot be had here, or do not fit; the message says what to download and where to put it.
    """
    return _weights(model.backbone, model.pretrained, model.activation)


@lru_cache(maxsize=64)
def _weights(backbone: str, pretrained: str, activation: str | None) -> WeightsFile:
    try:
        return locate_weights(backbone, pretrained, activation=activation)
    except UnusableModel as error:
        remedy = f"{error.remedy.rstrip('.')}. Or run the same spec with --stand-in (self-made data, tiny CLIP)"
        problem = Problem(where=f"model.{error.where}", rule=error.rule, got=error.got, remedy=remedy)
        raise ModelError(problem) from error


def require_inputs(configs: Iterable[TrialConfig]) -> None:
    """Makes sure that data and weights of some configurations can be had, and tells of all that cannot.

    Raises:
        DataError: some data cannot be read.
        ModelError: some weights cannot be had.
        SpecError: both.
    """
    asked: dict[tuple[object, ...], Callable[[], object]] = {}
    for config in configs:
        asked.setdefault((config.data, config.seeds.split), partial(dataset_of, config))
        asked.setdefault((config.model,), partial(_require_adapter, config.model))
        if config.model.over_time:
            key = (config.data, config.seeds.split, config.subject, rdm_part(config))
            asked.setdefault(key, partial(_require_rdms, config))
    errors: list[SweeperError] = []
    for look in asked.values():
        try:
            look()
        except (DataError, ModelError) as error:
            errors.append(error)
    if errors:
        kinds = {type(error) for error in errors}
        problems = dict.fromkeys(problem for error in errors for problem in error.problems)
        raise (kinds.pop() if len(kinds) == 1 else SpecError)(tuple(problems))


def given_to(model: AnyModel) -> tuple[tuple[str, str], ...]:
    """Returns what a model takes from finished trials, by the trials' ids: always their best state."""
    asked = ((field, getattr(model, field, None)) for field in GIVEN)
    return tuple((field, _given(field, name)) for field, name in asked if name is not None)


def _given(field: str, name: str) -> str:
    if not is_local_weights(name):
        return f"best state of {name}"
    if field != "text_from" or not Path(name).is_file():
        rule = "names a file that is there" if field == "text_from" else "names a trial or its spec"
        problem = Problem(where=f"model.{field}", rule=rule, got=name, remedy="Correct the path, or name a trial")
        raise ModelError(problem)
    return f"file {file_digest(Path(name))}"


def _require_rdms(config: TrialConfig) -> None:
    require_rdms(config, dataset_of(config))


def _require_adapter(model: AnyModel) -> None:
    """Makes sure that the weights of a model can be had and that its towers are as deep as its adapters ask."""
    network = read_config(weights_of(model).config_name)
    adapter = AdapterConfig(vision_layers=model.adapter.vision_layers, text_layers=model.adapter.text_layers)
    try:
        vision_cut(network, adapter)
        text_cut(network, adapter)
    except UnusableModel as error:
        problem = Problem(where=f"model.{error.where}", rule=error.rule, got=error.got, remedy=error.remedy)
        raise ModelError(problem) from error
    text_from: str | None = getattr(model, "text_from", None)
    if text_from is not None and is_local_weights(text_from):
        require_features(text_from, (len(PROMPTS), network["embed_dim"]))


def require_features(path: str, shape: tuple[int, int]) -> None:
    """Makes sure that a file given as `model.text_from` has features of the prompts, each with a direction.

    Args:
        path: of a .safetensors file.
        shape: prompts, and the width of the network's embedding.

    Raises:
        ModelError: it is no such file, or the features have another shape, are not finite, or 0 for some prompt.
    """
    rule = f"names a safetensors file with a tensor `features` of shape {shape}, finite, and not 0 for any prompt"
    try:
        with safe_open(path, framework="numpy") as file:
            if "features" not in file.keys():  # noqa: SIM118 - it is no mapping
                raise _unfit_text(rule, f"tensors {', '.join(file.keys()) or 'none'}")
            part = file.get_slice("features")
            found = tuple(part.get_shape())
            features = None if part.get_dtype() == "BF16" else file.get_tensor("features")  # numpy has no such numbers
    except (OSError, SafetensorError) as error:
        raise _unfit_text(rule, str(error)) from error
    if found != shape:
        raise _unfit_text(rule, f"shape {found}")
    if features is not None and not np.isfinite(features).all():
        raise _unfit_text(rule, f"{np.sum(~np.isfinite(features))} values that are not finite")
    if features is not None and (zeros := int((~features.any(axis=1)).sum())):
        raise _unfit_text(rule, f"zeros for {counted(zeros, 'prompt')}")


def _unfit_text(rule: str, got: str) -> ModelError:
    remedy = "Name another file or trial, or leave text_from out"
    return ModelError(Problem(where="model.text_from", rule=rule, got=got, remedy=remedy))


def inputs_of(config: TrialConfig, *, device: str, device_model: str | None = None) -> Inputs:
    """Returns the digests of everything outside the spec that can change an epoch of this configuration.

    Raises:
        DataError: the data cannot be read.
        ModelError: the weights cannot be had.
    """
    dataset, weights = dataset_of(config), weights_of(config.model)
    neural = neural_digest(config, dataset) if config.model.over_time else None
    onset = onset_under_ones(config, series_of(config, dataset)) if config.model.over_time else ()
    return Inputs(
        data=_pool_digest(dataset, neural),
        model=(
            ("activation", weights.activation),
            ("config", weights.config_name),
            ("prompts", content_id("prompts", PROMPTS)),
            ("weights", weights.sha256),
            *given_to(config.model),
            *onset,
        ),
        device=device,
        device_model=device_model if config.numerics.strict else None,
        files=(
            ("training images", dataset.pool.digest),
            ("targets", dataset.target_digest),
            *((("neural RDMs", neural),) if neural is not None else ()),
        ),
    )


@lru_cache(maxsize=64)
def _pool_digest(dataset: Dataset, neural: str | None) -> str:
    return content_id("pool", {"images": dataset.pool.digest, "targets": dataset.target_digest, "neural": neural})


def check_inputs(config: TrialConfig, expected: Mapping[str, object], *, device: str) -> None:
    """Makes sure that this machine sees the data and weights that the plan was made for.

    Raises:
        SpecError: something differs; the state ids of the plan would then lie.
    """
    found = inputs_of(config, device=device)
    differing = [
        name
        for name, here in (("data", found.data), ("model", [list(pair) for pair in found.model]))
        if here != expected[name]
    ]
    if differing:
        problem = Problem(
            where=config.data.manifest,
            rule=f"{' and '.join(differing)} are the same on every machine and during the whole sweep",
            got="other bytes than the plan was made for",
            remedy="Run the sweep again: what depends on the changed files gets new identities",
        )
        raise SpecError(problem)
