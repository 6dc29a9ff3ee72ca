"""Label and field selectors: their text ➜ a predicate on objects.

In: the query parameters `labelSelector` and `fieldSelector`. Out: a function that says whether an object matches, or a `ValueError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from otel_control_gym.stands.twin.objects import EVENT, POD, SERVICE, Kind, Object

__all__ = ("Predicate", "field_predicate", "field_value", "label_predicate")

Predicate = Callable[[Object], bool]

_SET = re.compile(r"\s*([\w./-]+)\s+(in|notin)\s*\(([^()]*)\)\s*")
_COMPARISON = re.compile(r"\s*([\w./-]+)\s*(==|=|!=|>|<)\s*([\w.-]*)\s*")
_EXISTENCE = re.compile(r"\s*(!?)\s*([\w./-]+)\s*")
_PARTS = re.compile(r",(?![^(]*\))")
_COMMON_FIELDS = ("metadata.name", "metadata.namespace")
_FIELDS = {
    POD.resource: (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    EVENT.resource: (
        *(
            f"involvedObject.{key}"
            for key in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        ),
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    SERVICE.resource: ("spec.clusterIP", "spec.type"),
}


def label_predicate(text: str) -> Predicate | None:
    """Return the predicate of a label selector; None: everything matches.

    Raises: ValueError: the text is no label selector.
    """
    if not text.strip():
        return None
    parts = [_label_part(part) for part in _PARTS.split(text)]

    def matches(item: Object) -> bool:
        labels = item["metadata"].get("labels") or {}
        return all(part(labels) for part in parts)

    return matches


def field_predicate(kind: Kind, text: str) -> Predicate | None:
    """Return the predicate of a field selector; None: everything matches.

    Raises: ValueError: the text is no field selector, or the kind doesn't offer that field.
    """
    if not text.strip():
        return None
    wanted = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([\w.]+)\s*(==|=|!=)\s*(.*?)\s*", part)
        if match is None:
            raise ValueError(f"invalid field selector: {part}")
        path, operator, value = match.groups()
        if path not in _COMMON_FIELDS and path not in _FIELDS.get(kind.resource, ()):
            raise ValueError(f"field label not supported: {path}")
        wanted.append((path, operator != "!=", value))

    def matches(item: Object) -> bool:
        return all((field_value(item, path) == value) is equal for path, equal, value in wanted)

    return matches


def field_value(item: Object, path: str) -> str:
    """Return the field at a dotted path as text, empty if there is none."""
    if path == "source":
        path = "source.component"
    value: object = item
    for key in path.split("."):
        value = value.get(key, "") if isinstance(value, dict) else ""
    return str(value)


def _label_part(text: str) -> Callable[[Mapping[str, str]], bool]:
    match = _SET.fullmatch(text)
    if match is not None:
        key, operator, values = match[1], match[2], {value.strip() for value in match[3].split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    match = _COMPARISON.fullmatch(text)
    if match is not None:
        return _comparison(match[1], match[2], match[3])
    match = _EXISTENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"unable to parse requirement: {text}")
    key, absent = match[2], bool(match[1])
    return lambda labels: (key in labels) is not absent


def _comparison(key: str, operator: str, value: str) -> Callable[[Mapping[str, str]], bool]:
    if operator in ("=", "=="):
        return lambda labels: labels.get(key) == value
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    if re.fullmatch(r"-?\d{1,18}", value) is None:
        raise ValueError(f"for {operator}, the value must be an integer: {value}")
    bound = int(value)

    def compares(labels: Mapping[str, str]) -> bool:
        found = labels.get(key, "")
        if re.fullmatch(r"-?\d{1,18}", found) is None:
            return False
        return int(found) > bound if operator == ">" else int(found) < bound

    return compares
