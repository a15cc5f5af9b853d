"""YAML 1.2 with the place of every field, so that an error can say `file:line:column`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from sweeper.errors import DataError, Problem

Location: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """Holds a YAML file as plain data.

    Attributes:
        path: the file, as it was named.
        data: mappings, lists and scalars.
        places: 1-based (line, column) of every field and list item.
    """

    path: Path
    data: Any
    places: Mapping[Location, tuple[int, int]]

    def where(self, location: Location) -> str:
        """Returns `file:line:column` of a field, or of the nearest field around it."""
        return place(str(self.path), self.places, location)


def place(file: str, places: Mapping[Location, tuple[int, int]], location: Location) -> str:
    """Returns `file:line:column`; parts of a location that the file does not have are passed over."""
    known: Location = ()
    for part in location:
        known = (*known, part) if (*known, part) in places else known
    line, column = places.get(known, (1, 1))
    return f"{file}:{line}:{column}"


def load_document(path: str | os.PathLike[str]) -> Document:
    """Reads a YAML file.

    Raises:
        DataError: it cannot be read, is no YAML 1.2, or repeats a key; all repeated keys are named.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        rule = "the manifest is a readable text file in UTF-8"
        got = getattr(error, "strerror", None) or str(error)
        raise DataError(Problem(where=str(file), rule=rule, got=got, remedy="Check the path")) from error
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        got = ", ".join(part for part in (error.context, error.problem) if part)
        raise DataError(Problem(where=where, rule="the file is one YAML 1.2 document", got=got)) from error
    except (YAMLError, ValueError, RecursionError) as error:
        got = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(Problem(where=str(file), rule="the file is one YAML 1.2 document", got=got)) from error
    walk = _Walk(file=str(file), yaml=yaml)
    data = walk.data(node, (), ()) if node is not None else None
    if walk.problems:
        raise DataError(walk.problems)
    return Document(path=file, data=data, places=walk.places)


class _Walk:
    """Turns nodes into data once, noting places and everything that is wrong."""

    def __init__(self, *, file: str, yaml: YAML) -> None:
        self.file = file
        self.yaml = yaml
        self.places: dict[Location, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._done: dict[int, Any] = {}

    def data(self, node: Node, location: Location, parents: tuple[int, ...]) -> Any:
        if id(node) in parents:
            self._refuse(node, "an alias does not contain itself", f"`*{node.anchor}`")
            return None
        if id(node) not in self._done:
            self._done[id(node)] = self._new(node, location, (*parents, id(node)))
        return self._done[id(node)]

    def _new(self, node: Node, location: Location, parents: tuple[int, ...]) -> Any:
        if isinstance(node, MappingNode):
            return self._mapping(node, location, parents)
        if isinstance(node, SequenceNode):
            items = []
            for i, item in enumerate(node.value):
                self.places[(*location, i)] = _mark(item)
                items.append(self.data(item, (*location, i), parents))
            return items
        try:
            return self.yaml.constructor.construct_object(node)
        except (YAMLError, ValueError) as error:
            self._refuse(node, "the value is plain YAML", str(error).splitlines()[0])
            return None

    def _mapping(self, node: MappingNode, location: Location, parents: tuple[int, ...]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node.value, str) else "?"
            if key in fields:
                first = "{}:{}".format(*self.places[(*location, key)])
                self._refuse(key_node, f"a key stands once in a mapping; `{key}` is already at {first}", None)
                continue
            self.places[(*location, key)] = _mark(key_node)
            fields[key] = self.data(value_node, (*location, key), parents)
        return fields

    def _refuse(self, node: Node, rule: str, got: str | None) -> None:
        line, column = _mark(node)
        self.problems.append(Problem(where=f"{self.file}:{line}:{column}", rule=rule, got=got))


def _mark(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
