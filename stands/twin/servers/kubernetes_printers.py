"""The columns of each kind in `kubectl get`, and what an object shows in them: the cells of the real printers.

In: an object, and the server's time, which ages are counted to. Out: `PRINTERS`: columns, and a function that fills them, by kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.objects import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    HORIZONTAL_POD_AUTOSCALER_V1,
    HTTP_ROUTE,
    LEASE,
    NAMESPACE,
    NETWORK_CHAOS,
    NODE,
    POD,
    POD_CHAOS,
    REPLICA_SET,
    SECRET,
    SERVICE,
    STRESS_CHAOS,
    Kind,
    Object,
    condition,
    moment,
)

__all__ = ("CUSTOM", "PRINTERS", "Column", "human_duration")

_NONE = "<none>"


class Column(msgspec.Struct, frozen=True):
    """One column; those of priority 1 are shown with `-o wide`."""

    name: str
    type: str = "string"
    priority: int = 0


def _columns(visible: str, wide: str = "", integers: Sequence[str] = ()) -> tuple[Column, ...]:
    """Return columns named in texts, separated by `|`; the wide ones come last."""
    names = [(name, 0) for name in visible.split("|")] + [(name, 1) for name in wide.split("|") if name]
    return tuple(Column(name, "integer" if name in integers else "string", priority) for name, priority in names)


def human_duration(nanoseconds: int) -> str:
    """Return a duration as kubectl shows ages: fewer digits the longer it is."""
    seconds = int(nanoseconds / SECOND)
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    if minutes < 10:
        return _pair(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _pair(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    years, days = divmod(hours // 24, 365)
    return _pair(years, "y", days, "d") if years < 8 else f"{years}y"


def _pair(first: int, unit: str, second: int, small: str) -> str:
    return f"{first}{unit}{second}{small}" if second else f"{first}{unit}"


def _since(text: str | None, now: int) -> str:
    if not text:
        return "<unknown>"
    return human_duration(now - moment(text))


def _age(item: Object, now: int) -> str:
    return _since(item["metadata"].get("creationTimestamp"), now)


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])


def _selector(labels: Object | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or _NONE


def _template(item: Object) -> list[str]:
    containers = item["spec"]["template"]["spec"]["containers"]
    return [
        ",".join(container["name"] for container in containers),
        ",".join(container["image"] for container in containers),
        _selector(item["spec"]["selector"].get("matchLabels")),
    ]


def _deployment(item: Object, now: int) -> list[Any]:
    status, wanted = item.get("status", {}), item["spec"]["replicas"]
    ready = f"{status.get('readyReplicas', 0)}/{wanted}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [_name(item), ready, *counts, _age(item, now), *_template(item)]


def _replica_set(item: Object, now: int) -> list[Any]:
    status = item.get("status", {})
    counts = [item["spec"]["replicas"], status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [_name(item), *counts, _age(item, now), *_template(item)]


def _pod(item: Object, now: int) -> list[Any]:
    status, spec = item.get("status", {}), item["spec"]
    containers = status.get("containerStatuses", [])
    ready = sum(bool(container["ready"] and "running" in container["state"]) for container in containers)
    return [
        _name(item),
        f"{ready}/{len(spec['containers'])}",
        _pod_status(item, containers),
        _restarts(containers, now),
        _age(item, now),
        status.get("podIP") or _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        _NONE,
    ]


def _pod_status(item: Object, containers: Sequence[Object]) -> str:
    """Return what is most telling: the init container at work, the first container that waits or has ended, else the phase."""
    status = item.get("status", {})
    shown = str(status.get("reason") or status.get("phase", "Unknown"))
    scheduled = condition(item, "PodScheduled")
    if scheduled is not None and scheduled.get("reason") == "SchedulingGated":
        shown = "SchedulingGated"
    initialising = _initialising(status.get("initContainerStatuses", ()))
    for container in () if initialising else reversed(containers):
        state = container["state"]
        if waiting := state.get("waiting", {}).get("reason"):
            shown = waiting
        elif "terminated" in state:
            ended = state["terminated"]
            shown = ended.get("reason") or f"ExitCode:{ended['exitCode']}"
    if "deletionTimestamp" in item["metadata"] and status.get("phase") not in ("Succeeded", "Failed"):
        return "Terminating"
    return initialising or shown


def _initialising(containers: Sequence[Object]) -> str:
    """Return how many init containers are done, while one isn't: `Init:0/1`."""
    done = [container["state"].get("terminated", {}).get("exitCode") == 0 for container in containers]
    return "" if all(done) else f"Init:{done.index(False)}/{len(done)}"


