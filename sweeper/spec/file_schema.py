"""The JSON Schema of a spec file, for editors: `sweeper schema`."""

from typing import Any

from sweeper.spec.fields import FILE_KEYS, dotted_names
from sweeper.spec.schema import SweepSpec, TrialConfig

_INDEXED = r"^perturbation\.[0-9]+(\.[a-z_]+)?$"


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of the file format: trial sections, axes over their fields, and the rest.

    Nothing inside a section is required, because an axis may set it.
    """
    trial = TrialConfig.model_json_schema(mode="validation")
    rest = SweepSpec.model_json_schema(mode="validation")
    types = {name: _open(part) for name, part in trial["$defs"].items()}
    defs = {**rest["$defs"], **types, **_axes(), "Axes": _axes_with_zip()}
    fields = {**trial["properties"], **rest["properties"]}
    defs["Search"]["properties"]["space"] = _space(defs["Search"]["properties"]["space"]["description"])
    properties = {name: _described(fields[name], defs) for name in FILE_KEYS}
    properties["seeds"] = _or({"type": "integer", "minimum": 0}, properties["seeds"])
    properties["perturbation"] = _perturbation(properties["perturbation"])
    properties["model"] = {"anyOf": properties["model"]["oneOf"], "description": properties["model"]["description"]}
    properties["axes"] = {**_one_or_list({"$ref": "#/$defs/Axes"}), "description": properties["axes"]["description"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep",
        "description": "One experiment: a question, its trials, what is measured, and where it runs.",
        "type": "object",
        "properties": properties,
        "required": ["name"],
        "additionalProperties": False,
        "$defs": defs,
    }


def _open(part: dict[str, Any]) -> dict[str, Any]:
    """Requires nothing of a type; its `kind` is described as the type is."""
    about = {key: part[key] for key in ("description",) if key in part}
    fields = {name: {**about, **field} if "const" in field else field for name, field in part["properties"].items()}
    return {**{key: value for key, value in part.items() if key != "required"}, "properties": fields}


def _described(field: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Describes a field as its type, where pydantic left the equal description out."""
    name = str(field.get("$ref", "")).rpartition("/")[2]
    return {"description": defs[name].get("description", name), **field} if name else field


def _or(alternative: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: field[key] for key in ("description", "default") if key in field}
    plain = {key: value for key, value in field.items() if key not in kept}
    return {"anyOf": [alternative, plain], **kept}


def _one_or_list(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def _perturbation(field: dict[str, Any]) -> dict[str, Any]:
    """Without its start or kind, which may be swept, a part can be of several kinds: any, not exactly one."""
    item = {"anyOf": field["items"]["oneOf"]}
    forms = [item, {"type": "array", "items": item}, {"type": "null"}]
    return {"anyOf": forms, "description": field["description"]}


def _axes() -> dict[str, Any]:
    names: dict[str, Any] = {name: {"type": "array", "minItems": 1} for name in dotted_names()}
    names["subject"] = {"anyOf": [names["subject"], {"type": "string"}]}  # `all`, or a range
    axes = {
        "type": "object",
        "description": "Swept fields by dotted name with their values.",
        "properties": names,
        "patternProperties": {_INDEXED: {"type": "array", "minItems": 1}},
        "additionalProperties": False,
    }
    return {"AxisGroup": axes}


def _space(description: str) -> dict[str, Any]:
    a_range = {"$ref": "#/$defs/Range"}
    return {
        "type": "object",
        "description": description,
        "properties": dict.fromkeys(dotted_names(), a_range),
        "patternProperties": {_INDEXED: a_range},
        "minProperties": 1,
        "additionalProperties": False,
    }


def _axes_with_zip() -> dict[str, Any]:
    group = {"$ref": "#/$defs/AxisGroup"}
    plain = _axes()["AxisGroup"]
    zipped = {**_one_or_list(group), "description": "Groups of axes that advance together."}
    flat = {**plain, "properties": {**plain["properties"], "zip": zipped}}
    nested = {
        "type": "object",
        "properties": {"product": group, "zip": zipped},
        "required": ["product"],
        "additionalProperties": False,
    }
    return {"anyOf": [flat, nested], "description": "A product of axes; those under `zip` advance together."}
