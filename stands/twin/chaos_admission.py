"""Chaos Mesh's webhooks: defaults and rules that all chaos kinds share, and the way to those of each.

In: bodies as a client sends them. Out: bodies with defaults, or an `ApiError` (422 as the CRD's schema, 403 as the webhook).

Accepted is what the simulated machines can do; what Chaos Mesh knows and they don't is denied with that reason, and never accepted
without effect. The rules of a kind are in `chaos_admission_stress` and `chaos_admission_network`.
"""

from __future__ import annotations

import copy

from otel_control_gym.stands.twin.api_errors import forbidden
from otel_control_gym.stands.twin.chaos_admission_network import admit_network
from otel_control_gym.stands.twin.chaos_admission_stress import admit_stress
from otel_control_gym.stands.twin.chaos_quantities import go_duration
from otel_control_gym.stands.twin.chaos_refusals import (
    check_fields,
    check_integer,
    check_type,
    denied,
    required,
    unsupported,
    webhook,
)
from otel_control_gym.stands.twin.objects import NETWORK_CHAOS, POD_CHAOS, STRESS_CHAOS, Kind, Object

__all__ = ("admit_chaos", "admit_chaos_update")

_COMMON = {"selector", "mode", "value", "duration", "containerNames"}
_FIELDS = {
    STRESS_CHAOS: _COMMON | {"stressors", "stressngStressors"},
    POD_CHAOS: _COMMON | {"action", "gracePeriod"},
    NETWORK_CHAOS: (_COMMON - {"containerNames"})
    | {"action", "direction", "target", "externalTargets", "device", "targetDevice", "delay", "loss", "duplicate"}
    | {"corrupt", "rate", "bandwidth"},
}
_MODES = ("one", "all", "fixed", "fixed-percent", "random-max-percent")
_POD_ACTIONS = ("pod-kill", "pod-failure", "container-kill")
_MAX_GRACE = 2**63 - 1
_SELECTORS: dict[str, type] = {
    "namespaces": list,
    "labelSelectors": dict,
    "annotationSelectors": dict,
    "fieldSelectors": dict,
    "expressionSelectors": list,
    "podPhaseSelectors": list,
    "nodes": list,
    "nodeSelectors": dict,
    "pods": dict,
}
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def admit_chaos(kind: Kind, body: Object) -> Object:
    """Return a new chaos object with defaults, checked.

    Raises: ApiError: the schema or the webhook refuses it.
    """
    item = copy.deepcopy(body)
    item.pop("status", None)
    name, spec = item["metadata"]["name"], item.get("spec")
    if not isinstance(spec, dict):
        raise required(kind, name, "spec")
    check_fields("spec", spec, _FIELDS[kind])
    namespace = item["metadata"]["namespace"]
    _admit_selection(kind, name, "spec", spec, namespace)
    _check_names(kind, name, "spec.containerNames", spec.get("containerNames") or [])
    duration = spec.get("duration")
    if duration is not None and duration != "" and go_duration(duration) is None:
        raise denied(kind, name, "Spec.Duration", duration, "parse duration error")
    if kind is STRESS_CHAOS:
        admit_stress(name, spec)
    elif kind is POD_CHAOS:
        _admit_kill(name, spec)
    else:
        admit_network(name, spec, lambda where, block: _admit_selection(kind, name, where, block, namespace))
    return item


def admit_chaos_update(kind: Kind, before: Object, body: Object) -> Object:
    """Return a changed chaos object: metadata may change, the spec may not.

    Status is the controller's: a client could wipe it, having no sub-resource to keep it apart; here it keeps what it was.

    Raises: ApiError: the spec differs.
    """
    if body.get("spec") != before["spec"]:
        raise forbidden(kind, before["metadata"]["name"], webhook("Cannot update chaos spec"))
    body.pop("status", None)
    return body | ({"status": before["status"]} if "status" in before else {})


def _admit_kill(name: str, spec: Object) -> None:
    action = spec.get("action")
    if action not in _POD_ACTIONS:
        raise unsupported(POD_CHAOS, name, "spec.action", action, _POD_ACTIONS)
    check_integer(POD_CHAOS, name, "spec.gracePeriod", spec.setdefault("gracePeriod", 0), 0, _MAX_GRACE)
    if action == "container-kill" and not spec.get("containerNames"):
        problem = f"the name of container should not be empty on {action} action"
        raise denied(POD_CHAOS, name, "Spec.ContainerNames", "", problem)


def _admit_selection(kind: Kind, name: str, where: str, spec: Object, namespace: str) -> None:
    """Check a selector with its mode and value; an empty list of namespaces becomes the object's own."""
    selector = spec.get("selector")
    if not isinstance(selector, dict):
        raise required(kind, name, f"{where}.selector")
    _check_selector(kind, name, f"{where}.selector", selector)
    if not selector.get("namespaces"):
        selector["namespaces"] = [namespace]
    mode = spec.get("mode")
    if mode not in _MODES:
        raise unsupported(kind, name, f"{where}.mode", mode, _MODES)
    if mode in ("one", "all"):
        return
    value = str(spec.get("value", ""))
    if not (value.isascii() and value.isdigit()) or int(value) <= 0 or (mode != "fixed" and int(value) > 100):
        raise denied(kind, name, "Spec.Value", value, f"value must be a positive integer that mode:{mode} allows")


def _check_selector(kind: Kind, name: str, where: str, selector: Object) -> None:
    check_fields(where, selector, _SELECTORS)
    for field, value in selector.items():
        if value is not None:
            check_type(kind, name, f"{where}.{field}", value, _SELECTORS[field])
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            for key, entry in entries:
                wanted = list if field == "pods" else dict if field == "expressionSelectors" else str
                check_type(kind, name, f"{where}.{field}[{key}]", entry, wanted)
    for names in (selector.get("pods") or {}).values():
        _check_names(kind, name, f"{where}.pods", names)
    for index, expression in enumerate(selector.get("expressionSelectors") or ()):
        field = f"{where}.expressionSelectors[{index}]"
        check_type(kind, name, f"{field}.key", expression.get("key"), str)
        if expression.get("operator") not in _OPERATORS:
            raise unsupported(kind, name, f"{field}.operator", expression.get("operator"), _OPERATORS)
        _check_names(kind, name, f"{field}.values", expression.get("values") or [])


def _check_names(kind: Kind, name: str, where: str, names: object) -> None:
    check_type(kind, name, where, names, list)
    assert isinstance(names, list)
    for index, entry in enumerate(names):
        check_type(kind, name, f"{where}[{index}]", entry, str)
