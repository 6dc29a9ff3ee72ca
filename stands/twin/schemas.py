"""What a body of a built-in kind may contain: unknown fields are found and left out, values of a wrong type refused.

In: a body as a client sends it, or as a patch leaves it. Out: the body with the fields that the kind has, and the paths of those that it
hasn't; or a `ValueError` that says which field holds a value of a wrong type.

The real server decodes JSON into typed structures: what the structure lacks is dropped, a null is an absent field. Everything behind
this module (`admission`, the controllers) may therefore rely on the types.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from otel_control_gym.stands.twin.field_types import FIELD_TYPES
from otel_control_gym.stands.twin.objects import Kind, Object

__all__ = ("decode",)

_SCALARS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "num": (int, float), "bool": (bool,)}
_NAMES: dict[type, str] = {str: "string", int: "number", float: "number", bool: "bool", list: "array", dict: "object"}
_GO_NAMES = {"str": "string", "int": "int32", "num": "float64", "bool": "bool"}


def decode(kind: Kind, body: Object) -> tuple[Object, list[str]]:
    """Return a body as its kind's structure holds it, and the paths of the fields that the structure lacks.

    Of a custom resource the metadata alone is known here; the rest is returned as it is.

    Raises: ValueError: a field's value is of a wrong type.
    """
    unknown: list[str] = []
    if kind.built_in:
        decoded: Object = _decode(kind.kind, body, "", kind.kind, unknown)
    else:
        metadata = _decode("ObjectMeta", body.get("metadata") or {}, "metadata", kind.kind, unknown)
        decoded = body | {"metadata": metadata}
    return decoded, unknown


def _decode(type_: str, value: Any, path: str, owner: str, unknown: list[str]) -> Any:
    if type_ == "any":
        return value
    if type_.startswith("["):
        if not isinstance(value, list):
            raise _mismatch(value, path, owner, "array")
        return [
            _decode(type_[1:-1], entry, f"{path}[{index}]", owner, unknown)
            for index, entry in enumerate(value)
            if entry is not None
        ]
    if not type_.startswith("{") and type_ not in FIELD_TYPES:
        wrong_boolean = isinstance(value, bool) and type_ != "bool"
        if wrong_boolean or not isinstance(value, _SCALARS[type_]):
            raise _mismatch(value, path, owner, _GO_NAMES[type_])
        return value
    if not isinstance(value, dict):
        raise _mismatch(value, path, owner, "object")
    if type_.startswith("{"):
        return {key: _decode(type_[1:-1], entry, f"{path}.{key}", owner, unknown) for key, entry in value.items()}
    fields, result = _fields(type_), {}
    for key, entry in value.items():
        where = f"{path}.{key}" if path else key
        if key not in fields:
            unknown.append(where)
        elif entry is not None:
            result[key] = _decode(fields[key], entry, where, owner, unknown)
    return result


@cache
def _fields(type_: str) -> dict[str, str]:
    """Return the types of a structure's fields, by name."""
    return dict(field.split(":", 1) for field in FIELD_TYPES[type_].split())


def _mismatch(value: Any, path: str, owner: str, wanted: str) -> ValueError:
    found = _NAMES[type(value)]
    return ValueError(f"json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")
