"""The catalogue: every action and intervention, its parameters with units and bounds, and what is known about each as data.

In: JSON or Python of a caller. Out: checked, immutable actions, or `InvalidAction` with key, value and what would be right. No I/O:
what only the stand can tell (a protected target, a conflict) is a precheck's verdict, not a caller's mistake. Next: `lifecycle`.

An action's type is its `tag`; its parameters are the fields of its struct, and their units, bounds and descriptions are in the same
annotations that msgspec checks them by, so that `ENTRIES` and any page made from it can't disagree with the parser.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from otel_control_gym.actuators.actions import (
    Action,
    CpuPressure,
    NetworkDelay,
    Noop,
    Restart,
    Scale,
    SetResources,
    SetWorkload,
)
from otel_control_gym.actuators.intensities import cpu_strength, delay_strength
from otel_control_gym.engine.errors import InvalidAction, nearest
from otel_control_gym.engine.plain_values import plain
from otel_control_gym.engine.settings import Intensity, ServiceConfiguration

__all__ = (
    "ENTRIES",
    "Entry",
    "Parameter",
    "check_target",
    "entry_of",
    "parameters_of",
    "parse_action",
    "to_json",
)


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of an action, as the parser checks it."""

    name: str
    schema: dict[str, Any]  #: JSON schema: type, bounds, description, and `unit` where there is one
    required: bool


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a type of action besides its parameters."""

    action: type[Action]
    action_class: Literal["action", "intervention"]
    target_kind: Literal["none", "service", "edge", "workload"]
    api_calls: tuple[str, ...]
    precheck: tuple[str, ...]  #: grounds for a rejection
    evidence: tuple[str, ...]  #: what must be seen before it counts as effective
    reverse: str  #: empty: there is nothing to take back
    deadline_seconds: int  #: how long the evidence is looked for
    example: dict[str, Any]
    configuration: str = "small-core"  #: service configuration for which the example is valid

    @property
    def type(self) -> str:
        """Return the `type` in JSON."""
        return str(self.action.__struct_config__.tag)

    @property
    def summary(self) -> str:
        """Return the action's first docstring line."""
        return (self.action.__doc__ or "").split("\n", 1)[0]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Return the parameters, in the order of the struct."""
        schema = msgspec.json.schema(self.action)["$defs"][self.action.__name__]
        required = schema.get("required", ())
        return tuple(
            Parameter(name=name, schema=rule, required=name in required)
            for name, rule in schema["properties"].items()
            if name != "type"
        )

    @property
    def timed(self) -> bool:
        """Return whether the action can be given a duration."""
        return "duration_seconds" in self.action.__struct_fields__


_DEPLOYMENT = "apis/apps/v1/namespaces/{namespace}/deployments/{target}"
_CHAOS = "apis/chaos-mesh.org/v1alpha1/namespaces/{namespace}"
_UNTOUCHABLE = ("target is protected", "target is stateful", "another action on the same field is in flight")

ENTRIES: tuple[Entry, ...] = (
    Entry(
        action=Noop,
        action_class="action",
        target_kind="none",
        api_calls=(),
        precheck=(),
        evidence=(),
        reverse="",
        deadline_seconds=0,
        example={"type": "noop"},
    ),
    Entry(
        action=Scale,
        action_class="action",
        target_kind="service",
        api_calls=(f"PATCH {_DEPLOYMENT}/scale (merge)",),
        precheck=_UNTOUCHABLE,
        evidence=(
            "spec.replicas is what was asked for",
            "observedGeneration >= generation of the write",
            "status.replicas and availableReplicas equal it",
        ),
        reverse="scale back to the replicas seen by the precheck",
        deadline_seconds=120,
        example={"type": "scale", "target": "checkout", "replicas": 3},
    ),
    Entry(
        action=Restart,
        action_class="action",
        target_kind="service",
        api_calls=(f"PATCH {_DEPLOYMENT} (strategic merge, template annotation restartedAt)",),
        precheck=(*_UNTOUCHABLE, "target has no replicas", "rollouts are paused"),
        evidence=(
            "observedGeneration >= generation of the write",
            "a ReplicaSet of this Deployment carries our annotation and has all replicas available",
            "no replicas of another ReplicaSet are left",
        ),
        reverse="",
        deadline_seconds=180,
        example={"type": "restart", "target": "cart"},
    ),
    Entry(
        action=SetResources,
        action_class="action",
        target_kind="service",
        api_calls=(f"PATCH {_DEPLOYMENT} (strategic merge, container resources)",),
        precheck=(*_UNTOUCHABLE, "target has no replicas", "rollouts are paused", "a request would exceed its limit"),
        evidence=(
            "observedGeneration >= generation of the write",
            "all pods of the Deployment's newest ReplicaSet have the resources and are available",
            "no replicas of another ReplicaSet are left",
        ),
        reverse="set the resources seen by the precheck again",
        deadline_seconds=180,
        example={"type": "set_resources", "target": "frontend", "cpu_limit_cores": 0.8},
    ),
    Entry(
        action=SetWorkload,
        action_class="action",
        target_kind="workload",
        api_calls=("POST {load_generator}/swarm (form: user_count, spawn_rate)",),
        precheck=("the load generator isn't running", "another change of the workload is in flight"),
        evidence=("the load generator reports this many users, as target and as active",),
        reverse="set the users seen by the precheck again",
        deadline_seconds=120,
        example={"type": "set_workload", "users": 100},
    ),
    Entry(
        action=CpuPressure,
        action_class="intervention",
        target_kind="service",
        api_calls=(f"POST {_CHAOS}/stresschaos", f"DELETE {_CHAOS}/stresschaos/{{name}}"),
        precheck=(
            "target has no ready pod",
            "target has no CPU limit",
            "the same pressure is in force",
            "the API server refuses a dry run",
        ),
        evidence=(
            "AllInjected, and a record with injectedCount >= 1 for each pod",
            "status.instances names the stressor of each pod",
            "the pods are still those that were targeted",
        ),
        reverse="delete the object; it is gone (404)",
        deadline_seconds=60,
        example={"type": "cpu_pressure", "target": "checkout", "intensity": "visible", "duration_seconds": 120},
    ),
    Entry(
        action=NetworkDelay,
        action_class="intervention",
        target_kind="edge",
        api_calls=(f"POST {_CHAOS}/networkchaos", f"DELETE {_CHAOS}/networkchaos/{{name}}"),
        precheck=(
            "an end of the edge has no ready pod",
            "a delay on this edge is in force",
            "the API server refuses a dry run",
        ),
        evidence=(
            "AllInjected, and a record with injectedCount >= 1 for each pod of both ends",
            "each target pod's PodNetworkChaos has a traffic rule of ours, observed, without failedMessage",
            "the pods are still those that were targeted",
        ),
        reverse="delete the object; it is gone (404) and no PodNetworkChaos holds a rule of it",
        deadline_seconds=60,
        example={"type": "network_delay", "target": "frontend->cart", "intensity": "mild", "duration_seconds": 120},
    ),
)
"""The catalogue in the order in which it is shown."""

_BY_TYPE = {entry.type: entry for entry in ENTRIES}
_WORDS = ("intensity", "workers", "load_percent", "latency_ms", "jitter_ms")


def entry_of(action: msgspec.Struct) -> Entry:
    """Return the catalogue's entry of an action."""
    return _BY_TYPE[str(action.__struct_config__.tag)]


