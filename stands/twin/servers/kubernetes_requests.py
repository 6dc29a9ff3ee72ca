"""What a request of a Kubernetes client says: path and query parameters, read as the real server reads them.

In: paths, queries. Out: a `Target`, selectors, flags, options, or an `ApiError` that the client is answered with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.objects import POD, SERVED, Kind, Object
from otel_control_gym.stands.twin.selectors import Predicate, field_predicate, label_predicate

__all__ = (
    "Target",
    "check_verb",
    "delete_options",
    "dry_run",
    "field_manager",
    "field_validation",
    "flag",
    "natural",
    "selector",
    "target",
)

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in SERVED}
_INSIDE = ("attach", "exec", "log", "portforward")  #: sub-resources of a pod that look into its containers
_MANAGER_BYTES = 128
_DIGITS = 18  #: of a number that fits 64 bits
_WRITE = "PatchOptions"
_VALIDATIONS = ("Ignore", "Warn", "Strict")


class Target(msgspec.Struct, frozen=True):
    """What a path names; an empty name: the collection, a namespace of None: of all namespaces."""

    kind: Kind
    namespace: str | None
    name: str
    subresource: str


def target(path: str) -> Target | None:
    """Return what a path of a resource names; None: it names no resource.

    Raises: ApiError: it names one that isn't served.
    """
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and (group, version, rest[2]) in _BY_PATH:
        namespace, rest = rest[1], rest[2:]
    kind = _BY_PATH.get((group, version, rest[0]))
    if kind is None or len(rest) > 3 or (kind.namespaced is False and namespace is not None):
        raise api_errors.no_such_path()
    name, subresource = ([*rest[1:], "", ""])[:2]
    if name and kind.namespaced and namespace is None:
        raise api_errors.no_such_path()
    offered = (*(("scale",) if kind.scale else ()), *(("status",) if kind.status else ()))
    if subresource in _INSIDE and kind is POD:
        raise api_errors.no_processes(subresource)
    if subresource and subresource not in offered:
        raise api_errors.no_such_path()
    return Target(kind, namespace, name, subresource)


def check_verb(found: Target, method: str) -> None:
    """Refuse a method that the resource doesn't know.

    Raises: ApiError: 405.
    """
    verb = _VERBS.get(method)
    of_collection = ("get", "create")
    of_object = ("get", "update", "patch") if found.subresource else ("get", "update", "patch", "delete")
    fits = verb in (of_object if found.name else of_collection)
    if (
        not fits
        or verb not in found.kind.verbs
        or (verb == "create" and found.kind.namespaced and found.namespace is None)
    ):
        raise api_errors.method_not_allowed()


def selector(kind: Kind, query: Mapping[str, str]) -> Predicate | None:
    """Return the predicate of the label and field selectors; None: everything matches.

    Raises: ApiError: one of them is malformed, or names a field that the kind doesn't offer.
    """
    try:
        labels = label_predicate(query.get("labelSelector", ""))
        fields = field_predicate(kind, query.get("fieldSelector", ""))
    except ValueError as error:
        raise api_errors.bad_request(str(error)) from error
    if labels is None or fields is None:
        return labels or fields
    return _both(labels, fields)


def flag(query: Mapping[str, str], name: str) -> bool:
    """Read a boolean as the real server does: "0" and any spelling of "false" are false, everything else that is given is true."""
    value = query.get(name)
    return value is not None and value.lower() not in ("0", "false")


def natural(query: Mapping[str, str], name: str) -> int | None:
    """Return a parameter that is a natural number, None if it isn't given.

    Raises: ApiError: it is none.
    """
    text = query.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise api_errors.bad_request(f'invalid {name} "{text}": must be a natural number')
    return int(text)


def field_validation(query: Mapping[str, str]) -> str:
    """Return what becomes of unknown fields: Ignore, Warn (the default) or Strict.

    Raises: ApiError: it is none of them.
    """
    asked = query.get("fieldValidation") or "Warn"
    if asked not in _VALIDATIONS:
        supported = ", ".join(f'"{name}"' for name in _VALIDATIONS)
        problem = f'Unsupported value: "{asked}": supported values: {supported}'
        raise api_errors.invalid_options("fieldValidation", problem, reason="FieldValueNotSupported")
    return asked


def dry_run(query: Mapping[str, str]) -> bool:
    """Return whether a write is to be answered and not stored.

    Raises: ApiError: the parameter is other than All.
    """
    asked = query.get("dryRun", "")
    if asked not in ("", "All"):
        problem = f'Unsupported value: "{asked}": supported values: "All"'
        raise api_errors.invalid_options("dryRun", problem, reason="FieldValueNotSupported", options=_WRITE)
    return asked == "All"


def field_manager(query: Mapping[str, str], user_agent: str, *, applies: bool) -> str:
    """Return who writes: the parameter, else the program in the User-Agent.

    Raises: ApiError: it is no name, or an apply doesn't say it.
    """
    asked = query.get("fieldManager", "")
    if applies and not asked:
        problem = "Required value: is required for apply patch"
        raise api_errors.invalid_options("fieldManager", problem, reason="FieldValueRequired", options=_WRITE)
    if len(asked.encode()) > _MANAGER_BYTES:
        problem = f"Too long: may not be more than {_MANAGER_BYTES} bytes"
        raise api_errors.invalid_options("fieldManager", problem, reason="FieldValueTooLong", options=_WRITE)
    if not asked.isprintable():
        problem = f"Invalid value: {asked!r}: should only contain printable characters"
        raise api_errors.invalid_options("fieldManager", problem, reason="FieldValueInvalid", options=_WRITE)
    return asked or user_agent.partition("/")[0][:_MANAGER_BYTES] or "unknown"


def delete_options(query: Mapping[str, str], given: Any) -> Object:
    """Return DeleteOptions from body and query; the query wins, as on the real server when the body is empty.

    Raises: ApiError: the body is no object.
    """
    if not isinstance(given, dict):
        raise api_errors.bad_request("the body is no DeleteOptions")
    options = dict(given)
    grace = natural(query, "gracePeriodSeconds")
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    return options


def _both(first: Predicate, second: Predicate) -> Callable[[Object], bool]:
    return lambda item: first(item) and second(item)
