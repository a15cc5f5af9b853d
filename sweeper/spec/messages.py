"""From pydantic's errors to plain words about the spec."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from sweeper.errors import Problem
from sweeper.spec.base import SpecModel
from sweeper.spec.document import Path
from sweeper.spec.fields import TAGS, known_keys, suggest
from sweeper.spec.schema import TrialConfig
from sweeper.spec.variants import DEFAULT_VARIANT

_TYPES = {
    "bool_type": "true or false",
    "date_type": "a date",
    "dict_type": "a mapping",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "string_unicode": "text",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_pattern_mismatch": "letters, digits, '_', '.' and '-', the first a letter or digit",
    "string_too_long": "at most {max_length} characters long",
    "string_too_short": "at least {min_length} characters long",
    "too_long": "a list of {max_length}",
    "too_short": "a list of at least {min_length}",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One broken rule, before its place in a file is known.

    Attributes:
        path: where in the raw value.
        rule: what must hold.
        got: the value found.
        remedy: the way out.
        fields: dotted names that the rule reads, where it reads several.
        kind: `missing`, `unknown` (the path ends in an unknown key), `rule` (between fields) or `value`.
    """

    path: Path
    rule: str
    got: str | None = None
    remedy: str | None = None
    fields: tuple[str, ...] = ()
    kind: str = "value"

    @property
    def is_about_key(self) -> bool:
        """Whether the key is wrong, whatever its value."""
        return self.kind == "unknown" or (self.kind == "rule" and self.got is None)

    def problem(self, where: str) -> Problem:
        """Returns the problem at a place."""
        return Problem(where=where, rule=self.rule, got=self.got, remedy=self.remedy)


def findings(error: ValidationError, raw: Any, root: type[SpecModel] = TrialConfig) -> list[Finding]:
    """Returns what pydantic found, in plain words, each broken rule once.

    Args:
        error: raised while a trial, or the rest of a spec, was validated.
        raw: what was validated, to follow pydantic's locations in.
        root: the type that was validated.
    """
    found: dict[tuple[Path, str], Finding] = {}
    alternatives: dict[Path, list[str]] = {}
    for item in error.errors(include_url=False):
        finding = _finding(item, raw, root)
        if finding.rule.startswith(_must(finding.path)):
            options = alternatives.setdefault(finding.path, [])
            wanted = finding.rule.removeprefix(_must(finding.path))
            options += [] if wanted in options else [wanted]
            both = f"{_must(finding.path)}{' or '.join(options)}"
            finding = Finding(path=finding.path, rule=both, got=finding.got, remedy=finding.remedy)
            found[finding.path, "must be"] = finding
        else:
            found.setdefault((finding.path, finding.rule), finding)
    return list(found.values())


def _must(path: Path) -> str:
    return f"{dotted(path)} must be "


def dotted(path: Iterable[str | int]) -> str:
    """Returns the dotted name of a path."""
    return ".".join(str(part) for part in path)


def shown(value: Any) -> str:
    """Returns a value as an error shows it: short, on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value)) or 'no keys'}"[:80]
    if isinstance(value, int) and abs(value) > 10**30:
        return "a huge whole number"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def follow(loc: Iterable[str | int], raw: Any) -> tuple[Path, Any]:
    """Follows one of pydantic's locations into a raw value; leaves out what is not in the file (union tags)."""
    path: list[str | int] = []
    for part in loc:
        in_mapping = isinstance(raw, Mapping) and part in raw
        in_list = isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw)
        if in_mapping or in_list:
            raw = raw[part]
            path.append(part)
    return tuple(path), raw


def _finding(item: Any, raw: Any, root: type[SpecModel]) -> Finding:
    kind, context, loc = item["type"], item.get("ctx", {}), item["loc"]
    path, value = follow(loc, raw)
    if kind == "rule":
        return _between_fields(loc, context, raw)
    if kind.startswith("union_tag"):
        return _tag(path, value, context)
    if kind == "missing" and not isinstance(loc[-1], int):
        return _missing(path, loc[-1])
    if kind == "extra_forbidden":
        return _unknown(path, raw, root)
    if kind == "literal_error":
        options = str(context["expected"]).replace("'", "")
        choices = tuple(options.replace(" or ", ", ").split(", "))
        wanted = options if len(choices) == 1 else f"one of {', '.join(choices)}"
        near = get_close_matches(value, choices, n=1) if isinstance(value, str) else []
        return _value(path, wanted, value, f"Nearest: {near[0]}" if near else None)
    if kind == "missing":
        return _value(path, "a list of 2 numbers", value)
    if kind in _TYPES:
        return _value(path, "a whole number or a mapping" if path == ("seeds",) else _TYPES[kind], value)
    if kind in _BOUNDS:
        return _value(path, _BOUNDS[kind].format(**{k: _bound(v) for k, v in context.items()}), value)
    words = str(item["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return Finding(path=path, rule=f"{dotted(path)}: {words}", got=shown(value))


def _bound(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(path: Path, wanted: str, value: Any, remedy: str | None = None) -> Finding:
    return Finding(path=path, rule=f"{_must(path)}{wanted}", got=shown(value), remedy=remedy)


def _between_fields(loc: Path, context: Mapping[str, Any], raw: Any) -> Finding:
    at = tuple(int(part) if part.isdecimal() else part for part in str(context["at"]).split("."))
    path, _ = follow((*loc, *at), raw)
    got = None if context["got"] is None else shown(context["got"])
    fields = tuple(dotted((*loc, name)) for name in context["fields"])
    return Finding(path=path, rule=context["rule"], got=got, remedy=context["remedy"], fields=fields, kind="rule")


def _missing(path: Path, name: str) -> Finding:
    full = dotted((*path, name))
    return Finding(path=path, rule=f"{full} is missing", fields=(full,), kind="missing")


def _tag(path: Path, value: Any, context: Mapping[str, Any]) -> Finding:
    field = str(context["discriminator"]).strip("'")
    if not isinstance(value, Mapping) or field not in value:
        return _missing(path, field)
    known = tuple(str(context.get("expected_tags", "")).replace("'", "").split(", "))
    return Finding(
        path=(*path, field),
        rule=f"{dotted((*path, field))} must be a known {field}",
        got=shown(value[field]),
        remedy=suggest(str(value[field]), known, f"Known {field}s"),
    )


def _unknown(path: Path, raw: Any, root: type[SpecModel]) -> Finding:
    *parents, name = path
    tag, kind = _tag_on(parents, raw)
    place = tuple(part for part in parents if isinstance(part, str))
    known = known_keys(place, kind, root)
    rule = f"{dotted(path)} is not a known key" + (f" of {tag} {kind}" if kind is not None else "")
    return Finding(path=path, rule=rule, remedy=suggest(str(name), known), kind="unknown")


def _tag_on(path: Iterable[str | int], raw: Any) -> tuple[str | None, str | None]:
    """Returns the tag, and its value, of the last part on a path that has one."""
    found: tuple[str | None, str | None] = None, None
    for length in range(len(parts := tuple(path)) + 1):
        _, section = follow(parts[:length], raw)
        for tag in TAGS if isinstance(section, Mapping) else ():
            if isinstance(value := section.get(tag), str):
                found = tag, value
    return ("variant", DEFAULT_VARIANT) if found[0] is None and parts[:1] == ("model",) else found
