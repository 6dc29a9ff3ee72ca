"""Actuators: how actions and interventions are described, checked, applied, verified and taken back.

Here: the catalogue (`ENTRIES`, `parse_action`) and the life cycle behind `open_actuators`. Not here: which action is chosen (policies),
when time passes (the episode), what became of it in numbers (projections). A stand is met over HTTP only; a simulated one and a
cluster look the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from otel_control_gym.actuators.catalogue import (
    ENTRIES,
    Entry,
    Parameter,
    check_target,
    entry_of,
    parse_action,
    to_json,
)

if TYPE_CHECKING:
    from otel_control_gym.actuators.opening import open_actuators
    from otel_control_gym.actuators.workload_curve import open_curve

__all__ = (
    "ENTRIES",
    "Action",
    "CpuPressure",
    "Entry",
    "NetworkDelay",
    "Noop",
    "Parameter",
    "Restart",
    "Scale",
    "SetResources",
    "SetWorkload",
    "check_target",
    "entry_of",
    "open_actuators",
    "open_curve",
    "parse_action",
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
