"""What a doctor looks at of the application: is all of it there and available, bounded, and able to be scaled?

In: a connection, the names of its Deployments. Out: findings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.cluster.findings import APPLY, Finding, failed, fine, name_of, unknown, warning

__all__ = ("application", "autoscaling")

_METRICS = "apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"


async def application(connection: Connection, services: Iterable[str]) -> AsyncIterator[Finding]:
    """Look whether the application's Deployments are there and available, and every container has its bounds."""
    base, check = f"namespaces/{connection.endpoints.namespace}", "application"
    answer = await connection.kubernetes("GET", f"apis/apps/v1/{base}/deployments")
    if not answer.ok:
        yield failed(check, f"its Deployments can't be listed: {answer.problem}", f"{APPLY}rbac.yaml")
        return
    deployments = {name_of(item): item for item in answer.items}
    if missing := [name for name in services if name not in deployments]:
        yield failed(
            check,
            f"has no Deployment {', '.join(missing)}",
            "install the demo with this configuration's values: deploy/README.md",
        )
    pods = (await connection.kubernetes("GET", f"api/v1/{base}/pods")).items
    hanging = [name for name in deployments if not _is_available(deployments[name])]
    if hanging:
        reasons = [reason for pod in pods for reason in _waiting(pod)]
        yield failed(
            check,
            f"not available: {', '.join(hanging)}" + (f" ({'; '.join(reasons[:6])})" if reasons else ""),
            _remedy(" ".join(reasons)),
        )
    elif not missing:
        yield fine(check, f"{len(deployments)} Deployments are available")
    unbounded = [
        f"{name}/{container['name']}"
        for name, item in deployments.items()
        for container in item["spec"]["template"]["spec"]["containers"]
        if "cpu" not in container.get("resources", {}).get("requests", {})
        or "memory" not in container.get("resources", {}).get("limits", {})
    ]
    if unbounded:
        yield failed(
            check,
            f"without a CPU request or a memory limit: {', '.join(unbounded)}",
            "autoscalers and pressure mean nothing there: install with our values (deploy/helm)",
        )
    if paused := [name for name, item in deployments.items() if item["spec"].get("paused")]:
        yield warning(check, f"rollouts are paused: {', '.join(paused)}", "kubectl rollout resume deployment/NAME")


def _is_available(item: Mapping[str, Any]) -> bool:
    status, wanted = item.get("status", {}), item["spec"].get("replicas", 1)
    return bool(
        status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0)
        == status.get("availableReplicas", 0)
        == status.get("replicas", 0)
        == wanted
    )


def _waiting(pod: Mapping[str, Any]) -> Iterable[str]:
    """Yield why a pod isn't running, in the words of the scheduler and the kubelet."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            yield f"{name_of(pod)}: {condition.get('reason', 'Pending')}: {condition.get('message', '')}"
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") != "PodInitializing":
            yield f"{name_of(pod)}: {waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip()


def _remedy(reasons: str) -> str:
    if "ImagePull" in reasons or "ErrImage" in reasons:
        return "the node can't get an image: give it a way to the registry, or load it (kind load docker-image, k3s ctr images import)"
    if "Unschedulable" in reasons:
        return "no node has room: use a larger one (8 processors, 16 GiB)"
    if "CrashLoopBackOff" in reasons:
        return "kubectl logs --previous POD says why it ends"
    return "kubectl describe pod NAME says why; a rollout may still be going on"


async def autoscaling(connection: Connection) -> AsyncIterator[Finding]:
    """Look whether autoscalers can know what pods use, and whether those that are there do."""
    namespace, check = connection.endpoints.namespace, "autoscaling"
    answer = await connection.kubernetes("GET", f"apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods")
    if not answer.ok or not answer.items:
        reason = _unavailable(await connection.kubernetes("GET", _METRICS))
        yield warning(
            check,
            f"the metrics API tells of no pod ({answer.problem or 'an empty list'}{reason}): autoscalers have no effect",
            "k3s has a metrics-server; on kind it is installed with --kubelet-insecure-tls",
        )
    else:
        yield fine(check, f"the metrics API tells of {len(answer.items)} pods")
    path = f"apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    found = await connection.kubernetes("GET", path)
    for item in found.items:
        name, conditions = name_of(item), item.get("status", {}).get("conditions") or ()
        active = [condition for condition in conditions if condition["type"] == "ScalingActive"]
        if not active:
            yield unknown(check, f"autoscaler {name} doesn't tell yet whether it is active", "look again in 15 s")
        elif active[0]["status"] != "True":
            yield failed(
                check,
                f"autoscaler {name} isn't active: {active[0].get('reason', '')}: {active[0].get('message', '')}",
                f"kubectl describe hpa {name}; or delete it",
            )
        else:
            yield fine(check, f"autoscaler {name} is active")


def _unavailable(service: Answer) -> str:
    """Return what the API server itself says of an API that somebody else serves; empty: it may not be asked, or all is well."""
    for condition in service.find("status", "conditions") or ():
        if condition["type"] == "Available" and condition["status"] != "True":
            return f"; its APIService isn't available: {condition.get('reason', '')}: {condition.get('message', '')}"
    return ""
