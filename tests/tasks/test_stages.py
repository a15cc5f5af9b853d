"""The two-stage rule on made-up losses."""

import pytest
import torch

from sweeper.spec.variants.clip_hba_meg import Losses, Stages
from sweeper.tasks.base import TrainingState
from sweeper.tasks.meg.stages import begin, go_back, review


def walk(rule: Stages, losses: list[tuple[float, float]]) -> tuple[TrainingState, list[dict[str, float]]]:
    """Reviews an epoch for each pair of total and first loss; the only parameter is the number of the epoch."""
    untrained = {"w": torch.zeros(1)}
    state = TrainingState(parameters=dict(untrained), counters=begin(Losses(w1=1, w2=0.1, w3=0.15), pearson=0.8))
    told = []
    for epoch, (total, pearson) in enumerate(losses, start=1):
        go_back(state, untrained)
        state.parameters = {"w": torch.full((1,), float(epoch))}
        state.moments = {"step/w": torch.tensor(float(epoch))}
        told.append(review(state, rule, total, pearson, epoch))
    return state, told


def test_an_epoch_is_accepted_where_both_losses_fall_below_the_best() -> None:
    _, told = walk(Stages(patience=9), [(1.25, 0.7), (1.2, 0.8), (1.2, 0.79), (1.1, 0.79), (1.2, 0.5), (1.0, 0.4)])
    assert [values["accepted"] for values in told] == [0, 0, 1, 0, 0, 1], "the start is 1.25 and P0"


def test_patience_changes_the_stage_and_then_ends_training() -> None:
    better, worse = (1.0, 0.5), (2.0, 0.9)
    state, told = walk(Stages(patience=2), [better, worse, worse, (0.9, 0.4), worse, worse])
    assert [values["stage"] for values in told] == [1, 1, 1, 2, 2, 2]
    assert ["ended" in values for values in told] == [False] * 5 + [True]
    assert state.best["w"] == 4


def test_the_second_stage_begins_with_the_best_parameters_and_no_moments() -> None:
    state, _ = walk(Stages(patience=2), [(1.0, 0.5), (2.0, 0.9), (2.0, 0.9)])
    assert state.parameters["w"] == 3, "what was measured stays until the next epoch"
    go_back(state, {"w": torch.zeros(1)})
    assert (state.parameters["w"], state.moments) == (1, {})
    state.parameters = {"w": torch.ones(1) * 7}
    go_back(state, {"w": torch.zeros(1)})
    assert state.parameters["w"] == 7, "once only"


def test_without_an_accepted_epoch_it_goes_back_to_the_untrained_model() -> None:
    state, _ = walk(Stages(patience=1), [(2.0, 0.9)])
    go_back(state, {"w": torch.zeros(1)})
    assert state.parameters["w"] == 0


@pytest.mark.parametrize("patience", [None, 2])
def test_a_fixed_first_stage_is_as_long_as_it_says_whatever_its_losses(patience) -> None:
    _, told = walk(Stages(switch="epochs", epochs=3, patience=patience), [(2.0, 0.9)] * 6)
    assert [values["stage"] for values in told] == [1, 1, 1, 2, 2, 2]
    assert [bool(values.get("ended")) for values in told] == [False] * 4 + [patience == 2] * 2
