"""The frontier against looking at every pending segment each time."""

from collections.abc import Iterator
from random import Random
from types import SimpleNamespace

import pytest

from sweeper.execution.frontier import Frontier
from sweeper.plan.tree import Tree

Parents = list[int | None]


class Plain:
    """Says what the frontier should say, by looking at everything."""

    def __init__(self, tree: Tree, baselines: set[str]) -> None:
        self.tree, self.baselines = tree, baselines
        self.pending, self.running = set(tree.segments), set[str]()

    def ready(self) -> list[str]:
        return [
            name
            for name, segment in self.tree.segments.items()
            if name in self.pending and name not in self.running and segment.parent not in self.pending
        ]

    def remaining(self, name: str) -> int:
        below = [self.remaining(child) for child in self.tree.children.get(name, ())]
        return len(self.tree.segments[name].epochs) + max(below, default=0)

    def take(self, trial: str) -> str | None:
        places = list(self.tree.segments)

        def urgency(name: str) -> tuple[bool, bool, int, int]:
            trials = self.tree.segments[name].trials
            return bool(self.baselines & set(trials)), trial in trials, self.remaining(name), -places.index(name)

        chosen = max(self.ready(), key=urgency, default=None)
        if chosen is not None:
            self.running.add(chosen)
        return chosen


def tree_of(parents: Parents, lengths: list[int]) -> Tree:
    """Makes a tree in which every leaf is the end of one trial."""
    segments: dict[str, SimpleNamespace] = {}
    paths: dict[str, tuple[str, ...]] = {}
    for index, parent in enumerate(parents):
        trials = [f"t{leaf}" for leaf in range(len(parents)) if leaf not in parents and index in way(parents, leaf)]
        above = None if parent is None else f"s{parent}"
        segments[f"s{index}"] = SimpleNamespace(parent=above, trials=tuple(trials), epochs=range(lengths[index]))
    for leaf in range(len(parents)):
        if leaf not in parents:
            paths[f"t{leaf}"] = tuple(f"s{index}" for index in sorted(way(parents, leaf)))
    return Tree(segments=segments, paths=paths)  # type: ignore[arg-type]


def way(parents: Parents, index: int | None) -> Iterator[int]:
    while index is not None:
        yield index
        index = parents[index]


@pytest.mark.parametrize("seed", range(60))
def test_it_hands_out_what_looking_at_everything_would(seed: int) -> None:
    draw = Random(seed)
    count = draw.randint(1, 12)
    parents: Parents = [draw.choice([None, *range(index)]) for index in range(count)]
    tree = tree_of(parents, [draw.randint(1, 3) for _ in parents])
    trials = sorted(tree.paths)
    baselines = set(draw.sample(trials, draw.randint(0, min(2, len(trials)))))
    frontier, plain = Frontier(tree, baselines, tree.segments), Plain(tree, baselines)
    while plain.pending:
        step = draw.choice(["take"] * 6 + ["settle"] * 3 + ["give back", "want"])
        running, settled = sorted(plain.running), sorted(tree.segments.keys() - plain.pending)
        if step == "take":
            trial = draw.choice(trials)
            assert frontier.take(trial) == plain.take(trial)
        elif step == "settle" and running:
            name = draw.choice(running)
            plain.running.remove(name)
            plain.pending.remove(name)
            frontier.settle(name)
            frontier.give_back(name)
        elif step == "give back" and running:
            name = draw.choice(running)
            plain.running.remove(name)
            frontier.give_back(name)
        elif step == "want" and settled:
            name = draw.choice(settled)
            plain.pending.add(name)
            frontier.want(name)
        assert frontier.num_usable == len(plain.running) + len(plain.ready())
        assert len(frontier) == len(plain.pending)
