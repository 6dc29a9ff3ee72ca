"""A logged request ➜ the action that makes the same request again.

In: type, target, parameters and duration, as `ActionRequested` holds them. Out: the JSON form that `parse_action` accepts. `resolution` put
numbers beside the word for a strength; the two exclude each other in an action, so the word stays, and where there is none the numbers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_control_gym.actuators.catalogue import ENTRY_BY_TYPE
from otel_control_gym.actuators.parsing import STRENGTHS

__all__ = ("replayed",)

_IN_PROFILE = ("users", "spawn_rate_per_s", "rate_per_s", "mix")


def replayed(action_type: str, target: str, parameters: Mapping[str, Any], duration_s: float | None) -> dict[str, Any]:
    """Return the JSON form of an action whose request says what this one says, on the same application."""
    entry = ENTRY_BY_TYPE[action_type]
    accepted = {parameter.name for parameter in entry.parameters}
    form: dict[str, Any] = {"type": action_type}
    if "target" in accepted:
        form["target"] = target
    hidden = set(STRENGTHS) if parameters.get("intensity") is not None else set()
    if parameters.get("profile") is not None:
        hidden |= set(_IN_PROFILE)
    form |= {
        name: value
        for name, value in parameters.items()
        if name in accepted and name not in hidden and value is not None
    }
    if duration_s is not None and "duration_seconds" in accepted:
        form["duration_seconds"] = round(duration_s)
    return form
