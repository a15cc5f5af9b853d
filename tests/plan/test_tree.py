"""The tree: every state once, contiguous paths, and segments that start where another one ends."""

from collections import Counter
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.plan.tree import Tree, build_tree
from sweeper.plan.trials import Trial


def spans(tree: Tree, trial: Trial) -> list[tuple[int, int]]:
    """Returns first and last epoch of each segment on a trial's path."""
    segments = (tree.segments[segment_id] for segment_id in tree.paths[trial.trial_id])
    return [(segment.first_epoch, segment.last_epoch) for segment in segments]


def check(trials: tuple[Trial, ...]) -> Tree:
    """Checks what holds for every tree."""
    tree = build_tree(trials)
    wanted = {state for trial in trials for state in trial.lineage.state_ids}
    held = Counter(state for segment in tree.segments.values() for state in segment.states.values())
    assert set(held) == wanted
    assert set(held.values()) == {1}
    seen: set[str | None] = {None}
    for segment_id, segment in tree.segments.items():
        assert segment.parent in seen, "parents come before children"
        seen.add(segment_id)
        assert segment.segment_id == segment_id == segment.states[segment.last_epoch]
        assert (segment.parent is None) == (segment.first_epoch == 0)
        assert list(segment.states) == list(range(segment.first_epoch, segment.last_epoch + 1))
        if segment.parent is not None:
            assert tree.segments[segment.parent].last_epoch == segment.first_epoch - 1
    for trial in trials:
        path = [tree.segments[segment_id] for segment_id in tree.paths[trial.trial_id]]
        ids = trial.lineage.state_ids
        assert all(segment.states[e] == ids[e] for segment in path for e in segment.states if e < len(ids))
        assert [b.parent for _, b in pairwise(path)] == [a.segment_id for a, _ in pairwise(path)]
        assert path[0].first_epoch == 0
        assert path[-1].first_epoch <= trial.lineage.last_epoch <= path[-1].last_epoch
        assert all(trial.trial_id in segment.trials for segment in path)
    passing = {(trial, s) for s, segment in tree.segments.items() for trial in segment.trials}
    assert passing == {(trial, s) for trial, path in tree.paths.items() for s in path}
    return tree


def test_a_lone_baseline_is_one_segment(hand) -> None:
    shop = hand.shop(hand.config())
    tree = check(shop.trials)
    assert spans(tree, shop.trials[0]) == [(0, 12)]


def test_a_grid_shares_trunk_and_windows(hand) -> None:
    shop = hand.grid([3, 6], [1, 2])
    tree = check(shop.trials)
    assert spans(tree, shop.baseline) == [(0, 2), (3, 5), (6, 12)]
    assert spans(tree, shop.trial(3, 1)) == [(0, 2), (3, 3), (4, 7)]
    assert spans(tree, shop.trial(3, 2)) == [(0, 2), (3, 3), (4, 4), (5, 8)]
    assert len(tree.segments) == 3 + 2 * 4
    shared = tree.segments[tree.paths[shop.trial(3, 2).trial_id][1]]
    assert set(shared.trials) == {shop.trial(3, 1).trial_id, shop.trial(3, 2).trial_id}


def test_a_fork_at_epoch_1_makes_the_untrained_model_a_segment(hand) -> None:
    shop = hand.grid([1], [2])
    tree = check(shop.trials)
    assert spans(tree, shop.baseline) == [(0, 0), (1, 12)]
    assert spans(tree, shop.trial(1, 2)) == [(0, 0), (1, 2), (3, 6)]
    root = tree.segments[shop.baseline.lineage.root]
    assert (root.regime, root.parent, list(root.epochs)) == (None, None, [])


def test_trials_with_two_windows_share_all_up_to_the_second(hand) -> None:
    one, two = hand.config(hand.window(2, 2)), hand.config(hand.window(2, 2), hand.window(6))
    shop = hand.shop(one, two)
    tree = check(shop.trials)
    assert spans(tree, shop.trials[0]) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert spans(tree, shop.trials[1]) == [(0, 1), (2, 3), (4, 5), (6, 6), (7, 10)]
    assert tree.paths[shop.trials[0].trial_id][:3] == tree.paths[shop.trials[1].trial_id][:3]


