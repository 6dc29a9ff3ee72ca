"""The actions and interventions themselves: immutable, with units, bounds and descriptions in their types.

An action's type in JSON is its `tag`; its parameters are its fields. The annotations are what msgspec checks and what
`catalogue` shows, so that parser and documentation can't disagree. Next: `catalogue`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from otel_control_gym.engine.settings import Intensity

__all__ = ("Action", "CpuPressure", "NetworkDelay", "Noop", "Restart", "Scale", "SetResources", "SetWorkload")

_Service = Annotated[str, Meta(min_length=1, description="service of the application")]
_Edge = Annotated[str, Meta(pattern=r"^[^>\s]+->[^>\s]+$", description="call edge, written source->target")]
_Duration = Annotated[
    int, Meta(ge=1, le=86_400, description="how long it lasts before it is taken back", extra_json_schema={"unit": "s"})
]
_Cores = Annotated[
    float, Meta(ge=0.001, le=64.0, description="CPU of each container", extra_json_schema={"unit": "cores"})
]
_Bytes = Annotated[
    int, Meta(ge=4 * 2**20, le=2**40, description="memory of each container", extra_json_schema={"unit": "bytes"})
]
_Strength = Annotated[Intensity, Meta(description="strength in a word, in place of numbers")]
_Persistence = Annotated[
    Literal["workload", "pod"],
    Meta(description="workload: injected again into pods that replace the targets; pod: ends with them"),
]


class _Action(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True):
    """Base of all actions: immutable, JSON with a `type`, absent keys are defaults."""


class Noop(_Action, frozen=True, tag="noop"):
    """Do nothing, on purpose: a decision like any other."""


class Scale(_Action, frozen=True, tag="scale"):
    """Set the number of replicas of a service."""

    target: _Service
    replicas: Annotated[int, Meta(ge=0, le=20, description="desired pods", extra_json_schema={"unit": "pods"})]
    duration_seconds: _Duration | None = None


class Restart(_Action, frozen=True, tag="restart"):
    """Replace all pods of a service by a rolling update."""

    target: _Service


class SetResources(_Action, frozen=True, tag="set_resources"):
    """Change requests and limits of a service's container; what isn't named stays. Rolls its pods."""

    target: _Service
    cpu_request_cores: _Cores | None = None
    cpu_limit_cores: _Cores | None = None
    memory_request_bytes: _Bytes | None = None
    memory_limit_bytes: _Bytes | None = None
    duration_seconds: _Duration | None = None


class SetWorkload(_Action, frozen=True, tag="set_workload"):
    """Change how many users the load generator has."""

    users: Annotated[
        int, Meta(ge=1, le=10_000, description="users in the closed loop", extra_json_schema={"unit": "users"})
    ]
    spawn_rate_per_s: Annotated[
        float,
        Meta(gt=0.0, le=1_000.0, description="users that start or stop per second", extra_json_schema={"unit": "1/s"}),
    ] = 20.0
    duration_seconds: _Duration | None = None


class CpuPressure(_Action, frozen=True, tag="cpu_pressure"):
    """Busy threads inside the CPU quota of a service's containers (Chaos Mesh StressChaos)."""

    target: _Service
    intensity: _Strength | None = None
    workers: (
        Annotated[int, Meta(ge=1, le=64, description="busy threads", extra_json_schema={"unit": "threads"})] | None
    ) = None
    load_percent: (
        Annotated[int, Meta(ge=0, le=100, description="share of a core per thread", extra_json_schema={"unit": "%"})]
        | None
    ) = None
    duration_seconds: _Duration | None = None
    persistence: _Persistence = "workload"


class NetworkDelay(_Action, frozen=True, tag="network_delay"):
    """Delay the answers that travel along a call edge (Chaos Mesh NetworkChaos)."""

    target: _Edge
    intensity: _Strength | None = None
    latency_ms: Annotated[int, Meta(ge=0, le=60_000, description="delay", extra_json_schema={"unit": "ms"})] | None = (
        None
    )
    jitter_ms: (
        Annotated[int, Meta(ge=0, le=60_000, description="uniform ±", extra_json_schema={"unit": "ms"})] | None
    ) = None
    duration_seconds: _Duration | None = None
    persistence: _Persistence = "workload"


Action: TypeAlias = Noop | Scale | Restart | SetResources | SetWorkload | CpuPressure | NetworkDelay
