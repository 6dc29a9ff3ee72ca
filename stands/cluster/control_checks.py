"""What a doctor looks at by the Kubernetes API: may we act here, can we, and is the application as it should be?

In: a connection, what is wanted of the stand. Out: findings. Nothing is changed: what is created is a dry run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any

import msgspec

from otel_control_gym.engine.clock import SECOND, wall_now
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.contexts import is_marked
from otel_control_gym.stands.cluster.findings import Finding, failed, fine, unknown, warning
from otel_control_gym.stands.cluster.pins import minor_version
from otel_control_gym.stands.marks import MARK
from otel_control_gym.stands.twin.quantities import parse

__all__ = (
    "Access",
    "application",
    "autoscaling",
    "faults",
    "mark",
    "nodes",
    "permissions",
    "safekeeping",
    "version",
)

_CHAOS = "apis/chaos-mesh.org/v1alpha1"
_MANAGED = "app.kubernetes.io/managed-by=otel-control-gym"
_LEASE_SECONDS = 60
_NOT_FOUND, _FORBIDDEN = 404, 403
_APPLY = "kubectl apply -f deploy/stand/"
_PROBES: dict[str, dict[str, Any]] = {
    "PodChaos": {"action": "pod-kill"},
    "NetworkChaos": {"action": "delay", "delay": {"latency": "50ms"}},
    "StressChaos": {"stressors": {"cpu": {"workers": 1, "load": 1}}},
}


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """One permission that is needed somewhere."""

    namespace: str  #: empty: what lies in none
    group: str
    resource: str  #: with its subresource
    verb: str
    name: str = ""

    def __str__(self) -> str:
        place = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {place}{f'/{self.name}' if self.name else ''} in {self.namespace or 'the cluster'}"


async def version(connection: Connection, oldest: str) -> Finding:
    """Ask which Kubernetes this is."""
    answer, check = await connection.kubernetes("GET", "version"), "Kubernetes"
    place = connection.endpoints.kubernetes
    if not answer.status:
        return failed(check, f"{place}: {answer.problem}", "is the cluster up, and does the context's server name it?")
    if not answer.ok:
        return failed(check, f"{place}: {answer.problem}", "the context's credentials aren't taken: get new ones")
    found = answer.text("gitVersion")
    numbers = minor_version(found)
    if numbers is None:
        return failed(check, f"{place} says version {found!r}", "this is no Kubernetes API: name another context")
    if numbers < (minor_version(oldest) or (0, 0)):
        return failed(check, f"{found}: the manifests need {oldest} or newer", "upgrade the cluster")
    return fine(check, f"{found} at {place}")


async def mark(connection: Connection) -> Finding:
    """Look whether everything in the namespace may be broken."""
    namespace, check = connection.endpoints.namespace, "mark"
    answer = await connection.kubernetes("GET", f"api/v1/namespaces/{namespace}")
    if answer.status == _NOT_FOUND:
        return failed(check, f"there is no namespace {namespace}", f"{_APPLY}namespaces.yaml, or name another context")
    if not answer.ok:
        return unknown(check, f"namespace {namespace}: {answer.problem}", f"{_APPLY}rbac.yaml lets the gym read it")
    if not is_marked(answer):
        return failed(
            check,
            f"namespace {namespace} isn't marked as a gym's stand",
            f"if everything in it may be broken: kubectl label namespace {namespace} {MARK}=true",
        )
    return fine(check, f"namespace {namespace} is there to be broken")


async def permissions(
    connection: Connection, check: str, wanted: Iterable[Access], remedy: str, *, needed: bool
) -> Finding:
    """Review accesses; `needed`: without them no episode can run."""
    denied, asked = [], 0
    for access in wanted:
        resource, _, part = access.resource.partition("/")
        attributes = {
            "namespace": access.namespace,
            "group": access.group,
            "resource": resource,
            "subresource": part,
            "verb": access.verb,
            "name": access.name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = await connection.kubernetes(
            "POST", "apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review
        )
        if not answer.ok:
            return unknown(
                check,
                f"can't be reviewed: {answer.problem}",
                "an API server that doesn't review accesses is no Kubernetes",
            )
        asked += 1
        if answer.find("status", "allowed") is not True:
            denied.append(str(access))
    if denied:
        shown = "; ".join(denied[:8]) + (f"; and {len(denied) - 8} more" if len(denied) > 8 else "")
        return (failed if needed else warning)(check, f"this account may not: {shown}", remedy)
    return fine(check, f"all {asked} are granted")


async def nodes(connection: Connection) -> AsyncIterator[Finding]:
    """Look whether there is room, and what kind of cluster this is."""
    answer, check = await connection.kubernetes("GET", "api/v1/nodes"), "nodes"
    if not answer.ok:
        yield unknown(check, f"can't be listed: {answer.problem}", f"{_APPLY}rbac.yaml lets the gym list them")
        return
    if not answer.items:
        yield failed(check, "there are none: nothing can run", "join one: deploy/clusters/k3s.yaml is the reference")
        return
    troubles = [f"{_name(node)}: {trouble}" for node in answer.items for trouble in _troubles(node)]
    if troubles:
        yield failed(check, "; ".join(troubles), "kubectl describe node NAME says why")
        return
    pods = await connection.kubernetes("GET", f"api/v1/namespaces/{connection.endpoints.namespace}/pods")
    for resource, unit in (("cpu", 1), ("memory", 2**30)):
        there = sum((parse(node["status"]["allocatable"][resource]) for node in answer.items), Fraction(0)) / unit
        taken = sum((_requested(pod, resource) for pod in pods.items), Fraction(0)) / unit
        name = "cores" if resource == "cpu" else "GiB"
        found = f"the application requests {float(taken):.1f} of {float(there):.1f} {name}"
        if taken > there * Fraction(9, 10):
            yield warning(check, found, "faults and rollouts need room: use a larger node (8 processors, 16 GiB)")
        else:
            yield fine(check, found)
    if len(answer.items) > 1:
        yield warning(
            check,
            f"{len(answer.items)} nodes: figures of pods come from the collector's own node alone",
            "use a stand of one node",
        )
    nested = [
        _name(node)
        for node in answer.items
        if str(node["spec"].get("providerID", "")).startswith(("kind://", "k3s://k3d"))
    ]
    if nested:
        yield warning(
            check,
            f"{', '.join(nested)}: a node that is a container, in which Coroot's node agent doesn't work",
            "findings have no coverage here; the reference is k3s on a virtual machine (deploy/clusters/k3s.yaml)",
        )


def _troubles(node: Mapping[str, Any]) -> Iterable[str]:
    for condition in node.get("status", {}).get("conditions", ()):
        wanted = "True" if condition["type"] == "Ready" else "False"
        if condition["status"] != wanted:
            yield f"{condition['type']} is {condition['status']} ({condition.get('reason', '')})"


def _requested(pod: Mapping[str, Any], resource: str) -> Fraction:
    containers = pod["spec"]["containers"]
    return sum(
        (parse(item.get("resources", {}).get("requests", {}).get(resource, "0")) for item in containers), Fraction(0)
    )


async def application(connection: Connection, services: Iterable[str]) -> AsyncIterator[Finding]:
    """Look whether the application's Deployments are there and available, and every container has its bounds."""
    base, check = f"namespaces/{connection.endpoints.namespace}", "application"
    answer = await connection.kubernetes("GET", f"apis/apps/v1/{base}/deployments")
    if not answer.ok:
        yield failed(check, f"its Deployments can't be listed: {answer.problem}", f"{_APPLY}rbac.yaml")
        return
    deployments = {_name(item): item for item in answer.items}
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
            yield f"{_name(pod)}: {condition.get('reason', 'Pending')}: {condition.get('message', '')}"
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") != "PodInitializing":
            yield f"{_name(pod)}: {waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip()


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
        yield warning(
            check,
            f"the metrics API tells of no pod ({answer.problem or 'an empty list'}): autoscalers have no effect",
            "k3s has a metrics-server; on kind it is installed with --kubelet-insecure-tls",
        )
    else:
        yield fine(check, f"the metrics API tells of {len(answer.items)} pods")
    path = f"apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    for item in (await connection.kubernetes("GET", path)).items:
        for condition in item.get("status", {}).get("conditions") or ():
            if condition["type"] == "ScalingActive" and condition["status"] != "True":
                yield failed(
                    check,
                    f"autoscaler {_name(item)} isn't active: {condition.get('reason', '')}: {condition.get('message', '')}",
                    f"kubectl describe hpa {_name(item)}; or delete it",
                )


