"""otel-control-gym: a controlled gym for DevOps systems. `import otel_control_gym as ocg`.

The public face: re-exports only. Names are resolved on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_control_gym.actuators import (
        BadConfig,
        CpuPressure,
        DeletePod,
        DependencyOutage,
        DisableGroup,
        EnableGroup,
        FeatureFlag,
        MemoryPressure,
        NetworkDelay,
        NetworkPartition,
        Noop,
        PacketLoss,
        PodKill,
        Restart,
        RestartLoop,
        RollbackConfig,
        RolloutConfig,
        Scale,
        SetAutoscaler,
        SetResources,
        SetWorkload,
        ShiftTraffic,
        action_schema,
        parse_action,
    )
    from otel_control_gym.engine.assembly import make, open_branch, serve_twin
    from otel_control_gym.engine.branching import Branch
    from otel_control_gym.engine.configuration import resolve
    from otel_control_gym.engine.env import Env, Info
    from otel_control_gym.engine.errors import (
        BranchError,
        BrokerError,
        ConfigurationError,
        DatasetError,
        InvalidAction,
        LogCorrupted,
        LogError,
        OtelControlGymError,
        StandError,
        UsageError,
        WriteConflict,
    )
    from otel_control_gym.engine.observation import Observation
    from otel_control_gym.engine.runs import Run, find_runs, open_run, rebuild
    from otel_control_gym.engine.settings import PlannedAction, RunConfig, Scenario
    from otel_control_gym.engine.synchronous import SynchronousEnv, synchronous
    from otel_control_gym.projections import validate

__all__ = (
    "BadConfig",
    "Branch",
    "BranchError",
    "BrokerError",
    "ConfigurationError",
    "CpuPressure",
    "DatasetError",
    "DeletePod",
    "DependencyOutage",
    "DisableGroup",
    "EnableGroup",
    "Env",
    "FeatureFlag",
    "Info",
    "InvalidAction",
    "LogCorrupted",
    "LogError",
    "MemoryPressure",
    "NetworkDelay",
    "NetworkPartition",
    "Noop",
    "Observation",
    "OtelControlGymError",
    "PacketLoss",
    "PlannedAction",
    "PodKill",
    "Restart",
    "RestartLoop",
    "RollbackConfig",
    "RolloutConfig",
    "Run",
    "RunConfig",
    "Scale",
    "Scenario",
    "SetAutoscaler",
    "SetResources",
    "SetWorkload",
    "ShiftTraffic",
    "StandError",
    "SynchronousEnv",
    "UsageError",
    "WriteConflict",
    "action_schema",
    "find_runs",
    "make",
    "open_branch",
    "open_run",
    "parse_action",
    "rebuild",
    "resolve",
    "serve_twin",
    "synchronous",
    "validate",
)

_HOMES = {
    "actuators": (
        "BadConfig",
        "CpuPressure",
        "DeletePod",
        "DependencyOutage",
        "DisableGroup",
        "EnableGroup",
        "FeatureFlag",
        "MemoryPressure",
        "NetworkDelay",
        "NetworkPartition",
        "Noop",
        "PacketLoss",
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
        "parse_action",
    ),
    "engine.assembly": ("make", "open_branch", "serve_twin"),
    "engine.branching": ("Branch",),
    "engine.configuration": ("resolve",),
    "engine.env": ("Env", "Info"),
    "engine.errors": (
        "BranchError",
        "BrokerError",
        "ConfigurationError",
        "DatasetError",
        "InvalidAction",
        "LogCorrupted",
        "LogError",
        "OtelControlGymError",
        "StandError",
        "UsageError",
        "WriteConflict",
    ),
    "engine.observation": ("Observation",),
    "engine.runs": ("Run", "find_runs", "open_run", "rebuild"),
    "engine.settings": ("PlannedAction", "RunConfig", "Scenario"),
    "engine.synchronous": ("SynchronousEnv", "synchronous"),
    "projections": ("validate",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
