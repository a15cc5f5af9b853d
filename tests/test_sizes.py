"""The planned disk space against what a run really takes."""

from pathlib import Path

from sweeper.sizes import disk_of, kept_states
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
