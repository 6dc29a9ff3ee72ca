"""The ordinary actions: what an operator does on purpose. Immutable, with units, bounds and descriptions in their types.

An action's type in JSON is its `tag`; its parameters are its fields. Faults are in `interventions`. Next: `catalogue`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from otel_control_gym.actuators.parameters import (
    BaseAction,
    Bytes,
    Cores,
    Duration,
    DurationWord,
    Environment,
    Grace,
    Group,
    ServiceName,
    Strength,
    Via,
    Weight,
)

__all__ = (
    "DeletePod",
    "DisableGroup",
    "EnableGroup",
    "Noop",
    "Restart",
    "RollbackConfig",
    "RolloutConfig",
    "Scale",
    "SetAutoscaler",
    "SetResources",
    "SetWorkload",
    "ShiftTraffic",
)

_Replicas = Annotated[int, Meta(ge=0, le=20, description="desired pods", extra_json_schema={"unit": "pods"})]
_Bound = Annotated[int, Meta(ge=1, le=20, description="bound of the autoscaler", extra_json_schema={"unit": "pods"})]


class Noop(BaseAction, frozen=True, tag="noop"):
    """Do nothing, on purpose: a decision like any other."""


class Scale(BaseAction, frozen=True, tag="scale"):
    """Set the number of replicas of a service, 0 included."""

    target: ServiceName
    replicas: _Replicas | None = None
    intensity: Strength | None = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None


class Restart(BaseAction, frozen=True, tag="restart"):
    """Replace all pods of a service by a rolling update."""

    target: ServiceName


class DeletePod(BaseAction, frozen=True, tag="delete_pod"):
    """Delete one or more pods of a service; its ReplicaSet makes new ones."""

    target: ServiceName
    count: (
        Annotated[int, Meta(ge=0, le=20, description="pods to delete", extra_json_schema={"unit": "pods"})] | None
    ) = None
    intensity: Strength | None = None
    grace_seconds: Grace = 30


class EnableGroup(BaseAction, frozen=True, tag="enable_group"):
    """Bring back an optional group of services, each with the replicas that it had."""

    target: Group


class DisableGroup(BaseAction, frozen=True, tag="disable_group"):
    """Scale an optional group of services to zero, and remember their replicas."""

    target: Group
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None


class RolloutConfig(BaseAction, frozen=True, tag="rollout_config"):
    """Change a service's environment, in its template or through a ConfigMap of its own. Rolls its pods."""

    target: ServiceName
    env: Environment
    via: Annotated[
        Via, Meta(description="env: variables of the container; config_map: a new ConfigMap that the container reads")
    ] = "env"
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None


class RollbackConfig(BaseAction, frozen=True, tag="rollback_config"):
    """Go back to an earlier revision of a service's template, as `kubectl rollout undo` does."""

    target: ServiceName
    revision: (
        Annotated[
            int, Meta(ge=1, le=2**31, description="revision to go back to", extra_json_schema={"unit": "revision"})
        ]
        | None
    ) = None


class SetResources(BaseAction, frozen=True, tag="set_resources"):
    """Change requests and limits of a service's container; what isn't named stays. Rolls its pods."""

    target: ServiceName
    cpu_request_cores: Cores | None = None
    cpu_limit_cores: Cores | None = None
    memory_request_bytes: Bytes | None = None
    memory_limit_bytes: Bytes | None = None
    intensity: Strength | None = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None


class SetAutoscaler(BaseAction, frozen=True, tag="set_autoscaler"):
    """Create, change or remove the autoscaler of a service."""

    target: ServiceName
    min_replicas: _Bound | None = None
    max_replicas: _Bound | None = None
    cpu_utilization_percent: (
        Annotated[
            int,
            Meta(ge=1, le=500, description="mean CPU aimed at, of the request", extra_json_schema={"unit": "%"}),
        ]
        | None
    ) = None
    scale_down_stabilization_seconds: (
        Annotated[
            int,
            Meta(ge=0, le=3600, description="how long a lower need must last", extra_json_schema={"unit": "s"}),
        ]
        | None
    ) = None
    remove: Annotated[bool, Meta(description="remove the autoscaler; its last replicas stay")] = False
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None


class ShiftTraffic(BaseAction, frozen=True, tag="shift_traffic"):
    """Send a share of a service's traffic to another version of it (canary)."""

    target: ServiceName
    version: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,60}$", description="image tag of the version")]
    weight_percent: Weight | None = None
    intensity: Strength | None = None
    via: Annotated[
        Literal["replicas", "route"],
        Meta(description="replicas: pods of both versions behind one Service; route: weights of an HTTPRoute"),
    ] = "replicas"
    reconnect_callers: Annotated[
        bool,
        Meta(
            description="via replicas: restart the callers that hold on to their connections once both versions are there, "
            "so that each of them dials one of the pods anew"
        ),
    ] = False
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None


class SetWorkload(BaseAction, frozen=True, tag="set_workload"):
    """Change the load that is offered: users or rate, mix, or a whole profile; what isn't named stays."""

    users: (
        Annotated[
            int, Meta(ge=1, le=10_000, description="users in the closed loop", extra_json_schema={"unit": "users"})
        ]
        | None
    ) = None
    spawn_rate_per_s: Annotated[
        float,
        Meta(gt=0.0, le=1_000.0, description="users that start or stop per second", extra_json_schema={"unit": "1/s"}),
    ] = 20.0
    rate_per_s: (
        Annotated[
            float,
            Meta(
                ge=0.0, le=10_000.0, description="tasks per second of open arrivals", extra_json_schema={"unit": "1/s"}
            ),
        ]
        | None
    ) = None
    mix: (
        Annotated[
            dict[str, Annotated[float, Meta(ge=0.0, le=1e6, extra_json_schema={"unit": "weight"})]],
            Meta(
                min_length=1, description="weight of each flow that is named, beside the present shares of the others"
            ),
        ]
        | None
    ) = None
    profile: Annotated[str, Meta(pattern=r"^[a-z0-9_-]+$", description="workload of configs/workloads/")] | None = None
    duration_seconds: Duration | None = None
    duration: DurationWord | None = None
