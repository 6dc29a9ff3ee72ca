"""Whether an inverse call has come true: what it asks for, compared with what the stand shows afterwards.

In: a call as the log holds it, and a document that was read after it. Out: yes or no. Pure. Only what the call names is compared: the
rest of an object is somebody else's. Next: `janitor`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_control_gym.actuators.quantities import parse_quantity

__all__ = ("holds",)

_KEYS = ("name", "port", "containerPort")  #: by which entries of lists are told apart


def holds(wanted: Any, found: Any) -> bool:
    """Return whether a document has what a merge patch or strategic merge patch asks for.

    Null (and `$patch: delete` in a list's entry) asks for absence. Quantities are compared as numbers.
    """
    if isinstance(wanted, Mapping):
        if wanted.get("$patch") == "delete":
            return found is None
        present = found if isinstance(found, Mapping) else {}
        return all(holds(value, present.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return _holds_list(wanted, found if isinstance(found, list) else [])
    if wanted is None:
        return found is None or found in ([], {})
    return bool(wanted == found) or _same_quantity(wanted, found)


def _holds_list(wanted: list[Any], found: list[Any]) -> bool:
    key = next((key for key in _KEYS if wanted and isinstance(wanted[0], Mapping) and key in wanted[0]), None)
    if key is None:
        return wanted == found
    entries = {entry.get(key): entry for entry in found if isinstance(entry, Mapping)}
    return all(holds(entry, entries.get(entry[key])) for entry in wanted)


def _same_quantity(wanted: object, found: object) -> bool:
    if not isinstance(wanted, str) or not isinstance(found, str):
        return False
    try:
        return parse_quantity(wanted) == parse_quantity(found)
    except ValueError:
        return False
