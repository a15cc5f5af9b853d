"""How much disk a sweep takes at most, estimated before anything is trained. Free of torch."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper_models.adapter import AdapterConfig, count_adapter_parameters, count_meg_parameters, prefix_shapes
from sweeper_models.configs import read_config
from sweeper_models.prompts import PROMPTS

from sweeper.data.dataset import VALIDATION, HeldOut
from sweeper.data.images import ImageSet
from sweeper.errors import Problem, SpecError
from sweeper.inputs import dataset_of, held_out_sets, weights_of
from sweeper.neural import series_of
from sweeper.plan.estimate import Disk
from sweeper.plan.tree import Segment, Tree
from sweeper.plan.trials import Trial
from sweeper.spec.schema import Evaluation, TrialConfig
from sweeper.spec.variants.clip_hba_meg import ClipHbaMeg

_BLOCK = 4096  # bytes that a file system hands out at a time
_LEDGER = 1300  # bytes an epoch, measured on 13,277 epochs with 5 items each
_MLFLOW = 2900  # bytes an epoch and run in SQLite, measured on 19,832 of them
_MOMENTS = {"adamw": 2, "adam": 2, "sgd": 0}
_FLOAT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sizes:
    """Bytes of one state, of one epoch's records and outputs, and of each cache entry of one configuration."""

    state: int
    epoch: int
    features: Mapping[tuple[object, ...], int]


def disk_of(trials: Iterable[Trial], tree: Tree, evaluation: Evaluation, num_rungs: int = 0) -> Disk:
    """Returns what features, states, records and the MLflow view of a sweep take when every trial goes to its limit.

    Args:
        trials: of the sweep.
        tree: of these trials.
        evaluation: what is measured.
        num_rungs: of a search, at which training halts and goes on.
    """
    by_id = {trial.trial_id: trial for trial in trials}
    known: dict[tuple[object, ...], _Sizes] = {}
    of_baseline: dict[str, _Sizes] = {}
    states = records = 0
    for segment in tree.segments.values():
        trial = by_id[segment.trials[0]]
        baseline_id = trial.baseline_id or trial.trial_id
        if baseline_id not in of_baseline:
            config = trial.config
            key = (config.data, dataset_of(config), config.model, config.training.optimizer, config.numerics)
            if key not in known:
                known[key] = _sizes(config, evaluation)
            of_baseline[baseline_id] = known[key]
        sizes = of_baseline[baseline_id]
        states += kept_states(segment, num_rungs) * sizes.state
        records += len(segment.states) * (sizes.epoch + _LEDGER)
    features = {entry: size for sizes in known.values() for entry, size in sizes.features.items()}
    runs = sum(trial.lineage.last_epoch + 1 for trial in by_id.values())
    return Disk(features=sum(features.values()), states=states, records=records, mlflow=runs * _MLFLOW)


def require_room(trials: Iterable[Trial], evaluation: Evaluation, cache_gb: float | None) -> None:
    """Makes sure that the frozen features of some trials keep to `resources.cache_gb`.

    Raises:
        SpecError: they take more.
    """
    if cache_gb is None:
        return
    needed = sum(_features_of(trials, evaluation).values())
    if needed > cache_gb * 1e9:
        remedy = f"Allow {math.ceil(needed / 1e7) / 100:g} GB, or store half of it with numerics.features: fp16"
        rule = f"the frozen features of the sweep take at most {cache_gb:g} GB"
        got = f"{needed / 1e9:.3g} GB"
        raise SpecError(Problem(where="resources.cache_gb", rule=rule, got=got, remedy=remedy))


def _features_of(trials: Iterable[Trial], evaluation: Evaluation) -> Mapping[tuple[object, ...], int]:
    """Returns the bytes of each cache entry of some trials."""
    seen: set[tuple[object, ...]] = set()
    found: dict[tuple[object, ...], int] = {}
    for config in (trial.config for trial in trials):
        key = (config.data, dataset_of(config), config.model, config.numerics)
        if key not in seen:
            seen.add(key)
            found |= _features(config, _images(config, evaluation))
    return found


