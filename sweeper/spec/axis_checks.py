"""Checks of a spec's axes and exclusions, each problem at its place in the file."""

from collections.abc import Iterator, Mapping
from typing import Any

from sweeper.spec.axes import MAX_TRIALS, assignments, count, matches
from sweeper.spec.document import Path
from sweeper.spec.fields import SECTIONS, WHY_NOT_SWEPT, dotted_names, suggest, without_index
from sweeper.spec.messages import shown
from sweeper.spec.report import Report
from sweeper.spec.schema import AxisBlock, axis_values

_MAX_INDEX = 20  # perturbations of one trial
_LISTS = "must be a mapping of dotted names to lists of values"


class AxisChecks:
    """Reads the axes and exclusions of a raw spec; what cannot be used is told and dropped.

    Attributes:
        blocks: the axes that can be used, at their place in the file's list.
        dropped: sections that an axis which cannot be used may have set.
    """

    def __init__(self, raw: Mapping[str, Any], report: Report) -> None:
        self._raw = raw
        self._report = report
        self.dropped: set[str] = set()
        self.blocks: tuple[AxisBlock, ...] = self._blocks() if "axes" in raw else ()
        if count(self.blocks) > MAX_TRIALS:
            self._drop(("axes",), f"axes must make at most {MAX_TRIALS} trials", str(count(self.blocks)))
            self.blocks = ()

    def exclusions(self) -> tuple[dict[str, Any], ...]:
        """Returns the exclusions that can be used; where no axis was dropped, tells those that match nothing."""
        entries = self._raw.get("exclude", [])
        if not isinstance(entries, list):
            self._report.tell(("exclude",), "exclude must be a list of partial assignments", shown(entries))
            return ()
        swept = tuple(dict.fromkeys(name for block in self.blocks for name in _names(block)))
        used = {i: dict(entry) for i, entry in enumerate(entries) if self._is_exclusion(entry, i, swept)}
        for i in () if self.dropped else self._unused(used):
            self._report.tell(("exclude", i), "an exclusion must match a trial", _assignment(used[i]))
        return tuple(used.values())

    def _unused(self, exclusions: Mapping[int, dict[str, Any]]) -> set[int]:
        unused = set(exclusions)
        for choices in assignments(self.blocks) if unused else ():
            unused -= {i for i in unused if matches(choices, exclusions[i])}
        return unused

    def _is_exclusion(self, entry: Any, index: int, swept: tuple[str, ...]) -> bool:
        path = ("exclude", index)
        if not isinstance(entry, Mapping) or not entry:
            self._report.tell(path, "an exclusion must be a mapping of swept fields to values", shown(entry))
            return False
        unknown = [name for name in entry if name not in swept]
        for name in () if self.dropped else unknown:
            rule = f"an exclusion must name swept fields; {name} is none"
            self._report.tell((*path, name), rule, remedy=suggest(name, swept, "Swept fields"), key=True)
        return not unknown

    def _blocks(self) -> tuple[AxisBlock, ...]:
        axes = self._raw["axes"]
        if not isinstance(axes, Mapping | list):
            self._drop(("axes",), f"axes {_LISTS}", shown(axes))
            return ()
        if not axes:
            remedy = "Leave axes out for a single trial"
            self._report.tell(("axes",), "axes must name at least one field", "none", remedy)
        if isinstance(axes, Mapping):
            return (self._block(axes, ("axes",)),)
        return tuple(self._block(block, ("axes", index)) for index, block in enumerate(axes))

    def _block(self, block: Any, path: Path) -> AxisBlock:
        if not isinstance(block, Mapping) or (not block and len(path) > 1):
            self._drop(path, f"a block of axes {_LISTS}", shown(block))
            return AxisBlock()
        explicit = "product" in block
        for extra in [key for key in block if explicit and key not in ("product", "zip")]:
            self._drop((*path, extra), "a block with product has product and zip only", extra, key=True)
        plain = block["product"] if explicit else {name: values for name, values in block.items() if name != "zip"}
        seen: set[str] = set()
        product = self._axes(plain, (*path, "product") if explicit else path, seen)
        groups = block.get("zip", [])
        if isinstance(groups, list):
            zipped = [self._group(group, (*path, "zip", index), seen) for index, group in enumerate(groups)]
        else:
            zipped = [self._group(groups, (*path, "zip"), seen)]
        return AxisBlock(product=product, zip=tuple(zipped))

    def _axes(self, axes: Any, path: Path, seen: set[str]) -> dict[str, tuple[Any, ...]]:
        if not isinstance(axes, Mapping):
            self._drop(path, f"a group of axes {_LISTS}", shown(axes))
            return {}
        written = {name: axis_values(name, values) for name, values in axes.items()}
        sound = {name: values for name, values in written.items() if self._is_sound(name, values, (*path, name), seen)}
        return {name: tuple(values) for name, values in sound.items()}

    def _group(self, group: Any, path: Path, seen: set[str]) -> dict[str, tuple[Any, ...]]:
        axes = self._axes(group, path, seen)
        lengths = {name: len(values) for name, values in axes.items()}
        if len(set(lengths.values())) > 1:
            got = ", ".join(f"{name} {length}" for name, length in lengths.items())
            self._drop(path, "zipped axes must have equally many values", got, key=True)
            return {}
        if isinstance(group, Mapping) and not group:
            self._drop(path, "zip must name at least one field", "none")
        return axes

    def _is_sound(self, name: str, values: Any, path: Path, seen: set[str]) -> bool:
        if not self._can_be_swept(name, path):
            return False
        same = without_index(name) if not self._has_many(name) else name
        if same in seen:
            self._drop(path, "a field must not be swept twice in one block", name, key=True)
        elif not isinstance(values, list):
            self._drop(
                path,
                f"axis {name} must be a list of values",
                shown(values),
                "Write them as [1, 2]" if values is None else f"Write [{_flow(values)}]",
            )
        elif not values:
            self._drop(path, f"axis {name} must have at least one value", "an empty list")
        else:
            seen.add(same)
            return True
        return False

    def _can_be_swept(self, name: str, path: Path) -> bool:
        if (wrong := why_not_swept(name, self._raw)) is None:
            return True
        self._drop(path, wrong[0], remedy=wrong[1], key=True)
        return False

    def _has_many(self, name: str) -> bool:
        return _has_many(name, self._raw)

    def _drop(
        self, path: Path, rule: str, got: str | None = None, remedy: str | None = None, key: bool = False
    ) -> None:
        self._report.tell(path, rule, got, remedy, key)
        sections = {str(part).split(".")[0] for part in path[1:]}
        if not sections & set(WHY_NOT_SWEPT):
            self.dropped |= sections & set(SECTIONS) or set(SECTIONS)


