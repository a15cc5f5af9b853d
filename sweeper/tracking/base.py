"""What a tracking view is, and what its metrics are called. Nothing here knows MLflow."""

import re
from collections.abc import Iterable
from typing import Protocol

from sweeper.reporting.view import SweepView

_GROUPS = ("train", "val", "delta", "recovery", "rsa_neural", "rsa")
_UNGROUPED = ("rsa_at_best_val_loss", "rsa_untrained")
_ILLEGAL = re.compile(r"[^\w.\- :/]")  # all that some MLflow back end refuses in a name


class Tracker(Protocol):
    """Shows a sweep to people; the store stays the truth, so a tracker may fall behind and catch up.

    Every method is handed the newest view and brings the projection up to it; calling one again changes
    nothing. The calls of one tracker come from one thread.
    """

    def start(self, view: SweepView) -> None:
        """Makes what stands for the sweep and its trials, and logs what is measured already."""

    def push(self, view: SweepView, trial_ids: Iterable[str]) -> None:
        """Logs what is new of some trials."""

    def finish(self, view: SweepView) -> None:
        """Logs all that is left, summaries included, and marks every trial as it ended."""

    def close(self) -> None:
        """Lets go of everything; the tracker is not used again."""


class NullTracker:
    """Tracks nothing."""

    def start(self, view: SweepView) -> None:
        """Does nothing."""

    def push(self, view: SweepView, trial_ids: Iterable[str]) -> None:
        """Does nothing."""

    def finish(self, view: SweepView) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""

    @property
    def is_behind(self) -> bool:
        """Never: nothing is to be tracked."""
        return False


def metric_name(column: str) -> str:
    """Returns the name under which a table's column is a metric: `val_loss` is `val/loss`."""
    name = column
    if column not in _UNGROUPED:
        for group in _GROUPS:
            if column.startswith(f"{group}_"):
                name = f"{group.replace('_', '/')}/{column.removeprefix(f'{group}_')}"
                break
    return legal_name(name)


def legal_name(name: str) -> str:
    """Returns a name that every MLflow back end takes for a metric or a parameter."""
    parts = _ILLEGAL.sub("_", name).split("/")
    return "/".join(part for part in parts if part.strip(".")) or "_"