def test_lengths_of_a_reset_share_one_path(hand) -> None:
    windows = [hand.window(3, length, "reset_optimizer") for length in (1, 2, 4)]
    shop = hand.shop(*(hand.config(window) for window in windows))
    tree = check(shop.trials)
    assert len(tree.segments) == 4  # trunk before and after, the reset, and what follows it
    assert len({tree.paths[trial.trial_id] for trial in shop.trials[:3]}) == 1


def test_states_are_kept_where_windows_fork_and_in_windows(hand) -> None:
    shop = hand.grid([3], [2])
    tree = check(shop.trials)
    kept = {(s.first_epoch, s.last_epoch): s.keep_all for s in tree.segments.values()}
    assert kept == {(0, 2): True, (3, 12): True, (3, 4): True, (5, 8): False}


def test_states_of_a_window_that_nothing_follows_are_kept(hand) -> None:
    tree = check(hand.grid([11], [5]).trials)
    assert [segment.keep_all for segment in tree.segments.values()] == [True, True, True]


def test_extending_a_grid_keeps_every_state(hand) -> None:
    small, large = hand.grid([3], [1, 2]), hand.grid([1, 3, 5], [1, 2, 4])
    states = [
        {s for segment in shop.tree.segments.values() for s in segment.states.values()} for shop in (small, large)
    ]
    assert states[0] < states[1]
    assert {trial.trial_id for trial in small.trials} < {trial.trial_id for trial in large.trials}


def test_the_tree_does_not_depend_on_the_order_of_the_trials(hand) -> None:
    trials = hand.grid([1, 3, 5], [1, 2]).trials
    forward, backward = check(trials), check(tuple(reversed(trials)))
    assert forward.paths == backward.paths
    assert forward.segments.keys() == backward.segments.keys()
    for segment_id, segment in forward.segments.items():
        other = backward.segments[segment_id]
        assert (segment.parent, segment.states, segment.keep_all) == (other.parent, other.states, other.keep_all)
        assert set(segment.trials) == set(other.trials)


def test_sweeps_that_overlap_share_ids(hand) -> None:
    one, two = hand.grid([2, 4], [1, 2]), hand.grid([4, 6], [2, 3])
    common = {trial.trial_id for trial in one.trials} & {trial.trial_id for trial in two.trials}
    assert common == {one.trial(4, 2).trial_id, one.baseline.trial_id}


WINDOW = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["random_target", "freeze", "reset_optimizer"]),
        "start": st.integers(1, 10),
        "length": st.integers(1, 4),
    }
)
TRIAL = st.tuples(st.lists(WINDOW, max_size=3), st.integers(1, 2), st.sampled_from([10, 12]))


@given(drawn=st.lists(TRIAL, min_size=1, max_size=8), rule=st.sampled_from(["horizon", "vp"]))
def test_every_random_sweep_is_a_tree(hand, drawn: list[Any], rule: str) -> None:
    stopping = {"horizon_after_window": 3} if rule == "horizon" else {"rule": "vp", "patience": 2}
    configs = [
        hand.config(*windows, seeds=seed, stopping=stopping, training={"max_epochs": last})
        for windows, seed, last in drawn
    ]
    check(hand.trials(configs))


@pytest.mark.parametrize("lengths", [range(1, 5)])
def test_the_tree_trains_what_brute_force_counts(hand, lengths) -> None:
    shop = hand.grid(range(1, 7), lengths)
    tree = check(shop.trials)
    stretch = {("trunk", 0, epoch) for epoch in range(1, 13)}
    for start, length in product(range(1, 7), lengths):
        stretch |= {("window", start, epoch) for epoch in range(start, start + length)}
        stretch |= {("after", (start, length), epoch) for epoch in range(start + length, min(start + length + 4, 13))}
    assert sum(len(segment.epochs) for segment in tree.segments.values()) == len(stretch)
