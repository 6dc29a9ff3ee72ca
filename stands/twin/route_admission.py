"""Defaults and rules of HTTPRoutes (Gateway API, v1): the CRD's schema, and what the twin's network can follow.

In: a body of the right shape, and what it was before. Out: the body with defaults, or an `ApiError` (422 as the CRD's schema, 403 where
only the twin says no).

The twin splits the traffic of a Service between two backends by weight (GAMMA: the route's parent is the Service itself). Everything
else that a route can say (hostnames, matches, filters, time-outs, Gateways as parents, more than one rule or than two backends) would
be accepted without effect, so it is refused. Whether the backends exist is for the route's status to say, not for admission.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from otel_control_gym.stands.twin.api_errors import forbidden, invalid_fields
from otel_control_gym.stands.twin.field_errors import FieldError, invalid_value, required, unsupported
from otel_control_gym.stands.twin.objects import HTTP_ROUTE, Object

__all__ = ("admit_route", "admit_route_update")

_MAX_WEIGHT = 1_000_000
_MAX_ENTRIES = 16
_PATH_TYPES = ("Exact", "PathPrefix", "RegularExpression")
_GATEWAY: Object = {"group": HTTP_ROUTE.group, "kind": "Gateway"}
_SERVICE: Object = {"group": "", "kind": "Service"}


def admit_route(body: Object) -> Object:
    """Return a route with defaults, checked.

    Raises: ApiError: fields break the schema, or ask for what the network doesn't have.
    """
    item = copy.deepcopy(body)
    name = item["metadata"]["name"]
    if "spec" not in item:
        raise invalid_fields(HTTP_ROUTE, name, [required("spec")])
    spec = item["spec"]
    _default(spec)
    problems = [*_parents(spec), *_rules(spec)]
    if problems:
        raise invalid_fields(HTTP_ROUTE, name, problems)
    for what in _unmodelled(spec):
        why = f"the twin's network doesn't know {what}"
        raise forbidden(HTTP_ROUTE, name, f'{HTTP_ROUTE.resource} "{name}" is forbidden: {why}')
    return item


def admit_route_update(before: Object, body: Object) -> Object:
    """Return a changed route with defaults, checked, its generation raised if its spec changed.

    Raises: ApiError: as `admit_route`.
    """
    item = admit_route(body)
    if item["spec"] != before["spec"]:
        item["metadata"]["generation"] = before["metadata"]["generation"] + 1
    return item


def _default(spec: Object) -> None:
    for parent in spec.get("parentRefs", ()):
        parent.update(_GATEWAY | parent)
    everything: Object = {"path": {"type": "PathPrefix", "value": "/"}}
    for rule in spec.setdefault("rules", [{}]):
        for match in rule.setdefault("matches", [copy.deepcopy(everything)]):
            match["path"] = everything["path"] | match.get("path", {})
        for backend in rule.get("backendRefs", ()):
            backend.update(_SERVICE | {"weight": 1} | backend)


def _parents(spec: Object) -> Iterator[FieldError]:
    yield from _bounded(spec.get("parentRefs", []), "spec.parentRefs", 32)
    for index, parent in enumerate(spec.get("parentRefs", ())):
        if not parent.get("name"):
            yield required(f"spec.parentRefs[{index}].name")
        yield from _port(parent, f"spec.parentRefs[{index}]")


def _rules(spec: Object) -> Iterator[FieldError]:
    yield from _bounded(spec["rules"], "spec.rules", _MAX_ENTRIES)
    for index, rule in enumerate(spec["rules"]):
        field = f"spec.rules[{index}]"
        backends = rule.get("backendRefs", [])
        yield from _bounded(backends, f"{field}.backendRefs", _MAX_ENTRIES)
        for number, match in enumerate(rule["matches"]):
            yield from _path(match["path"], f"{field}.matches[{number}].path")
        for number, backend in enumerate(backends):
            yield from _backend(backend, f"{field}.backendRefs[{number}]")


def _path(path: Object, field: str) -> Iterator[FieldError]:
    if path["type"] not in _PATH_TYPES:
        yield unsupported(f"{field}.type", path["type"], _PATH_TYPES)
    elif path["type"] != "RegularExpression" and not path["value"].startswith("/"):
        yield invalid_value(
            field,
            "object",
            "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']",
        )


def _backend(backend: Object, field: str) -> Iterator[FieldError]:
    if not backend.get("name"):
        yield required(f"{field}.name")
    weight = backend["weight"]
    if weight < 0:
        yield invalid_value(f"{field}.weight", weight, f"{field}.weight in body should be greater than or equal to 0")
    if weight > _MAX_WEIGHT:
        detail = f"{field}.weight in body should be less than or equal to {_MAX_WEIGHT}"
        yield invalid_value(f"{field}.weight", weight, detail)
    yield from _port(backend, field)
    if (backend["group"], backend["kind"]) == ("", "Service") and "port" not in backend:
        yield invalid_value(field, "object", "Must have port for Service reference")


def _port(reference: Object, field: str) -> Iterator[FieldError]:
    port = reference.get("port", 1)
    if port < 1:
        yield invalid_value(f"{field}.port", port, f"{field}.port in body should be greater than or equal to 1")
    if port > 65535:
        yield invalid_value(f"{field}.port", port, f"{field}.port in body should be less than or equal to 65535")


def _bounded(entries: list[object], field: str, most: int) -> Iterator[FieldError]:
    if len(entries) > most:
        problem = f"Too many: {len(entries)}: must have at most {most} items"
        yield FieldError(field, problem, "FieldValueTooMany")


def _unmodelled(spec: Object) -> Iterator[str]:
    """Yield what a valid route asks for and the twin can't follow."""
    parents = spec.get("parentRefs", [])
    if len(parents) != 1 or (parents[0]["group"], parents[0]["kind"]) != ("", "Service"):
        yield 'Gateways: spec.parentRefs names one Service (group "", kind Service), whose traffic the route splits'
    for key in ("hostnames", "useDefaultGateways"):
        if spec.get(key):
            yield f"spec.{key}"
    if len(spec["rules"]) != 1:
        yield "routes with other than one rule"
    for rule in spec["rules"]:
        for key in ("filters", "timeouts", "retry", "sessionPersistence"):
            if rule.get(key):
                yield f"spec.rules[].{key}"
        if rule["matches"] != [{"path": {"type": "PathPrefix", "value": "/"}}]:
            yield "spec.rules[].matches other than every path"
        backends = rule.get("backendRefs", [])
        if not 1 <= len(backends) <= 2:
            yield "routes to other than one or two backends"
        if not sum(backend["weight"] for backend in backends):
            yield "routes whose weights are all 0"
        for backend in backends:
            if (backend["group"], backend["kind"]) != ("", "Service"):
                yield "backends other than Services"
            if backend.get("filters"):
                yield "spec.rules[].backendRefs[].filters"
