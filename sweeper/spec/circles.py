"""Specs that take a state of a trial of theirs, by way of others: each would have to be run before itself."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sweeper.errors import SpecError
from sweeper.spec.document import Path
from sweeper.spec.report import Report
from sweeper.spec.rewrite import GIVEN, absolute_paths, is_spec, rewrite

_Read = Callable[[str], Mapping[str, Any]]


def refuse_circles(raw: Mapping[str, Any], name: str, read: _Read, report: Report) -> None:
    """Tells of every spec named by `model.start_from` or `model.text_from` that leads back to one before it.

    Args:
        raw: the spec, its paths absolute.
        name: its file.
        read: returns what a spec file says; a file that it refuses is not followed.
        report: is told.
    """
    for path, named in _named(raw):
        circle = _circle((os.path.abspath(name),), named, read)
        if circle:
            rule = "a state is taken from a spec that can be run before this one"
            remedy = "Name another trial, or its spec, or leave the field out"
            report.tell(path, rule, got=" takes from ".join(os.path.relpath(each) for each in circle), remedy=remedy)


def _circle(above: tuple[str, ...], named: str, read: _Read) -> tuple[str, ...]:
    """Returns the first way from a spec back to itself, each spec on it by its path; empty where there is none."""
    if named in above:
        return (*above[above.index(named) :], named)
    try:
        raw = absolute_paths(read(named), os.path.dirname(named), lambda path, variable: None)
    except SpecError:
        return ()
    ways = (_circle((*above, named), further, read) for _, further in _named(raw))
    return next((way for way in ways if way), ())


def _named(raw: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yields the specs that a raw spec takes states from, with their places."""
    found: list[tuple[Path, str]] = []

    def collect(name: str, value: Any, path: Path) -> Any:
        if name in {f"model.{field}" for field in GIVEN} and is_spec(value):
            found.append((path, value))
        return value

    rewrite(raw, collect)
    yield from found
