"""Axes to trials: order, zip, union, exclusions, sections, seeds, speed."""

import time
from typing import Any

import pytest

from sweeper.errors import SpecError
from sweeper.spec.axes import Configs, SweptTrial, assign, assignments, expand
from sweeper.spec.load import parse_spec
from sweeper.spec.overlap import check_noise_overlap
from sweeper.spec.schema import SweepSpec, TrialConfig

HEAD = "name: x\ndata: {manifest: m.yaml}\nmodel: {backbone: tiny-clip}\n"


def trials(body: str) -> tuple[SweptTrial, ...]:
    return expand(parse_spec(HEAD + body + "\n", "x.yaml"))


def swept(body: str) -> list[dict[str, Any]]:
    return [dict(trial.swept) for trial in trials(body)]


def values(body: str) -> list[tuple[Any, ...]]:
    return [tuple(value for _, value in trial.swept) for trial in trials(body)]


def test_a_spec_without_axes_is_one_trial() -> None:
    (trial,) = trials("")
    assert trial.swept == ()
    assert trial.config.perturbation == ()


def test_the_product_is_in_the_order_written_the_last_axis_fastest() -> None:
    assert values("axes: {seeds.order: [2, 1], seeds.init: [5, 4]}") == [(2, 5), (2, 4), (1, 5), (1, 4)]
    names = [name for name, _ in trials("axes: {seeds.order: [2, 1], seeds.init: [5, 4]}")[0].swept]
    assert names == ["seeds.order", "seeds.init"]


def test_zipped_axes_advance_together_and_are_one_factor() -> None:
    body = "axes: {seeds.split: [7, 8], zip: {seeds.init: [1, 2], seeds.order: [3, 4]}}"
    assert values(body) == [(7, 1, 3), (7, 2, 4), (8, 1, 3), (8, 2, 4)]


def test_several_zip_groups_are_factors_of_their_own() -> None:
    body = (
        "axes: {zip: [{seeds.init: [1, 2], seeds.order: [3, 4]}, {seeds.split: [5, 6], training.batch_size: [7, 8]}]}"
    )
    assert values(body) == [(1, 3, 5, 7), (1, 3, 6, 8), (2, 4, 5, 7), (2, 4, 6, 8)]


def test_product_can_be_named() -> None:
    assert swept("axes: {product: {seeds.init: [1, 2]}}") == swept("axes: {seeds.init: [1, 2]}")


def test_a_list_of_blocks_is_their_union_equal_trials_at_their_first_place() -> None:
    body = "axes:\n  - {seeds.init: [1, 2], seeds.order: [1]}\n  - {seeds.init: [3, 2, 1], seeds.order: [1]}\n"
    assert values(body) == [(1, 1), (2, 1), (3, 1)]


def test_trials_that_come_to_the_same_configuration_are_one() -> None:
    body = "perturbation: {kind: freeze}\naxes:\n  - {perturbation.start: [3]}\n"
    body += "  - {perturbation.start: [3], perturbation.length: [1, 2]}\n"
    assert swept(body) == [{"perturbation.start": 3}, {"perturbation.start": 3, "perturbation.length": 2}]


def test_exclusions_are_partial_assignments() -> None:
    body = "axes: {seeds.init: [1, 2, 3], seeds.order: [1, 2]}\n"
    body += "exclude: [{seeds.init: 1}, {seeds.init: 3, seeds.order: 2}]"
    assert values(body) == [(2, 1), (2, 2), (3, 1)]


def test_fields_and_whole_sections_of_a_perturbation() -> None:
    body = "axes:\n  perturbation.start: [2, 3]\n  perturbation: [{kind: freeze}, {kind: blank_image, value: 0.1}]"
    windows = [trial.config.perturbation[0] for trial in trials(body)]
    assert [(window.start, type(window).__name__) for window in windows] == [
        (2, "Freeze"),
        (2, "BlankImage"),
        (3, "Freeze"),
        (3, "BlankImage"),
    ]


