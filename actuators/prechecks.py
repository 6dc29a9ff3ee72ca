"""Grounds for a rejection, as pure functions of what was read: a text that says why, or an empty one.

A rejection is the stand's answer (it is logged and costs reward), unlike `InvalidAction`, which is a caller's mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from otel_control_gym.actuators.objects import Container, Deployment, Pod, Resources
from otel_control_gym.actuators.quantities import parse_quantity
from otel_control_gym.engine.settings import Service

__all__ = (
    "refuse_autoscaled",
    "refuse_empty",
    "refuse_fewer",
    "refuse_hidden",
    "refuse_protected",
    "refuse_resources",
    "refuse_rollout",
    "refuse_unchanged",
    "refuse_unlimited",
    "refuse_unmeasured",
    "refuse_untouchable",
)


def refuse_protected(target: str, service: Service) -> str:
    """Refuse targets that nobody may touch."""
    return f"{target} is protected: no action may touch it" if service.protected else ""


def refuse_untouchable(target: str, service: Service) -> str:
    """Refuse targets that no ordinary action may touch."""
    if service.stateful and not service.protected:
        return f"{target} is stateful: it keeps data in its pod, so it can't be scaled or rolled"
    return refuse_protected(target, service)


def refuse_autoscaled(target: str, owner: str) -> str:
    """Refuse a change of replicas that an autoscaler would undo; `owner` names it with its bounds, or is empty."""
    if not owner:
        return ""
    return f"{owner} owns the replicas of {target} and would undo it within 15 s: change its bounds (set_autoscaler)"


def refuse_fewer(target: str, ready: int, count: int) -> str:
    """Refuse to take more pods than are ready."""
    if ready >= count and ready > 0:
        return ""
    return f"{target} has {ready} ready pods, {count} are to be deleted"


def refuse_hidden(container: Container, names: Iterable[str]) -> str:
    """Refuse variables by ConfigMap that a variable of the container itself would hide."""
    hidden = [name for name in names if container.variable(name) is not None]
    if not hidden:
        return ""
    return f"{', '.join(hidden)}: a variable of the container itself hides the ConfigMap's: use via = env"


def refuse_unchanged(container: Container, variables: Mapping[str, str | None], config_maps: tuple[str, ...]) -> str:
    """Refuse an environment that is there already: no revision would be made, so nothing would roll."""
    for name, wanted in variables.items():
        found = container.variable(name)
        if (found is None) != (wanted is None) or (found is not None and found.value != wanted):
            return ""
    if config_maps != container.config_maps:
        return ""
    return f"{container.name} has this environment already: nothing would roll"


def refuse_unmeasured(deployment: Deployment, container: str) -> str:
    """Refuse an autoscaler where there is nothing to measure, or nothing to scale."""
    if deployment.spec.replicas == 0:
        return f"{deployment.metadata.name} has no replicas: an autoscaler leaves it at 0"
    if "cpu" not in deployment.container(container).resources.requests:
        return f"{deployment.metadata.name} has no CPU request to measure utilisation by: set one first (set_resources)"
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


def refuse_unlimited(target: str, pods: Iterable[Pod], resource: str, consequence: str) -> str:
    """Refuse pressure where there is no limit of a resource to press against."""
    for pod in pods:
        limits = [item.resources.limits for item in pod.spec.containers if item.name == target]
        if not all(resource in limit for limit in limits):
            name = {"cpu": "CPU"}.get(resource, resource)
            return f"{target} has no {name} limit, so {consequence}: set one first (set_resources)"
    return ""
