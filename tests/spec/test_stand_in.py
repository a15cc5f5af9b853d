"""The stand-in: replaced data, backbone and learning rate; axes over them still make sense."""

from typing import Any

import pytest

from sweeper.spec.axes import expand
from sweeper.spec.load import parse_spec
from sweeper.spec.schema import SweepSpec, TrialConfig
from sweeper.spec.stand_in import STAND_IN_BATCH, STAND_IN_LR, stand_in, who_stands_in

HEAD = "name: x\ndata: {manifest: m.yaml}\nmodel: {backbone: ViT-L-14}\n"


def load(body: str, head: str = HEAD) -> SweepSpec:
    return parse_spec(head + body, "f.yaml", stand_in=True)


def configs(body: str, head: str = HEAD) -> list[TrialConfig]:
    return [trial.config for trial in expand(load(body, head))]


def test_what_is_replaced_and_what_is_kept() -> None:
    head = (
        "name: grid\ndata: {manifest: m.yaml, relabel: none, split: published, folds: 5, fold: 1}\n"
        "model: {backbone: b, pretrained: w.safetensors, activation: gelu, adapter: {rank: 8, init: reference}}\n"
    )
    spec = load("training: {optimizer: {lr: 1e-5, weight_decay: 0.1}, order: published}\nseeds: 3\n", head)
    (trial,) = expand(spec)
    config = trial.config
    assert spec.name == "grid--stand-in"
    assert spec.stand_in
    assert (config.data.manifest, config.data.relabel, config.data.split) == ("builtin:selfmade", "none", "published")
    assert (config.data.folds, config.data.fold) == (5, 1)
    assert (config.model.backbone, config.model.pretrained, config.model.activation) == ("tiny-clip", "builtin", None)
    assert (config.model.adapter.rank, config.model.adapter.init) == (8, "reference")
    assert (config.training.optimizer.lr, config.training.batch_size) == (STAND_IN_LR, STAND_IN_BATCH)
    assert (config.training.optimizer.weight_decay, config.training.order) == (0.1, "published")
    assert config.seeds.init == 3


def test_axes_over_what_is_replaced_are_dropped() -> None:
    body = "axes: {model.backbone: [a, b], training.optimizer.lr: [1e-3, 1e-4], seeds: [1, 2]}\n"
    assert [trial.swept for trial in expand(load(body))] == [(("seeds", 1),), (("seeds", 2),)]


def test_a_spec_that_sweeps_nothing_else_becomes_one_trial() -> None:
    assert len(configs("axes: {zip: {model.backbone: [a, b], model.pretrained: [openai, random]}}\n")) == 1
    assert len(configs("axes: {data: [{manifest: a.yaml}, {manifest: b.yaml}]}\n")) == 1
    assert len(configs("axes: [{data.manifest: [a, b]}, {model.backbone: [a, b]}]\n")) == 1


def test_exclusions_of_dropped_axes_are_dropped() -> None:
    body = "axes: {model.backbone: [a, b], seeds: [1, 2]}\nexclude: [{model.backbone: a, seeds: 1}, {seeds: 2}]\n"
    assert [config.seeds.init for config in configs(body)] == [1]


def test_whole_sections_in_axes_are_replaced_inside() -> None:
    body = "axes: {training.optimizer: [{name: sgd, lr: 0.1}, {name: adam, lr: 0.3}]}\n"
    assert [(c.training.optimizer.name, c.training.optimizer.lr) for c in configs(body)] == [
        ("sgd", STAND_IN_LR),
        ("adam", STAND_IN_LR),
    ]


def test_whole_sections_in_axes_that_leave_the_replaced_out_get_it() -> None:
    body = "axes:\n  model: [{adapter: {rank: 4}}, {adapter: {rank: 8}}]\n  training: [{order: published}]\n"
    for rank, config in zip((4, 8), configs(body), strict=True):
        assert (config.model.backbone, config.model.pretrained, config.model.adapter.rank) == (
            "tiny-clip",
            "builtin",
            rank,
        )
        assert (config.training.optimizer.lr, config.training.batch_size) == (STAND_IN_LR, STAND_IN_BATCH)
        assert (config.training.order, config.training.max_epochs) == ("published", 160)


def test_training_set_sizes_keep_their_order_and_stay_distinct() -> None:
    sizes = [10, 25, 50, 75, 100, 200, 300, 1000, 1700]
    scaled = [c.data.train_size or 0 for c in configs(f"axes: {{data.train_size: {sizes}}}\n")]
    assert scaled == sorted(set(scaled))
    assert (scaled[0], scaled[-1], len(scaled)) == (16, 240, len(sizes))


def test_training_set_sizes_that_fit_are_kept() -> None:
    assert [c.data.train_size for c in configs("axes: {data.train_size: [100, 240]}\n")] == [100, 240]


