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
    from otel_control_gym.engine.assembly import make, open_branch
    from otel_control_gym.engine.branching import Branch
    from otel_control_gym.engine.cluster_access import ClusterAccess
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
        NotExportable,
        OtelControlGymError,
        PolicyError,
        StandError,
        StandLeftOut,
        StandTaken,
        UsageError,
        WriteConflict,
    )
    from otel_control_gym.engine.export import Exported, export
    from otel_control_gym.engine.observation import Observation
    from otel_control_gym.engine.rebuild import rebuild, rebuild_all
    from otel_control_gym.engine.run_checks import validate
    from otel_control_gym.engine.run_collections import Runs, open_runs
    from otel_control_gym.engine.run_tables import RunTable
    from otel_control_gym.engine.run_windows import Window, Windows
    from otel_control_gym.engine.runs import Run, find_runs, open_run
    from otel_control_gym.engine.settings import PlannedAction, RunConfig, Scenario
    from otel_control_gym.engine.synchronous import SynchronousEnv, synchronous
    from otel_control_gym.engine.twin_serving import serve_twin
    from otel_control_gym.projections import json_schema

__all__ = (
    "BadConfig",
    "Branch",
    "BranchError",
    "BrokerError",
    "ClusterAccess",
    "ConfigurationError",
    "CpuPressure",
    "DatasetError",
    "DeletePod",
    "DependencyOutage",
    "DisableGroup",
    "EnableGroup",
    "Env",
    "Exported",
    "FeatureFlag",
    "Info",
    "InvalidAction",
    "LogCorrupted",
    "LogError",
    "MemoryPressure",
    "NetworkDelay",
    "NetworkPartition",
    "Noop",
    "NotExportable",
    "Observation",
    "OtelControlGymError",
    "PacketLoss",
    "PlannedAction",
    "PodKill",
    "PolicyError",
    "Restart",
    "RestartLoop",
    "RollbackConfig",
    "RolloutConfig",
    "Run",
    "RunConfig",
    "RunTable",
    "Runs",
    "Scale",
    "Scenario",
    "SetAutoscaler",
    "SetResources",
    "SetWorkload",
    "ShiftTraffic",
    "StandError",
    "StandLeftOut",
    "StandTaken",
    "SynchronousEnv",
    "UsageError",
    "Window",
    "Windows",
    "WriteConflict",
    "action_schema",
    "export",
    "find_runs",
    "json_schema",
    "make",
    "open_branch",
    "open_run",
    "open_runs",
    "parse_action",
    "rebuild",
    "rebuild_all",
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
    "engine.assembly": ("make", "open_branch"),
    "engine.twin_serving": ("serve_twin",),
    "engine.branching": ("Branch",),
    "engine.run_collections": ("Runs", "open_runs"),
    "engine.cluster_access": ("ClusterAccess",),
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
        "NotExportable",
        "OtelControlGymError",
        "PolicyError",
        "StandError",
        "StandLeftOut",
        "StandTaken",
        "UsageError",
        "WriteConflict",
    ),
    "engine.export": ("Exported", "export"),
    "engine.observation": ("Observation",),
    "engine.rebuild": ("rebuild", "rebuild_all"),
    "engine.run_checks": ("validate",),
    "engine.run_tables": ("RunTable",),
    "engine.run_windows": ("Window", "Windows"),
    "engine.runs": ("Run", "find_runs", "open_run"),
    "engine.settings": ("PlannedAction", "RunConfig", "Scenario"),
    "engine.synchronous": ("SynchronousEnv", "synchronous"),
    "projections": ("json_schema",),
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
