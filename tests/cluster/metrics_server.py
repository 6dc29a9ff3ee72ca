"""A stand-in for the metrics-server, where a cluster has none: each pod uses half of the CPU that it requests; so autoscalers are active.

In: the pods of one namespace. Out: PodMetrics of `metrics.k8s.io/v1beta1`, which is defined as a custom resource here and answered by the
API server itself; whoever asks for metrics sees no difference.
"""

from __future__ import annotations

from typing import Any

import anyio

from otel_control_gym.actuators.kubernetes_client import MERGE, KubernetesClient
from otel_control_gym.actuators.transport import CallError, Refused
from otel_control_gym.engine.clock import rfc3339, wall_now

__all__ = ("MetricsServer", "definition")

GROUP = "metrics.k8s.io"
LOOK_SECONDS = 10.0
_WINDOW = "10s"


def definition() -> dict[str, Any]:
    """Return the definition of PodMetrics."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"pods.{GROUP}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, it stands in for the real one"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": "PodMetrics", "plural": "pods", "singular": "pod", "listKind": "PodMetricsList"},
            "versions": [{"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


class MetricsServer:
    """Tells what the pods of a namespace use."""

    def __init__(self, kubernetes: KubernetesClient, namespace: str) -> None:
        self._kubernetes = kubernetes
        self._pods = f"api/v1/namespaces/{namespace}/pods"
        self._metrics = f"apis/{GROUP}/v1beta1/namespaces/{namespace}/pods"

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            for pod in (await self._kubernetes.call("GET", self._pods, dict))["items"]:
                if pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
                    try:
                        await self._tell(pod)
                    except CallError:  # the pod has gone meanwhile
                        continue
            await anyio.sleep(LOOK_SECONDS)

    async def _tell(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        body = {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "PodMetrics",
            "metadata": {"name": metadata["name"], "labels": metadata.get("labels", {}), "ownerReferences": [owner]},
            "timestamp": rfc3339(wall_now()),
            "window": _WINDOW,
            "containers": [{"name": each["name"], "usage": _usage(each)} for each in pod["spec"]["containers"]],
        }
        path = f"{self._metrics}/{metadata['name']}"
        try:
            await self._kubernetes.call("PATCH", path, dict, body=body, content_type=MERGE)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            await self._kubernetes.call("POST", self._metrics, dict, body=body)


def _usage(container: dict[str, Any]) -> dict[str, str]:
    requested = container.get("resources", {}).get("requests", {}).get("cpu", "100m")
    cores = float(requested[:-1]) / 1000 if requested.endswith("m") else float(requested)
    return {"cpu": f"{round(cores * 500)}m", "memory": "64Mi"}
