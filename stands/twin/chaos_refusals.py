"""How a chaos object is refused: as the CRD's schema (422), as strict decoding (400), or as Chaos Mesh's webhook (403).

In: which object, which field, what was found there. Out: an `ApiError` with the words of the real one.
"""

from __future__ import annotations

from collections.abc import Iterable

from otel_control_gym.stands.twin.api_errors import ApiError, forbidden, invalid
from otel_control_gym.stands.twin.objects import Kind

__all__ = ("check_fields", "check_integer", "check_type", "denied", "required", "unmodelled", "unsupported", "webhook")

_TYPES: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}


def check_fields(where: str, found: Iterable[str], known: Iterable[str]) -> None:
    """Check the names of a block's fields.

    Raises: ApiError: 400, one isn't known.
    """
    accepted = set(known)
    for field in found:
        if field not in accepted:
            raise ApiError(400, "BadRequest", f'strict decoding error: unknown field "{where}.{field}"')


def check_type(kind: Kind, name: str, field: str, value: object, wanted: type) -> None:
    """Check that a value is a string, list or object, as the schema says.

    Raises: ApiError: 422, it is something else.
    """
    if not isinstance(value, wanted):
        found = _TYPES.get(type(value), "null")
        problem = f'Invalid value: "{found}": {field} in body must be of type {_TYPES[wanted]}: "{found}"'
        raise invalid(kind, name, field, problem, reason="FieldValueTypeInvalid")


def check_integer(kind: Kind, name: str, field: str, value: object, least: int, most: int) -> None:
    """Check an integer and its bounds.

    Raises: ApiError: 422, it isn't one or is beyond them.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(kind, name, field, f"Invalid value: {value!r}: must be an integer")
    if not least <= value <= most:
        raise invalid(kind, name, field, f"Invalid value: {value}: should be in {least}..{most}")


def required(kind: Kind, name: str, field: str) -> ApiError:
    """Return the refusal of an object that lacks a field."""
    return invalid(kind, name, field, "Required value", reason="FieldValueRequired")


def unsupported(kind: Kind, name: str, field: str, found: object, accepted: tuple[str, ...]) -> ApiError:
    """Return the refusal of a value that isn't one of an enumeration's."""
    supported = ", ".join(f'"{item}"' for item in accepted)
    problem = f'Unsupported value: "{found}": supported values: {supported}'
    return invalid(kind, name, field, problem, reason="FieldValueNotSupported")


def denied(kind: Kind, name: str, field: str, found: object, problem: str) -> ApiError:
    """Return the webhook's refusal of a field; `field` as Go names it (`Spec.Direction`)."""
    shown = "{}" if isinstance(found, dict) and not found else f'"{found}"'
    return forbidden(kind, name, webhook(f"{field}: Invalid value: {shown}: {problem}"))


def unmodelled(kind: Kind, name: str, what: str) -> ApiError:
    """Return the refusal of what Chaos Mesh can do and the simulated machines can't."""
    return forbidden(kind, name, webhook(f"the twin's machines don't model {what}"))


def webhook(message: str) -> str:
    """Return a message as the API server passes it on from the validating webhook."""
    return f'admission webhook "chaos-mesh-validation" denied the request: {message}'