async def faults(connection: Connection) -> AsyncIterator[Finding]:
    """Look whether faults can be made: the API, its webhook (by a dry run), its daemons, and what is left of earlier ones."""
    namespace, check = connection.endpoints.namespace, "faults"
    answer = await connection.kubernetes("GET", _CHAOS)
    if answer.status == _NOT_FOUND:
        yield failed(
            check,
            "the cluster has no Chaos Mesh",
            "helm upgrade --install chaos-mesh, as deploy/helm/chaos-mesh.yaml says",
        )
        return
    if not answer.ok:
        yield unknown(
            check, f"Chaos Mesh: {answer.problem}", "is its API served? kubectl get --raw /apis/chaos-mesh.org/v1alpha1"
        )
        return
    refused = [refusal for kind in _PROBES if (refusal := await _tried(connection, kind))]
    if refused:
        yield failed(
            check,
            "; ".join(refused),
            "existing faults don't end either while its webhook is down: kubectl --namespace chaos-mesh get pods",
        )
    else:
        yield fine(check, f"{', '.join(_PROBES)} would be accepted")
    yield await _daemons(connection)
    query = {"labelSelector": _MANAGED}
    left = [
        f"{kind.lower()}/{_name(item)}"
        for kind in _PROBES
        for item in (
            await connection.kubernetes("GET", f"{_CHAOS}/namespaces/{namespace}/{kind.lower()}", query=query)
        ).items
    ]
    if left:
        yield warning(check, f"faults are in force: {', '.join(left)}", "unless an episode is running: ocg stand clean")