def _restarts(containers: Sequence[Object], now: int) -> str:
    count = sum(container["restartCount"] for container in containers)
    ends = [container.get("lastState", {}).get("terminated", {}).get("finishedAt") for container in containers]
    latest = max((end for end in ends if end), default=None)
    return f"{count} ({_since(latest, now)} ago)" if count and latest else str(count)


def _service(item: Object, now: int) -> list[Any]:
    spec = item["spec"]
    ports = [
        f"{port['port']}{':' + str(port['nodePort']) if 'nodePort' in port else ''}/{port.get('protocol', 'TCP')}"
        for port in spec.get("ports", ())
    ]
    shown = [spec.get("type", "ClusterIP"), spec.get("clusterIP") or _NONE, _NONE, ",".join(ports) or _NONE]
    return [_name(item), *shown, _age(item, now), _selector(spec.get("selector"))]


def _event(item: Object, now: int) -> list[Any]:
    involved, source = item["involvedObject"], item.get("source", {})
    first = item.get("firstTimestamp")
    return [
        _since(item.get("lastTimestamp") or first, now),
        item.get("type", ""),
        item.get("reason", ""),
        f"{involved.get('kind', '').lower()}/{involved.get('name', '')}",
        involved.get("fieldPath", ""),
        ", ".join(part for part in (source.get("component"), source.get("host")) if part),
        str(item.get("message", "")).strip(),
        _since(first, now),
        item.get("count", 1),
        _name(item),
    ]


def _node(item: Object, now: int) -> list[Any]:
    ready, status = condition(item, "Ready"), item["status"]
    shown = "Ready" if ready is not None and ready["status"] == "True" else "NotReady"
    prefix = "node-role.kubernetes.io/"
    roles = [label.removeprefix(prefix) for label in item["metadata"].get("labels", {}) if label.startswith(prefix)]
    addresses = {address["type"]: address["address"] for address in status["addresses"]}
    info = status["nodeInfo"]
    return [
        _name(item),
        shown + (",SchedulingDisabled" if item["spec"].get("unschedulable") else ""),
        ",".join(sorted(roles)) or _NONE,
        _age(item, now),
        info["kubeletVersion"],
        addresses.get("InternalIP", _NONE),
        addresses.get("ExternalIP", _NONE),
        info["osImage"],
        info["kernelVersion"],
        info["containerRuntimeVersion"],
    ]


def _namespace(item: Object, now: int) -> list[Any]:
    return [_name(item), item["status"]["phase"], _age(item, now)]


def _config_map(item: Object, now: int) -> list[Any]:
    return [_name(item), len(item.get("data", {})) + len(item.get("binaryData", {})), _age(item, now)]


def _secret(item: Object, now: int) -> list[Any]:
    return [_name(item), item.get("type", "Opaque"), len(item.get("data", {})), _age(item, now)]


def _lease(item: Object, now: int) -> list[Any]:
    return [_name(item), item.get("spec", {}).get("holderIdentity", ""), _age(item, now)]


def _autoscaler(item: Object, now: int) -> list[Any]:
    spec, status = item["spec"], item.get("status", {})
    reference = spec["scaleTargetRef"]
    shown = [spec.get("minReplicas", 1), spec["maxReplicas"], status.get("currentReplicas", 0)]
    return [_name(item), f"{reference['kind']}/{reference['name']}", _targets(item), *shown, _age(item, now)]


