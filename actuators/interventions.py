"""The interventions: faults, injected behind the policy's back. Immutable, with units, bounds and descriptions in their types.

Each has an intensity in a word or in numbers, and a duration; each is taken back at its end. `persistence` says what becomes of a fault
whose pods are replaced. Next: `catalogue`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from otel_control_gym.actuators.parameters import (
    BaseAction,
    Duration,
    DurationWord,
    Edge,
    Grace,
    Persistent,
    PodsShare,
    ServiceName,
    Strength,
)

__all__ = (
    "BadConfig",
    "CpuPressure",
    "DependencyOutage",
    "FeatureFlag",
    "Mechanism",
    "MemoryPressure",
    "Mistake",
    "NetworkDelay",
    "NetworkPartition",
    "PacketLoss",
    "PodKill",
    "RestartLoop",
)

Mechanism = Literal["delay", "partition", "pod_failure", "scale_to_zero"]
Mistake = Literal["image", "address", "target_port"]

_Every = Annotated[int, Meta(ge=5, le=3600, description="time between two kills", extra_json_schema={"unit": "s"})]


class CpuPressure(BaseAction, frozen=True, tag="cpu_pressure"):
    """Busy threads inside the CPU quota of a service's containers (Chaos Mesh StressChaos)."""

    target: ServiceName
    intensity: Strength | None = None
    workers: (
        Annotated[int, Meta(ge=1, le=64, description="busy threads", extra_json_schema={"unit": "threads"})] | None
    ) = None
    load_percent: (
        Annotated[int, Meta(ge=0, le=100, description="share of a core per thread", extra_json_schema={"unit": "%"})]
        | None
    ) = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None
    persistence: Persistent = "workload"


class MemoryPressure(BaseAction, frozen=True, tag="memory_pressure"):
    """Memory that is filled and held in a service's containers, at once or growing like a leak (Chaos Mesh StressChaos)."""

    target: ServiceName
    intensity: Strength | None = None
    size_bytes: (
        Annotated[int, Meta(ge=0, le=2**40, description="memory to hold", extra_json_schema={"unit": "bytes"})] | None
    ) = None
    shape: Annotated[
        Literal["step", "ramp"], Meta(description="step: at once; ramp: growing linearly over 3/4 of the duration")
    ] = "step"
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None
    persistence: Persistent = "workload"


class NetworkDelay(BaseAction, frozen=True, tag="network_delay"):
    """Delay the answers that travel along a call edge (Chaos Mesh NetworkChaos)."""

    target: Edge
    intensity: Strength | None = None
    latency_ms: Annotated[int, Meta(ge=0, le=60_000, description="delay", extra_json_schema={"unit": "ms"})] | None = (
        None
    )
    jitter_ms: (
        Annotated[int, Meta(ge=0, le=60_000, description="uniform ±", extra_json_schema={"unit": "ms"})] | None
    ) = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None
    persistence: Persistent = "workload"


class PacketLoss(BaseAction, frozen=True, tag="packet_loss"):
    """Lose packets of the answers that travel along a call edge (Chaos Mesh NetworkChaos)."""

    target: Edge
    intensity: Strength | None = None
    loss_percent: (
        Annotated[float, Meta(ge=0.0, le=100.0, description="share of the packets", extra_json_schema={"unit": "%"})]
        | None
    ) = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None
    persistence: Persistent = "workload"


class NetworkPartition(BaseAction, frozen=True, tag="network_partition"):
    """Drop every packet between both ends of a call edge (Chaos Mesh NetworkChaos)."""

    target: Edge
    intensity: Strength | None = None
    pods_percent: PodsShare | None = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None
    persistence: Persistent = "workload"


class PodKill(BaseAction, frozen=True, tag="pod_kill"):
    """Kill pods of a service (Chaos Mesh PodChaos); with persistence `workload` also those that replace them."""

    target: ServiceName
    intensity: Strength | None = None
    pods_percent: PodsShare | None = None
    grace_seconds: Grace | None = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None
    persistence: Persistent = "pod"


class RestartLoop(BaseAction, frozen=True, tag="restart_loop"):
    """Kill the containers of a service again and again, so that they restart in their pods (Chaos Mesh PodChaos)."""

    target: ServiceName
    intensity: Strength | None = None
    pods_percent: PodsShare | None = None
    every_seconds: _Every | None = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None


class DependencyOutage(BaseAction, frozen=True, tag="dependency_outage"):
    """Make a cache, database or queue slow, unreachable, broken, or gone."""

    target: ServiceName
    intensity: Strength | None = None
    mechanism: (
        Annotated[
            Mechanism,
            Meta(
                description="delay: its answers are late; partition: its packets are dropped; pod_failure: its pods run a pause "
                "image, refuse connections, and are empty when they come back; scale_to_zero: it is gone, and empty as well"
            ),
        ]
        | None
    ) = None
    latency_ms: Annotated[int, Meta(ge=0, le=60_000, description="delay", extra_json_schema={"unit": "ms"})] | None = (
        None
    )
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None
    persistence: Persistent = "workload"


class BadConfig(BaseAction, frozen=True, tag="bad_config"):
    """Roll out a mistake: an image that can't be pulled, a wrong address of a dependency, or a wrong port of a Service."""

    target: Edge
    intensity: Strength | None = None
    mistake: (
        Annotated[
            Mistake,
            Meta(
                description="image: the source gets a tag that doesn't exist; address: the source's variable for the target "
                "names a port where nobody listens; target_port: the target's Service does, and its callers are restarted"
            ),
        ]
        | None
    ) = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None


class FeatureFlag(BaseAction, frozen=True, tag="feature_flag"):
    """Switch one of the application's own faults on, through the API of flagd-ui."""

    flag: Annotated[str, Meta(min_length=1, description="feature flag of the application")]
    variant: Annotated[str, Meta(min_length=1, description="variant of the flag")] | None = None
    intensity: Strength | None = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None
