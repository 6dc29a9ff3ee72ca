"""What a stand says of itself, for the metadata of a run on it: versions, digests, nodes, configuration, clocks.

In: a connection, what was asked for. Out: names and texts, as `EnvironmentRecorded.stand` has them; `projections.metadata` puts them in
their places by their names (`… chart`, `image …`, `kubernetes_version`, `collector_config_hash`).

What can't be read isn't left out but says why, so that nobody takes silence for sameness. Environment variables aren't read: they hold
passwords.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.cluster.clock_offset import ClockOffset
from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.cluster.known_state import Reset
from otel_control_gym.stands.cluster.services import COROOT, COROOT_NAMESPACE, JAEGER, PROMETHEUS

__all__ = ("gathered",)

_CHART = "helm.sh/chart"
_VERSION = "app.kubernetes.io/version"
_COLLECTOR = "otel-collector"
_REVIEWS = "apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_NODE_FACTS = ("architecture", "containerRuntimeVersion", "kernelVersion", "kubeletVersion", "osImage")


async def gathered(
    connection: Connection, config: RunConfig, access: ClusterAccess, reset: Reset, offset: ClockOffset | None
) -> dict[str, str]:
    """Return what is known of the stand after it was reset."""
    endpoints = connection.endpoints
    found = {
        "api_server": endpoints.kubernetes,
        "namespace": endpoints.namespace,
        "reached_by": access.way,
        "reset_level": reset.level,
        "reset_seconds": f"{reset.wall_seconds:.3f}",
        "reset_restored": ", ".join(reset.restored),
        "reset_restarted": ", ".join(reset.restarted),
        "reset_baseline": "adopted now" if reset.adopted else "restored",
        "clock_offset_seconds": "not told" if offset is None else f"{offset.seconds:.3f}",
        "clock_offset_slack_seconds": "" if offset is None else f"{offset.slack_seconds:.3f}",
        "clock_offset_of": "" if offset is None else offset.whose,
        "spans_and_logs": await _way(connection, access),
    }
    return found | {name: text async for name, text in _told(connection, config)}


async def _way(connection: Connection, access: ClusterAccess) -> str:
    """Return by which way spans and logs come."""
    if not access.receive:
        return await _retrieved(connection)
    return f"received at {access.receive}, " + ("over TLS with a token" if access.receive_guard else "without a guard")


async def _retrieved(connection: Connection) -> str:
    """Return what of them can be read where the stand keeps it."""
    endpoints = connection.endpoints
    jaeger = await connection.service(endpoints.jaeger, JAEGER, "jaeger/ui/api/v3/services")
    asked = {"namespace": endpoints.namespace, "verb": "get", "resource": "pods", "subresource": "log"}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    granted = await connection.kubernetes("POST", _REVIEWS, body=review)
    if jaeger.ok and granted.find("status", "allowed"):
        return "read: spans from Jaeger, logs from pods"
    return "; ".join(
        (
            "spans read from Jaeger" if jaeger.ok else f"spans not collected: Jaeger: {jaeger.problem}",
            "logs read from pods"
            if granted.find("status", "allowed")
            else "logs not collected: pods/log isn't granted",
        )
    )


async def _told(connection: Connection, config: RunConfig) -> AsyncIterator[tuple[str, str]]:
    namespace = connection.endpoints.namespace
    version = await connection.kubernetes("GET", "version")
    yield "kubernetes_version", version.text("gitVersion") or _unread(version)
    place = await connection.kubernetes("GET", f"api/v1/namespaces/{namespace}")
    yield "namespace_uid", place.text("metadata", "uid") or _unread(place)
    deployments = await connection.kubernetes("GET", f"apis/apps/v1/namespaces/{namespace}/deployments")
    for name, text in _charts(deployments):
        yield name, text
    daemon = await connection.kubernetes("GET", "apis/apps/v1/namespaces/chaos-mesh/daemonsets/chaos-daemon")
    yield "chaos-mesh chart", daemon.text("metadata", "labels", _CHART) or _unread(daemon)
    yield "chaos-mesh", daemon.text("metadata", "labels", _VERSION) or _unread(daemon)
    prometheus = await connection.service(connection.endpoints.prometheus, PROMETHEUS, "api/v1/status/buildinfo")
    yield "prometheus", prometheus.text("data", "version") or _unread(prometheus)
    coroot = await connection.service(connection.endpoints.coroot, COROOT, "api/user", namespace=COROOT_NAMESPACE)
    yield "coroot", "answers, tells no version" if coroot.ok else _unread(coroot)
    yield "collector_config_hash", await _collector_digest(connection)
    nodes = await connection.kubernetes("GET", "api/v1/nodes")
    for node in nodes.items:
        yield f"node {node['metadata']['name']}", _node(node)
    if not nodes.items:
        yield "nodes", _unread(nodes) if not nodes.ok else "none"
    pods = await connection.kubernetes("GET", f"api/v1/namespaces/{namespace}/pods")
    images = _images(pods)
    for name in config.public.services.services:
        yield f"image {name}", images.get(name) or _unread(pods)


def _unread(answer: Answer) -> str:
    return f"not told: {answer.problem}" if answer.problem else "not told"


def _charts(deployments: Answer) -> list[tuple[str, str]]:
    """Return charts and application versions that the labels of the stand's Deployments name."""
    found: dict[str, str] = {}
    for item in deployments.items:
        labels = item["metadata"].get("labels") or {}
        chart, _, number = str(labels.get(_CHART, "")).rpartition("-")
        if chart:
            found[f"{chart} chart"] = number
            if labels.get("app.kubernetes.io/part-of") == chart and labels.get(_VERSION):
                found[chart] = str(labels[_VERSION])
    return sorted(found.items()) or [("opentelemetry-demo chart", "not told: no Deployment names its chart")]


async def _collector_digest(connection: Connection) -> str:
    """Return the digest of the OpenTelemetry Collector's configuration."""
    path = f"api/v1/namespaces/{connection.endpoints.namespace}/configmaps/{_COLLECTOR}"
    answer = await connection.kubernetes("GET", path)
    data = answer.find("data")
    if not answer.ok or not isinstance(data, dict):
        return _unread(answer)
    return hashlib.sha256(msgspec.json.encode(data, order="sorted")).hexdigest()


def _node(node: Mapping[str, Any]) -> str:
    status = node.get("status") or {}
    information, room = status.get("nodeInfo") or {}, status.get("allocatable") or {}
    facts = {name: information.get(name, "") for name in _NODE_FACTS}
    facts |= {name: room.get(name, "") for name in ("cpu", "memory")}
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value)


def _images(pods: Answer) -> dict[str, str]:
    """Return image and digest by container, of the pods that run; a container that runs in two versions has both."""
    found: dict[str, dict[str, None]] = {}
    for pod in pods.items:
        for status in (pod.get("status") or {}).get("containerStatuses") or ():
            image, identity = str(status.get("image", "")), str(status.get("imageID", ""))
            digest = identity.rpartition("@")[2] if "@" in identity else ""
            text = f"{image}@{digest}" if digest and "@" not in image else image
            found.setdefault(status["name"], {})[text] = None
    return {name: ", ".join(texts) for name, texts in found.items()}
