"""Autoscalers and routes ➜ rows, as pure functions: what of them an action can set, and what an autoscaler decided.

Only the fields below are decoded.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.collectors.kubernetes_rows import Change, Condition, ManagedObject
from otel_control_gym.engine.events import AutoscalerStatus, RouteStatus

__all__ = ("AutoscalerObject", "RouteObject", "autoscaler_row", "route_row")

_DEFAULT_MIN = 1  #: of minReplicas, as the API has it


class _Part(msgspec.Struct, rename="camel"):
    """Base of all parts."""


class Target(_Part):
    """What is scaled."""

    name: str = ""


class Aim(_Part):
    """The value that an autoscaler keeps a metric at."""

    average_utilization: int | None = None


class Resource(_Part):
    """A metric of pods' resources."""

    name: str = ""
    target: Aim = msgspec.field(default_factory=Aim)


class Metric(_Part):
    """What an autoscaler goes by."""

    resource: Resource | None = None


class AutoscalerSpec(_Part):
    """What an autoscaler should do."""

    max_replicas: int
    scale_target_ref: Target = msgspec.field(default_factory=Target)
    min_replicas: int | None = None
    metrics: list[Metric] | None = None


class AutoscalerState(_Part):
    """What an autoscaler did."""

    current_replicas: int = 0
    desired_replicas: int = 0
    conditions: list[Condition] | None = None


class AutoscalerObject(ManagedObject):
    """An autoscaling/v2 HorizontalPodAutoscaler."""

    spec: AutoscalerSpec
    status: AutoscalerState = msgspec.field(default_factory=AutoscalerState)


class Backend(_Part):
    """A Service that gets a part of a route's traffic."""

    name: str
    weight: int = 1


class Rule(_Part):
    """The backends of a part of the requests."""

    backend_refs: list[Backend] | None = None


class RouteSpec(_Part):
    """Whose traffic goes where."""

    parent_refs: list[Target] | None = None
    rules: list[Rule] | None = None


class RouteObject(ManagedObject):
    """A gateway.networking.k8s.io/v1 HTTPRoute."""

    spec: RouteSpec = msgspec.field(default_factory=RouteSpec)


def autoscaler_row(item: AutoscalerObject, change: Change, time: int) -> AutoscalerStatus:
    """Return an autoscaler's state."""
    aims = [metric.resource for metric in item.spec.metrics or [] if metric.resource is not None]
    return AutoscalerStatus(
        time=time,
        change=change,
        name=item.metadata.name,
        uid=item.metadata.uid,
        deployment=item.spec.scale_target_ref.name,
        replicas_min=_DEFAULT_MIN if item.spec.min_replicas is None else item.spec.min_replicas,
        replicas_max=item.spec.max_replicas,
        cpu_utilization_percent=next((aim.target.average_utilization for aim in aims if aim.name == "cpu"), None),
        replicas_current=item.status.current_replicas,
        replicas_wanted=item.status.desired_replicas,
        active=any(each.type == "ScalingActive" and each.status == "True" for each in item.status.conditions or []),
    )


def route_row(item: RouteObject, change: Change, time: int) -> RouteStatus:
    """Return a route's state; of several rules the first, which is the one that splits by weight alone."""
    rules = item.spec.rules or []
    backends = (rules[0].backend_refs or []) if rules else []
    whole = sum(backend.weight for backend in backends)
    return RouteStatus(
        time=time,
        change=change,
        name=item.metadata.name,
        uid=item.metadata.uid,
        parent=next((parent.name for parent in item.spec.parent_refs or []), ""),
        weights={backend.name: backend.weight / whole if whole else 0.0 for backend in backends},
    )