def test_no_perturbation_can_be_a_value() -> None:
    body = (
        "axes: {perturbation: [null, {kind: freeze, start: 2}, [{kind: freeze, start: 2}, {kind: reorder, start: 5}]]}"
    )
    assert [len(trial.config.perturbation) for trial in trials(body)] == [0, 1, 2]


def test_one_of_several_perturbations_is_named_by_its_index() -> None:
    body = "perturbation: [{kind: freeze, start: 2}, {kind: reorder}]\naxes: {perturbation.1.start: [5, 6]}"
    assert [[w.start for w in trial.config.perturbation] for trial in trials(body)] == [[2, 5], [2, 6]]


@pytest.mark.parametrize("perturbation", ["{kind: freeze}", "[{kind: freeze}]"])
@pytest.mark.parametrize("name", ["perturbation.start", "perturbation.0.start"])
def test_a_single_perturbation_needs_no_index(perturbation: str, name: str) -> None:
    body = f"perturbation: {perturbation}\naxes: {{{name}: [5, 6]}}"
    assert [trial.config.perturbation[0].start for trial in trials(body)] == [5, 6]


def test_a_second_perturbation_can_be_made_by_axes() -> None:
    body = "perturbation: {kind: freeze, start: 2}\naxes: {perturbation.1.kind: [reorder], perturbation.1.start: [5]}"
    assert [w.start for w in trials(body)[0].config.perturbation] == [2, 5]


def test_bare_seeds_keep_the_noise_seed() -> None:
    body = "seeds: {init: 9, noise: 42}\naxes: {seeds: [1, 2]}"
    seeds = [trial.config.seeds for trial in trials(body)]
    assert [(s.split, s.init, s.order, s.noise) for s in seeds] == [(1, 1, 1, 42), (2, 2, 2, 42)]


def test_one_seed_of_a_bare_number_can_be_swept() -> None:
    seeds = [trial.config.seeds for trial in trials("seeds: 7\naxes: {seeds.init: [1, 2]}")]
    assert [(s.split, s.init, s.order) for s in seeds] == [(7, 1, 7), (7, 2, 7)]


def test_deep_fields_leave_their_neighbours_alone() -> None:
    body = "training: {batch_size: 8}\naxes: {training.optimizer.lr: [1e-3, 1e-4], model.adapter.rank: [2]}"
    first, second = trials(body)
    assert (first.config.training.optimizer.lr, second.config.training.optimizer.lr) == (1e-3, 1e-4)
    assert first.config.training.batch_size == 8
    assert first.config.model.adapter.rank == 2


def test_base_is_never_changed() -> None:
    spec = parse_spec(HEAD + "training: {optimizer: {lr: 1}}\naxes: {training.optimizer.lr: [2, 3]}", "x.yaml")
    expand(spec)
    assert spec.base["training"] == {"optimizer": {"lr": 1}}


def test_a_spec_survives_json() -> None:
    body = "axes: [{seeds: [1, 2], zip: {seeds.noise: [3, 4], model.adapter.rank: [3, 4]}}]\nexclude: [{seeds: 2}]"
    spec = parse_spec(HEAD + body, "x.yaml")
    again = SweepSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert expand(again) == expand(spec)


def test_a_hand_made_spec_that_breaks_a_rule_is_refused() -> None:
    spec = SweepSpec.model_validate({"name": "x", "base": {"data": {}, "model": {}}})
    with pytest.raises(SpecError, match=r"x: data\.manifest is missing"):
        expand(spec)


def test_ten_thousand_trials_are_quick() -> None:
    starts = list(range(1, 101))
    body = f"perturbation: {{kind: freeze}}\naxes: {{perturbation.start: {starts}, seeds: {starts}}}"
    spec = parse_spec(HEAD + body, "x.yaml")
    begin = time.process_time()
    assert len(expand(spec)) == 10_000
    assert time.process_time() - begin < 4  # about 0.6 s on an idle core


PUBLISHED = "perturbation: {kind: random_target, noise: published, start: 3}\n"


