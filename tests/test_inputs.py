"""Data sets are opened once, whatever the seed; where the seed chooses what is held out, they differ."""

from typing import Any

from sweeper.inputs import dataset_of
from sweeper.spec.schema import TrialConfig


def config_of(seed: int, **data: Any) -> TrialConfig:
    fields = {"data": {"manifest": "builtin:selfmade", **data}, "model": {}, "seeds": seed}
    return TrialConfig.model_validate(fields)


def test_seeds_share_a_data_set_that_no_seed_chooses() -> None:
    assert dataset_of(config_of(1)) is dataset_of(config_of(2))


def test_the_seed_chooses_folds_and_a_smaller_training_set() -> None:
    for data in ({"folds": 4, "fold": 1}, {"train_size": 40}):
        one, other = (dataset_of(config_of(seed, **data)).pool for seed in (1, 2))
        assert one.digest != other.digest
