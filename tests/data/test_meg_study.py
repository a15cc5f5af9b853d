"""The simulated MEG: the same bits everywhere, pixels before meaning, people whose differences are known."""

import hashlib
from functools import lru_cache
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sweeper.data.dataset import Dataset, open_dataset
from sweeper.data.manifest import Manifest
from sweeper.data.meg_study import MegStudy, Person, simulate_people
from sweeper.data.series import RdmSeries
from sweeper.data.synthetic import make_demo_set
from sweeper.inputs import manifest_of
from sweeper.metrics.time_curves import time_curves

# Changed values change every state of every demo and test of MEG: raise `VERSION` knowingly, never here alone.
GOLDEN = {
    (0, 0): "f77d5459771781501b59b4dfbe0e164b5cfc98f800ceb08344ca46ccb18ff2b2",
    (3, 9): "51f00a4c095573f1051577853253ddbda7ba4a8de674c5a6369b594095b84a4b",
    (11, 39): "b4bf4ec381fac65b4f6ca304fe21b7562b2a87b4a9e72bbbaba760052328b924",
}


@lru_cache(maxsize=1)
def data() -> Dataset:
    return open_dataset(manifest_of("builtin:selfmade-meg"))


@lru_cache(maxsize=1)
def small() -> RdmSeries:
    generator = {"name": "drawings", "num_train": 40, "num_test": 24, "seed": 1, "participants": 4}
    (series,) = open_dataset(Manifest.model_validate({"name": "small", "generator": generator})).series
    return series


def study() -> MegStudy:
    return cast(MegStudy, data().series[0].blocks)


def upper(rdm: NDArray[np.float64]) -> NDArray[np.float64]:
    return rdm[..., *np.triu_indices(rdm.shape[-1], 1)]


@pytest.mark.parametrize("place", sorted(GOLDEN))
def test_every_bit_is_the_recorded_one(place: tuple[int, int]) -> None:
    participant, time = place
    assert hashlib.sha256(study().read(participant, range(time, time + 1)).tobytes()).hexdigest() == GOLDEN[place]


def test_the_study_covers_pool_and_held_out_pictures() -> None:
    assert (len(data().pool), len(data().series)) == (240, 1)
    series, held_out = data().series[0], data().held_out
    assert held_out is not None
    assert series.uncovered((*data().pool.names, *held_out.images.names)) == []
    assert series.participants == tuple(map(str, range(1, 13)))
    assert (series.times[0], series.times[-1], len(series.times), series.onset) == (-100, 875, 40, 5)


def test_the_drawings_are_those_of_the_study_without_meg() -> None:
    plain = open_dataset(manifest_of("builtin:selfmade"))
    assert (data().pool.digest, data().target_digest) == (plain.pool.digest, plain.target_digest)


def test_rdms_are_like_decoding_accuracies() -> None:
    rdms = small().blocks.read(2, range(40))
    np.testing.assert_array_equal(rdms, rdms.swapaxes(1, 2))
    assert np.all(rdms[:, range(64), range(64)] == 0)
    pairs = upper(rdms)
    assert np.all(np.abs(pairs[:5].mean(axis=1) - 0.5) < 0.005)
    assert np.percentile(pairs[:5], [1, 99]) == pytest.approx([0.455, 0.545], abs=0.02)
    assert 0.4 <= pairs.min() < 0.47
    assert 0.8 < pairs.max() <= 0.98


def test_pixels_come_before_meaning() -> None:
    demo = make_demo_set(num_train=1, seed=1)
    series, held_out = data().series[0], data().held_out
    assert held_out is not None
    rdms = upper(series.mean(("1", "2", "3"), held_out.images.names).all().astype(np.float64))
    meant, seen = (upper(1 - np.corrcoef(x.reshape(48, -1))) for x in (demo.test_targets, demo.test_images))
    early, late = (int(np.flatnonzero(series.times == ms)[0]) for ms in (125, 500))
    assert spearmanr(rdms[early], seen)[0] > 0.7 > 0.5 > spearmanr(rdms[early], meant)[0]
    assert spearmanr(rdms[late], meant)[0] > 0.7 > 0.5 > spearmanr(rdms[late], seen)[0]
    assert abs(spearmanr(rdms[2], meant)[0]) < 0.15


def test_parts_and_rows_are_parts_of_the_whole() -> None:
    blocks, rows = small().blocks, np.array([7, 0, 30])
    whole = blocks.read(1, range(40))
    np.testing.assert_array_equal(blocks.read(1, range(10, 13)), whole[10:13])
    np.testing.assert_array_equal(blocks.read(1, range(10, 13), rows), whole[10:13][:, rows[:, None], rows])


def test_people_are_those_of_a_larger_group_and_all_different() -> None:
    people = simulate_people(12, 1)
    assert simulate_people(5, 1) == people[:5]
    assert len(set(people)) == 12
    assert not set(people) & set(simulate_people(12, 2))


def test_interests_weigh_dimensions() -> None:
    def person(**interests: float) -> Person:
        still = {
            "early_gain": 0.2,
            "late_gain": 0.3,
            "early_latency_ms": 100.0,
            "late_latency_ms": 300.0,
            "noise_sd": 0.0,
        }
        return Person(**{**still, "living": 0.0, "colour": 0.0, **interests})

    assert np.all(person().weights == 1)
    living = person(living=1.0).weights
    assert living[2] == pytest.approx(np.e)  # the dimension of animals
    assert living[7] == pytest.approx(1 / np.e)  # of vehicles
    assert person(colour=1.0).weights[23] == pytest.approx(np.e)  # red
    early, late = person().gains(np.array([-50.0, 0.0, 100.0, 300.0]))
    assert early[:2].tolist() == late[:2].tolist() == [0, 0]
    assert early[2] == pytest.approx(0.2, abs=1e-3)
    assert late[3] == pytest.approx(0.15, abs=1e-3)


def test_every_person_has_time_curves() -> None:
    series = small()
    curves = [time_curves([rdm], series.onset) for rdm in series.each(series.participants, series.names)]
    for found in curves:
        assert found.alpha[:5].max() == found.beta[:5].max() == 0
        assert 5 <= int(np.argmax(found.alpha)) < 30
    assert len({found.alpha.tobytes() for found in curves}) == 4


def test_the_digest_stands_for_seed_people_and_pictures() -> None:
    one = small().blocks
    assert isinstance(one, MegStudy)
    other = MegStudy(people=one.people[:3], images=one.images, targets=one.targets, seed=one.seed)
    assert len({one.digest, other.digest, study().digest}) == 3
