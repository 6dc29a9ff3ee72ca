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

__all__ = ("WrongType", "decode")

_INT32, _INT64 = 2**31, 2**63
# Whole numbers are of 32 bits, but for these.
_LONG = frozenset(
    (
        "activeDeadlineSeconds",
        "deletionGracePeriodSeconds",
        "expirationSeconds",
        "fsGroup",
        "generation",
        "maxExpirationSeconds",
        "observedGeneration",
        "runAsGroup",
        "runAsUser",
        "seconds",
        "supplementalGroups",
        "terminationGracePeriodSeconds",
        "tolerationSeconds",
    )
)
_SCALARS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "num": (int, float), "bool": (bool,)}
_NAMES: dict[type, str] = {str: "string", int: "number", float: "number", bool: "bool", list: "array", dict: "object"}
_GO_NAMES = {"str": "string", "int": "int32", "num": "float64", "bool": "bool"}


class WrongType(ValueError):
    """Raised when a field's value is of a wrong type: in the words of Go's decoder, the parts for other words beside it."""

    def __init__(self, value: Any, path: str, owner: str, wanted: str, *, found: str = "") -> None:
        found = found or _NAMES[type(value)]
        super().__init__(f"json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")
        self.path, self.found, self.wanted = path, found, wanted


def decode(kind: Kind, body: Object) -> tuple[Object, list[str]]:
    """Return a body as its kind's structure holds it, and the paths of the fields that the structure lacks.

    Of a custom resource that has no type here the metadata alone is known; the rest is returned as it is.

    Raises: WrongType: a field's value is of a wrong type.
    """
    unknown: list[str] = []
    if kind.structure in FIELD_TYPES:
        decoded: Object = _decode(kind.structure, body, "", kind.kind, unknown)
    else:
        metadata = _decode("ObjectMeta", body.get("metadata") or {}, "metadata", kind.kind, unknown)
        decoded = body | {"metadata": metadata}
    return decoded, unknown


def _decode(type_: str, value: Any, path: str, owner: str, unknown: list[str]) -> Any:
    if type_ == "any":
        return value
    if type_.startswith("["):
        if not isinstance(value, list):
            raise WrongType(value, path, owner, "array")
        return [
            _decode(type_[1:-1], entry, f"{path}[{index}]", owner, unknown)
            for index, entry in enumerate(value)
            if entry is not None
        ]
    if not type_.startswith("{") and type_ not in FIELD_TYPES:
        wrong_boolean = isinstance(value, bool) and type_ != "bool"
        if wrong_boolean or not isinstance(value, _SCALARS[type_]):
            raise WrongType(value, path, owner, _GO_NAMES[type_])
        if type_ == "int":
            _check_range(value, path, owner)
        return value
    if not isinstance(value, dict):
        raise WrongType(value, path, owner, "object")
    if type_.startswith("{"):
        # A null in a map is its type's empty value; only texts have one that means anything.
        empty = "" if type_ == "{str}" else None
        entries = {key: empty if entry is None else entry for key, entry in value.items()}
        return {
            key: _decode(type_[1:-1], entry, f"{path}.{key}", owner, unknown)
            for key, entry in entries.items()
            if entry is not None
        }
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


def _check_range(value: Any, path: str, owner: str) -> None:
    """Refuse a whole number that its Go type can't hold."""
    name = path.rpartition(".")[2].partition("[")[0]
    bound, wanted = (_INT64, "int64") if name in _LONG else (_INT32, "int32")
    if not -bound <= value < bound:
        raise WrongType(value, path, owner, wanted, found=f"number {value}")
