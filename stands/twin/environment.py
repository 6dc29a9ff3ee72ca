"""Environment variables: what the chart gives a service's container, and what a process makes of what it finds.

In: the application, a pod's spec, ConfigMaps, Services. Out: the chart's variables; for a container that is about to start an
`Environment`: whether it can be created, exits at once, whom it can't reach, where it listens.

The rules are the demo's programs': an address of a dependency that is missing is a panic at start, except where they do without (flags
keep their defaults without flagd; checkout doesn't publish without Kafka; accounting doesn't write without a database). An address
that leads nowhere, to another service or to a port that nobody listens on is noticed when it is used; only the Go service with a database
opens it at start and exits if it isn't there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from otel_control_gym.engine.settings import Service, ServiceConfiguration
from otel_control_gym.stands.twin.dns import service_of_host
from otel_control_gym.stands.twin.objects import CONFIG_MAP, SECRET, Kind, Object
from otel_control_gym.stands.twin.store import ObjectStore

__all__ = ("Environment", "declare", "dependencies", "port_variable", "read")

_SPECIAL_ADDRESSES = {"postgresql": "DB_CONNECTION_STRING", "valkey-cart": "VALKEY_ADDR"}
_PORT_VARIABLES = {"frontend": "PORT", "frontend-proxy": "ENVOY_PORT"}
_SCHEMES = {"http": "http://", "sql": "postgres://"}
_DEFAULT_PORTS = {"http": 80, "sql": 5432, "resp": 6379, "kafka": 9092}
_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_URL = re.compile(r"(?:[a-z]+://)?(?:[^@/]*@)?([A-Za-z0-9.-]+)(?::(\d+))?(?:[/?].*)?")
_PAIR = re.compile(r"(?i)\b(host|server|port)\s*=\s*([^;\s]+)")
_PANIC = 2  #: exit code of a Go program
_OWN_LIMITS = {
    "go": ("GOMEMLIMIT", "16MiB"),
    "java": ("JDK_JAVA_OPTIONS", "-Xmx180m"),
}  #: by which processes limit themselves


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What a container's environment makes of its process."""

    problem: str = ""  #: why the container can't be created, in the kubelet's words
    exit_code: int | None = None  #: the process ends at once
    unreachable: tuple[str, ...] = ()  #: services whose address is wrong
    port: int  #: where the process listens


class _Dependency(msgspec.Struct, frozen=True, kw_only=True):
    service: str
    protocol: str
    mandatory: bool
    at_start: bool  #: it is connected to before anything is served


def dependencies(application: ServiceConfiguration, name: str) -> tuple[str, ...]:
    """Return the services whose addresses a service's container is given, in the configuration's order."""
    return tuple(item.service for item in _dependencies(application, name))


def port_variable(name: str, settings: Service) -> str:
    """Return the variable that tells a service where to listen; empty: it isn't asked."""
    if settings.kind == "dependency" or not settings.listens:
        return ""
    return _PORT_VARIABLES.get(name, f"{_shout(name)}_PORT")


