"""YAML 1.2 with the place of every key and value, so that each error of a spec or manifest can say file:line:column."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.reader import ReaderError

from sweeper.errors import Problem, SpecError
from sweeper.spec.scalars import resolve

Path = tuple[str | int, ...]

MAX_DEPTH = 30
MAX_NODES = 200_000  # aliases of aliases multiply: a few lines can name billions of values

_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_MAX_MESSAGE = 600  # characters of one part of a message


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A position in a text, both numbers 1-based."""

    line: int
    column: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A value of the document with its place, its parts, and the places of its keys."""

    value: Any
    place: Place
    parts: Mapping[str | int, "Node"]
    keys: Mapping[str | int, Place]
    size: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A parsed file: plain values, their places, and what is wrong with the YAML itself."""

    name: str
    root: Node | None
    problems: tuple[Problem, ...]

    def where(self, path: Path = (), *, key: bool = False) -> str:
        """Returns `file:line:column` of the value at a path, or of what is nearest around it.

        Args:
            path: keys and indexes from the top.
            key: point at the last key of the path instead of its value.
        """
        if self.root is None:
            return f"{self.name}:1:1"
        node, place = self.root, self.root.place
        for part in path:
            if part not in node.parts:
                break
            place = node.keys.get(part, node.parts[part].place)
            node = node.parts[part]
        else:
            place = place if key or (node.value is None and path) else node.place
        return f"{self.name}:{place.line}:{place.column}"


def parse_document(text: str, name: str) -> Document:
    """Reads one YAML document.

    Raises:
        SpecError: the text is not YAML, located. Duplicate keys and the like are in `problems` instead.
    """
    reader = _Reader(name)
    try:
        events = YAML(typ="safe", pure=True).parse(text.removeprefix("\ufeff"))
        root = reader.read(events)
    except ReaderError as error:
        raise SpecError(_unreadable(text, name, int(error.position))) from None
    except MarkedYAMLError as error:
        raise SpecError(_syntax(error, name)) from None
    except (YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, AssertionError) as error:
        # The scanner has bugs of its own, e.g. an OverflowError for "\UFFFFFFFF".
        raise SpecError(_problem(name, Place(line=1, column=1), f"the file must be valid YAML: {error}")) from None
    return Document(name=name, root=root, problems=tuple(reader.problems))


def located(where: str, rule: str, got: str | None = None, remedy: str | None = None) -> Problem:
    """Returns a problem whose texts are one printable line each, whatever keys and values they quote."""
    got, remedy = (None if text is None else _line(text) for text in (got, remedy))
    return Problem(where=where, rule=_line(rule), got=got, remedy=remedy)


def _line(text: str) -> str:
    text = text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _problem(name: str, place: Place, rule: str, got: str | None = None, remedy: str | None = None) -> Problem:
    return located(f"{name}:{place.line}:{place.column}", rule, got, remedy)


