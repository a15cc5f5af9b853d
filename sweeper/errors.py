"""Errors that a user can act on: where, which rule, what was got, what to do.

Everything the user can get wrong is raised as a `SweeperError`; the command line prints it without a
traceback and exits with `exit_code`.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """States one thing that is wrong with the user's input.

    Attributes:
        where: place, e.g. `experiments/a.yaml:12:5`, a path, or an option.
        rule: what must hold.
        got: the value found, if one helps.
        remedy: the way out.
    """

    where: str
    rule: str
    got: str | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.rule.rstrip('.')}."]
        if self.got is not None:
            parts.append(f"Got {self.got.rstrip('.')}.")
        if self.remedy is not None:
            parts.append(f"{self.remedy.rstrip('.')}.")
        return " ".join(parts)


class SweeperError(Exception):
    """Carries every problem found, all at once."""

    exit_code = 2

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type["SweeperError"], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class SpecError(SweeperError):
    """The spec breaks a rule."""


class DataError(SweeperError):
    """A manifest, an image, a table or an RDM breaks a rule, or cannot be found."""


class ModelError(SweeperError):
    """Weights cannot be had, or do not fit the network they are asked for."""


class StoreError(SweeperError):
    """The store cannot be used as it is."""


class StoreAway(StoreError):
    """The store cannot be reached: nothing is wrong with what was asked for, and later it may be there again."""

    exit_code = 3


class OutOfMemory(SweeperError):
    """A trial does not fit into the memory of this machine or GPU."""

    exit_code = 1


class Interrupted(SweeperError):
    """The user stopped it before anything was begun."""

    exit_code = 130


class ClusterError(SweeperError):
    """The Ray cluster cannot be reached, or no worker can start on it."""

    exit_code = 3


class TrackingError(SweeperError):
    """The tracking server cannot be reached."""

    exit_code = 3
