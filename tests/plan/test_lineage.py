"""Lineages: what enters a state's identity, what does not, and which states two trials share."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from sweeper.plan.identity import content_id
from sweeper.plan.lineage import Lineage, Regime, lineage_of, root_id
from sweeper.plan.trials import trial_id
from sweeper.spec.perturbations import KINDS
from sweeper.spec.schema import TrialConfig

PUBLISHED = {
    "data": {"manifest": "things.yaml", "relabel": "none", "split": "published"},
    "model": {"adapter": {"rank": 32, "alpha": 16, "dora": "published", "init": "reference"}},
    "training": {"optimizer": {"name": "adamw", "lr": 3e-4, "weight_decay": 0.01}, "order": "published"},
    "seeds": {"split": 1, "init": 1, "order": 1, "noise": 42},
    "stopping": {"rule": "vp", "patience": 20},
}

STATES, TRIAL, NOTHING = "every epoch", "the trial only", "nothing: it acts through what is found on disk"

FIELDS: dict[str, tuple[str, Any]] = {
    "data.manifest": (NOTHING, "elsewhere/things.yaml"),
    "data.relabel": (NOTHING, "none"),
    "data.preprocessing": (STATES, "clip"),
    "data.folds": (NOTHING, 5),
    "data.fold": (NOTHING, 1),
    "data.train_size": (NOTHING, 100),
    "data.train_fraction": (STATES, 0.7),
    "data.split": (STATES, "published"),
    "model.backbone": (NOTHING, "tiny-clip"),
    "model.pretrained": (NOTHING, "builtin"),
    "model.activation": (NOTHING, "gelu"),
    "model.adapter.rank": (STATES, 8),
    "model.adapter.alpha": (STATES, 8.0),
    "model.adapter.vision_layers": (STATES, 1),
    "model.adapter.text_layers": (STATES, 0),
    "model.adapter.dora": (STATES, "peft"),
    "model.adapter.init": (STATES, "reference"),
    "training.optimizer.name": (STATES, "sgd"),
    "training.optimizer.lr": (STATES, 1e-4),
    "training.optimizer.weight_decay": (STATES, 0.0),
    "training.optimizer.betas": (STATES, [0.8, 0.999]),
    "training.optimizer.eps": (STATES, 1e-6),
    "training.optimizer.momentum": (STATES, 0.9),
    "training.batch_size": (STATES, 32),
    "training.max_epochs": (TRIAL, 11),
    "training.order": (STATES, "published"),
    "training.batches": (STATES, "frozen"),
    "seeds.split": (STATES, 2),
    "seeds.init": (STATES, 2),
    "seeds.order": (STATES, 2),
    "seeds.noise": (NOTHING, 2),
    "stopping.rule": (TRIAL, "vp"),
    "stopping.horizon_after_window": (TRIAL, 5),
    "stopping.patience": (TRIAL, 20),
    "numerics.device": (NOTHING, "cpu"),
    "numerics.precision": (STATES, "bf16"),
    "numerics.threads": (STATES, 2),
    "numerics.features": (STATES, "fp16"),
    "numerics.prefix": (STATES, "full"),
    "numerics.strict": (NOTHING, True),
}
NEEDS = {
    "training.optimizer.momentum": {"training.optimizer.name": "sgd"},  # fields that are valid only beside others
    "data.folds": {"data.fold": 0},
    "data.fold": {"data.folds": 5},
    "stopping.rule": {"stopping.patience": 20, "stopping.horizon_after_window": None},
    "stopping.patience": {"stopping.rule": "vp", "stopping.horizon_after_window": None},
}
ONE_VALUE = {"model.variant", "stopping.monitor", "subject"}  # cannot be changed here


def leaves(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}" if name else key)
    else:
        yield name


def changed(config: TrialConfig, name: str, value: Any) -> TrialConfig:
    fields = config.model_dump()
    for path, item in {name: value, **NEEDS.get(name, {})}.items():
        *sections, last = path.split(".")
        section = fields
        for part in sections:
            section = section[part]
        section[last] = item
    return TrialConfig.model_validate(fields)


def overlap(one: Lineage, other: Lineage) -> int:
    """Counts the epochs, from 0, up to which two lineages agree; afterwards they must share nothing."""
    agree = [a == b for a, b in zip(one.state_ids, other.state_ids, strict=False)]
    count = agree.index(False) if False in agree else len(agree)
    assert not set(one.state_ids[count:]) & set(other.state_ids[count:])
    return count


def test_ids_of_a_published_trial_never_change(hand) -> None:
    window = hand.window(10, 20, noise="published")
    config = hand.config(window, **PUBLISHED)
    ids = lineage_of(config, hand.inputs).state_ids
    assert len(ids) == 501
    assert (trial_id(config, hand.inputs), trial_id(config.baseline(), hand.inputs)) == (
        "8df670138630b16b14c9e9f39e1b3ca1",
        "c01cd977a5db07bf40e1c1ff14076a25",
    )
    assert [ids[epoch] for epoch in (0, 1, 9, 10, 29, 30, 500)] == [
        "717277921e84f0ab90afcb209ead0ce2",
        "9f24aab69ba7f25472329883dc3b98df",
        "3b997ee18f02a818461ef05a8770835b",
        "0ffc1232f8f03afdc4f798120d3ddf24",
        "1f655d1092da238a8d4782727243fa88",
        "f6749f526bc20800f4e1a283be2bffd3",
        "a0767df2cf2eecf052780a359b31f820",
    ]


def test_every_field_of_a_trial_is_decided_upon(hand) -> None:
    named = set(leaves({**hand.config().model_dump(exclude={"perturbation"})}))
    assert named == set(FIELDS) | ONE_VALUE


@pytest.mark.parametrize("name", [name for name, (what, _) in FIELDS.items() if what == STATES])
def test_what_changes_an_epoch_changes_every_state(hand, name) -> None:
    config = hand.config()
    other = changed(config, name, FIELDS[name][1])
    one, two = lineage_of(config, hand.inputs), lineage_of(other, hand.inputs)
    assert not set(one.state_ids[1:]) & set(two.state_ids[1:])
    assert trial_id(config, hand.inputs) != trial_id(other, hand.inputs)


@pytest.mark.parametrize("name", [name for name, (what, _) in FIELDS.items() if what == TRIAL])
def test_what_only_ends_training_changes_no_state(hand, name) -> None:
    config = hand.config(hand.window(1, 1, "freeze"))
    other = changed(config, name, FIELDS[name][1])
    assert trial_id(config, hand.inputs) != trial_id(other, hand.inputs)
    one, two = lineage_of(config, hand.inputs), lineage_of(other, hand.inputs)
    assert overlap(one, two) == min(len(one.state_ids), len(two.state_ids))


@pytest.mark.parametrize("name", [name for name, (what, _) in FIELDS.items() if what == NOTHING])
def test_names_paths_and_places_enter_no_identity(hand, name) -> None:
    config = hand.config()
    other = changed(config, name, FIELDS[name][1])
    assert config != other
    assert trial_id(config, hand.inputs) == trial_id(other, hand.inputs)
    assert lineage_of(config, hand.inputs) == lineage_of(other, hand.inputs)


@pytest.mark.parametrize(
    "found",
    [{"data": "other"}, {"model": (("weights", "other"),)}, {"device": "cuda"}, {"device_model": "H100"}],
    ids=lambda found: next(iter(found)),
)
def test_what_is_found_on_disk_changes_every_state(hand, found) -> None:
    one = lineage_of(hand.config(), hand.inputs)
    two = lineage_of(hand.config(), replace(hand.inputs, **found))
    assert not set(one.state_ids) & set(two.state_ids)


@pytest.mark.parametrize("name", ["data.train_fraction", "data.split", "data.preprocessing", "seeds.split"])
def test_the_untrained_model_is_another_one_on_another_validation_set(hand, name) -> None:
    config = hand.config()
    other = changed(config, name, FIELDS[name][1])
    assert root_id(config, hand.inputs) != root_id(other, hand.inputs)


@pytest.mark.parametrize("name", ["training.optimizer.lr", "training.batch_size", "seeds.order"])
def test_the_untrained_model_is_shared_by_all_ways_of_training(hand, name) -> None:
    config = hand.config()
    other = changed(config, name, FIELDS[name][1])
    assert root_id(config, hand.inputs) == root_id(other, hand.inputs)


OTHER_VALUES = {
    "noise": "published",
    "distribution": {"random_target": "normal", "image_noise": "target"},
    "value": 0.25,
    "factor": 0.25,
}
REQUIRED = {"learning_rate": {"factor": 0.5}, "weight_decay": {"value": 0.5}}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind, fields in KINDS.items()
        for name in fields.model_fields
        if name not in ("kind", "start", "length")
        and (kind, name) not in (("reorder", "noise"), ("time_shuffle", "noise"))
    ],
)
def test_every_field_of_a_perturbation_changes_its_epochs(hand, kind, name) -> None:
    value = OTHER_VALUES[name]
    value = value[kind] if isinstance(value, dict) else value
    fields = REQUIRED.get(kind, {})
    one = lineage_of(hand.config(hand.window(4, 2, kind, **fields)), hand.inputs)
    two = lineage_of(hand.config(hand.window(4, 2, kind, **{**fields, name: value})), hand.inputs)
    assert overlap(one, two) == 4


def test_every_kind_makes_states_of_its_own(hand) -> None:
    meg = {"model": {"variant": "clip-hba-meg"}}  # every kind acts on it
    ids = {
        lineage_of(hand.config(hand.window(4, 1, kind, **REQUIRED.get(kind, {})), **meg), hand.inputs).state_ids[4]
        for kind in KINDS
    }
    assert len(ids) == len(KINDS)


@pytest.mark.parametrize("kind", ["random_target", "label_shuffle", "image_noise", "reorder"])
def test_the_noise_seed_changes_the_window_of_what_draws(hand, kind) -> None:
    one, two = (lineage_of(hand.config(hand.window(4, 2, kind), seeds={"noise": seed}), hand.inputs) for seed in (0, 1))
    assert overlap(one, two) == 4


@pytest.mark.parametrize("kind", ["blank_image", "mean_target", "dim_mean_target", "freeze", "reset_optimizer"])
def test_the_noise_seed_changes_nothing_where_nothing_is_drawn(hand, kind) -> None:
    one, two = (hand.config(hand.window(4, 2, kind), seeds={"noise": seed}) for seed in (0, 1))
    assert lineage_of(one, hand.inputs) == lineage_of(two, hand.inputs)
    assert trial_id(one, hand.inputs) == trial_id(two, hand.inputs)


def test_lengths_share_their_window_and_part_where_the_shorter_one_ends(hand) -> None:
    short, long = (lineage_of(hand.config(hand.window(4, length)), hand.inputs) for length in (2, 5))
    assert overlap(short, long) == 6
    assert [(s.first_epoch, s.last_epoch) for s in short.stretches] == [(1, 3), (4, 5), (6, 9)]


def test_starts_share_the_trunk(hand) -> None:
    early, late = (lineage_of(hand.config(hand.window(start)), hand.inputs) for start in (4, 7))
    assert overlap(early, late) == 4


def test_a_fork_at_the_first_epoch_starts_from_the_untrained_state(hand) -> None:
    fork = lineage_of(hand.config(hand.window(1, 2)), hand.inputs)
    baseline = lineage_of(hand.config(), hand.inputs)
    assert overlap(fork, baseline) == 1
    assert fork.stretches[0].anchor == baseline.root


def test_fresh_noise_is_one_regime_wherever_the_window_starts(hand) -> None:
    """Its numbers depend on the epoch, not on the start; the published ones depend on the start."""
    for noise, equal in (("fresh", True), ("published", False)):
        early, late = (
            lineage_of(hand.config(hand.window(start, 2, noise=noise)), hand.inputs).stretches[1].regime
            for start in (4, 5)
        )
        assert (early == late) is equal


def test_windows_one_after_another_that_do_the_same_are_one_window(hand) -> None:
    one = hand.config(hand.window(4, 3))
    two = hand.config(hand.window(4, 1), hand.window(5, 2))
    assert lineage_of(one, hand.inputs).state_ids == lineage_of(two, hand.inputs).state_ids


def test_published_windows_one_after_another_start_anew(hand) -> None:
    one = hand.config(hand.window(4, 3, noise="published"))
    two = hand.config(hand.window(4, 1, noise="published"), hand.window(5, 2, noise="published"))
    assert overlap(lineage_of(one, hand.inputs), lineage_of(two, hand.inputs)) == 5


def test_two_windows_part_from_one_at_the_second(hand) -> None:
    one = lineage_of(hand.config(hand.window(2, 2)), hand.inputs)
    two = lineage_of(hand.config(hand.window(2, 2), hand.window(6, 1)), hand.inputs)
    assert overlap(one, two) == 6
    assert [(s.first_epoch, s.last_epoch) for s in two.stretches] == [(1, 1), (2, 3), (4, 5), (6, 6), (7, 10)]


def test_overlapping_windows_act_together_where_they_overlap(hand) -> None:
    both = lineage_of(hand.config(hand.window(3, 3), hand.window(4, 4, "freeze")), hand.inputs)
    acting = [[fields["kind"] for fields in stretch.regime.fields["perturbation"] or ()] for stretch in both.stretches]
    assert acting == [[], ["random_target"], ["random_target", "freeze"], ["freeze"], []]


def test_a_reset_acts_once_so_that_lengths_share_all(hand) -> None:
    short, long = (
        hand.config(hand.window(4, length, "reset_optimizer"), stopping={"horizon_after_window": 8})
        for length in (1, 5)
    )
    assert lineage_of(short, hand.inputs).state_ids == lineage_of(long, hand.inputs).state_ids
    assert trial_id(short, hand.inputs) != trial_id(long, hand.inputs), "their windows end elsewhere"


def test_a_window_beyond_the_last_epoch_is_cut(hand) -> None:
    lineage = lineage_of(hand.config(hand.window(12, 5)), hand.inputs)
    assert (lineage.last_epoch, len(lineage.state_ids)) == (12, 13)
    assert overlap(lineage, lineage_of(hand.config(), hand.inputs)) == 12


def test_a_field_added_later_leaves_a_regime_as_it_was() -> None:
    assert Regime.of({"lr": 1.0}) == Regime.of({"lr": 1.0, "added": None})


def test_the_default_horizon_is_the_same_trial_written_out(hand) -> None:
    default, written = (
        hand.config(hand.window(2), stopping=stopping) for stopping in ({}, {"horizon_after_window": 60})
    )
    assert trial_id(default, hand.inputs) == trial_id(written, hand.inputs)


def test_a_regime_is_named_by_its_fields(hand) -> None:
    config = hand.config(hand.window(3, 2), hand.window(4, 4, "freeze"), hand.window(9, 1, "image_noise"))
    stretches = lineage_of(config, hand.inputs).stretches
    assert len(stretches) == 7
    for stretch in stretches:
        assert stretch.regime.regime_id == content_id("regime", stretch.regime.fields)
