"""Identities: pinned by literal values, since a changed id makes every stored state unfindable."""

import math
from dataclasses import dataclass

import pytest

from sweeper.plan.identity import canonical_json, content_id, join_fields, state_id, text_id


def test_the_hash_of_a_value_never_changes() -> None:
    value = {"lr": 3e-4, "betas": (0.9, 0.999), "name": "größe", "flag": True, "none": None, "nested": {"b": 1, "a": 2}}
    assert canonical_json(value) == (
        '{"betas":[0.9,0.999],"flag":true,"lr":0.0003,"name":"größe","nested":{"a":2,"b":1}}'.encode()
    )
    assert content_id("regime", value) == "932239290ce133054c84da9a971483eb"


def test_the_id_of_a_state_never_changes() -> None:
    assert state_id("a" * 32, "b" * 32, 7) == "b0ade7d339b88d625ca1c9db7137023e"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1, "added later": None}),
        ({"a": {"x": 1}}, {"a": {"x": 1, "added later": None}}),
        ({"a": (1, (2, 3))}, {"a": [1, [2, 3]]}),
        (0.0, -0.0),
    ],
    ids=["order of keys", "neutral field", "nested neutral field", "tuple or list", "signed zero"],
)
def test_equal_meanings_hash_equal(one: object, other: object) -> None:
    assert content_id("kind", one) == content_id("kind", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, "1"), (1, True), ([1, 2], [2, 1]), ({"a": 1}, {"a": 1, "b": 0}), ([None], []), ("", None)],
)
def test_other_meanings_hash_otherwise(one: object, other: object) -> None:
    assert content_id("kind", one) != content_id("kind", other)


def test_the_kind_is_part_of_the_identity() -> None:
    assert content_id("trial", {}) != content_id("regime", {})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="no canonical form"):
        content_id("kind", {"deep": [{"lr": number}]})


def test_what_json_cannot_say_is_refused() -> None:
    @dataclass
    class Thing:
        x: int = 1

    for value in (Thing(), b"bytes", {1, 2}, object):
        with pytest.raises(TypeError, match="no canonical form"):
            content_id("kind", {"value": value})


def test_a_text_joined_from_its_fields_is_that_of_the_whole() -> None:
    value = {"b": {"y": None, "x": [1, 2.0]}, "a": "größe", 'quo"te': True, "B": -0.0}
    joined = join_fields({name: canonical_json(item) for name, item in value.items()})
    assert joined == canonical_json(value)
    assert text_id("regime", joined) == content_id("regime", value)
