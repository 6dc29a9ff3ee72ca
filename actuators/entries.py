"""What the catalogue knows about one type of action: the shape of an entry, and what follows from the action's own type.

In: an action's struct. Out: `Entry`, with its parameters as JSON Schema. The entries themselves are data in `action_entries` and
`intervention_entries`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import msgspec

from otel_control_gym.actuators.parameters import BaseAction

__all__ = ("CHAOS", "DEPLOYMENT", "UNTOUCHABLE", "Entry", "Parameter", "TargetKind")

TargetKind = Literal["none", "service", "edge", "group", "workload"]

DEPLOYMENT = "apis/apps/v1/namespaces/{namespace}/deployments/{target}"
CHAOS = "apis/chaos-mesh.org/v1alpha1/namespaces/{namespace}"
UNTOUCHABLE = ("target is protected", "target is stateful", "another action on the same field is in flight")


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of an action, as the parser checks it."""

    name: str
    schema: dict[str, Any]  #: JSON schema: type, bounds, description, and `unit` where there is one
    required: bool


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a type of action besides its parameters."""

    action: type[BaseAction]
    action_class: Literal["action", "intervention"]
    target_kind: TargetKind
    safe: bool  #: no request is lost by it, on a healthy target and within its bounds
    reads: tuple[str, ...] = ()  #: state of the stand that it depends on
    api_calls: tuple[str, ...] = ()
    precheck: tuple[str, ...] = ()  #: grounds for a rejection
    evidence: tuple[str, ...] = ()  #: what must be seen before it counts as effective
    reverse: str = ""  #: empty: there is nothing to take back
    deadline_seconds: int = 0  #: how long the evidence is looked for
    symptoms: tuple[str, ...] = ()  #: what the target shows: features of the tables
    spreads: tuple[str, ...] = ()  #: those of `latency` and `errors` that its callers show, too
    example: dict[str, Any]
    configuration: str = "small-core"  #: service configuration on which the example takes effect
    preparation: tuple[dict[str, Any], ...] = ()  #: actions without which the example has nothing to change

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
        return _parameters(self.action)

    @property
    def timed(self) -> bool:
        """Return whether the action can be given a duration."""
        return "duration_seconds" in self.action.__struct_fields__

    @property
    def graded(self) -> bool:
        """Return whether the action's strength can be given in a word."""
        return "intensity" in self.action.__struct_fields__

    @property
    def persistent(self) -> bool:
        """Return whether the action can be told to follow its workload into new pods."""
        return "persistence" in self.action.__struct_fields__


@cache
def _parameters(action: type[BaseAction]) -> tuple[Parameter, ...]:
    schema = msgspec.json.schema(action)["$defs"][action.__name__]
    required = schema.get("required", ())
    return tuple(
        Parameter(name=name, schema=rule, required=name in required)
        for name, rule in schema["properties"].items()
        if name != "type"
    )
