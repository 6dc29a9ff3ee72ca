"""What a doctor looks at of the nodes: is there room for the application, and what kind of cluster is this?

In: a connection, the application as it is declared. Out: findings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.findings import APPLY, Finding, failed, fine, name_of, unknown, warning
from otel_control_gym.stands.cluster.parts import nodes_of
from otel_control_gym.stands.twin.quantities import parse

__all__ = ("nodes",)

_CHECK = "nodes"
_LARGER = "faults and rollouts need room: use a larger node (8 processors, 16 GiB)"
_DISK_GIB = 60  #: images, their layers, and what Prometheus and ClickHouse write


async def nodes(connection: Connection, services: ServiceConfiguration) -> AsyncIterator[Finding]:
    """Look whether there is room, and what kind of cluster this is."""
    answer = await connection.kubernetes("GET", "api/v1/nodes")
    if not answer.ok:
        yield unknown(_CHECK, f"can't be listed: {answer.problem}", f"{APPLY}rbac.yaml lets the gym list them")
        return
    if not answer.items:
        yield failed(_CHECK, "there are none: nothing can run", "join one: deploy/clusters/k3s.yaml is the reference")
        return
    troubles = [f"{name_of(node)}: {trouble}" for node in answer.items for trouble in _troubles(node)]
    if troubles:
        yield failed(_CHECK, "; ".join(troubles), "kubectl describe node NAME says why")
        return
    pods = (await connection.kubernetes("GET", f"api/v1/namespaces/{connection.endpoints.namespace}/pods")).items
    for finding in _room(answer.items, pods, services):
        yield finding
    if len(answer.items) > 1:
        yield warning(
            _CHECK,
            f"{len(answer.items)} nodes: figures of pods come from the collector's own node alone",
            "use a stand of one node",
        )
    if nodes_of(answer.items).nested:
        yield warning(
            _CHECK,
            f"{', '.join(map(name_of, answer.items))}: a node that is a container, in which Coroot's node agent doesn't work",
            "findings have no coverage here; the reference is k3s on a virtual machine (deploy/clusters/k3s.yaml)",
        )


def _room(
    listed: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], services: ServiceConfiguration
) -> Iterable[Finding]:
    """Compare what nodes have with what the application's pods request, or will, where it isn't installed."""
    declared = {
        "cpu": sum(Fraction(item.cpu_request_cores) * item.replicas for item in services.services.values()),
        "memory": sum(Fraction(item.memory_base_bytes) * item.replicas for item in services.services.values()) / 2**30,
    }
    for resource, unit, name in (("cpu", 1, "cores"), ("memory", 2**30, "GiB")):
        there = _allocatable(listed, resource) / unit
        taken = sum((_requested(pod, resource) for pod in pods), Fraction(0)) / unit
        wanted = max(taken, Fraction(declared[resource]))
        verb = "requests" if pods else "will request at least"
        found = f"the application {verb} {float(wanted):.1f} of {float(there):.1f} {name}"
        yield warning(_CHECK, found, _LARGER) if wanted > there * Fraction(9, 10) else fine(_CHECK, found)
    disk = _allocatable(listed, "ephemeral-storage") / 2**30
    if 0 < disk < _DISK_GIB * Fraction(9, 10):
        yield warning(
            _CHECK,
            f"{float(disk):.0f} GiB of disk",
            f"images and measurements need some {_DISK_GIB} GiB: a larger disk",
        )


def _allocatable(listed: Iterable[Mapping[str, Any]], resource: str) -> Fraction:
    return sum((parse(node["status"]["allocatable"].get(resource, "0")) for node in listed), Fraction(0))


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
