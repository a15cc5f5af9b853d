"""What each perturbation kind does to an epoch, the study's own noise included."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sweeper
from sweeper.perturbations import Disturbance
from sweeper.spec.perturbations import KINDS
from sweeper.spec.perturbations.base import Place, TableStatistics, Updates

GOLDENS = json.loads((Path(__file__).parent / "golden" / "goldens.json").read_text())
STUDY = TableStatistics(mean=5.690615, std=10.178653, dimension_means=np.zeros(66, np.float32))
BATCH_SIZES = [64] * 22 + [36]  # 1,444 training images (docs/methods.md 1.5)
TABLE = np.random.default_rng(0).gamma(0.5, 10.0, size=(500, 6)).astype(np.float32)
STATISTICS = TableStatistics.of(TABLE)
BATCH = TABLE[:64]
SHAPE = (8, 3, 16, 16)
FIELDS: dict[str, dict[str, Any]] = {"learning_rate": {"factor": 0.5}, "weight_decay": {"value": 0.25}}
REPEATING = ["random_target", "label_shuffle", "image_noise"]


def acting(kind: str, *, start: int = 1, seed: int = 42, **fields: Any) -> dict[str, Any]:
    """Returns a kind's fields as the regime carries them."""
    window = KINDS[kind].model_validate({"kind": kind, "start": start, **FIELDS.get(kind, {}), **fields})
    return dict(window.regime(seed))


def disturbed(kind: str, epoch: int = 1, step: int = 0, **fields: Any) -> np.ndarray:
    """Returns what a kind makes of a batch: its targets, or its images."""
    place = Place(epoch=epoch, step=step)
    disturbance = Disturbance((acting(kind, **fields),))
    images = disturbance.images(place, SHAPE, STATISTICS)
    return disturbance.targets(place, BATCH, STATISTICS) if images is None else images


def test_without_a_perturbation_nothing_happens() -> None:
    for regime in ({}, {"perturbation": None}):
        nothing = Disturbance.of(regime)
        place = Place(epoch=1, step=0)
        assert nothing.targets(place, BATCH, STATISTICS) is BATCH
        assert nothing.images(place, SHAPE, STATISTICS) is None
        assert nothing.order(1, 10) is None
        assert nothing.updates() == Updates()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_acts_where_its_effect_says_and_nowhere_else(kind: str) -> None:
    effect, disturbance, place = KINDS[kind].effect, Disturbance((acting(kind),)), Place(epoch=3, step=1)
    assert (disturbance.targets(place, BATCH, STATISTICS) is not BATCH) == (effect.targets is not None)
    assert (disturbance.images(place, SHAPE, STATISTICS) is not None) == (effect.images is not None)
    assert (disturbance.order(3, 10) is not None) == (effect.order is not None)
    assert (disturbance.updates() != Updates()) == (effect.updates is not None)


NEGATE = """

class Negate(Perturbation):
    effect: ClassVar[Effect] = Effect(targets=lambda fields, place, targets, statistics: -fields["strength"] * targets)
    kind: Literal["negate"]
    strength: float = 1.0
"""
SPEC = """
name: negated
data: {manifest: manifest.yaml}
model: {backbone: tiny-clip, pretrained: builtin, adapter: {rank: 4}}
training: {optimizer: {lr: 1e-2}, batch_size: 16, max_epochs: 3}
stopping: {horizon_after_window: 1}
perturbation: {kind: negate, start: 2}
axes: {perturbation.strength: [0.5, 1.5]}
evaluation: {bootstraps: 0}
"""
MANIFEST = "name: small\ngenerator: {name: drawings, num_train: 45, num_test: 12, seed: 1}\n"


def test_a_kind_is_added_in_one_place(tmp_path: Path) -> None:
    """One class is written into a copy of the package; then a spec sweeps its field, and a run trains it."""
    package = Path(sweeper.__file__).parent
    shutil.copytree(package, tmp_path / "sweeper", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "sweeper" / "spec" / "perturbations" / "targets.py").open("a", encoding="utf-8") as file:
        file.write(NEGATE)
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "manifest.yaml").write_text(MANIFEST, encoding="utf-8")
    ran = _sweeper(tmp_path, "run", "spec.yaml", "--backend", "local", "--tracking-uri", "off")
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(_sweeper(tmp_path, "results", "spec.yaml", "--curves", "--format", "json").stdout)
    losses = {row["trial_id"]: row["train_loss"] for row in rows if row["epoch"] == 2}
    assert len(set(losses.values())) == len(losses) == 3, "a baseline and two strengths, each with a loss of its own"
    assert '"negate"' in _sweeper(tmp_path, "schema").stdout


