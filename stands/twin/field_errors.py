"""What is wrong with one field, in the words of the API server's `field.Error`; an object may have several of them at once.

In: a field's path, its value, what would be right. Out: a `FieldError`; `api_errors.invalid_fields` makes a refusal of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

__all__ = ("FieldError", "duplicate", "forbidden_field", "invalid_value", "not_found_value", "required", "unsupported")


class FieldError(msgspec.Struct, frozen=True):
    """One cause of a 422."""

    field: str
    problem: str
    reason: str


def required(field: str, detail: str = "") -> FieldError:
    """The field has to be given."""
    return FieldError(field, f"Required value: {detail}" if detail else "Required value", "FieldValueRequired")


def invalid_value(field: str, value: object, detail: str) -> FieldError:
    """The field's value breaks a rule."""
    return FieldError(field, f"Invalid value: {_shown(value)}: {detail}", "FieldValueInvalid")


def unsupported(field: str, value: object, supported: Iterable[str]) -> FieldError:
    """The field's value is none of those that are known."""
    known = ", ".join(f'"{item}"' for item in supported)
    return FieldError(field, f"Unsupported value: {_shown(value)}: supported values: {known}", "FieldValueNotSupported")


def forbidden_field(field: str, detail: str) -> FieldError:
    """The field may not be given here."""
    return FieldError(field, f"Forbidden: {detail}", "FieldValueForbidden")


def not_found_value(field: str, value: object) -> FieldError:
    """The field names something that isn't there."""
    return FieldError(field, f"Not found: {_shown(value)}", "FieldValueNotFound")


def duplicate(field: str, value: object) -> FieldError:
    """The field's value was given to another entry already."""
    return FieldError(field, f"Duplicate value: {_shown(value)}", "FieldValueDuplicate")


def _shown(value: object) -> str:
    """Return a value as messages quote it: JSON, as Go's `%q` and `%v` look for the values that occur."""
    return msgspec.json.encode(value).decode()
