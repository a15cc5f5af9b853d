"""A spec as a verb names it: a file, or a sweep of the store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sweeper.errors import DataError, ModelError, Problem, SpecError
from sweeper.spec.document import Document, Node, parse_document
from sweeper.spec.document import Path as Place
from sweeper.spec.fields import FILE_KEYS
from sweeper.spec.load import load_spec, nearest_file
from sweeper.spec.naming import stand_in_name
from sweeper.spec.rewrite import GIVEN
from sweeper.spec.schema import SweepSpec
from sweeper.spec.stand_in import who_stands_in
from sweeper.store.opening import find_store
from sweeper.store.sweeps import latest_revision


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedSpec:
    """A spec with the text that it was read from; `file` is None where that came from the store."""

    spec: SweepSpec
    source: str
    file: Path | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the spec was read otherwise than it is written, a line each: who stands in for whom."""
        root = parse_document(self.source, self.spec.name).root if self.spec.stand_in else None
        told = None if root is None else who_stands_in(root.value)
        return () if told is None else (told,)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Gives what is found wrong with a field later on (weights, data) the field's place in the file.

        Raises:
            SweeperError: what was raised, with places.
        """
        try:
            yield
        except (SpecError, ModelError, DataError) as error:
            if self.file is None or type(error) not in (SpecError, ModelError, DataError):
                raise
            document = parse_document(self.source, str(self.file))
            raise type(error)([_located(problem, document) for problem in error.problems]) from error


def find_spec(name: Path, store: str | Path, *, stand_in: bool = False) -> NamedSpec:
    """Returns the spec in a file, else the newest revision of the sweep of that name in a store.

    Raises:
        SpecError: there is neither, or the file breaks a rule.
    """
    if not name.exists() and (opened := find_store(store)) is not None:
        sweep = stand_in_name(str(name)) if stand_in else str(name)
        revision = latest_revision(opened, sweep)
        if revision is not None:
            return NamedSpec(spec=revision.spec, source=revision.source, file=None)
    return spec_in(name, stand_in=stand_in)


def spec_in(file: Path, *, stand_in: bool = False) -> NamedSpec:
    """Returns the spec in a file.

    Raises:
        SpecError: the file breaks a rule, or is none.
    """
    spec = load_spec(file, stand_in=stand_in)
    return NamedSpec(spec=spec, source=file.read_text(encoding="utf-8"), file=file)


def _located(problem: Problem, document: Document) -> Problem:
    """Returns a problem of a dotted field with the field's place, or that of the axis that sweeps it."""
    path = tuple(int(part) if part.isdecimal() else part for part in problem.where.split("."))
    axes = document.root.value.get("axes") if document.root is not None else None
    if isinstance(axes, dict) and problem.where in axes:
        path = ("axes", problem.where)
    if path[0] not in FILE_KEYS:
        return _where_named(problem, document)
    return replace(problem, where=document.where(path), rule=f"{problem.where}: {problem.rule}")


def _where_named(problem: Problem, document: Document) -> Problem:
    """Returns a problem of a file that is not there with the place in the spec that names it."""
    if not os.path.isabs(problem.where) or Path(problem.where).is_file() or document.root is None:
        return problem
    folder = Path(document.name).absolute().parent
    for path, value in _texts(document.root):
        if os.path.normpath(folder / value) == os.path.normpath(problem.where):
            got = problem.where if problem.got is None else f"{problem.where}, {problem.got}"
            is_given = any(str(part).split(".")[-1] in GIVEN for part in path)
            remedy = nearest_file(problem.where, besides=document.name) if is_given else problem.remedy
            return replace(problem, where=document.where(path), got=got, remedy=remedy)
    return problem


def _texts(node: Node, path: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yields the path and the value of every text of a document."""
    if isinstance(node.value, str):
        yield path, node.value
    for name, part in node.parts.items():
        yield from _texts(part, (*path, name))
