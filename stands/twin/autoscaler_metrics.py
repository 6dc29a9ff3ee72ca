"""The metrics of a HorizontalPodAutoscaler: its spec and its target's pods ➜ a proposal and the present value of each.

In: metric sources of the spec, pods, what the metrics server measured. Out: `Measured` per source, or a `MetricError` with the condition's
reason and the controller's words.

Which pods count follows the real controller. For CPU a pod isn't ready while it is pending, and for the first five minutes whenever it
isn't Ready or its sample began before it became so; after that only if it has never been ready. The twin's cluster has no adapter
for custom and external metrics, so sources of those types fail as they would there.
"""

from __future__ import annotations

import math

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.autoscaler_arithmetic import (
    Pods,
    Proposal,
    Tolerance,
    propose_average,
    propose_utilization,
)
from otel_control_gym.stands.twin.metrics_server import MetricsServer
from otel_control_gym.stands.twin.objects import Object, condition, moment
from otel_control_gym.stands.twin.quantities import canonical, parse

__all__ = ("Measured", "MetricError", "measure", "tolerance_of")

_INITIALIZATION_SECONDS = 300  #: of a pod: its CPU use may be that of its start
_READINESS_SECONDS = 30  #: of a pod: how soon it is expected to be ready
_APIS = {
    "Pods": ("FailedGetPodsMetric", "custom metrics API", "custom.metrics.k8s.io"),
    "Object": ("FailedGetObjectMetric", "custom metrics API", "custom.metrics.k8s.io"),
    "External": ("FailedGetExternalMetric", "external metrics API", "external.metrics.k8s.io"),
}


class MetricError(Exception):
    """Raised when a metric source gives no value."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One metric source, evaluated."""

    replicas: int
    name: str  #: as events and conditions call it
    status: Object  #: for `status.currentMetrics`


def measure(
    source: Object, pods: list[Object], metrics: MetricsServer, *, current: int, now: int, tolerance: Tolerance
) -> Measured:
    """Return what a metric source of the spec proposes.

    Raises: MetricError: it has no value.
    """
    kind = source["type"]
    if kind in _APIS:
        reason, api, group = _APIS[kind]
        name = source[kind.lower()]["metric"]["name"]
        problem = f"unable to get metric {name}: unable to fetch metrics from {api}: the server could not find the requested resource"
        raise MetricError(reason, f"{problem} ({group})")
    field = "resource" if kind == "Resource" else "containerResource"
    reason = f"FailedGet{kind}Metric"
    spec, container = source[field], source[field].get("container", "")
    resource, target = spec["name"], spec["target"]
    failed = f"failed to get {resource} {'utilization' if 'averageUtilization' in target else 'usage'}"
    sorted_pods = _sort(pods, metrics, resource, container, now)
    if not pods:
        raise MetricError(reason, f"{failed}: no pods returned by selector while calculating replica count")
    if not sorted_pods.usage:
        raise MetricError(reason, f"{failed}: did not receive metrics for targeted pods (pods might be unready)")
    if "averageUtilization" in target:
        requests = _requests(pods, resource, container, reason, failed)
        proposal = propose_utilization(
            sorted_pods, requests, target=int(target["averageUtilization"]), current=current, tolerance=tolerance
        )
        shown: Object = {"averageUtilization": proposal.utilization}
        name = f"{resource} resource utilization (percentage of request)"
    else:
        proposal = propose_average(
            sorted_pods, target=math.ceil(parse(target["averageValue"]) * 1000), current=current, tolerance=tolerance
        )
        shown, name = {}, f"{resource} resource"
    status = {"name": resource, "current": shown | {"averageValue": _shown(proposal)}}
    if container:
        status["container"] = container
    return Measured(replicas=proposal.replicas, name=name, status={"type": kind, field: status})


def tolerance_of(spec: Object) -> Tolerance:
    """Return an autoscaler's tolerance: of each direction its own, where its behavior has one."""
    behavior, default = spec.get("behavior", {}), Tolerance()
    up, down = (behavior.get(direction, {}).get("tolerance") for direction in ("scaleUp", "scaleDown"))
    return Tolerance(
        up=default.up if up is None else float(parse(up)), down=default.down if down is None else float(parse(down))
    )


def _sort(pods: list[Object], metrics: MetricsServer, resource: str, container: str, now: int) -> Pods:
    usage: dict[str, int] = {}
    unready: list[str] = []
    missing: list[str] = []
    for pod in pods:
        name = pod["metadata"]["name"]
        if "deletionTimestamp" in pod["metadata"] or pod["status"]["phase"] == "Failed":
            continue
        found = metrics.of_pod(pod["metadata"]["uid"])
        if pod["status"]["phase"] == "Pending":
            unready.append(name)
        elif found is None or resource not in ("cpu", "memory") or _lacks(pod, container):
            missing.append(name)
        elif resource == "cpu" and _is_unready(pod, found.begin, now):
            unready.append(name)
        else:
            usage[name] = found.cpu_millicores if resource == "cpu" else found.memory_bytes * 1000
    return Pods(usage=usage, unready=unready, missing=missing)


def _is_unready(pod: Object, begin: int, now: int) -> bool:
    """Return whether a pod's CPU use says nothing yet."""
    ready, start = condition(pod, "Ready"), pod["status"].get("startTime")
    if ready is None or start is None:
        return True
    since, unready = moment(ready["lastTransitionTime"]), ready["status"] == "False"
    if moment(start) + _INITIALIZATION_SECONDS * SECOND > now:
        return unready or begin < since
    return unready and moment(start) + _READINESS_SECONDS * SECOND > since


def _lacks(pod: Object, container: str) -> bool:
    return bool(container) and all(item["name"] != container for item in pod["spec"]["containers"])


def _requests(pods: list[Object], resource: str, container: str, reason: str, failed: str) -> dict[str, int]:
    """Return what each pod requests, in milli-units."""
    requests: dict[str, int] = {}
    for pod in pods:
        total = 0
        for item in pod["spec"]["containers"]:
            if container and item["name"] != container:
                continue
            request = item.get("resources", {}).get("requests", {}).get(resource)
            if request is None:
                where = f"container {item['name']} of Pod {pod['metadata']['name']}"
                raise MetricError(reason, f"{failed}: missing request for {resource} in {where}")
            total += math.ceil(parse(request) * 1000)
        requests[pod["metadata"]["name"]] = total
    return requests


def _shown(proposal: Proposal) -> str:
    return canonical(f"{proposal.average}m")
