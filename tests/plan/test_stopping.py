"""Stopping: the published rules on hand-made curves and on every published run."""

import csv
import gzip
import math
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import pytest

from sweeper.plan.stopping import Stop, is_wanted
from sweeper.records import FinalLoss

GOLDEN = Path(__file__).parents[1] / "golden" / "published_runs.csv.gz"
Run = tuple[str, int]


def stop(rule: str = "vp", patience: int | None = 2, start: int = 1, windows=(), last_epoch: int = 20) -> Stop:
    return Stop(rule=rule, patience=patience, start=start, windows=tuple(windows), last_epoch=last_epoch)


def curve(*losses: float, first: int = 0) -> dict[int, float]:
    return dict(enumerate(losses, first))


def test_a_baseline_ends_after_so_many_epochs_without_a_new_best() -> None:
    assert stop().ended_at(curve(9, 8, 7, 7.5, 7.2)) == 4
    assert stop().ended_at(curve(9, 8, 7, 7.5)) is None


def test_an_equal_loss_is_no_improvement() -> None:
    assert stop().ended_at(curve(9, 8, 8, 8)) == 3


def test_a_new_best_starts_the_count_again() -> None:
    assert stop().ended_at(curve(9, 8, 8.5, 7, 7.5, 7.5)) == 5


def test_the_untrained_model_is_the_first_best_of_a_baseline() -> None:
    assert stop().ended_at(curve(5, 8, 7)) == 2
    assert stop(rule="cp").ended_at(curve(5, 8, 7)) == 2


def test_a_trial_ends_where_it_stopped_whatever_comes_after() -> None:
    assert stop().ended_at(curve(5, 8, 7, 1, 1, 1)) == 2


def test_every_rule_ends_at_the_last_epoch() -> None:
    falling = curve(*range(30, 0, -1))
    assert stop(last_epoch=4).ended_at(falling) == 4
    assert stop(rule="horizon", patience=None, last_epoch=4).ended_at(falling) == 4
    assert stop(rule="horizon", patience=None, last_epoch=4).ended_at(curve(4, 3, 2, 1)) is None


def test_a_gap_leaves_the_end_open() -> None:
    with_gap = curve(5, 8, 7) | {4: 9.0, 5: 9.0}
    assert stop(patience=3).ended_at(with_gap) is None
    assert stop(last_epoch=4).ended_at({1: 8.0, 2: 9.0, 3: 9.0, 4: 9.0}) is None, "the first best is unknown"


def test_vp_forgets_the_baseline_at_a_fork() -> None:
    fork = stop(start=3, windows=[(3, 3)])
    assert fork.ended_at(curve(9, 5, 1, 50, 40, 41, 42)) == 6
    assert fork.ended_at(curve(50, 40, 41, 42, first=3)) == 6, "nor needs to know it"


def test_vp_does_not_count_inside_the_window_but_takes_a_best_there() -> None:
    fork = stop(start=1, windows=[(1, 4)])
    assert fork.ended_at(curve(9, 10, 11, 12, 13)) is None
    assert fork.ended_at(curve(9, 10, 11, 12, 13, 10.5, 10.2)) == 6, "10 in the window is the best"
    assert fork.ended_at(curve(9, 10, 11, 12, 13, 9.5, 9.6, 9.7)) == 7


def test_vp_keeps_its_count_across_a_second_window() -> None:
    fork = stop(start=1, windows=[(1, 1), (3, 4)])
    assert fork.ended_at(curve(9, 5, 6, 6, 6)) is None, "one epoch counted, two in the window"
    assert fork.ended_at(curve(9, 5, 6, 6, 6, 6)) == 5


def test_cp_counts_inside_the_window_from_the_baselines_loss() -> None:
    fork = stop(rule="cp", start=3, windows=[(3, 8)])
    assert fork.ended_at(curve(9, 8, 7, 7.5, 7.2)) == 4
    assert fork.ended_at(curve(9, 8, 7, 7.5, 6.9, 7, 7)) == 6


def test_nothing_is_wanted_before_the_start_or_after_the_end() -> None:
    fork = stop(start=3, windows=[(3, 3)], last_epoch=5)
    falling = curve(9, 8, 7, 6, 5)
    assert [is_wanted([fork], epoch, falling) for epoch in range(7)] == [True, False, False, True, True, True, False]


