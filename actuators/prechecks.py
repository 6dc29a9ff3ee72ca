"""Grounds for a rejection, as pure functions of what was read: a text that says why, or an empty one.

A rejection is the stand's answer (it is logged and costs reward), unlike `InvalidAction`, which is a caller's mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from otel_control_gym.actuators.objects import Deployment, Pod, Resources
from otel_control_gym.actuators.quantities import parse_quantity
from otel_control_gym.engine.settings import Service

__all__ = ("refuse_empty", "refuse_resources", "refuse_rollout", "refuse_unlimited", "refuse_untouchable")


def refuse_untouchable(target: str, service: Service) -> str:
    """Refuse targets that no action may touch."""
    if service.protected:
        return f"{target} is protected: no action may touch it"
    if service.stateful:
        return f"{target} is stateful: it keeps data in its pod, so it can't be scaled or rolled"
    return ""


def refuse_rollout(deployment: Deployment) -> str:
    """Refuse a change of the template that would replace nothing."""
    if deployment.spec.paused:
        return f"rollouts of {deployment.metadata.name} are paused"
    if deployment.spec.replicas == 0:
        return f"{deployment.metadata.name} has no replicas: nothing would be replaced"
    return ""


def refuse_resources(present: Resources, wanted: Mapping[str, Mapping[str, str | None]]) -> str:
    """Refuse a request above the limit that it would meet, which the API server refuses too."""
    for name in ("cpu", "memory"):
        request = wanted["requests"].get(name) or present.requests.get(name)
        limit = wanted["limits"].get(name) or present.limits.get(name)
        if request is not None and limit is not None and parse_quantity(request) > parse_quantity(limit):
            return f"{name} request {request} would exceed the limit {limit}"
    return ""


def refuse_empty(pods: Mapping[str, Iterable[Pod]]) -> str:
    """Refuse targets without a ready pod; `pods` by service, ready ones only."""
    empty = [service for service, members in pods.items() if not tuple(members)]
    return f"{' and '.join(empty)}: no ready pod to inject into" if empty else ""


def refuse_unlimited(target: str, pods: Iterable[Pod]) -> str:
    """Refuse CPU pressure where nothing would be throttled."""
    for pod in pods:
        limits = [item.resources.limits for item in pod.spec.containers if item.name == target]
        if not all("cpu" in limit for limit in limits):
            return f"{target} has no CPU limit, so nothing would be throttled: set one first (set_resources)"
    return ""
