"""A caller's action ➜ a checked, immutable one, or `InvalidAction` with key, value and what would be right.

In: JSON or Python of a caller; the application's configuration. Out: an action of the catalogue. Next: `resolution`.

What is wrong with one key comes from the annotations of the action's struct; which keys exclude each other is in `_COMBINATIONS`; what the
application has to have is `check_target`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from otel_control_gym.actuators.actions import (
    DeletePod,
    Scale,
    SetAutoscaler,
    SetResources,
    SetWorkload,
    ShiftTraffic,
)
from otel_control_gym.actuators.catalogue import ENTRY_BY_TYPE, Action, entry_of
from otel_control_gym.actuators.entries import Entry, Parameter
from otel_control_gym.actuators.interventions import DependencyOutage, FeatureFlag
from otel_control_gym.actuators.profiles import profile_names
from otel_control_gym.actuators.resolution import target_of
from otel_control_gym.engine.errors import InvalidAction, nearest
from otel_control_gym.engine.plain_values import plain
from otel_control_gym.engine.settings import ServiceConfiguration

__all__ = ("STRENGTHS", "check_target", "parse_action")

STRENGTHS = (
    "replicas",
    "count",
    "cpu_request_cores",
    "cpu_limit_cores",
    "memory_request_bytes",
    "memory_limit_bytes",
    "weight_percent",
    "workers",
    "load_percent",
    "size_bytes",
    "latency_ms",
    "jitter_ms",
    "loss_percent",
    "pods_percent",
    "every_seconds",
    "mechanism",
    "mistake",
    "variant",
)  #: parameters that a word for the intensity stands for


def parse_action(mapping: dict[str, Any]) -> Action:
    """Return the action that a JSON form describes.

    Raises: InvalidAction: unknown type or key, a value of the wrong type or out of bounds, keys that exclude each other.
    """
    mapping = _checked_form(mapping)
    kind = mapping.get("type")
    if not isinstance(kind, str) or kind not in ENTRY_BY_TYPE:
        raise InvalidAction(
            action=str(kind),
            key="type",
            found=kind,
            problem="there is no such action",
            remedy=nearest(str(kind), ENTRY_BY_TYPE),
        )
    entry = ENTRY_BY_TYPE[kind]
    rules = {parameter.name: parameter for parameter in entry.parameters}
    for key in mapping:
        if key != "type" and key not in rules:
            raise InvalidAction(
                action=kind, key=key, found=mapping[key], problem="there is no such key", remedy=nearest(key, rules)
            )
    for rule in rules.values():
        if rule.required and rule.name not in mapping:
            raise _missing(kind, rule.name, _accepted(rule))
    for key, value in mapping.items():
        if key != "type":
            _check_value(entry, rules[key], value)
    action: Any = msgspec.convert(mapping, type=entry.action)
    _exclude(action, "intensity", STRENGTHS, "numbers")
    _exclude(action, "duration", ("duration_seconds",), "seconds")
    check = _COMBINATIONS.get(type(action))
    if check is not None:
        check(action)
    return cast("Action", action)


def check_target(action: msgspec.Struct, services: ServiceConfiguration) -> None:
    """Check that the action fits the application: its target, and what else it names, are part of it.

    Raises: InvalidAction: unknown service, edge, group, flow or flag; a dependency that is none.
    """
    entry, target = entry_of(action), getattr(action, "target", None)
    match entry.target_kind:
        case "service" if target is not None:
            _check_known(action, "target", target, services.services, f"{services.name!r} has no such service")
        case "edge":
            known = [f"{edge.source}->{edge.target}" for edge in services.edges if edge.source in services.services]
            _check_known(action, "target", target, known, f"{services.name!r} has no such edge")
        case "group":
            groups = {item.optional_group for item in services.services.values() if item.optional_group}
            _check_known(action, "target", target, groups, f"{services.name!r} has no such optional group")
    if isinstance(action, SetWorkload):
        for flow in action.mix or {}:
            _check_known(action, "mix", flow, services.flows, f"{services.name!r} has no such flow")
        if action.profile is not None:
            _check_known(action, "profile", action.profile, profile_names(), "there is no such workload")
    if isinstance(action, DependencyOutage):
        known = [name for name, item in services.services.items() if item.kind == "dependency"]
        _check_known(action, "target", action.target, known, "is no dependency")
    if isinstance(action, FeatureFlag):
        _check_known(action, "flag", action.flag, services.flags, f"{services.name!r} has no such flag")
        if target_of(action, services) not in services.services:
            raise InvalidAction(
                action="feature_flag",
                key="flag",
                found=action.flag,
                problem=f"{services.name!r} has no service on which it works",
                remedy="choose a flag of a service that is there",
            )
        if action.variant is not None:
            variants = services.flags[action.flag].variants
            _check_known(action, "variant", action.variant, variants, f"{action.flag} has no such variant")


def _check_known(action: msgspec.Struct, key: str, found: Any, known: Iterable[str], problem: str) -> None:
    names = list(known)
    if found not in names:
        raise InvalidAction(
            action=entry_of(action).type, key=key, found=found, problem=problem, remedy=nearest(str(found), names)
        )


# --- one key ------------------------------------------------------------------------------------------------------------------


def _checked_form(mapping: object) -> dict[str, Any]:
    """Return the JSON form in plain values, numpy's numbers as Python's."""
    try:
        found = plain(mapping)
    except TypeError:
        found = None
    if not isinstance(found, dict):
        raise InvalidAction(
            action=type(mapping).__name__,
            key="action",
            found=mapping,
            problem="is neither an action nor its JSON form",
            remedy='give one, e.g. Scale("checkout", replicas=3), or {"type": "scale", "target": "checkout", "replicas": 3}',
        )
    return found


def _check_value(entry: Entry, rule: Parameter, value: object) -> None:
    probe = {parameter.name: entry.example.get(parameter.name) for parameter in entry.parameters if parameter.required}
    try:
        msgspec.convert({"type": entry.type, **probe, rule.name: value}, type=entry.action)
    except msgspec.ValidationError as error:
        raise InvalidAction(
            action=entry.type,
            key=rule.name,
            found=value,
            problem=str(error).split(" - at ", 1)[0],
            remedy=f"accepted: {_accepted(rule)}",
        ) from error


_NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "object": "a mapping",
}


def _accepted(rule: Parameter) -> str:
    """Return a parameter's accepted values in words, from its schema."""
    options = rule.schema.get("anyOf", [rule.schema])
    schema = next(option for option in options if option.get("type") != "null")
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    words = [_NOUNS[schema["type"]]]
    if "minimum" in schema:
        words.append(f"from {schema['minimum']}")
    if "exclusiveMinimum" in schema:
        words.append(f"above {schema['exclusiveMinimum']}")
    if "maximum" in schema:
        words.append(f"to {schema['maximum']}")
    unit = schema.get("unit", "")
    about = schema.get("description", "")
    return " ".join(words) + (f" {unit}" if unit else "") + (f" ({about})" if about else "")


