"""The planned disk space against what a run really takes."""

import math
from pathlib import Path

import pytest
from sweeper_models.adapter import AdapterConfig, prefix_shapes
from sweeper_models.configs import read_config

from sweeper.errors import SpecError
from sweeper.sizes import disk_of, kept_states, require_room
from sweeper.store.local import LocalStore


def test_a_run_takes_no_more_than_planned_and_not_much_less(engine, grid: Path, grid_axes) -> None:
    sweep = engine.sweep(**grid_axes)
    planned = disk_of(sweep.trials, sweep.tree, sweep.spec.evaluation)
    states = [LocalStore(grid).path("states", key).stat().st_size for key in LocalStore(grid).keys("states")]
    assert len(states) <= sum(kept_states(segment) for segment in sweep.tree.segments.values())
    assert 0.7 * planned.states < sum(states) <= planned.states
    rows = [LocalStore(grid).path(kind, key) for kind in ("records", "outputs") for key in LocalStore(grid).keys(kind)]
    written = sum(-(-path.stat().st_size // 4096) * 4096 for path in rows)
    assert 0.5 * planned.records < written <= planned.records


def test_features_are_planned_to_the_byte(engine, grid: Path, grid_axes) -> None:
    sweep = engine.sweep(**grid_axes)
    planned = disk_of(sweep.trials, sweep.tree, sweep.spec.evaluation)
    images = 45 + 12
    tokens, width, tensors, bytes_each = 5 * 5 + 1, 96, 2, 4  # the tiny CLIP cuts its pictures into 25 patches
    assert planned.features == images * tokens * width * tensors * bytes_each
    full = engine.sweep(**grid_axes, numerics={"prefix": "full"})
    assert disk_of(full.trials, full.tree, full.spec.evaluation).features == 0


def test_each_entry_of_the_cache_is_planned_once(engine, grid_axes) -> None:
    one = engine.sweep(**grid_axes)
    planned = disk_of(one.trials, one.tree, one.spec.evaluation).features
    for axes, factor in (
        ({"numerics.features": ["fp16", "bf16"]}, 1.0),  # half of the bytes, twice
        ({"numerics.threads": [1, 2]}, 2.0),
        ({"seeds.init": [1, 2, 3], "model.adapter.rank": [2, 4]}, 1.0),
    ):
        several = engine.sweep(axes=axes)
        assert disk_of(several.trials, several.tree, several.spec.evaluation).features == factor * planned


def test_features_over_the_budget_are_refused_at_the_field(engine, grid_axes) -> None:
    sweep = engine.sweep(**grid_axes)
    needed = disk_of(sweep.trials, sweep.tree, sweep.spec.evaluation).features
    require_room(sweep.trials, sweep.spec.evaluation, None)
    require_room(sweep.trials, sweep.spec.evaluation, needed / 1e9)
    with pytest.raises(
        SpecError, match=r"resources\.cache_gb: .* at most 0\.001 GB.* Got 0\.00114 GB.* Allow 0\.01 GB"
    ):
        require_room(sweep.trials, sweep.spec.evaluation, 0.001)


def test_the_published_pictures_take_at_most_two_gigabytes_in_fp16() -> None:
    shapes = prefix_shapes(read_config("ViT-L-14"), AdapterConfig())
    assert 1854 * 2 * sum(math.prod(shape) for shape in shapes.values()) <= 2.0e9


def test_a_meg_sweep_takes_no_more_than_planned_and_not_much_less(meg_engine, tmp_path: Path) -> None:
    ran = meg_engine.run(tmp_path / "store", training={"max_epochs": 4}, model={"adapter": {"rank": 64}})
    planned = disk_of(ran.sweep.trials, ran.sweep.tree, ran.sweep.spec.evaluation)
    store, (segment,) = LocalStore(tmp_path / "store"), ran.sweep.tree.segments.values()
    largest = max(store.path("states", key).stat().st_size for key in store.keys("states"))
    assert 0.9 * planned.states < largest * kept_states(segment) < 1.1 * planned.states
    outputs = [store.path("outputs", key).stat().st_size for key in store.keys("outputs")]
    assert 0.8 * planned.records < sum(outputs) <= planned.records
    images, width, tokens, joint = 45 + 12, 96, 5 * 5 + 1, 64
    prefix = 2 * tokens * width + 3 * joint  # two adapted blocks of five: three more give their projected rows
    assert planned.features == images * 4 * (prefix + 5 * joint)