def _images(config: TrialConfig, evaluation: Evaluation) -> tuple[ImageSet, ...]:
    """Returns the image sets whose features are kept; the validation set is part of the pool."""
    named = held_out_sets(config, evaluation)
    return (dataset_of(config).pool, *(each.images for name, each in named.items() if name != VALIDATION))


def _sizes(config: TrialConfig, evaluation: Evaluation) -> _Sizes:
    sets = tuple(held_out_sets(config, evaluation).values())
    return _Sizes(
        state=_on_disk(_state_bytes(config)),
        epoch=_epoch_bytes(config, evaluation, sets),
        features=_features(config, _images(config, evaluation)),
    )


def kept_states(segment: Segment, num_rungs: int = 0) -> int:
    """Returns the most states of a segment that are ever kept: all; or ends of trials, the best, and a passing one.

    Whoever halts at a rung leaves its end there, and the best so far.
    """
    most = 2 + len(segment.trials) + 2 * num_rungs
    return len(segment.states) if segment.keep_all else min(len(segment.states), most)


def _adapter(config: TrialConfig) -> AdapterConfig:
    adapter = config.model.adapter
    return AdapterConfig(rank=adapter.rank, vision_layers=adapter.vision_layers, text_layers=adapter.text_layers)


def _state_bytes(config: TrialConfig) -> int:
    """Returns the size of a state: what is trained, its moments, and the best so far where a rule goes back to it."""
    optimizer, model = config.training.optimizer, config.model
    copies = 1 + (1 if optimizer.momentum else _MOMENTS[optimizer.name])
    if isinstance(model, ClipHbaMeg):
        times = len(series_of(config, dataset_of(config)).times)
        magnitude = model.adapter.magnitude
        count = count_meg_parameters(_network(config), _adapter(config), num_times=times, magnitude=magnitude)
        return (copies + 1) * _FLOAT * int(count)
    return copies * _FLOAT * int(count_adapter_parameters(_network(config), _adapter(config)))


def _epoch_bytes(config: TrialConfig, evaluation: Evaluation, sets: Iterable[HeldOut]) -> int:
    """Returns the size of an epoch's records and held-out outputs."""
    width = {"output": len(PROMPTS), "embedding": int(_network(config)["embed_dim"])}
    layers = [width[layer] for layer in evaluation.layers]
    outputs = (_num_times(each) * len(each.images) * layer * _FLOAT for each in sets for layer in layers)
    return _BLOCK + sum(_on_disk(size) for size in outputs)


def _num_times(held_out: HeldOut) -> int:
    return 1 if held_out.over_time is None else len(held_out.over_time.times_ms)


def _features(config: TrialConfig, images: Iterable[ImageSet]) -> Mapping[tuple[object, ...], int]:
    """Returns the bytes of each cache entry, by what makes it another one."""
    if config.numerics.prefix == "full":
        return {}
    stored = _FLOAT if config.numerics.features == "fp32" else _FLOAT // 2
    over_time, net = config.model.over_time, _network(config)
    shapes = prefix_shapes(net, _adapter(config), every_block=over_time).values()
    floats = sum(math.prod(shape) for shape in shapes)
    floats += net["vision_cfg"]["layers"] * net["embed_dim"] if over_time else 0  # every block's, while it is frozen
    weights, numerics = weights_of(config.model), config.numerics
    network = (weights.sha256, weights.activation, config.model.adapter.vision_layers, over_time)
    made_by = (config.data.preprocessing, numerics.features, numerics.precision, numerics.threads)
    return {(*network, *made_by, some.digest): len(some) * floats * stored for some in images}


def _network(config: TrialConfig) -> dict[str, Any]:
    network: dict[str, Any] = read_config(weights_of(config.model).config_name)
    return network


def _on_disk(size: int) -> int:
    return math.ceil(size / _BLOCK) * _BLOCK
