from dataclasses import FrozenInstanceError

import pandas as pd
import pytest

from sweeper.metrics.rdm import UndefinedMetric
from sweeper.metrics.summary import (
    BaselineDelta,
    HeatmapDeviation,
    TrialSummary,
    baseline_delta,
    heatmap_deviation,
    summarize_trial,
)

LOSS = {0: 1.0, 1: 9.0, 2: 5.0, 3: 6.0, 4: 5.0, 5: 7.0}
RSA = {0: 0.99, 1: 0.1, 2: 0.5, 3: 0.8, 4: 0.4, 5: 0.6}


def test_summary_of_an_unperturbed_trial_begins_at_epoch_1():
    assert summarize_trial(LOSS, RSA) == TrialSummary(
        best_val_loss=5.0,
        best_epoch=2,
        final_val_loss=7.0,
        rsa_at_best_val_loss=0.5,
        final_rsa=0.6,
        max_rsa=0.8,
        last_epoch=5,
    )


def test_summary_of_a_fork_begins_at_its_start_and_holds_its_window():
    assert summarize_trial(pd.Series(LOSS), pd.Series(RSA), start=3) == TrialSummary(
        best_val_loss=5.0,
        best_epoch=4,
        final_val_loss=7.0,
        rsa_at_best_val_loss=0.4,
        final_rsa=0.6,
        max_rsa=0.8,
        last_epoch=5,
    )


def test_a_peak_before_the_start_is_not_the_forks():
    assert summarize_trial(LOSS, RSA, start=4).max_rsa == 0.6


def test_undefined_rsa_is_none_and_is_not_borrowed_from_another_epoch():
    own = summarize_trial(LOSS, {**RSA, 2: None, 5: float("nan")})
    assert (own.rsa_at_best_val_loss, own.final_rsa, own.max_rsa) == (None, None, 0.8)
    assert summarize_trial(LOSS, {}).max_rsa is None


def test_a_trial_without_rows_is_undefined():
    with pytest.raises(UndefinedMetric, match="no validation loss from epoch 6 on"):
        summarize_trial(LOSS, RSA, start=6)


def test_summaries_are_frozen():
    with pytest.raises(FrozenInstanceError):
        summarize_trial(LOSS, RSA).max_rsa = 1.0


# The trimmed baseline is epochs 1..3.
BASE_LOSS = {0: 0.5, 1: 8.0, 2: 6.0, 3: 4.0, 4: 4.5, 5: 4.0}
BASE_RSA = {0: 0.95, 1: 0.2, 2: 0.6, 3: 0.5, 4: 0.9, 5: 0.9}


@pytest.mark.parametrize(
    ("epoch", "loss", "rsa"),
    [
        (2, -1.0, 0.5 - 0.6),
        (3, 2.0, 0.8 - 0.5),
        (4, None, None),  # beyond the trimmed baseline
        (9, None, None),
    ],
)
def test_delta_is_trial_minus_trimmed_baseline(epoch, loss, rsa):
    assert baseline_delta(LOSS, RSA, BASE_LOSS, BASE_RSA, epoch=epoch) == BaselineDelta(val_loss=loss, rsa=rsa)


def test_delta_is_none_where_one_side_has_no_value():
    assert baseline_delta({3: 1.0}, {2: 0.3}, BASE_LOSS, BASE_RSA, epoch=2) == BaselineDelta(
        val_loss=None, rsa=0.3 - 0.6
    )
    with pytest.raises(UndefinedMetric, match="no validation loss"):
        baseline_delta(LOSS, RSA, {}, BASE_RSA, epoch=2)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (2, HeatmapDeviation(max_rsa=0.8 - 0.6, max_rsa_same_epochs=0.8 - 0.6, min_val_loss=1.0)),
        (3, HeatmapDeviation(max_rsa=0.8 - 0.6, max_rsa_same_epochs=0.8 - 0.5, min_val_loss=1.0)),
        (5, HeatmapDeviation(max_rsa=0.6 - 0.6, max_rsa_same_epochs=None, min_val_loss=3.0)),
    ],
)
def test_heat_map_cells(start, expected):
    assert heatmap_deviation(LOSS, RSA, BASE_LOSS, BASE_RSA, start=start) == expected


def test_heat_map_cells_without_alignment_are_none():
    found = heatmap_deviation(LOSS, {2: None}, BASE_LOSS, BASE_RSA, start=2)
    assert found == HeatmapDeviation(max_rsa=None, max_rsa_same_epochs=None, min_val_loss=1.0)
