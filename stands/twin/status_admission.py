"""What clients may write through the `status` sub-resource.

In: a status of the right shape. Out: the status with its times in the form that is stored, or an `ApiError`.

Status belongs to controllers, and some run outside of a cluster: so a client may write that of a Deployment, an autoscaler or a route.
The status of pods, replica sets, Services and namespaces is what the twin's machines are in; nobody else writes it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from otel_control_gym.stands.twin.api_errors import forbidden, invalid_fields
from otel_control_gym.stands.twin.field_errors import FieldError, invalid_value, required, unsupported
from otel_control_gym.stands.twin.objects import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, HTTP_ROUTE, Kind, Object

__all__ = ("admit_status",)

_WRITABLE = (DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, HTTP_ROUTE)
_TIMES = ("lastTransitionTime", "lastUpdateTime")
_DEPLOYMENT_KEYS = ("reason", "lastTransitionTime", "lastUpdateTime")
_ROUTE_KEYS = ("reason", "lastTransitionTime")
_STATES = ("False", "True", "Unknown")


def admit_status(kind: Kind, name: str, status: Object) -> Object:
    """Return a status that a client writes, checked.

    Raises: ApiError: something about it breaks a rule, or it isn't for clients to write.
    """
    if kind not in _WRITABLE:
        why = "the twin's machines write this status"
        raise forbidden(kind, name, f'{kind.resource} "{name}" is forbidden: {why}')
    status = copy.deepcopy(status)
    problems = [*_fields(status, "status", _DEPLOYMENT_KEYS if kind is DEPLOYMENT else ())]
    for index, parent in enumerate(status.get("parents", ())):
        field = f"status.parents[{index}]"
        problems += _conditions(parent, field, _ROUTE_KEYS)
        if not parent.get("controllerName"):
            problems.append(required(f"{field}.controllerName"))
        if not parent.get("parentRef", {}).get("name"):
            problems.append(required(f"{field}.parentRef.name"))
    for index, metric in enumerate(status.get("currentMetrics") or ()):
        if not metric.get("type"):
            problems.append(required(f"status.currentMetrics[{index}].type"))
    if problems:
        raise invalid_fields(kind, name, problems)
    return status


def _fields(status: Object, field: str, required_keys: tuple[str, ...]) -> Iterator[FieldError]:
    for key, value in status.items():
        if isinstance(value, int) and value < 0:
            yield invalid_value(f"{field}.{key}", value, "must be greater than or equal to 0")
    if "lastScaleTime" in status:
        yield from _time(status, "lastScaleTime", field)
    yield from _conditions(status, field, required_keys)


def _conditions(holder: Object, field: str, required_keys: tuple[str, ...]) -> Iterator[FieldError]:
    """Check conditions; `required_keys`: what those who read them rely on, beside type and status."""
    for index, entry in enumerate(holder.get("conditions", ())):
        where = f"{field}.conditions[{index}]"
        if not entry.get("type"):
            yield required(f"{where}.type")
        if entry.get("status") not in _STATES:
            yield unsupported(f"{where}.status", entry.get("status", ""), _STATES)
        for key in _TIMES:
            if key in entry:
                yield from _time(entry, key, where)
        for key in required_keys:
            if not entry.get(key):
                yield required(f"{where}.{key}")


def _time(holder: dict[str, Any], key: str, field: str) -> Iterator[FieldError]:
    """Write a time as the server stores it (whole seconds, UTC), or say that it is none."""
    try:
        found = datetime.fromisoformat(holder[key])
        holder[key] = found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        yield invalid_value(f"{field}.{key}", holder[key], "must be a time as RFC 3339 writes it")
