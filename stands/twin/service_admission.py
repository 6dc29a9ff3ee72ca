"""Defaults and rules of Services: the application's own, and others that clients make beside them.

In: a body of the right shape, and what it was before. Out: the body with defaults (a ClusterIP among them), or an `ApiError`.

A Service that a client makes selects pods as any does, and is what an HTTPRoute can send a share of the traffic to; nobody calls it by
its own name, as the application's programs don't know it. The application's own Services are its topology: their labels and
annotations may change, and the ports that they lead to (a mistake that people make); they themselves stay. What the simulated network
doesn't have (other types, session affinity) is refused with that reason, as an admission policy would.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Container, Iterator

from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.stands.twin.api_errors import forbidden, invalid_fields
from otel_control_gym.stands.twin.field_errors import FieldError, duplicate, invalid_value, required, unsupported
from otel_control_gym.stands.twin.manifests import cluster_ip
from otel_control_gym.stands.twin.objects import SERVICE, Object

__all__ = ("admit_service", "admit_service_deletion", "admit_service_update")

_HEADLESS = "None"
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_PORT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_ADDRESS = re.compile(r"10\.(9[6-9]|10\d|111)\.(\d{1,3})\.(\d{1,3})")  # 10.96.0.0/12
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_DEFAULTS: Object = {
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
    "internalTrafficPolicy": "Cluster",
    "sessionAffinity": "None",
    "type": "ClusterIP",
}


def admit_service(services: ServiceConfiguration, item: Object, taken: Container[str]) -> Object:
    """Return a new Service with defaults and a ClusterIP, checked.

    Args:
        services: the application.
        item: the body.
        taken: addresses of the Services that are there.

    Raises: ApiError: fields break rules, or ask for what the network doesn't have.
    """
    item = copy.deepcopy(item)
    name = item["metadata"]["name"]
    spec = _defaulted(item)
    problems = [*_name(name), *_spec(spec)]
    asked = spec.get("clusterIP", "")
    if asked and asked != _HEADLESS:
        problems += _asked_address(asked, taken)
    if problems:
        raise invalid_fields(SERVICE, name, problems)
    if not asked:
        first = len(services.services)
        asked = next(address for index in range(first, first + 60_000) if (address := cluster_ip(index)) not in taken)
    spec |= {"clusterIP": asked, "clusterIPs": [asked]}
    item["status"] = {"loadBalancer": {}}
    return item


def admit_service_update(services: ServiceConfiguration, before: Object, item: Object) -> Object:
    """Return a changed Service with defaults, checked.

    Raises: ApiError: fields break rules, or it is one of the application's own and more than its metadata changed.
    """
    name = before["metadata"]["name"]
    item = copy.deepcopy(item)
    spec = _defaulted(item)
    for key in (
        "clusterIP",
        "clusterIPs",
    ):  # as the real server does for who replaces a Service without naming its address
        spec.setdefault(key, before["spec"][key])
    problems = _spec(spec)
    if spec["clusterIP"] != before["spec"]["clusterIP"] or spec["clusterIPs"] != before["spec"]["clusterIPs"]:
        problems.append(invalid_value("spec.clusterIPs[0]", spec["clusterIPs"], "field is immutable"))
    if problems:
        raise invalid_fields(SERVICE, name, problems)
    if name in services.services and _lasting(spec) != _lasting(before["spec"]):
        why = "the application's Services are its topology; their labels, annotations and target ports may change"
        raise _policy(name, why)
    return item


def _lasting(spec: Object) -> Object:
    """Return what may not change of one of the application's Services."""
    ports = [{key: value for key, value in port.items() if key != "targetPort"} for port in spec["ports"]]
    return {**spec, "ports": ports}


def admit_service_deletion(services: ServiceConfiguration, item: Object) -> None:
    """Refuse to delete a Service of the application.

    Raises: ApiError: it is one.
    """
    name = item["metadata"]["name"]
    if name in services.services:
        raise _policy(name, "the application's Services are its topology and stay")


