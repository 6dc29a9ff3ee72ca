"""OTLP in JSON ➜ Protobuf messages.

In: a body. Out: a request, filled. Pure.

OTLP's JSON is Protobuf's JSON mapping with exceptions, each of which the library would read wrongly or let through:
- ids of traces and spans are hex digits, not base64 (base64 takes most hex for its own and makes other bytes of it);
- the values of enumerations are integers; their names, which the mapping allows, are not;
- keys are in lowerCamelCase; what is spelt otherwise is an unknown field, and unknown fields are ignored.
What is alike is left to the library: 64-bit integers as decimal strings or numbers, `bytesValue` in base64, null for what isn't there.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

__all__ = ("read_json",)

_IDS = frozenset({"traceId", "spanId", "parentSpanId"})
_ENUMERATIONS = frozenset({"kind", "code", "severityNumber"})


def read_json(body: bytes, message: Any) -> None:
    """Fill a request from its JSON.

    Raises: ValueError: the body is no JSON, or not of that message.
    """
    from google.protobuf import json_format

    try:
        document = msgspec.json.decode(body)
        if not isinstance(document, dict):
            raise ValueError(f"an object was expected, {type(document).__name__} came")
        json_format.ParseDict(_mapped(document), message, ignore_unknown_fields=True)
    except (json_format.ParseError, msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error) or "nested too deeply") from error


def _mapped(value: Any) -> Any:
    """Return OTLP's JSON as Protobuf's mapping wants it."""
    if isinstance(value, list):
        return [_mapped(item) for item in value]
    if isinstance(value, dict):
        return {key: _mapped_field(key, item) for key, item in value.items() if "_" not in key}
    return value


def _mapped_field(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key in _IDS:
        if not isinstance(value, str):
            raise ValueError(f"{key}: a string of hex digits was expected, {value!r} came")
        try:
            return base64.b64encode(bytes.fromhex(value)).decode()
        except ValueError as error:
            raise ValueError(f"{key} = {value!r}: no hex digits") from error
    if key in _ENUMERATIONS and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"{key} = {value!r}: the value of an enumeration is an integer")
    return _mapped(value)
