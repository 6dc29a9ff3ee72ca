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
    "parse_action",
    "to_json",
)


def __getattr__(name: str) -> object:
    if name != "open_actuators":  # the catalogue alone needs no HTTP client: `ocg.parse_action` is quick
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from otel_control_gym.actuators.opening import open_actuators

    return open_actuators
