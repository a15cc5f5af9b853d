"""Scores of real stimuli come out as known (docs/methods.md 1.1, 1.6); skipped where the data is not."""

import csv

import numpy as np
import pytest
from scipy.io import loadmat

from sweeper.metrics.noise_ceiling import noise_ceiling, split_half
from sweeper.metrics.rdm import compute_rdm
from sweeper.metrics.rsa import rsa_score, rsa_standard_error
from sweeper.metrics.triplets import (
    num_distinct,
    odd_one_out_accuracy,
    odd_one_out_hits,
    odd_one_out_hits_from_similarity,
    standard_error,
)


@pytest.fixture(scope="module")
def behaviour(real_data):
    with np.load(real_data / "things_behaviour.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def photos(real_data):
    with np.load(real_data / "thingsplus484_targets.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def objects(real_data):
    with np.load(real_data / "objects92.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file if name.startswith("rdm_")}


@pytest.fixture(scope="module")
def lab(real_data):
    """Returns the lab's 48 SPoSE rows (one mislabelled), their names, and the triplet RDM in the same order."""
    with (real_data / "lab_files" / "spose_embedding66d_rescaled_48val_reordered.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    embedding = np.array([[float(value) for value in row[2:]] for row in rows])
    rdm = loadmat(real_data / "lab_files" / "RDM48_triplet.mat")["RDM48_triplet"]
    return embedding, np.array([row[1] for row in rows]), rdm


def test_spose_ceiling_against_the_triplet_rdm(lab, goldens):
    embedding, names, rdm = lab
    golden = goldens["data"]
    found = {
        "spose_pearson_rdm_vs_triplet_spearman": compute_rdm(embedding),
        "spose_cosine_rdm_vs_triplet_spearman": compute_rdm(embedding, "cosine"),
        "spose_alphabetical_order_vs_triplet_spearman": compute_rdm(embedding[np.argsort(names)]),
        "spose_two_rank_scrambled_vs_triplet_spearman": compute_rdm(embedding[np.r_[0:48:2, 1:48:2]]),
    }
    for name, model_rdm in found.items():
        assert rsa_score(model_rdm, rdm) == pytest.approx(golden[name], abs=1e-14), name


def test_spose_ceiling_with_the_mislabelled_row_repaired(behaviour):
    index, rdm = behaviour["rdm48_index"], behaviour["rdm48"]
    assert rsa_score(compute_rdm(behaviour["spose66"][index]), rdm) == pytest.approx(0.8648, abs=5e-5)
    alphabetical = compute_rdm(behaviour["spose66"][np.sort(index)])
    assert rsa_score(alphabetical, rdm) == pytest.approx(0.037, abs=5e-4)


def test_prompt_offsets_move_the_plain_rsa_only(lab):
    embedding, _, rdm = lab
    rng = np.random.default_rng(0)
    for spread, expected in ((5, 0.82), (10, 0.79), (20, 0.77)):
        offsets = spread * rng.normal(size=(50, 66))
        plain = np.mean([rsa_score(compute_rdm(embedding + offset), rdm) for offset in offsets])
        assert plain == pytest.approx(expected, abs=0.01)
        centered = rsa_score(compute_rdm(embedding + offsets[0], center=True), rdm)
        assert centered == pytest.approx(0.760, abs=5e-4)


def test_stimulus_bootstrap_of_the_ceiling(lab):
    embedding, _, rdm = lab
    error = rsa_standard_error(compute_rdm(embedding), rdm, num_bootstraps=1000, rng=np.random.default_rng(0))
    assert error == pytest.approx(0.022, abs=0.002)


def test_objects92(objects):
    human = objects["rdm_hIT"]
    assert rsa_score(human, objects["rdm_mIT"]) == pytest.approx(0.439, abs=5e-4)
    assert rsa_score(human, objects["rdm_cichy_fmri_IT"].mean(axis=0)) == pytest.approx(0.528, abs=5e-4)
    assert rsa_score(objects["rdm_behav_subject"].mean(axis=0), human) == pytest.approx(0.373, abs=5e-4)
    order = np.random.default_rng(0).permutation(92)
    assert abs(rsa_score(human[np.ix_(order, order)], objects["rdm_mIT"])) < 0.05


def test_objects92_noise_ceilings_equal_rsatoolbox(objects):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    for name in ("rdm_cichy_fmri_IT", "rdm_behav_subject"):
        subjects = rsatoolbox.rdm.RDMs(objects[name])
        found = noise_ceiling(objects[name])
        expected = rsatoolbox.inference.boot_noise_ceiling(subjects, method="spearman")
        assert (found.lower, found.upper) == pytest.approx(expected, abs=1e-10)
        assert found.lower < split_half(objects[name], rng=np.random.default_rng(0)) < 1


def test_odd_one_out(behaviour):
    trials = behaviour["triplets"], behaviour["odd_position"]
    assert odd_one_out_accuracy(behaviour["spose66"], *trials) == pytest.approx(0.644, abs=5e-4)
    assert odd_one_out_accuracy(behaviour["vice42"], *trials) == pytest.approx(0.637, abs=5e-4)
    rng = np.random.default_rng(0)
    shuffled = [odd_one_out_accuracy(rng.permutation(behaviour["spose66"]), *trials) for _ in range(8)]
    assert np.mean(shuffled) == pytest.approx(1 / 3, abs=0.015)


@pytest.mark.parametrize(("embedding", "expected", "error"), [("spose66", 0.709, 0.041), ("vice42", 0.695, 0.048)])
def test_odd_one_out_of_the_local_photos(photos, embedding, expected, error):
    hits = odd_one_out_hits(photos[embedding], photos["triplets_local"], photos["odd_position"])
    assert hits.mean() == pytest.approx(expected, abs=5e-4)
    assert num_distinct(photos["triplets_local"]) == 14
    assert standard_error(hits, photos["triplets_local"]) == pytest.approx(error, abs=5e-4)


def test_real_clip(real_data, photos):
    with (real_data / "thingsplus484.csv").open(newline="") as file:
        row_in_clip = np.array([int(row["clip432_index"]) for row in csv.DictReader(file)])
    triplets = row_in_clip[photos["triplets_local"]]
    covered = (triplets >= 0).all(axis=1)
    hits = odd_one_out_hits_from_similarity(
        photos["clip_vitb32_sim"], triplets[covered], photos["odd_position"][covered]
    )
    assert len(hits) == 177
    assert hits.mean() == pytest.approx(0.655, abs=5e-4)
    has_clip = np.flatnonzero(row_in_clip >= 0)
    spose = photos["spose66"][has_clip[np.argsort(row_in_clip[has_clip])]]
    assert rsa_score(photos["clip_vitb32_sim"], spose @ spose.T) == pytest.approx(0.46, abs=5e-4)
