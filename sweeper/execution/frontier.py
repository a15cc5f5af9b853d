"""The frontier: which segments of a tree are still to be trained, which of them can start now, and which is first.

What it costs to hand out a segment does not grow with the segments that wait.
"""

import heapq
from collections.abc import Callable, Iterable, Set
from functools import cached_property

from sweeper.plan.tree import Tree


class Frontier:
    """Keeps the pending segments of a tree in the order of their urgency."""

    def __init__(self, tree: Tree, baselines: Set[str], wanted: Iterable[str]) -> None:
        """Begins with some segments.

        Args:
            tree: of the sweep.
            baselines: ids of the trials that others are compared with.
            wanted: ids of the segments that are pending.
        """
        self._tree, self._baselines = tree, baselines
        self._pending = dict.fromkeys(wanted)
        self._running: set[str] = set()
        self._ready: set[str] = set()
        self._queue: list[tuple[bool, int, int, str]] = []  # a heap; what is not ready any more is passed over
        for segment_id in self._pending:
            self._review(segment_id)

    def __contains__(self, segment_id: str) -> bool:
        return segment_id in self._pending

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def num_usable(self) -> int:
        """How many workers the tree can keep busy now."""
        return len(self._running) + len(self._ready)

    def take(self, trial_id: str | None) -> str | None:
        """Returns the most urgent ready segment, which is then running; None when nothing is ready.

        A trunk first, since every fork waits for a piece of one and every comparison for its end; then the
        worker's own trial; then the longest remaining path.
        """
        while self._queue and self._queue[0][-1] not in self._ready:
            heapq.heappop(self._queue)
        if not self._queue:
            return None
        first = self._queue[0]
        own = [self._entry(segment_id) for segment_id in self._tree.paths.get(trial_id or "", ())]
        own = [entry for entry in own if entry[-1] in self._ready and entry[0] == first[0]]
        chosen = min(own, default=first)[-1]
        self._running.add(chosen)
        self._review(chosen)
        return chosen

    def want(self, segment_id: str) -> None:
        """Notes that a segment is pending; those behind it wait for it."""
        self._pending[segment_id] = None
        self._review(segment_id, *self._tree.children.get(segment_id, ()))

    def give_back(self, segment_id: str) -> None:
        """Notes that nobody trains a segment any more."""
        self._running.discard(segment_id)
        self._review(segment_id)

    def settle(self, segment_id: str) -> None:
        """Notes that a segment is not pending any more; those behind it may start."""
        self._pending.pop(segment_id, None)
        self._review(segment_id, *self._tree.children.get(segment_id, ()))

    def settle_below(self, segment_id: str, on_settled: Callable[[str], None]) -> None:
        """Notes that nothing behind a segment is pending any more."""
        below = list(self._tree.children.get(segment_id, ()))
        while below:
            child = below.pop()
            self.settle(child)
            on_settled(child)
            below += self._tree.children.get(child, ())

    def _review(self, *segment_ids: str) -> None:
        """Looks anew whether segments can start.

        A parent that is not pending was made, and its state is taken to exist; should it be gone, the worker says so.
        """
        for segment_id in segment_ids:
            waits = segment_id in self._pending and segment_id not in self._running
            if not waits or self._tree.segments[segment_id].parent in self._pending:
                self._ready.discard(segment_id)
            elif segment_id not in self._ready:
                self._ready.add(segment_id)
                heapq.heappush(self._queue, self._entry(segment_id))

    def _entry(self, segment_id: str) -> tuple[bool, int, int, str]:
        """Returns what segments are sorted by: trunks, the longest way left, their place in the tree."""
        is_branch = self._baselines.isdisjoint(self._tree.segments[segment_id].trials)
        return is_branch, -self._remaining[segment_id], self._place[segment_id], segment_id

    @cached_property
    def _place(self) -> dict[str, int]:
        return {segment_id: place for place, segment_id in enumerate(self._tree.segments)}

    @cached_property
    def _remaining(self) -> dict[str, int]:
        """Epochs on the longest way from a segment's start to a leaf."""
        remaining: dict[str, int] = {}
        for segment_id in reversed(tuple(self._tree.segments)):
            below = [remaining[child] for child in self._tree.children.get(segment_id, ())]
            remaining[segment_id] = len(self._tree.segments[segment_id].epochs) + max(below, default=0)
        return remaining