def _targets(item: Object) -> str:
    """Return present and wanted values of each metric, as `cpu: 45%/60%`."""
    current = item.get("status", {}).get("currentMetrics") or []
    texts = []
    for index, metric in enumerate(item["spec"]["metrics"]):
        source = metric[_SOURCES[metric["type"]]]
        target = source["target"]
        found = current[index] if index < len(current) else {}
        value = found.get(_SOURCES[metric["type"]], {}).get("current", {})
        now, wanted = "<unknown>", "<unset>"
        if "averageUtilization" in target:
            wanted = f"{target['averageUtilization']}%"
            now = f"{value['averageUtilization']}%" if "averageUtilization" in value else now
        elif "averageValue" in target:
            wanted = str(target["averageValue"])
            now = str(value.get("averageValue", now))
        elif "value" in target:
            wanted = str(target["value"])
            now = str(value.get("value", now))
        average = " (avg)" if metric["type"] in ("Object", "External") and "averageValue" in target else ""
        name = f"{source['name']}: " if metric["type"] in ("Resource", "ContainerResource") else ""
        texts.append(f"{name}{now}/{wanted}{average}")
    most = 2  # as the real printer, which names the number of the others
    more = f" + {len(texts) - most} more..." if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _http_route(item: Object, now: int) -> list[Any]:
    hostnames = item["spec"].get("hostnames")
    return [_name(item), msgspec.json.encode(hostnames).decode() if hostnames else "", _age(item, now)]


def _stress_chaos(item: Object, now: int) -> list[Any]:  # noqa: ARG001 - its CRD prints no age
    return [_name(item), item["spec"].get("duration")]


def _network_chaos(item: Object, now: int) -> list[Any]:  # noqa: ARG001 - its CRD prints no age
    return [_name(item), item["spec"].get("action"), item["spec"].get("duration")]


def _pod_chaos(item: Object, now: int) -> list[Any]:  # noqa: ARG001 - its CRD prints no age
    return [_name(item), item["spec"].get("action"), item["spec"].get("duration")]


_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_AUTOSCALER_COLUMNS = _columns(
    "Name|Reference|Targets|MinPods|MaxPods|Replicas|Age", integers=("MinPods", "MaxPods", "Replicas")
)
_Printer = tuple[tuple[Column, ...], Callable[[Object, int], list[Any]]]
_TEMPLATE = "Containers|Images|Selector"
_EVENT_COLUMNS = tuple(
    Column(name, "integer" if name == "Count" else "string", priority)
    for name, priority in (
        ("Last Seen", 0),
        ("Type", 0),
        ("Reason", 0),
        ("Object", 0),
        ("Subobject", 1),
        ("Source", 1),
        ("Message", 0),
        ("First Seen", 1),
        ("Count", 1),
        ("Name", 1),
    )
)
CUSTOM: _Printer = (_columns("Name|Age"), lambda item, now: [_name(item), _age(item, now)])
PRINTERS: dict[Kind, _Printer] = {
    DEPLOYMENT: (
        _columns("Name|Ready|Up-to-date|Available|Age", _TEMPLATE, ("Up-to-date", "Available")),
        _deployment,
    ),
    REPLICA_SET: (
        _columns("Name|Desired|Current|Ready|Age", _TEMPLATE, ("Desired", "Current", "Ready")),
        _replica_set,
    ),
    POD: (_columns("Name|Ready|Status|Restarts|Age", "IP|Node|Nominated Node|Readiness Gates"), _pod),
    SERVICE: (_columns("Name|Type|Cluster-IP|External-IP|Port(s)|Age", "Selector"), _service),
    EVENT: (_EVENT_COLUMNS, _event),
    NODE: (
        _columns("Name|Status|Roles|Age|Version", "Internal-IP|External-IP|OS-Image|Kernel-Version|Container-Runtime"),
        _node,
    ),
    NAMESPACE: (_columns("Name|Status|Age"), _namespace),
    CONFIG_MAP: (_columns("Name|Data|Age", integers=("Data",)), _config_map),
    SECRET: (_columns("Name|Type|Data|Age", integers=("Data",)), _secret),
    LEASE: (_columns("Name|Holder|Age"), _lease),
    HORIZONTAL_POD_AUTOSCALER: (_AUTOSCALER_COLUMNS, _autoscaler),
    HORIZONTAL_POD_AUTOSCALER_V1: (_AUTOSCALER_COLUMNS, _autoscaler),
    HTTP_ROUTE: (_columns("Name|Hostnames|Age"), _http_route),
    POD_CHAOS: (_columns("Name|Action|Duration"), _pod_chaos),
    STRESS_CHAOS: (_columns("Name|Duration"), _stress_chaos),
    NETWORK_CHAOS: (_columns("Name|Action|Duration"), _network_chaos),
}