def _syntax(error: MarkedYAMLError, name: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = Place(line=mark.line + 1, column=mark.column + 1) if mark else Place(line=1, column=1)
    cause = re.sub(r"\(?'?<|>'?(,\))?", "", " ".join(str(error.problem or error.context or "unreadable").split()))
    if "\\t" in cause:
        return _problem(name, place, "YAML is indented by spaces", "a tab", "Replace the tab by spaces")
    remedy = "Check the indentation and the brackets above" if "expected" in cause or "mapping" in cause else None
    return _problem(name, place, f"the file must be valid YAML: {cause}", remedy=remedy)


def _unreadable(text: str, name: str, position: int) -> Problem:
    before = text[:position]
    place = Place(line=before.count("\n") + 1, column=position - before.rfind("\n"))
    return _problem(name, place, "the file must be text", f"the character {text[position : position + 1]!a}")


class _Reader:
    """Builds nodes from parser events and collects problems on the way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[Problem] = []
        self._anchors: dict[str, Node] = {}

    def read(self, events: Iterator[Event]) -> Node | None:
        root = None
        for event in events:
            if isinstance(event, DocumentStartEvent) and root is not None:
                self._tell(event, "the file must be one YAML document", "a second one")
                break
            if not isinstance(event, StreamStartEvent | StreamEndEvent | DocumentStartEvent | DocumentEndEvent):
                root = self._node(event, events, 0)
        return root

    def _tell(self, at: Event | Place, rule: str, got: str | None = None, remedy: str | None = None) -> None:
        self.problems.append(_problem(self.name, at if isinstance(at, Place) else _place(at), rule, got, remedy))

    def _node(self, event: Any, events: Iterator[Event], depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise SpecError(_problem(self.name, _place(event), f"nesting must not be deeper than {MAX_DEPTH}"))
        if isinstance(event, AliasEvent):
            return self._alias(event)
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._tell(event, "YAML tags must not be used", str(event.tag), "Leave the tag out")
        if isinstance(event, SequenceStartEvent):
            node = self._sequence(event, events, depth)
        elif isinstance(event, MappingStartEvent):
            node = self._mapping(event, events, depth)
        else:
            node = self._leaf(event)
        if node.size > MAX_NODES:
            raise SpecError(_problem(self.name, node.place, f"aliases must not make more than {MAX_NODES} values"))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _leaf(self, event: ScalarEvent) -> Node:
        if unusable := _UNUSABLE.search(str(event.value)):
            self._tell(event, "text must be such that it can be written to a file", f"the character {unusable[0]!a}")
        return Node(
            value=resolve(str(event.value), is_plain=event.style is None and event.tag is None),
            place=_place(event),
            parts={},
            keys={},
        )

    def _alias(self, event: AliasEvent) -> Node:
        if event.anchor in self._anchors:
            return self._anchors[event.anchor]
        known = ", ".join(self._anchors) or "none"
        self._tell(event, "an alias must name an anchor above it", f"*{event.anchor}", f"Known anchors: {known}")
        return Node(value=None, place=_place(event), parts={}, keys={})

    def _sequence(self, start: Event, events: Iterator[Event], depth: int) -> Node:
        items = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            items.append(self._node(event, events, depth + 1))
        return Node(
            value=[item.value for item in items],
            place=_place(start),
            parts=dict(enumerate(items)),
            keys={},
            size=1 + sum(item.size for item in items),
        )

    def _mapping(self, start: Event, events: Iterator[Event], depth: int) -> Node:
        parts: dict[str | int, Node] = {}
        keys: dict[str | int, Place] = {}
        merged: list[Node] = []
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            key = self._key(event, events, depth)
            value = self._node(next(events), events, depth + 1)
            if key == "<<":
                found = list(value.parts.values()) if isinstance(value.value, list) else [value]
                merged += found
                if not all(isinstance(each.value, dict) for each in found):
                    self._tell(event, "what is merged by << must be a mapping, or a list of some", remedy="Use *NAME")
            elif key is not None and key in parts:
                self._tell(event, "a key must not occur twice", key, f"First at line {keys[key].line}")
            elif key is not None:
                parts[key], keys[key] = value, _place(event)
        for name, node in chain.from_iterable(source.parts.items() for source in merged):
            if name not in parts and isinstance(name, str):
                parts[name], keys[name] = node, node.place
        return Node(
            value={key: node.value for key, node in parts.items()},
            place=_place(start),
            parts=parts,
            keys=keys,
            size=1 + sum(node.size for node in parts.values()),
        )

    def _key(self, event: Event, events: Iterator[Event], depth: int) -> str | None:
        if isinstance(event, ScalarEvent):
            return str(event.value)
        node = self._node(event, events, depth + 1)
        if isinstance(event, AliasEvent) and isinstance(node.value, str):
            return node.value
        self._tell(event, "a key must be text", "a list or a mapping")
        return None


def _place(event: Event) -> Place:
    return Place(line=event.start_mark.line + 1, column=event.start_mark.column + 1)