def to_json(action: msgspec.Struct) -> dict[str, Any]:
    """Return the one JSON form of an action; `parse_action` is its inverse."""
    converted: dict[str, Any] = plain(action)
    return converted


def parse_action(mapping: dict[str, Any]) -> Action:
    """Return the action that a JSON form describes.

    Raises: InvalidAction: unknown type or key, a value of the wrong type or out of bounds, keys that exclude each other.
    """
    mapping = _checked_form(mapping)
    kind = mapping.get("type")
    if not isinstance(kind, str) or kind not in _BY_TYPE:
        raise InvalidAction(
            action=str(kind),
            key="type",
            found=kind,
            problem="there is no such action",
            remedy=nearest(str(kind), _BY_TYPE),
        )
    entry = _BY_TYPE[kind]
    rules = {parameter.name: parameter for parameter in entry.parameters}
    for key in mapping:
        if key != "type" and key not in rules:
            raise InvalidAction(
                action=kind, key=key, found=mapping[key], problem="there is no such key", remedy=nearest(key, rules)
            )
    for rule in rules.values():
        if rule.required and rule.name not in mapping:
            raise InvalidAction(
                action=kind, key=rule.name, found=None, problem="is missing", remedy=f"give {_accepted(rule)}"
            )
    for key, value in mapping.items():
        if key != "type":
            _check_value(entry, rules[key], value)
    action: Action = msgspec.convert(mapping, type=entry.action)
    _check_combination(action)
    return action


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


