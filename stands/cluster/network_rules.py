"""Waiting until no pod has a rule of Chaos Mesh left: a chaos object may be gone, and its rules not.

Chaos Mesh keeps one PodNetworkChaos for each pod whose network it has ever touched, named like the pod and owned by it. Its daemon
brings the pod's network in line with the three lists of its spec, so empty lists that the daemon has seen are an untouched network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from otel_control_gym.engine.clock import wall_timer
from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.connection import Connection

__all__ = ("rules_left", "wait_no_rules")

_LISTS = ("iptables", "ipsets", "tcs")
_NOT_FOUND = 404


async def wait_no_rules(connection: Connection, patience: Patience) -> int | None:
    """Return how many PodNetworkChaos there are once none has a rule; None: the cluster has no such kind.

    Raises: StandError: some have rules still when patience ends, or they can't be listed.
    """
    path = f"apis/chaos-mesh.org/v1alpha1/namespaces/{connection.endpoints.namespace}/podnetworkchaos"
    deadline = wall_timer() + patience.seconds
    while True:
        answer = await connection.kubernetes("GET", path)
        if answer.status == _NOT_FOUND:
            return None
        if not answer.ok:
            raise StandError(f"{path} can't be listed: {answer.problem}\n  deploy/stand/rbac.yaml grants it")
        left = [f"{item['metadata']['name']}: {rules}" for item in answer.items if (rules := rules_left(item))]
        if not left:
            return len(answer.items)
        if wall_timer() > deadline:
            raise StandError(
                f"after {patience.seconds:g} s pods have network rules of Chaos Mesh although no chaos object is left: {'; '.join(left)}\n"
                "  delete these pods: a new one has none; `ocg doctor` says whether the chaos daemon is well"
            )
        await anyio.sleep(patience.look_seconds)


def rules_left(item: Mapping[str, Any]) -> str:
    """Return which rules a PodNetworkChaos has, or that its daemon hasn't seen that it has none; empty: an untouched network."""
    spec, status = item.get("spec") or {}, item.get("status") or {}
    left = [f"{len(spec[name])} {name}" for name in _LISTS if spec.get(name)]
    if left:
        return ", ".join(left)
    if status.get("failedMessage"):
        return f"not applied: {status['failedMessage']}"
    if status.get("observedGeneration", 0) < item["metadata"].get("generation", 0):
        return "its last change wasn't seen by the daemon yet"
    return ""
