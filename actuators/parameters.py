"""The parameters that several actions share: a type each, with unit, bounds and description in it.

The annotations are what msgspec checks and what the catalogue, the JSON Schema and the documentation show, so that they can't
disagree. Next: `actions`, `interventions`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from otel_control_gym.engine.settings import Intensity

__all__ = (
    "BaseAction",
    "Bytes",
    "Cores",
    "Duration",
    "DurationClass",
    "DurationWord",
    "Edge",
    "Environment",
    "Grace",
    "Group",
    "Persistence",
    "Persistent",
    "PodsShare",
    "ServiceName",
    "Strength",
    "Via",
    "Weight",
)

DurationClass = Literal["transient", "medium", "slow_burn"]
Persistence = Literal["workload", "pod"]
Via = Literal["env", "config_map"]

ServiceName = Annotated[str, Meta(min_length=1, description="service of the application")]
Edge = Annotated[str, Meta(pattern=r"^[^>\s]+->[^>\s]+$", description="call edge, written source->target")]
Group = Annotated[str, Meta(min_length=1, description="optional group of services of the configuration")]
Duration = Annotated[
    int, Meta(ge=1, le=86_400, description="how long it lasts before it is taken back", extra_json_schema={"unit": "s"})
]
DurationWord = Annotated[DurationClass, Meta(description="duration in a word, in place of seconds")]
Strength = Annotated[Intensity, Meta(description="strength in a word, in place of numbers")]
Cores = Annotated[
    float, Meta(ge=0.001, le=64.0, description="CPU of each container", extra_json_schema={"unit": "cores"})
]
Bytes = Annotated[
    int, Meta(ge=4 * 2**20, le=2**40, description="memory of each container", extra_json_schema={"unit": "bytes"})
]
Grace = Annotated[
    int, Meta(ge=0, le=300, description="time between SIGTERM and SIGKILL", extra_json_schema={"unit": "s"})
]
PodsShare = Annotated[
    int, Meta(ge=0, le=100, description="share of the ready pods, rounded up", extra_json_schema={"unit": "%"})
]
Weight = Annotated[
    int, Meta(ge=0, le=100, description="share of the traffic for the other version", extra_json_schema={"unit": "%"})
]
Persistent = Annotated[
    Persistence,
    Meta(description="workload: injected again into pods that replace the targets; pod: ends with them"),
]
_Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
Environment = Annotated[
    dict[_Variable, Annotated[str, Meta(max_length=4096)] | None],
    Meta(min_length=1, max_length=20, description="environment variable and its value; null removes it"),
]


class BaseAction(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True):
    """Base of all actions: immutable, JSON with a `type`, absent keys are defaults."""
