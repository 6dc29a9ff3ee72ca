"""The catalogue: every action and intervention, and what is known about each as data.

In: an action. Out: its entry, its JSON form, the JSON Schema of all. No I/O: what only the stand can tell (a protected target, a conflict)
is a precheck's verdict, not a caller's mistake. Next: `parsing` (a caller's JSON ➜ an action), `resolution` (words ➜ numbers), `lifecycle`.

An action's type is its `tag`; its parameters are the fields of its struct, and their units, bounds and descriptions are in the same
annotations that msgspec checks them by, so that `ENTRIES` and any page made from it can't disagree with the parser.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from otel_control_gym.actuators.action_entries import ACTION_ENTRIES
from otel_control_gym.actuators.actions import (
    DeletePod,
    DisableGroup,
    EnableGroup,
    Noop,
    Restart,
    RollbackConfig,
    RolloutConfig,
    Scale,
    SetAutoscaler,
    SetResources,
    SetWorkload,
    ShiftTraffic,
)
from otel_control_gym.actuators.entries import Entry
from otel_control_gym.actuators.intervention_entries import INTERVENTION_ENTRIES
from otel_control_gym.actuators.interventions import (
    BadConfig,
    CpuPressure,
    DependencyOutage,
    FeatureFlag,
    MemoryPressure,
    NetworkDelay,
    NetworkPartition,
    PacketLoss,
    PodKill,
    RestartLoop,
)
from otel_control_gym.engine.plain_values import plain

__all__ = ("ENTRIES", "ENTRY_BY_TYPE", "Action", "action_schema", "entry_of", "to_json")

Action: TypeAlias = (
    Noop
    | Scale
    | Restart
    | DeletePod
    | EnableGroup
    | DisableGroup
    | RolloutConfig
    | RollbackConfig
    | SetResources
    | SetAutoscaler
    | ShiftTraffic
    | SetWorkload
    | CpuPressure
    | MemoryPressure
    | NetworkDelay
    | PacketLoss
    | NetworkPartition
    | PodKill
    | RestartLoop
    | DependencyOutage
    | BadConfig
    | FeatureFlag
)

ENTRIES: tuple[Entry, ...] = (*ACTION_ENTRIES, *INTERVENTION_ENTRIES)
"""The catalogue in the order in which it is shown."""

ENTRY_BY_TYPE = {entry.type: entry for entry in ENTRIES}


def entry_of(action: msgspec.Struct) -> Entry:
    """Return the catalogue's entry of an action."""
    return ENTRY_BY_TYPE[str(action.__struct_config__.tag)]


def to_json(action: msgspec.Struct) -> dict[str, Any]:
    """Return the one JSON form of an action; `parse_action` is its inverse."""
    converted: dict[str, Any] = plain(action)
    return converted


def action_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of every action's JSON form; `unit` is an annotation of ours.

    What keys exclude each other, and which targets an application has, isn't in it: see `parse_action` and `check_target`.
    """
    schema: dict[str, Any] = msgspec.json.schema(Action)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Action", **schema}