def declare(application: ServiceConfiguration, name: str) -> Iterator[Object]:
    """Yield a container's `env`, as the chart has it."""
    yield {
        "name": "OTEL_SERVICE_NAME",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['app.kubernetes.io/component']"}},
    }
    yield {"name": "OTEL_COLLECTOR_NAME", "value": "otel-collector"}
    yield {"name": "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "value": "cumulative"}
    yield {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://$(OTEL_COLLECTOR_NAME):4317"}
    settings = application.services[name]
    if settings.runtime in _OWN_LIMITS and settings.kind == "service":
        variable, value = _OWN_LIMITS[settings.runtime]
        yield {"name": variable, "value": value}
    if variable := port_variable(name, settings):
        yield {"name": variable, "value": str(settings.port)}
    for item in _dependencies(application, name):
        port = application.services[item.service].port
        if item.service == "flagd":
            yield {"name": "FLAGD_HOST", "value": "flagd"}
            yield {"name": "FLAGD_PORT", "value": str(port)}
        else:
            yield {"name": _variable(item), "value": f"{_SCHEMES.get(item.protocol, '')}{item.service}:{port}"}


def read(store: ObjectStore, application: ServiceConfiguration, name: str, pod: Object) -> Environment:
    """Return what the process of a service finds in the environment of a pod's container at this moment."""
    settings, namespace = application.services[name], pod["metadata"]["namespace"]
    try:
        values = _values(store, namespace, pod["spec"]["containers"][0])
    except _Unresolved as error:
        return Environment(problem=str(error), port=settings.port)
    own = values.get(port_variable(name, settings), "")
    port = int(own) if own.isdecimal() else settings.port
    unreachable = []
    for item in _dependencies(application, name):
        address = _address(item, values)
        if address is None and item.mandatory:
            return Environment(exit_code=_PANIC if settings.runtime == "go" else 1, port=port)
        found = None if address is None else service_of_host(store, namespace, address[0])
        port_of = application.services[item.service].port
        wrong = address is None or found is None or found["metadata"]["name"] != item.service or address[1] != port_of
        if wrong and item.at_start:
            return Environment(exit_code=1, port=port)
        if wrong:
            unreachable.append(item.service)
    return Environment(unreachable=tuple(unreachable), port=port)


class _Unresolved(Exception):
    """Raised when a variable's source isn't there; its text is the kubelet's."""


def _dependencies(application: ServiceConfiguration, name: str) -> Iterator[_Dependency]:
    settings = application.services[name]
    for edge in application.edges:
        if edge.source == name:
            spared = (
                edge.target == "flagd" or edge.protocol == "kafka" or (edge.protocol == "sql" and not settings.listens)
            )
            yield _Dependency(
                service=edge.target,
                protocol=edge.protocol,
                mandatory=not spared,
                at_start=edge.protocol == "sql" and settings.runtime == "go",
            )
    called = {edge.target for edge in application.edges if edge.source == name}
    brokers = {
        topic.broker: None
        for topic in application.topics.values()
        if any(consumer.service == name for consumer in topic.consumers)
    }
    for broker in brokers:
        if broker not in called:
            yield _Dependency(service=broker, protocol="kafka", mandatory=True, at_start=False)


def _variable(item: _Dependency) -> str:
    return _SPECIAL_ADDRESSES.get(item.service, f"{_shout(item.service)}_ADDR")


def _shout(name: str) -> str:
    return name.upper().replace("-", "_")


def _address(item: _Dependency, values: Mapping[str, str]) -> tuple[str, int] | None:
    """Return host and port of a dependency as the variables name them; None: they are missing or empty."""
    if item.service == "flagd":
        host, port = values.get("FLAGD_HOST", ""), values.get("FLAGD_PORT", "")
        return (host, int(port) if port.isdecimal() else 0) if host else None
    text = values.get(_variable(item), "")
    if not text:
        return None
    default = _DEFAULT_PORTS.get(item.protocol, 0)
    pairs = {key.lower(): value for key, value in _PAIR.findall(text)}
    named = pairs.get("host") or pairs.get("server")
    if named:
        return named, int(pairs["port"]) if pairs.get("port", "").isdecimal() else default
    match = _URL.fullmatch(text)
    return ("", 0) if match is None else (match[1], int(match[2]) if match[2] else default)


def _values(store: ObjectStore, namespace: str, container: Object) -> dict[str, str]:
    """Return the variables of a container, later ones over earlier ones, references in earlier ones filled in."""
    values: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for kind, key in ((CONFIG_MAP, "configMapRef"), (SECRET, "secretRef")):
            if source.get(key):
                for name, value in (_data(store, kind, namespace, source[key]) or {}).items():
                    values[f"{source.get('prefix', '')}{name}"] = value
    for item in container.get("env") or ():
        if "valueFrom" not in item:
            text = item.get("value", "")
            values[item["name"]] = _REFERENCE.sub(lambda match: values.get(match[1], match[0]), text)
            continue
        for kind, key in ((CONFIG_MAP, "configMapKeyRef"), (SECRET, "secretKeyRef")):
            reference = item["valueFrom"].get(key)
            if reference:
                found = _keyed(store, kind, namespace, reference)
                if found is not None:
                    values[item["name"]] = found
    return values


def _keyed(store: ObjectStore, kind: Kind, namespace: str, reference: Object) -> str | None:
    data = _data(store, kind, namespace, reference)
    key = reference.get("key", "")
    if data is None or (key not in data and reference.get("optional")):
        return None
    if key not in data:
        raise _Unresolved(f"couldn't find key {key} in {kind.kind} {namespace}/{reference.get('name', '')}")
    return str(data[key])


def _data(store: ObjectStore, kind: Kind, namespace: str, reference: Object) -> dict[str, str] | None:
    """Return what a ConfigMap or Secret holds; None: it isn't there and needn't be."""
    name = reference.get("name", "")
    item = store.get(kind, namespace, name)
    if item is None and not reference.get("optional"):
        raise _Unresolved(f'{kind.kind.lower()} "{name}" not found')
    return None if item is None else item.get("data") or {}