# --- keys together --------------------------------------------------------------------------------------------------------------


def _missing(kind: str, key: str, remedy: str) -> InvalidAction:
    return InvalidAction(action=kind, key=key, found=None, problem="is missing", remedy=f"give {remedy}")


def _nothing(kind: str, keys: Iterable[str]) -> InvalidAction:
    return InvalidAction(
        action=kind, key="type", found=kind, problem="changes nothing", remedy=f"give {', '.join(keys)}"
    )


def _exclude(action: msgspec.Struct, word: str, keys: Iterable[str], noun: str) -> None:
    """Raise InvalidAction where a word and the numbers that it stands for are both given."""
    said = getattr(action, word, None)
    if said is None:
        return
    for key in keys:
        if getattr(action, key, None) is not None:
            raise InvalidAction(
                action=entry_of(action).type,
                key=key,
                found=getattr(action, key),
                problem=f"excludes {word} = {said!r}",
                remedy=f"give the word or the {noun}, not both",
            )


def _check_scale(action: Scale) -> None:
    if action.replicas is None and action.intensity is None:
        raise _missing("scale", "replicas", "a whole number from 0 to 20 pods, or intensity")


def _check_delete(action: DeletePod) -> None:
    if action.count == 0:
        raise InvalidAction(
            action="delete_pod",
            key="count",
            found=0,
            problem="deletes nothing",
            remedy="give at least 1, or noop",
        )


def _check_shift(action: ShiftTraffic) -> None:
    if action.weight_percent is None and action.intensity is None:
        raise _missing("shift_traffic", "weight_percent", "a whole number from 0 to 100 %, or intensity")
    if action.reconnect_callers and action.via == "route":
        raise InvalidAction(
            action="shift_traffic",
            key="reconnect_callers",
            found=True,
            problem="excludes via = 'route'",
            remedy="leave it out: a route weighs requests, not connections",
        )


def _check_resources(action: SetResources) -> None:
    pairs = (("cpu_request_cores", "cpu_limit_cores"), ("memory_request_bytes", "memory_limit_bytes"))
    for request, limit in pairs:
        low, high = getattr(action, request), getattr(action, limit)
        if low is not None and high is not None and low > high:
            raise InvalidAction(
                action="set_resources",
                key=request,
                found=low,
                problem=f"exceeds {limit} = {high}",
                remedy=f"give at most {high}, or raise {limit}",
            )
    keys = [key for pair in pairs for key in pair]
    if action.intensity is None and all(getattr(action, key) is None for key in keys):
        raise _nothing("set_resources", keys)


def _check_autoscaler(action: SetAutoscaler) -> None:
    keys = ("min_replicas", "max_replicas", "cpu_utilization_percent", "scale_down_stabilization_seconds")
    given = [key for key in keys if getattr(action, key) is not None]
    if action.remove:
        for key in given:
            raise InvalidAction(
                action="set_autoscaler",
                key=key,
                found=getattr(action, key),
                problem="excludes remove = True",
                remedy="give either",
            )
        return
    if not given:
        raise _nothing("set_autoscaler", (*keys, "remove"))
    low, high = action.min_replicas, action.max_replicas
    if low is not None and high is not None and low > high:
        raise InvalidAction(
            action="set_autoscaler",
            key="min_replicas",
            found=low,
            problem=f"exceeds max_replicas = {high}",
            remedy=f"give at most {high}, or raise max_replicas",
        )


def _check_workload(action: SetWorkload) -> None:
    keys = ("users", "rate_per_s", "mix", "profile")
    given = [key for key in keys if getattr(action, key) is not None]
    if not given:
        raise _nothing("set_workload", keys)
    for one, others in (("profile", ("users", "rate_per_s", "mix")), ("rate_per_s", ("users",))):
        for other in others:
            if one in given and other in given:
                raise InvalidAction(
                    action="set_workload",
                    key=other,
                    found=getattr(action, other),
                    problem=f"excludes {one} = {getattr(action, one)!r}",
                    remedy="give either",
                )


_COMBINATIONS: dict[type[Any], Callable[[Any], None]] = {
    Scale: _check_scale,
    DeletePod: _check_delete,
    ShiftTraffic: _check_shift,
    SetResources: _check_resources,
    SetAutoscaler: _check_autoscaler,
    SetWorkload: _check_workload,
}