def why_not_swept(name: str, raw: Mapping[str, Any], what: str = "axis") -> tuple[str, str | None] | None:
    """Returns the rule that forbids to vary a field, and the way out; None where it may be varied.

    Args:
        name: its dotted name.
        raw: the spec.
        what: what varies it.
    """
    section, *rest = name.split(".")
    plain = without_index(name)
    too_many = plain != name and (len(rest[0]) > 3 or int(rest[0]) > _MAX_INDEX)
    if section in WHY_NOT_SWEPT:
        return f"{name} cannot be swept: {WHY_NOT_SWEPT[section]}", None
    if plain not in dotted_names() or too_many:
        remedy = suggest(name, dotted_names(), "Known", dotted_names((section,)) or SECTIONS)
        return f"{what} {name} names no field of a trial", remedy
    if name == plain and rest and _has_many(name, raw):
        remedy = f"Say which one, e.g. {section}.0.{'.'.join(rest)}"
        return f"{what} {name} is ambiguous: {section} is a list", remedy
    return None


def _has_many(name: str, raw: Mapping[str, Any]) -> bool:
    """Tells whether a field's section is a list of several parts."""
    parts = raw.get(name.split(".")[0])
    return isinstance(parts, list) and len(parts) > 1


def _names(block: AxisBlock) -> Iterator[str]:
    yield from block.product
    for group in block.zip:
        yield from group


def _flow(value: Any) -> str:
    return value if isinstance(value, str) else "..." if isinstance(value, Mapping) else shown(value)


def _assignment(partial: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {shown(value)}" for name, value in partial.items())
