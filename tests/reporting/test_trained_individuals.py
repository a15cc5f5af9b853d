"""Models trained on simulated people differ as these people do, beyond every control; who they are is known."""

import numpy as np
import pytest
import torch

from sweeper.data.meg_study import MegStudy
from sweeper.inputs import dataset_of
from sweeper.metrics.individual import agreement_of_distances, distances_between_people
from sweeper.neural import curves_of
from sweeper.reporting.individuals import common_curves, individuals_of, with_noise
from sweeper.reporting.load import open_view
from sweeper.store.local import LocalStore
from tests.conftest import MANIFEST, Engine

DRAWINGS = "num_train: 60, num_test: 24, seed: 1, participants: 12}"
MODEL = {
    "variant": "clip-hba-meg",
    "backbone": "tiny-clip",
    "pretrained": "builtin",
    "adapter": {"rank": 6, "vision_layers": 5},
    "stages": {"switch": "epochs", "epochs": 2, "patience": 10, "lr_layers": 0.03},
}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """An engine over the pictures that 12 simulated people saw: a model of each is six epochs."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "small.yaml").write_text(MANIFEST.replace("num_train: 45, num_test: 12, seed: 1}", DRAWINGS))
    torch.set_num_threads(1)
    engine = Engine(manifest=folder / "small.yaml", cache=folder / "features")
    engine.base |= {"model": MODEL, "training": {"optimizer": {"lr": 0.01}, "batch_size": 24, "max_epochs": 6}}
    return engine


def test_the_agreement_exceeds_its_controls_and_follows_the_truth(people, tmp_path):
    """Every control; that of common curves barely at this size, and after ten epochs of training not at all."""
    axes = {"model.curves.participants": ["targets", "all"], "subject": "all"}
    assert people.run(tmp_path / "store", axes=axes).status == "done"
    store = LocalStore(tmp_path / "store")
    view = open_view(store, "test")
    found, with_common_curves = groups = individuals_of(view, store)
    assert common_curves(found, groups) is with_common_curves
    trained, noisy = found.agreements["trained"], found.agreements["noisy"]
    assert len(found.distances["data"]) == 12
    assert found.agreements["untrained"] is None, "without noise, curves alone tell no two models apart"
    assert trained.rho > noisy.rho + 0.2
    assert trained.rho > with_common_curves.agreements["trained"].rho
    assert trained.rho > trained.shuffled_mean + 4 * trained.shuffled_sd
    assert found.agreements["geometry"].rho > found.agreements["geometry"].shuffled_95
    assert found.agreements["geometry"].p_value < 0.01

    (series,) = dataset_of(view.revision.trials[0].config).series
    study, names = series.blocks, list(series.names)
    assert isinstance(study, MegStudy)
    rows = np.array([names.index(name) for name in found.people.stimuli])
    signals = (study.signal(person)[found.people.compared][:, rows[:, None], rows] for person in range(12))
    true = distances_between_people(signals)
    rng = np.random.default_rng(0)
    assert agreement_of_distances(found.distances["trained"], true, rng=rng, num_permutations=99).rho > 0.6


def test_noise_added_to_stored_outputs_is_the_noise_of_the_model(people):
    task = people.task(subject="3")
    config = people.config(subject="3")
    state = task.init_state(1)
    (outputs,) = task.evaluate(state).outputs.values()
    draws = np.random.default_rng(0).standard_normal(outputs.shape).astype(np.float32)
    (stimuli,) = task._held_out.values()
    layers = task._feed.layers(state.parameters, stimuli, np.arange(len(stimuli)), untrained=True)
    noisy = task._feed.embeddings(state.parameters, layers, torch.from_numpy(draws), None, None)
    level = curves_of(config, dataset_of(config)).noise
    assert level.max() > 0.5
    np.testing.assert_allclose(with_noise(outputs, level, draws), noisy.numpy(), rtol=1e-4, atol=1e-5)
