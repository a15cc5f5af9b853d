"""Canonical JSON and the hashes made of it: the only place where an identity is computed."""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

ID_LENGTH = 32  # 128 bits of SHA-256, in hexadecimal digits
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> Any:
    """Returns a JSON value that is equal for equal meanings.

    Keys whose value is None are dropped, so that a field added later hashes as before at its neutral value;
    tuples are lists; a float that is a whole number stays a float (`1.0` is not `1`); `-0.0` is `0.0`.

    Raises:
        TypeError: for anything that JSON cannot say.
        ValueError: for NaN and infinities.
    """
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in sorted(value.items()) if item is not None}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no canonical form")
        return float(value) + 0.0
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")


def canonical_json(value: Any) -> bytes:
    """Returns the canonical UTF-8 text of a value."""
    return _ENCODER.encode(canonical(value)).encode()


def join_fields(texts: Mapping[str, bytes]) -> bytes:
    """Returns the canonical text of a mapping from those of its values, none of which is None.

    What many values have in common is so written once.
    """
    return b"{" + b",".join([_key_text(key) + b":" + text for key, text in sorted(texts.items())]) + b"}"


@lru_cache(maxsize=1024)
def _key_text(key: str) -> bytes:
    return canonical_json(key)


def content_id(kind: str, value: Any) -> str:
    """Returns the identity of a value of one kind: 32 hexadecimal digits."""
    return text_id(kind, canonical_json(value))


def text_id(kind: str, text: bytes) -> str:
    """Returns the identity of a value of one kind by its canonical text."""
    return hashlib.sha256(kind.encode() + b"\n" + text).hexdigest()[:ID_LENGTH]


def state_id(anchor: str, regime_id: str, num_epochs: int) -> str:
    """Returns the identity of the state `num_epochs` epochs after `anchor` under one regime."""
    return hashlib.sha256(f"state\n{anchor}/{regime_id}/{num_epochs}".encode()).hexdigest()[:ID_LENGTH]