def _accepted(rule: Parameter) -> str:
    """Return a parameter's accepted values in words, from its schema."""
    options = rule.schema.get("anyOf", [rule.schema])
    schema = next(option for option in options if option.get("type") != "null")
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    words = [{"integer": "a whole number", "number": "a number", "string": "a text"}[schema["type"]]]
    if "minimum" in schema:
        words.append(f"from {schema['minimum']}")
    if "exclusiveMinimum" in schema:
        words.append(f"above {schema['exclusiveMinimum']}")
    if "maximum" in schema:
        words.append(f"to {schema['maximum']}")
    unit = schema.get("unit", "")
    about = schema.get("description", "")
    return " ".join(words) + (f" {unit}" if unit else "") + (f" ({about})" if about else "")


def _check_combination(action: Action) -> None:
    """Raise InvalidAction where keys are fine one by one, but not together."""
    if isinstance(action, SetResources):
        _check_resources(action)
    if isinstance(action, CpuPressure | NetworkDelay) and action.intensity is not None:
        for key in _WORDS[1:]:
            if getattr(action, key, None) is not None:
                raise InvalidAction(
                    action=entry_of(action).type,
                    key=key,
                    found=getattr(action, key),
                    problem=f"excludes intensity = {action.intensity!r}",
                    remedy="give the word or the numbers, not both",
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
    if all(getattr(action, key) is None for key in keys):
        raise InvalidAction(
            action="set_resources",
            key="type",
            found="set_resources",
            problem="changes nothing",
            remedy=f"give {', '.join(keys)}",
        )


def check_target(action: msgspec.Struct, services: ServiceConfiguration) -> None:
    """Check that the action's target is part of the application.

    Raises: InvalidAction: unknown service or edge.
    """
    entry, target = entry_of(action), getattr(action, "target", "")
    if entry.target_kind == "service":
        known = list(services.services)
    elif entry.target_kind == "edge":
        known = [f"{edge.source}->{edge.target}" for edge in services.edges if edge.source in services.services]
    else:
        return
    if target not in known:
        raise InvalidAction(
            action=entry.type,
            key="target",
            found=target,
            problem=f"{services.name!r} has no such {entry.target_kind}",
            remedy=nearest(target, known),
        )


def parameters_of(action: msgspec.Struct, services: ServiceConfiguration) -> dict[str, Any]:
    """Return an action's parameters as they are logged: words and numbers, resolved, without target and duration."""
    values = {key: value for key, value in to_json(action).items() if key not in ("type", "target", "duration_seconds")}
    match action:
        case CpuPressure():
            limit = services.services[action.target].cpu_limit_cores or 1.0
            word: Intensity | None = action.intensity
            if word is None and action.workers is None and action.load_percent is None:
                word = "visible"
            strength = cpu_strength(word or "visible", limit_cores=limit)
            return {
                "intensity": word,
                "workers": strength.workers if action.workers is None else action.workers,
                "load_percent": strength.load_percent if action.load_percent is None else action.load_percent,
                "persistence": action.persistence,
            }
        case NetworkDelay():
            word = action.intensity
            if word is None and action.latency_ms is None and action.jitter_ms is None:
                word = "visible"
            delay = delay_strength(word or "zero")
            return {
                "intensity": word,
                "latency_ms": delay.latency_ms if action.latency_ms is None else action.latency_ms,
                "jitter_ms": delay.jitter_ms if action.jitter_ms is None else action.jitter_ms,
                "persistence": action.persistence,
            }
        case SetWorkload():
            return {"users": action.users, "spawn_rate_per_s": action.spawn_rate_per_s}
        case _:
            return values