@pytest.mark.parametrize(
    ("axes", "num_problems"),
    [
        ("{seeds.noise: [0, 100]}", 0),
        ("{seeds.noise: [0, 22]}", 1),
        ("{seeds.noise: [0, 23]}", 0),
        ("{seeds.noise: [42, 43, 44]}", 2),
        ("{perturbation.start: [1, 2, 3], perturbation.length: [1, 2]}", 0),
        ("{zip: {perturbation.start: [2, 1], seeds.noise: [0, 990]}}", 1),
        ("{seeds.noise: [1, 2], perturbation: [{kind: random_target, start: 3}]}", 0),
        (
            "{zip: {seeds.noise: [1, 2], perturbation: "
            "[{kind: random_target, noise: published, start: 3}, {kind: label_shuffle, noise: published, start: 3}]}}",
            0,
        ),
    ],
)
def test_published_noise_that_overlaps(axes: str, num_problems: int) -> None:
    found = trials(f"{PUBLISHED}allow_overlap: true\naxes: {axes}")
    assert len(check_noise_overlap(found, lambda config: 23)) == num_problems
    assert trials(f"{PUBLISHED}axes: {axes}") == found  # a spec alone does not know how many batches an epoch has


def test_a_spec_alone_refuses_what_no_data_can_allow() -> None:
    with pytest.raises(SpecError, match=r"apart \(1\) under noise: published. Got 0 and 1000 at starts 2 and 1"):
        trials(f"{PUBLISHED}axes: {{zip: {{perturbation.start: [2, 1], seeds.noise: [0, 1000]}}}}")


@pytest.mark.parametrize(("second", "is_refused"), [(3, True), (4, False)])
def test_a_spec_that_says_how_many_stimuli_it_trains_on_knows_its_batches(second: int, is_refused: bool) -> None:
    """0.8 of 80 in batches of 16: 4 an epoch."""
    sizes = "training: {batch_size: 16}\n"
    body = f"{PUBLISHED}{sizes}axes: {{data.train_size: [80], seeds.noise: [0, {second}]}}"
    if is_refused:
        with pytest.raises(SpecError, match=r"apart \(4\) under noise: published"):
            trials(body)
    else:
        assert len(trials(body)) == 2


def test_overlap_depends_on_the_batches_of_an_epoch() -> None:
    found = trials(f"{PUBLISHED}axes: {{seeds.noise: [0, 100]}}")
    assert not check_noise_overlap(found, lambda config: 100)
    (problem,) = check_noise_overlap(found, lambda config: 101)
    assert "0 and 100 at start 3" in str(problem)
    assert "allow_overlap: true" in str(problem)


@pytest.mark.parametrize(
    ("sizes", "refused"),
    [
        ("[2, 16, 16]", ["0 and 15", "0 and 50"]),  # the first reaches over the second to the third
        ("[16, 2, 16]", ["15 and 50"]),
        ("[16, 16, 2]", []),
    ],
)
def test_the_batches_of_the_smaller_seed_decide(sizes: str, refused: list[str]) -> None:
    found = trials(f"{PUBLISHED}axes: {{zip: {{seeds.noise: [0, 15, 50], training.batch_size: {sizes}}}}}")
    problems = check_noise_overlap(found, lambda config: 192 // config.training.batch_size)
    assert [problem.got for problem in problems] == [f"{pair} at start 3" for pair in refused]


def test_sections_checked_once_make_the_configurations_of_whole_trials() -> None:
    axes = [
        {"seeds": [1, 2], "seeds.noise": [0, 5], "perturbation.start": [1, 2], "training.optimizer.lr": [0.1, 0.2]},
        {"perturbation": [None, {"kind": "freeze", "start": 3}], "seeds.init": [4]},
    ]
    base = {"data": {"manifest": "m"}, "model": {}, "perturbation": {"kind": "random_target"}}
    spec = SweepSpec.model_validate({"name": "x", "base": base, "axes": axes})
    configs = Configs(spec.base)
    for choices in assignments(spec.axes):
        assert configs.of(choices) == TrialConfig.model_validate(assign(spec.base, choices)[0])