def _defaulted(item: Object) -> Object:
    """Fill in what isn't given; refuse what the network doesn't have."""
    name, spec = item["metadata"]["name"], item.setdefault("spec", {})
    for key, value in _DEFAULTS.items():
        spec.setdefault(key, copy.copy(value))
    for port in spec.setdefault("ports", []):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, "", 0):
            port["targetPort"] = port.get("port", 0)
    if spec["type"] in _TYPES and spec["type"] != "ClusterIP":
        raise _policy(name, f"the twin's network has Services of type ClusterIP alone, not {spec['type']}")
    if spec["sessionAffinity"] == "ClientIP":
        raise _policy(name, "the twin's network knows no session affinity")
    found: Object = spec
    return found


def _name(name: str) -> Iterator[FieldError]:
    if len(name) > 63:
        yield FieldError("metadata.name", "Too long: may not be more than 63 bytes", "FieldValueTooLong")
    if _LABEL.fullmatch(name) is None:
        rule = (
            "a lowercase RFC 1035 label must consist of lower case alphanumeric characters or '-', start with an "
            "alphabetic character, and end with an alphanumeric character"
        )
        yield invalid_value("metadata.name", name, rule)


def _spec(spec: Object) -> list[FieldError]:
    problems: list[FieldError] = []
    if spec["type"] not in _TYPES:
        problems.append(unsupported("spec.type", spec["type"], _TYPES))
    if spec["sessionAffinity"] not in ("ClientIP", "None"):
        problems.append(unsupported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None")))
    ports = spec["ports"]
    if not ports and spec.get("clusterIP") != _HEADLESS:
        problems.append(required("spec.ports"))
    names: dict[str, None] = {}
    numbers: dict[tuple[int, str], None] = {}
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        problems += _port(port, field, named=len(ports) > 1)
        name, number = port.get("name", ""), (port.get("port", 0), port["protocol"])
        if name and name in names:
            problems.append(duplicate(f"{field}.name", name))
        if number in numbers:
            problems.append(duplicate(field, {"port": number[0], "protocol": number[1]}))
        names[name], numbers[number] = None, None
    return problems


def _port(port: Object, field: str, *, named: bool) -> Iterator[FieldError]:
    name = port.get("name", "")
    if named and not name:
        yield required(f"{field}.name")
    if name and (len(name) > 63 or _PORT_NAME.fullmatch(name) is None):
        rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
        yield invalid_value(f"{field}.name", name, rule)
    if not 1 <= port.get("port", 0) <= 65535:
        yield invalid_value(f"{field}.port", port.get("port", 0), "must be between 1 and 65535, inclusive")
    if port["protocol"] not in _PROTOCOLS:
        yield unsupported(f"{field}.protocol", port["protocol"], _PROTOCOLS)
    target = port["targetPort"]
    if isinstance(target, bool) or not isinstance(target, int | str):
        yield invalid_value(f"{field}.targetPort", target, "must be a number or a name")
    elif isinstance(target, int) and not 1 <= target <= 65535:
        yield invalid_value(f"{field}.targetPort", target, "must be between 1 and 65535, inclusive")


def _asked_address(asked: str, taken: Container[str]) -> Iterator[FieldError]:
    match = _ADDRESS.fullmatch(asked)
    if match is None or any(int(part) > 255 for part in match.groups()):
        yield invalid_value(
            "spec.clusterIPs", [asked], "failed to allocate IP: the provided IP is not in the valid range 10.96.0.0/12"
        )
    elif asked in taken:
        detail = f"failed to allocate IP {asked}: provided IP is already allocated"
        yield invalid_value("spec.clusterIPs", [asked], detail)


def _policy(name: str, why: str) -> Exception:
    return forbidden(SERVICE, name, f'{SERVICE.resource} "{name}" is forbidden: {why}')