def test_an_epoch_is_wanted_while_one_trial_wants_it() -> None:
    patient, impatient = stop(patience=4), stop(patience=1)
    assert not is_wanted([impatient], 3, curve(5, 6, 7))
    assert is_wanted([impatient, patient], 3, curve(5, 6, 7))
    assert not is_wanted([], 3, curve(5, 6, 7))


@pytest.mark.parametrize(
    ("stopping", "last"), [({"horizon_after_window": 3}, 8), ({}, 12), ({"rule": "vp", "patience": 5}, 12)]
)
def test_a_trial_can_reach_the_horizon_or_the_last_epoch(hand, stopping, last) -> None:
    config = hand.config(hand.window(2), hand.window(4, 2), stopping=stopping)
    assert Stop.of(config).last_epoch == last
    assert Stop.of(config).windows == ((2, 2), (4, 5))
    assert Stop.of(config.baseline()).last_epoch == 12


def test_a_stop_survives_json() -> None:
    one = stop(windows=[(3, 4), (6, 6)], start=3)
    assert Stop.from_json({**asdict(one), "windows": [[3, 4], [6, 6]]}) == one


@pytest.fixture(scope="module")
def published() -> dict[Run, tuple[Stop, dict[int, float]]]:
    """Returns stop (patience left open) and curve of each published run."""
    losses: dict[Run, dict[int, float]] = defaultdict(dict)
    disturbed: dict[Run, list[int]] = defaultdict(list)
    with gzip.open(GOLDEN, "rt", newline="") as file:
        for row in csv.DictReader(file):
            run = row["group"], int(row["start"])
            losses[run][int(row["epoch"])] = float(row["test_loss"])
            disturbed[run] += [int(row["epoch"])] if row["disturbed"] == "1" else []
    runs = {}
    for run, measured in losses.items():
        window = disturbed[run]
        windows = [(window[0], window[-1])] if window else []
        # the untrained model's loss was not published; it lies far above
        losses_with_start = measured if window else {0: math.inf, **measured}
        runs[run] = stop(patience=20, start=run[1] or 1, windows=windows, last_epoch=500), losses_with_start
    return runs


def published_end(run: tuple[Stop, dict[int, float]], patience: int) -> int | None:
    rule, losses = run
    return stop(patience=patience, start=rule.start, windows=rule.windows, last_epoch=500).ended_at(losses)


@pytest.mark.parametrize(("seed", "end"), [(1, 118), (2, 112)])
def test_the_published_baselines_end_where_they_did(published, seed, end) -> None:
    assert published_end(published[f"baseline_seed{seed}", 0], 20) == end


SWEEP_GROUPS = {"single_epoch_sweep", "target_noise"}  # stopped with patience 10, and copies of these
CUT = {("image_noise", 45)}  # ends at its own minimum


def test_every_published_run_ends_by_the_rule_where_its_file_ends(published) -> None:
    """121 runs; run 56 of the sweep, redone with patience 20, is not among them (docs/methods.md 2.2)."""
    ends = {run: max(losses) for run, (_, losses) in published.items() if run not in CUT}
    patience = {run: 10 if run[0] in SWEEP_GROUPS else 20 for run in ends}
    assert {run: published_end(published[run], patience[run]) for run in ends} == ends
    assert (len(ends), sum(p == 10 for p in patience.values())) == (120, 56)


def test_the_cut_run_had_not_ended(published) -> None:
    assert [published_end(published[run], 10) for run in CUT] == [None]


def test_cp_would_have_ended_long_published_windows_inside(published) -> None:
    """Why the two rules are two: the successor counts inside windows (docs/methods.md 2.2)."""
    baseline = published["baseline_seed1", 0][1]
    rule, losses = published["length_40", 40]
    ended = stop(rule="cp", patience=20, start=40, windows=rule.windows, last_epoch=500).ended_at(
        {39: baseline[39], **losses}
    )
    assert ended == 59
    assert rule.windows == ((40, 79),)


@pytest.mark.parametrize("rule", ["horizon", "vp", "cp"])
def test_a_final_loss_ends_a_trial_whatever_its_rule(rule) -> None:
    patience = None if rule == "horizon" else 5
    stop = Stop(rule=rule, patience=patience, start=1, windows=(), last_epoch=9)
    curve = {epoch: 10.0 - epoch for epoch in range(4)}
    assert stop.ended_at(curve) is None
    curve[4] = FinalLoss(6.0)
    assert stop.ended_at(curve) == 4
    assert not is_wanted([stop], 5, curve)
