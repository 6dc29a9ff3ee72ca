"""What a doctor looks at of Chaos Mesh: can faults be made here, on every node that holds a target, and is one left?

In: a connection. Out: findings. Nothing is changed: what is created is a dry run. Whether a fault does what it says can't be seen in any
object of the API: `ocg doctor --probe` measures one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import pairwise
from typing import Any

from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.findings import Finding, failed, fine, name_of, unknown, warning
from otel_control_gym.stands.cluster.parts import nodes_of

__all__ = ("faults",)

_CHAOS = "apis/chaos-mesh.org/v1alpha1"
_NEEDED = ("networkchaos", "podchaos", "podnetworkchaos", "stresschaos")  #: what faults are made of, and seen by
_DAEMON = "apis/apps/v1/namespaces/chaos-mesh/daemonsets/chaos-daemon"
_MANAGED = "app.kubernetes.io/managed-by=otel-control-gym"
_NOT_FOUND = 404
_CHECK = "faults"
_MODULES = "sch_netem, ip_set, xt_set"
_PROBES: dict[str, dict[str, Any]] = {
    "PodChaos": {"action": "pod-kill"},
    "NetworkChaos": {"action": "delay", "delay": {"latency": "50ms"}},
    "StressChaos": {"stressors": {"cpu": {"workers": 1, "load": 1}}},
}


async def faults(connection: Connection) -> AsyncIterator[Finding]:
    """Look whether faults can be made: the API, its webhook (by a dry run), its daemons, and what is left of earlier ones."""
    namespace = connection.endpoints.namespace
    answer = await connection.kubernetes("GET", _CHAOS)
    if answer.status == _NOT_FOUND:
        yield failed(
            _CHECK,
            "the cluster has no Chaos Mesh",
            "helm upgrade --install chaos-mesh, as deploy/helm/chaos-mesh.yaml says",
        )
        return
    if not answer.ok:
        yield unknown(
            _CHECK,
            f"Chaos Mesh: {answer.problem}",
            "is its API served? kubectl get --raw /apis/chaos-mesh.org/v1alpha1",
        )
        return
    served = [item["name"] for item in answer.find("resources") or ()]
    if absent := [plural for plural in _NEEDED if plural not in served]:
        yield failed(
            _CHECK,
            f"Chaos Mesh doesn't serve {', '.join(absent)}",
            "Helm makes custom resources with its chart, and only then: ocg stand down, then ocg stand up",
        )
    refused = [refusal for kind in _PROBES if (refusal := await _tried(connection, kind))]
    if refused:
        yield failed(
            _CHECK,
            "; ".join(refused),
            "existing faults don't end either while its webhook is down: kubectl --namespace chaos-mesh get pods",
        )
    else:
        yield fine(_CHECK, f"{', '.join(_PROBES)} would be accepted")
    async for finding in _daemons(connection):
        yield finding
    query = {"labelSelector": _MANAGED}
    left = [
        f"{kind.lower()}/{name_of(item)}"
        for kind in _PROBES
        for item in (
            await connection.kubernetes("GET", f"{_CHAOS}/namespaces/{namespace}/{kind.lower()}", query=query)
        ).items
    ]
    if left:
        yield warning(
            _CHECK, f"faults are in force: {', '.join(left)}", "unless an episode is running: ocg stand clean"
        )


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


async def _daemons(connection: Connection) -> AsyncIterator[Finding]:
    """Look whether the daemon is ready wherever a target may be, and speaks to those nodes' container runtime."""
    daemon = await connection.kubernetes("GET", _DAEMON)
    if not daemon.ok:
        yield unknown(
            _CHECK,
            f"whether its daemon runs on every node can't be told: {daemon.problem}",
            "delays, losses and pressure need it: kubectl --namespace chaos-mesh get daemonset chaos-daemon",
        )
        return
    pods = await connection.kubernetes("GET", f"api/v1/namespaces/{connection.endpoints.namespace}/pods")
    holders = dict.fromkeys(pod["spec"]["nodeName"] for pod in pods.items if pod["spec"].get("nodeName"))
    wanted, ready = daemon.find("status", "desiredNumberScheduled") or 0, daemon.find("status", "numberReady") or 0
    if not wanted:
        yield failed(
            _CHECK,
            "its daemon is to run on 0 of 0 nodes: none matches its node selector, or each has a taint that it doesn't tolerate",
            "kubectl --namespace chaos-mesh describe daemonset chaos-daemon; kubectl get nodes --show-labels",
        )
    elif ready < wanted:
        yield failed(
            _CHECK,
            f"its daemon is ready on {ready} of {wanted} nodes",
            "kubectl --namespace chaos-mesh logs daemonset/chaos-daemon says why; the runtime's socket may be another one",
        )
    elif wanted < len(holders):
        yield failed(
            _CHECK,
            f"its daemon runs on {wanted} nodes, and targets are on {len(holders)} ({', '.join(holders)})",
            "let it run on each: its node selector and tolerations",
        )
    else:
        yield fine(_CHECK, f"its daemon is ready on {ready} of {wanted} nodes")
    nodes = (await connection.kubernetes("GET", "api/v1/nodes")).items
    for trouble in _other_runtime(daemon.find("spec", "template", "spec") or {}, nodes):
        yield failed(
            _CHECK,
            trouble,
            "chaosDaemon.runtime and chaosDaemon.socketPath have to be the nodes' (on k3s: deploy/helm/chaos-mesh-k3s.yaml)",
        )
    yield unknown(
        _CHECK,
        f"whether the nodes' kernels have {_MODULES} can't be told by the API",
        f"ocg doctor --probe measures a delay, which needs all three; on a node: modprobe -a {_MODULES.replace(',', '')}",
    )


def _other_runtime(daemon: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yield where the daemon's container runtime isn't the nodes' own."""
    listed = list(nodes)
    told = [
        str(word)
        for item in daemon.get("containers") or ()
        for word in (*item.get("command", ()), *item.get("args", ()))
    ]
    runtime = dict(pairwise(told)).get("--runtime", "")
    for node in listed:
        theirs = str(node.get("status", {}).get("nodeInfo", {}).get("containerRuntimeVersion", "")).partition("://")[0]
        if runtime and theirs and theirs.removeprefix("cri-") != runtime.removeprefix("cri-"):
            yield f"its daemon speaks to {runtime}, and {name_of(node)} runs {theirs}"
    sockets = [str((item.get("hostPath") or {}).get("path", "")) for item in daemon.get("volumes") or ()]
    socket = next((path for path in sockets if path.endswith(".sock")), "")
    if socket and listed and nodes_of(listed).k3s != ("/k3s/" in socket):
        yield f"its daemon looks for the container runtime at {socket}, where {name_of(listed[0])} has none"