def _sweeper(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "sweeper.cli", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("start", [1, 5, 41])
def test_the_studys_random_targets_come_out(start: int) -> None:
    """23 batches for each of three starts; min, max and mean of each (goldens.json)."""
    fields = acting("random_target", start=start, noise="published")
    disturbance = Disturbance((fields,))
    expected = GOLDENS["random_target_batch_min_max_mean"][str(start)]
    assert len(expected) == len(BATCH_SIZES)
    for step, size in enumerate(BATCH_SIZES):
        made = disturbance.targets(Place(epoch=start, step=step), np.zeros((size, 66), np.float32), STUDY)
        found = [made.min(), made.max(), made.astype(np.float64).mean()]
        np.testing.assert_allclose(found, expected[step], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", REPEATING)
def test_published_noise_repeats_itself_in_every_epoch_of_a_window(kind: str) -> None:
    first, later = (disturbed(kind, epoch, start=4, noise="published") for epoch in (4, 6))
    np.testing.assert_array_equal(first, later)


@pytest.mark.parametrize("kind", REPEATING)
@pytest.mark.parametrize("change", [{"step": 1}, {"start": 5}, {"seed": 43}], ids=lambda change: next(iter(change)))
def test_published_noise_differs_by_batch_start_and_seed(kind: str, change: dict[str, int]) -> None:
    base = {"start": 4, "noise": "published"}
    assert (disturbed(kind, **base) != disturbed(kind, **{**base, **change})).any()


def test_published_seeds_overlap_as_the_studys_do() -> None:
    """42, batch 1 is 43, batch 0 (docs/methods.md 2.1); fresh noise has no such neighbours."""
    for noise, equal in (("published", True), ("fresh", False)):
        one = disturbed("random_target", step=1, seed=42, noise=noise)
        two = disturbed("random_target", step=0, seed=43, noise=noise)
        assert bool((one == two).all()) is equal


@pytest.mark.parametrize("kind", REPEATING)
@pytest.mark.parametrize("change", [{"epoch": 6}, {"step": 1}, {"seed": 43}], ids=lambda change: next(iter(change)))
def test_fresh_noise_differs_by_epoch_batch_and_seed(kind: str, change: dict[str, int]) -> None:
    base = {"epoch": 5}
    assert (disturbed(kind, **base) != disturbed(kind, **{**base, **change})).any()


def test_fresh_noise_does_not_depend_on_the_start() -> None:
    """So that an epoch of two windows is disturbed alike, and the longer one continues the shorter one."""
    for kind in REPEATING:
        np.testing.assert_array_equal(disturbed(kind, 6, start=5), disturbed(kind, 6, start=6))


@pytest.mark.parametrize("kind", REPEATING)
@pytest.mark.parametrize("noise", ["fresh", "published"])
def test_noise_does_not_depend_on_what_was_drawn_before(kind: str, noise: str) -> None:
    places = [(epoch, step) for epoch in (4, 5) for step in (0, 1, 2)]
    forward = {place: disturbed(kind, *place, start=4, noise=noise) for place in places}
    backward = {place: disturbed(kind, *place, start=4, noise=noise) for place in reversed(places)}
    for place in places:
        np.testing.assert_array_equal(forward[place], backward[place])


@pytest.mark.parametrize("noise", ["fresh", "published"])
def test_random_targets_have_the_tables_mean_and_spread(noise: str) -> None:
    targets = np.concatenate([disturbed("random_target", step=step, noise=noise) for step in range(200)]).astype(float)
    assert targets.mean() == pytest.approx(STATISTICS.mean, abs=0.15)
    assert targets.std() == pytest.approx(STATISTICS.std, rel=0.02)
    standard = disturbed("random_target", noise=noise, distribution="normal").astype(float)
    assert (standard.mean(), standard.std()) == (pytest.approx(0.0, abs=0.2), pytest.approx(1.0, abs=0.1))


def test_random_targets_of_another_shape_are_cut_from_the_same_stream() -> None:
    fields = acting("random_target", noise="published")
    small = Disturbance((fields,)).targets(Place(epoch=1, step=0), BATCH[:10], STATISTICS)
    np.testing.assert_array_equal(small, disturbed("random_target", noise="published")[:10])
    assert small.dtype == np.float32


@pytest.mark.parametrize("noise", ["fresh", "published"])
def test_a_label_shuffle_is_a_permutation_within_the_batch(noise: str) -> None:
    shuffled = disturbed("label_shuffle", noise=noise)
    assert (shuffled != BATCH).any()
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(BATCH, axis=0))
    assert {row.tobytes() for row in shuffled} == {row.tobytes() for row in BATCH}


def test_the_published_label_shuffle_is_torchs_own_permutation() -> None:
    import torch

    order = torch.randperm(64, generator=torch.Generator().manual_seed(42 + 1000 * 4 + 3)).numpy()
    np.testing.assert_array_equal(disturbed("label_shuffle", epoch=6, step=3, start=4, noise="published"), BATCH[order])


@pytest.mark.parametrize("noise", ["fresh", "published"])
def test_image_noise_replaces_every_pixel(noise: str) -> None:
    normal = disturbed("image_noise", noise=noise, distribution="normal")
    assert (normal.shape, normal.dtype) == (SHAPE, np.float32)
    assert (float(normal.mean()), float(normal.std())) == (pytest.approx(0, abs=0.05), pytest.approx(1, abs=0.05))
    scaled = disturbed("image_noise", noise=noise, distribution="target")
    np.testing.assert_allclose(scaled, normal * STATISTICS.std + STATISTICS.mean, rtol=1e-4, atol=1e-4)
    by_default = {"fresh": normal, "published": scaled}[noise]
    np.testing.assert_array_equal(disturbed("image_noise", noise=noise), by_default)


def test_blank_images_are_one_constant() -> None:
    for fields, value in (({}, 0.5), ({"value": -1.0}, -1.0)):
        image = disturbed("blank_image", **fields)
        assert (image.shape, image.dtype) == ((1, 3, 16, 16), np.float32)
        assert set(np.unique(image)) == {np.float32(value)}


def test_mean_targets_tell_nothing_about_the_image() -> None:
    assert set(np.unique(disturbed("mean_target"))) == {np.float32(TABLE.astype(float).mean())}
    np.testing.assert_allclose(disturbed("dim_mean_target"), np.tile(TABLE.mean(axis=0), (64, 1)), rtol=1e-5)


def test_a_disturbed_batch_is_a_new_array() -> None:
    """A kind may not write into the table."""
    before = BATCH.copy()
    for kind, fields in KINDS.items():
        effect = fields.effect
        if effect.targets is not None:
            disturbed(kind)[:] = 0.0
    np.testing.assert_array_equal(BATCH, before)


def test_the_statistics_are_those_of_the_whole_table() -> None:
    """Scalar population statistics, computed wide."""
    table = np.array([[1, 2], [3, 6]], np.float32)
    statistics = TableStatistics.of(table)
    assert (statistics.mean, statistics.std) == (3.0, pytest.approx(3.5**0.5))
    assert statistics.dimension_means.tolist() == [2.0, 4.0]


def test_updates_are_changed_by_what_acts_on_them() -> None:
    kinds = ["freeze", "reset_optimizer", "learning_rate", "weight_decay"]
    assert Disturbance(tuple(acting(kind) for kind in kinds)).updates() == Updates(
        enabled=False, lr_factor=0.5, weight_decay=0.25, reset_moments=True
    )


def test_learning_rate_factors_multiply() -> None:
    factors = (acting("learning_rate", factor=0.5), acting("learning_rate", factor=0.25))
    assert Disturbance(factors).updates().lr_factor == 0.125


def test_another_order_is_a_permutation_of_its_own_epoch() -> None:
    reorder = Disturbance((acting("reorder"),))
    orders = [reorder.order(epoch, 100) for epoch in (3, 4)]
    assert all(order is not None and sorted(order.tolist()) == list(range(100)) for order in orders)
    assert (orders[0] != orders[1]).any()
    np.testing.assert_array_equal(reorder.order(3, 100), orders[0])


def test_of_several_that_replace_the_last_one_counts() -> None:
    blank, noise = acting("blank_image"), acting("image_noise")
    place = Place(epoch=1, step=0)
    np.testing.assert_array_equal(
        Disturbance((noise, blank)).images(place, SHAPE, STATISTICS), disturbed("blank_image")
    )
    one, two = acting("reorder", seed=1), acting("reorder", seed=2)
    np.testing.assert_array_equal(Disturbance((one, two)).order(1, 50), Disturbance((two,)).order(1, 50))


def test_targets_pass_through_all_that_act_in_the_order_of_the_spec() -> None:
    shuffle, mean = acting("label_shuffle"), acting("mean_target")
    place = Place(epoch=1, step=0)
    np.testing.assert_array_equal(
        Disturbance((shuffle, mean)).targets(place, BATCH, STATISTICS), disturbed("mean_target")
    )
    random_then_shuffled = Disturbance((acting("random_target"), shuffle)).targets(place, BATCH, STATISTICS)
    assert {row.tobytes() for row in random_then_shuffled} == {row.tobytes() for row in disturbed("random_target")}
