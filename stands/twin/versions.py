"""HorizontalPodAutoscalers as autoscaling/v1 shows them: a view of the stored v2 objects, converted both ways at the API's edge.

In: objects of the version that a request names. Out: objects of the stored version, and back.

Version 1 knows one target, the CPU's utilisation. Everything else of a spec travels in annotations, as the real server does it, so a client
of the old version that reads, changes and writes back loses nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from otel_control_gym.stands.twin.objects import (
    HORIZONTAL_POD_AUTOSCALER,
    HORIZONTAL_POD_AUTOSCALER_V1,
    Kind,
    Object,
)

__all__ = ("VersionLines", "as_served", "as_stored", "stored_kind")

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"
_PLAIN_STATUS = ("currentReplicas", "desiredReplicas", "lastScaleTime", "observedGeneration")
_STORED = {HORIZONTAL_POD_AUTOSCALER_V1: HORIZONTAL_POD_AUTOSCALER}


def stored_kind(kind: Kind) -> Kind:
    """Return the kind under which objects of a served kind are stored."""
    return _STORED.get(kind, kind)


def as_served(kind: Kind, item: Object) -> Object:
    """Return a stored object in the version of a served kind."""
    if kind is not HORIZONTAL_POD_AUTOSCALER_V1:
        return item
    spec = {key: value for key, value in item["spec"].items() if key not in ("metrics", "behavior")}
    annotations = dict(item["metadata"].get("annotations", {}))
    others = []
    for metric in item["spec"]["metrics"]:
        target = metric.get("resource", {}).get("target", {})
        cpu = metric["type"] == "Resource" and metric["resource"]["name"] == "cpu" and "averageUtilization" in target
        if cpu and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = target["averageUtilization"]
        else:
            others.append(metric)
    status = item.get("status", {})
    shown = {"currentReplicas": 0, "desiredReplicas": 0}
    shown |= {key: status[key] for key in _PLAIN_STATUS if key in status}
    for metric in status.get("currentMetrics") or ():
        current = metric.get("resource", {}).get("current", {})
        if metric.get("resource", {}).get("name") == "cpu" and "averageUtilization" in current:
            shown["currentCPUUtilizationPercentage"] = current["averageUtilization"]
    for key, value in (
        (_METRICS, others),
        (_BEHAVIOR, item["spec"].get("behavior")),
        (_CONDITIONS, status.get("conditions")),
        (_CURRENT_METRICS, status.get("currentMetrics")),
    ):
        if value:
            annotations[key] = msgspec.json.encode(value).decode()
    metadata = item["metadata"] | ({"annotations": annotations} if annotations else {})
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec, "status": shown}


def as_stored(kind: Kind, item: Object, before: Object | None = None) -> Object:
    """Return an object of a served kind in the stored version; what its version can't say of the status is taken from `before`.

    Raises: ValueError: an annotation that carries part of the spec is malformed.
    """
    if kind is not HORIZONTAL_POD_AUTOSCALER_V1:
        return item
    metadata = dict(item.get("metadata", {}))
    annotations = dict(metadata.get("annotations", {}))
    carried = {key: annotations.pop(key, None) for key in (_METRICS, _BEHAVIOR, _CONDITIONS, _CURRENT_METRICS)}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    spec = {key: value for key, value in item.get("spec", {}).items() if key != "targetCPUUtilizationPercentage"}
    metrics: list[Any] = []
    utilization = item.get("spec", {}).get("targetCPUUtilizationPercentage")
    if utilization is not None:
        target = {"type": "Utilization", "averageUtilization": utilization}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    metrics += _decoded(carried[_METRICS], list) or []
    if metrics:
        spec["metrics"] = metrics
    behavior = _decoded(carried[_BEHAVIOR], dict)
    if behavior:
        spec["behavior"] = behavior
    status = dict((before or {}).get("status", {}))
    status |= {key: item.get("status", {})[key] for key in _PLAIN_STATUS if key in item.get("status", {})}
    stored: Object = {"metadata": metadata, "spec": spec}
    return stored | ({"status": status} if status else {})


class VersionLines:
    """Translates the lines of a watch into events whose objects are of a served version."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def __call__(self, lines: bytes) -> bytes:
        """Return translated lines."""
        return b"".join(self._translate(msgspec.json.decode(line)) for line in lines.splitlines())

    def _translate(self, event: Object) -> bytes:
        if event["type"] == "BOOKMARK":
            event["object"]["apiVersion"] = self._kind.api_version
        elif event["type"] != "ERROR":
            event["object"] = as_served(self._kind, event["object"])
        return msgspec.json.encode(event) + b"\n"


def _decoded(text: str | None, wanted: type) -> Any:
    if text is None:
        return None
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"malformed annotation: {error}") from error
    if not isinstance(value, wanted):
        raise ValueError("malformed annotation: unexpected type")
    return value
