"""Defaults and rules for the built-in kinds: a body as a client sends it ➜ one that may be stored, or a refusal.

In: Deployment and pod bodies, and what they were before. Out: the bodies with defaults filled in, or an `ApiError`.

Defaults matter for more than looks: a rollout starts when a template differs from the stored one, so two spellings of one thing
(`0.5` and `500m`) have to become one. Chaos Mesh's kinds have their own webhook (`chaos_admission`).
"""

from __future__ import annotations

import copy
import re

from otel_control_gym.stands.twin.api_errors import forbidden, invalid
from otel_control_gym.stands.twin.objects import DEPLOYMENT, POD, Kind, Object
from otel_control_gym.stands.twin.quantities import canonical, parse

__all__ = (
    "MAX_REPLICAS",
    "admit_deployment",
    "admit_deployment_update",
    "admit_pod",
    "admit_pod_update",
    "check_size",
)

MAX_REPLICAS = 1000  #: of one Deployment: what a resource quota would be for on a cluster

_POD_DEFAULTS: Object = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_CONTAINER_DEFAULTS: Object = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_PROBE_DEFAULTS: Object = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_HANDLERS = ("grpc", "tcpSocket", "httpGet", "exec")


def check_size(kind: Kind, name: str, field: str, replicas: int) -> None:
    """Refuse a size that the simulated machines won't hold.

    Raises: ApiError: it is above `MAX_REPLICAS`.
    """
    if replicas > MAX_REPLICAS:
        why = f"the twin's machines hold at most {MAX_REPLICAS} pods of a Deployment: {field} is {replicas}"
        raise forbidden(kind, name, f'{kind.resource} "{name}" is forbidden: {why}')


def admit_deployment(body: Object) -> Object:
    """Return a Deployment with defaults, checked.

    Raises: ApiError: a field breaks a rule.
    """
    item = copy.deepcopy(body)
    name, spec = item["metadata"]["name"], item.get("spec")
    if not isinstance(spec, dict):
        raise invalid(DEPLOYMENT, name, "spec", "Required value", reason="FieldValueRequired")
    for key, value in (("replicas", 1), ("revisionHistoryLimit", 10), ("progressDeadlineSeconds", 600)):
        if spec.get(key) is None:
            spec[key] = value
    if not spec.get("paused"):
        spec.pop("paused", None)
    for key in ("replicas", "revisionHistoryLimit", "progressDeadlineSeconds", "minReadySeconds"):
        _check_natural(DEPLOYMENT, name, f"spec.{key}", spec.get(key, 0))
    check_size(DEPLOYMENT, name, "spec.replicas", spec["replicas"])
    _default_strategy(name, spec)
    template = spec.get("template")
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict):
        raise invalid(DEPLOYMENT, name, "spec.template.spec", "Required value", reason="FieldValueRequired")
    template.setdefault("metadata", {}).pop("creationTimestamp", None)
    _check_selector(name, spec)
    _admit_pod_spec(DEPLOYMENT, name, "spec.template.spec", template["spec"])
    return item


def admit_deployment_update(before: Object, body: Object) -> Object:
    """Return a changed Deployment with defaults, checked, its generation raised if spec or annotations changed.

    Raises: ApiError: a field breaks a rule, or an immutable one changed.
    """
    item = admit_deployment(body)
    name = before["metadata"]["name"]
    if item["spec"]["selector"] != before["spec"]["selector"]:
        raise invalid(DEPLOYMENT, name, "spec.selector", "Invalid value: field is immutable")
    annotations = item["metadata"].get("annotations", {}) != before["metadata"].get("annotations", {})
    if item["spec"] != before["spec"] or annotations:
        item["metadata"]["generation"] = before["metadata"]["generation"] + 1
    return item


def admit_pod(body: Object) -> Object:
    """Return a pod with defaults: requests that equal the limits, quality of service, an empty life."""
    item = copy.deepcopy(body)
    containers = item["spec"]["containers"]
    for container in containers:
        resources = container["resources"]
        if "limits" in resources:
            resources["requests"] = resources["limits"] | resources.get("requests", {})
    item["status"] = {"phase": "Pending", "qosClass": _quality([item["resources"] for item in containers])}
    return item


def admit_pod_update(before: Object, body: Object) -> Object:
    """Return a changed pod: its annotations and labels may change, nothing else.

    Raises: ApiError: the spec changed.
    """
    if body["spec"] != before["spec"]:
        problem = "Forbidden: pod updates may not change the spec"
        raise invalid(POD, before["metadata"]["name"], "spec", problem, reason="FieldValueForbidden")
    return body


