"""Defaults and rules of HorizontalPodAutoscalers, as autoscaling/v2 of the real API server has them.

In: a body of the right shape (`schemas`). Out: the body with defaults, or an `ApiError` that names everything that is wrong with it.

Defaults of upstream: one pod at least, CPU at 80 % of the requests. A `behavior` that isn't given stays away; of one that is given both
directions are filled in. Pods, Object and External metrics are accepted, as by a cluster without an adapter for them: their
controller finds no values. Refused, as by an admission policy, is a size that no Deployment of the twin can have.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from otel_control_gym.stands.twin.admission import check_size
from otel_control_gym.stands.twin.api_errors import invalid_fields
from otel_control_gym.stands.twin.field_errors import (
    FieldError,
    forbidden_field,
    invalid_value,
    required,
    unsupported,
)
from otel_control_gym.stands.twin.objects import HORIZONTAL_POD_AUTOSCALER, Object
from otel_control_gym.stands.twin.quantities import canonical, parse

__all__ = ("MAX_STABILIZATION_SECONDS", "admit_autoscaler")

MAX_STABILIZATION_SECONDS = 3600
_MAX_PERIOD_SECONDS = 1800
_DEFAULT_METRIC: Object = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}
_UP_POLICIES = (
    {"type": "Pods", "value": 4, "periodSeconds": 15},
    {"type": "Percent", "value": 100, "periodSeconds": 15},
)
_DOWN_POLICIES = ({"type": "Percent", "value": 100, "periodSeconds": 15},)
_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}  #: metric type -> its field


def admit_autoscaler(body: Object) -> Object:
    """Return an autoscaler with defaults, checked.

    Raises: ApiError: fields break rules.
    """
    item = copy.deepcopy(body)
    item.setdefault("status", {"currentMetrics": None, "desiredReplicas": 0})
    spec = item.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        spec["metrics"] = [copy.deepcopy(_DEFAULT_METRIC)]
    if "behavior" in spec:
        _default_behavior(spec["behavior"])
    problems = [
        *_bounds(spec),
        *_target_reference(spec.get("scaleTargetRef", {}), "spec.scaleTargetRef"),
        *(problem for index, one in enumerate(spec["metrics"]) for problem in _metric(one, f"spec.metrics[{index}]")),
        *_behavior(spec.get("behavior", {})),
    ]
    if problems:
        raise invalid_fields(HORIZONTAL_POD_AUTOSCALER, item["metadata"]["name"], problems)
    check_size(HORIZONTAL_POD_AUTOSCALER, item["metadata"]["name"], "spec.maxReplicas", spec["maxReplicas"])
    return item


def _default_behavior(behavior: Object) -> None:
    up = behavior.setdefault("scaleUp", {})
    up.setdefault("stabilizationWindowSeconds", 0)
    for rules, policies in ((up, _UP_POLICIES), (behavior.setdefault("scaleDown", {}), _DOWN_POLICIES)):
        rules.setdefault("selectPolicy", "Max")
        rules.setdefault("policies", [dict(policy) for policy in policies])


def _bounds(spec: Object) -> Iterator[FieldError]:
    least, most = spec["minReplicas"], spec.get("maxReplicas", 0)
    if least < 1:
        yield invalid_value("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        yield invalid_value("spec.maxReplicas", most, "must be greater than 0")
    if most < least:
        yield invalid_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")


def _target_reference(reference: Object, field: str) -> Iterator[FieldError]:
    for key in ("kind", "name"):
        value = reference.get(key, "")
        if not value:
            yield required(f"{field}.{key}")
        elif value in (".", "..") or "/" in value or "%" in value:
            yield invalid_value(f"{field}.{key}", value, "may not contain '/' or '%', or be '.' or '..'")
    group, _, version = reference.get("apiVersion", "").rpartition("/")
    if field == "spec.scaleTargetRef" and not (group and version):
        yield invalid_value(f"{field}.apiVersion", reference.get("apiVersion", ""), "apiVersion must specify API group")


def _metric(metric: Object, field: str) -> Iterator[FieldError]:
    kind = metric.get("type", "")
    if not kind:
        yield required(f"{field}.type", "must specify a metric source type")
    elif kind not in _SOURCES:
        yield unsupported(f"{field}.type", kind, _SOURCES)
    expected = _SOURCES.get(kind, "")
    if expected and expected not in metric:
        yield required(f"{field}.{expected}", "must populate information for the given metric source")
    for source in _SOURCES.values():
        if source not in metric:
            continue
        if source != expected:
            yield forbidden_field(f"{field}.{source}", "must populate the given metric source only")
        else:
            yield from _source(source, metric[source], f"{field}.{source}")


def _source(source: str, value: Object, field: str) -> Iterator[FieldError]:
    if source in ("resource", "containerResource"):
        if not value.get("name"):
            yield required(f"{field}.name", "must specify a resource name")
        if source == "containerResource" and not value.get("container"):
            yield required(f"{field}.container", "must specify a container")
    else:
        if not value.get("metric", {}).get("name"):
            yield required(f"{field}.metric.name", "must specify a metric name")
        if source == "object":
            yield from _target_reference(value.get("describedObject", {}), f"{field}.describedObject")
    yield from _metric_target(source, value.setdefault("target", {}), f"{field}.target")


def _metric_target(source: str, target: Object, field: str) -> Iterator[FieldError]:
    kind = target.get("type", "")
    if not kind:
        yield required(f"{field}.type", "must specify a metric target type")
    elif kind not in ("Utilization", "Value", "AverageValue"):
        yield invalid_value(f"{field}.type", kind, "must be either Utilization, Value, or AverageValue")
    for key in ("value", "averageValue"):
        if key in target:
            yield from _quantity(target, key, field, positive=True)
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        yield invalid_value(f"{field}.averageUtilization", utilization, "must be greater than 0")
    average = "averageValue" in target
    if source in ("resource", "containerResource"):
        if utilization is None and not average:
            yield required(f"{field}.averageUtilization", "must set either a target raw value or a target utilization")
        if utilization is not None and average:
            yield forbidden_field(
                f"{field}.averageValue", "may not set both a target raw value and a target utilization"
            )
    elif source == "pods":
        if not average:
            yield required(f"{field}.averageValue", "must specify a positive target averageValue")
    elif average is ("value" in target):
        complaint = "may not set both" if average else "must set either"
        yield required(f"{field}.averageValue", f"{complaint} a target value for metric and a per-pod target")


def _quantity(values: Object, key: str, field: str, *, positive: bool) -> Iterator[FieldError]:
    """Write a quantity in its canonical form, or say what is wrong with it."""
    given = values[key]
    try:
        values[key] = canonical(given)
    except ValueError:
        yield invalid_value(f"{field}.{key}", given, "quantities must match a number with an optional suffix")
        return
    if parse(given) < 0 or (positive and parse(given) == 0):
        detail = "must be positive" if positive else "must be greater than or equal to 0"
        yield invalid_value(f"{field}.{key}", given, detail)


def _behavior(behavior: Object) -> Iterator[FieldError]:
    for direction in ("scaleUp", "scaleDown"):
        if direction in behavior:
            yield from _rules(behavior[direction], f"spec.behavior.{direction}")


def _rules(rules: Object, field: str) -> Iterator[FieldError]:
    window = rules.get("stabilizationWindowSeconds", 0)
    if window < 0:
        yield invalid_value(f"{field}.stabilizationWindowSeconds", window, "must be greater than or equal to zero")
    if window > MAX_STABILIZATION_SECONDS:
        detail = f"must be less than or equal to {MAX_STABILIZATION_SECONDS}"
        yield invalid_value(f"{field}.stabilizationWindowSeconds", window, detail)
    if rules["selectPolicy"] not in ("Disabled", "Max", "Min"):
        yield unsupported(f"{field}.selectPolicy", rules["selectPolicy"], ("Disabled", "Max", "Min"))
    if "tolerance" in rules:
        yield from _quantity(rules, "tolerance", field, positive=False)
    if not rules["policies"]:
        yield required(f"{field}.policies", "must specify at least one Policy")
    for index, policy in enumerate(rules["policies"]):
        yield from _policy(policy, f"{field}.policies[{index}]")


def _policy(policy: Object, field: str) -> Iterator[FieldError]:
    if policy.get("type", "") not in ("Percent", "Pods"):
        yield unsupported(f"{field}.type", policy.get("type", ""), ("Percent", "Pods"))
    if policy.get("value", 0) <= 0:
        yield invalid_value(f"{field}.value", policy.get("value", 0), "must be greater than zero")
    period = policy.get("periodSeconds", 0)
    if period <= 0:
        yield invalid_value(f"{field}.periodSeconds", period, "must be greater than zero")
    if period > _MAX_PERIOD_SECONDS:
        yield invalid_value(f"{field}.periodSeconds", period, f"must be less than or equal to {_MAX_PERIOD_SECONDS}")