def test_folds_leave_less_to_train_on() -> None:
    head = "name: x\ndata: {manifest: m.yaml, folds: 5, fold: 0}\nmodel: {}\n"
    assert [c.data.train_size for c in configs("axes: {data.train_size: [100, 1000]}\n", head)] == [19, 192]


def test_layers_that_the_tiny_clip_does_not_have_are_clipped() -> None:
    body = "axes: {model.adapter.vision_layers: [1, 5, 12, 24], model.adapter.text_layers: [1, 12]}\n"
    found = [(c.model.adapter.vision_layers, c.model.adapter.text_layers) for c in configs(body)]
    assert found == [(1, 1), (1, 2), (5, 1), (5, 2)]


def test_epochs_are_capped_but_not_below_a_start() -> None:
    assert configs("")[0].training.max_epochs == 160
    assert configs("training: {max_epochs: 30}\n")[0].training.max_epochs == 30
    late = "perturbation: {kind: freeze}\naxes: {perturbation.start: [3, 200]}\n"
    assert [config.training.max_epochs for config in configs(late)] == [200, 200]


def test_the_stopping_rule_is_kept() -> None:
    stopping = configs("stopping: {rule: vp, patience: 20}\n")[0].stopping
    assert (stopping.rule, stopping.patience) == ("vp", 20)


def test_evaluation_and_resources_fit_any_machine() -> None:
    spec = load(
        "evaluation: {rsa: [triplets, targets, other], sets: [a.yaml], metric: cosine}\n"
        "resources: {gpu: 1, cpu: 2, address: ray://x}\ntracking: {experiment: mine}\nnumerics: {device: cuda}\n"
    )
    assert spec.evaluation.rsa == ("behavioral48", "targets")
    assert (spec.evaluation.sets, spec.evaluation.metric) == ((), "cosine")
    assert (spec.resources.gpu, spec.resources.cpu, spec.resources.address) == ("auto", 2, None)
    assert spec.tracking.experiment == "mine--stand-in"
    assert spec.base["numerics"]["device"] == "auto"


def test_long_names_stay_valid() -> None:
    head = f"name: {'n' * 100}\ndata: {{manifest: m.yaml}}\nmodel: {{}}\n"
    assert len(load("", head).name) == 100


def test_batch_sizes_in_axes_are_scaled_as_the_published_one() -> None:
    assert [c.training.batch_size for c in configs("axes: {training.batch_size: [2, 32, 64, 128]}\n")] == [2, 8, 16, 32]


@pytest.mark.parametrize(
    "axes", ["{seeds.init: [1]}", "[{seeds.init: [1]}, {zip: {seeds.init: [2], seeds.order: [3]}}]"]
)
def test_the_raw_spec_is_not_changed(axes: str) -> None:
    raw: dict[str, Any] = {"name": "x", "data": {"manifest": "m"}, "model": {"backbone": "b"}, "training": {}}
    before = repr(raw)
    stand_in(raw)
    assert repr(raw) == before
    assert load(f"axes: {axes}\n").stand_in


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("[P7, P2, P9]", ["2", "1", "3"]),
        ("[4, 7]", ["1", "2"]),
        ("all", ["all"]),
        ("1..3", ["1..3"]),  # as many as [1, 2, 3]
        ("P3..P9", ["1..7"]),
        ("[P2, P3..P9]", ["1", "2..8"]),
        ("[P4..P6, P9, P2..P5]", ["3..5", "6", "1..4"]),  # whom two ranges share is one person here, too
        ("P1..P15", ["all"]),
        ("anna..zoe", ["all"]),  # how many these are, nobody knows without the data
        (f"[{', '.join(f'P{number}' for number in range(1, 16))}]", [str(number) for number in range(1, 13)]),
    ],
)
def test_as_many_subjects_stand_in_as_are_named(axis: str, expected: list[str]) -> None:
    head = "name: x\ndata: {manifest: m.yaml}\nmodel: {variant: clip-hba-meg, backbone: ViT-L-14}\n"
    assert [config.subject for config in configs(f"axes: {{subject: {axis}}}\n", head)] == expected
    assert configs("subject: P7\n", head)[0].subject == "1"


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        ([1, 2, 3], None),
        ("1..3", None),
        ("all", None),
        ([3, 15], "1 for 3, 2 for 15"),
        (["1", "x"], "2 for x"),
        ("P3..P9", "1..7 for P3..P9"),
        ("anna..zoe", "all for anna..zoe (how many anna..zoe means, only its own data say)"),
    ],
)
def test_it_is_said_who_stands_in_for_whom(axis: Any, told: str | None) -> None:
    said = who_stands_in({"model": {"variant": "clip-hba-meg"}, "axes": {"subject": axis}})
    assert said == (told and f"subject: people of the self-made study stand in: {told}")
