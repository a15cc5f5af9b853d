"""The problems of one file: each once, at its place, in the order of the file."""

from sweeper.errors import Problem
from sweeper.spec.document import Document, Path, located
from sweeper.spec.messages import Finding


class Report:
    """Collects the problems of one file."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._problems = {(problem.where, problem.rule): problem for problem in document.problems}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems so far, in the order of the file."""
        return tuple(sorted(self._problems.values(), key=_position))

    def tell(self, path: Path, rule: str, got: str | None = None, remedy: str | None = None, key: bool = False) -> None:
        """Adds a problem at a path of the file, or at the last key of that path."""
        where = self._document.where(path, key=key)
        self._problems.setdefault((where, rule), located(where, rule, got, remedy))

    def tell_finding(self, finding: Finding, path: Path) -> None:
        """Adds a finding at a path of the file; an unknown key is pointed at itself."""
        self.tell(path, finding.rule, finding.got, finding.remedy, key=finding.is_about_key)

    def knows(self, finding: Finding, path: Path) -> bool:
        """Tells whether a finding has been told at that path."""
        return (self._document.where(path, key=finding.is_about_key), finding.rule) in self._problems


def _position(problem: Problem) -> tuple[int, int]:
    _, line, column = problem.where.rsplit(":", 2)
    return int(line), int(column)