async def _tried(connection: Connection, kind: str) -> str:
    """Return why a fault of a kind would be refused; empty: it wouldn't."""
    namespace = connection.endpoints.namespace
    selector = {"namespaces": [namespace], "labelSelectors": {"app.kubernetes.io/component": "ocg-doctor"}}
    body = {
        "apiVersion": "chaos-mesh.org/v1alpha1",
        "kind": kind,
        "metadata": {"name": "ocg-doctor", "namespace": namespace},
        "spec": {"mode": "all", "selector": selector, "duration": "1s", **_PROBES[kind]},
    }
    path = f"{_CHAOS}/namespaces/{namespace}/{kind.lower()}"
    answer = await connection.kubernetes("POST", path, body=body, query={"dryRun": "All"})
    return "" if answer.ok else f"{kind} would be refused: {answer.problem}"


async def _daemons(connection: Connection) -> Finding:
    check = "faults"
    answer = await connection.kubernetes("GET", "apis/apps/v1/namespaces/chaos-mesh/daemonsets/chaos-daemon")
    if not answer.ok:
        return unknown(
            check,
            f"whether its daemon runs on every node can't be told: {answer.problem}",
            "delays, losses and pressure need it: kubectl --namespace chaos-mesh get daemonset chaos-daemon",
        )
    wanted, ready = answer.find("status", "desiredNumberScheduled") or 0, answer.find("status", "numberReady") or 0
    if not wanted or ready < wanted:
        return failed(
            check,
            f"its daemon is ready on {ready} of {wanted} nodes",
            "the runtime's socket may be another one (on k3s: deploy/helm/chaos-mesh-k3s.yaml), or the kernel lacks sch_netem",
        )
    return fine(check, f"its daemon is ready on {ready} of {wanted} nodes")


async def safekeeping(connection: Connection, namespace: str) -> Finding:
    """Look whether the way back from a change can be kept, and whether a gym that died has left some."""
    check = "safekeeping"
    answer = await connection.kubernetes("GET", f"apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
    if not answer.ok:
        return failed(
            check,
            f"Leases in namespace {namespace}: {answer.problem}",
            f"{_APPLY}namespaces.yaml -f deploy/stand/rbac.yaml",
        )
    dead = [
        _name(item)
        for item in answer.items
        if item["metadata"]["name"].startswith("ocg-") and _age(item.get("spec", {}).get("renewTime")) > _LEASE_SECONDS
    ]
    if dead:
        return warning(
            check,
            f"a gym died and left something: {', '.join(dead)}",
            f"the janitor takes it back: {_APPLY}janitor.yaml, or ocg stand janitor --once",
        )
    return fine(check, f"{len(answer.items)} Leases in namespace {namespace}, none of a gym that died")


def _age(renewed: str | None) -> float:
    """Return for how many seconds a Lease wasn't renewed."""
    if not renewed:
        return 0.0
    return (wall_now() - datetime.fromisoformat(renewed).timestamp() * SECOND) / SECOND


def _name(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["name"])