def _default_strategy(name: str, spec: Object) -> None:
    strategy = spec.get("strategy") or {}
    kind = strategy.get("type", "RollingUpdate")
    if kind == "RollingUpdate":
        rolling = {"maxSurge": "25%", "maxUnavailable": "25%"} | (strategy.get("rollingUpdate") or {})
        for key, value in rolling.items():
            _check_share(name, f"spec.strategy.rollingUpdate.{key}", value)
        spec["strategy"] = {"type": kind, "rollingUpdate": rolling}
    elif kind == "Recreate":
        if strategy.get("rollingUpdate"):
            problem = "Forbidden: may not be specified when strategy `type` is 'Recreate'"
            raise invalid(DEPLOYMENT, name, "spec.strategy.rollingUpdate", problem, reason="FieldValueForbidden")
        spec["strategy"] = {"type": kind}
    else:
        problem = f'Unsupported value: "{kind}": supported values: "Recreate", "RollingUpdate"'
        raise invalid(DEPLOYMENT, name, "spec.strategy.type", problem, reason="FieldValueNotSupported")


def _check_share(name: str, field: str, value: object) -> None:
    if isinstance(value, str) and re.fullmatch(r"\d+%", value):
        return
    _check_natural(DEPLOYMENT, name, field, value)


def _check_natural(kind: Kind, name: str, field: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(kind, name, field, f'Invalid value: "{value}": must be an integer')
    if value < 0:
        raise invalid(kind, name, field, f"Invalid value: {value}: must be greater than or equal to 0")


def _check_selector(name: str, spec: Object) -> None:
    wanted = (spec.get("selector") or {}).get("matchLabels")
    if not wanted:
        raise invalid(DEPLOYMENT, name, "spec.selector", "Required value", reason="FieldValueRequired")
    labels = spec["template"]["metadata"].get("labels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        problem = f"Invalid value: {labels}: `selector` does not match template `labels`"
        raise invalid(DEPLOYMENT, name, "spec.template.metadata.labels", problem)


def _admit_pod_spec(kind: Kind, name: str, field: str, spec: Object) -> None:
    for key, value in _POD_DEFAULTS.items():
        spec.setdefault(key, value)
    containers = spec.get("containers")
    if not isinstance(containers, list) or not containers:
        raise invalid(kind, name, f"{field}.containers", "Required value", reason="FieldValueRequired")
    for part in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(part) or ()):
            _admit_container(kind, name, f"{field}.{part}[{index}]", container)


def _admit_container(kind: Kind, name: str, field: str, container: Object) -> None:
    for key in ("name", "image"):
        if not container.get(key):
            raise invalid(kind, name, f"{field}.{key}", "Required value", reason="FieldValueRequired")
    for key, value in _CONTAINER_DEFAULTS.items():
        container.setdefault(key, copy.copy(value))
    for key in ("readinessProbe", "livenessProbe", "startupProbe"):
        if key in container:
            container[key] = _PROBE_DEFAULTS | container[key]
            _check_probe(kind, name, f"{field}.{key}", container[key])
    _admit_resources(kind, name, f"{field}.resources", container["resources"])


def _check_probe(kind: Kind, name: str, field: str, probe: Object) -> None:
    if not any(how in probe for how in _HANDLERS):
        raise invalid(kind, name, field, "Required value: must specify a handler type", reason="FieldValueRequired")
    for key, least in (*((key, 1) for key in _PROBE_DEFAULTS), ("initialDelaySeconds", 0)):
        _check_natural(kind, name, f"{field}.{key}", probe.get(key, least))
        if probe.get(key, least) < least:
            problem = f"Invalid value: {probe[key]}: must be greater than or equal to {least}"
            raise invalid(kind, name, f"{field}.{key}", problem)


def _admit_resources(kind: Kind, name: str, field: str, resources: Object) -> None:
    for part in ("limits", "requests"):
        quantities = resources.get(part)
        if not quantities:
            resources.pop(part, None)
            continue
        for key, text in quantities.items():
            try:
                quantities[key] = canonical(text)
            except ValueError:
                problem = f'Invalid value: "{text}": quantities must match a number with an optional suffix'
                raise invalid(kind, name, f"{field}.{part}.{key}", problem) from None
            if parse(text) < 0:
                problem = f'Invalid value: "{text}": must be greater than or equal to 0'
                raise invalid(kind, name, f"{field}.{part}.{key}", problem)
    limits = resources.get("limits", {})
    for key, text in resources.get("requests", {}).items():
        if key in limits and parse(text) > parse(limits[key]):
            problem = f'Invalid value: "{text}": must be less than or equal to {key} limit of {limits[key]}'
            raise invalid(kind, name, f"{field}.requests", problem)


def _quality(resources: list[Object]) -> str:
    if not any(item.get("limits") or item.get("requests") for item in resources):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= item.get("limits", {}).keys() and item["limits"] == item.get("requests")
        for item in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"
