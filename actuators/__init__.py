"""Actuators: how actions and interventions are described, checked, applied, verified and taken back.

Here: the catalogue (`ENTRIES`, `parse_action`) and the life cycle behind `open_actuators`. Not here: which action is chosen (policies),
when time passes (the episode), what became of it in numbers (projections). A stand is met over HTTP only; a simulated one and a
cluster look the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from otel_control_gym.actuators.catalogue import ENTRIES, Action, action_schema, entry_of, to_json
from otel_control_gym.actuators.entries import Entry, Parameter
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
from otel_control_gym.actuators.parsing import check_target, parse_action
from otel_control_gym.actuators.replaying import replayed

if TYPE_CHECKING:
    from otel_control_gym.actuators.opening import open_actuators
    from otel_control_gym.actuators.workload_curve import open_curve

__all__ = (
    "ENTRIES",
    "Action",
    "BadConfig",
    "CpuPressure",
    "DeletePod",
    "DependencyOutage",
    "DisableGroup",
    "EnableGroup",
    "Entry",
    "FeatureFlag",
    "MemoryPressure",
    "NetworkDelay",
    "NetworkPartition",
    "Noop",
    "PacketLoss",
    "Parameter",
    "PodKill",
    "Restart",
    "RestartLoop",
    "RollbackConfig",
    "RolloutConfig",
    "Scale",
    "SetAutoscaler",
    "SetResources",
    "SetWorkload",
    "ShiftTraffic",
    "action_schema",
    "check_target",
    "entry_of",
    "open_actuators",
    "open_curve",
    "parse_action",
    "replayed",
    "to_json",
)


def __getattr__(name: str) -> object:
    # The catalogue alone needs no HTTP client: `ocg.parse_action` is quick.
    if name == "open_actuators":
        from otel_control_gym.actuators.opening import open_actuators

        return open_actuators
    if name == "open_curve":
        from otel_control_gym.actuators.workload_curve import open_curve

        return open_curve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
