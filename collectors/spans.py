"""OTLP spans and log records ➜ rows, and what of them a policy mustn't see.

In: decoded export requests and the application's configuration. Out: `Span` and `LogRow` rows in two lots, public and truth. Pure.

- **Peers.** Spans name the other end in many ways, and some wrongly: Go's gRPC client writes the resolved IP into `server.address`.
  So the RPC service decides first, then a host name, never an address.
- **Flags leak.** The demo's SDKs write evaluated feature flags into spans and logs, and a flag *is* the fault. Such attributes, the
  telemetry of flagd itself and log lines that speak of a flag go to the truth stream; the rest of the span stays public.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from otel_control_gym.engine.events import LogRow, Span
from otel_control_gym.engine.settings import ServiceConfiguration

__all__ = ("Directory", "log_rows", "span_rows")

SAMPLING = "sampling.probability"  #: span attribute of our overlay
_FLAG = "feature_flag"
_FLAG_SERVICES = ("flagd", "flagd-ui")
_FLAG_WORDS = ("feature flag", "feature_flag", "featureflag")
_Kind: TypeAlias = Literal["server", "client", "internal", "producer", "consumer"]
_KINDS: tuple[_Kind, ...] = (
    "internal", "internal", "server", "client", "producer", "consumer",
)  # fmt: skip
_STATUSES: tuple[Literal["unset", "ok", "error"], ...] = ("unset", "ok", "error")
_SEVERITIES = ("UNSPECIFIED", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_HOSTS = ("server.address", "net.peer.name", "peer.service", "http.host")
_DATABASES = {"postgresql": "sql", "mysql": "sql", "redis": "resp", "valkey": "resp"}


class Directory:
    """Who is who in the application: RPC services and host names ➜ services."""

    def __init__(self, services: ServiceConfiguration | None) -> None:
        known = services.services if services is not None else {}
        self._protocols = {name: service.protocol for name, service in known.items()}
        self._by_rpc = {service.grpc_service: name for name, service in known.items() if service.grpc_service}

    def peer(self, attributes: Mapping[str, str]) -> str:
        """Return the other end of a client's span, or an empty text."""
        by_rpc = self._by_rpc.get(attributes.get("rpc.service", ""))
        if by_rpc is not None:
            return by_rpc
        for name in _HOSTS:
            host = attributes.get(name, "").partition(":")[0]
            if host and not _is_address(host):
                return host.partition(".")[0]
        return ""

    def protocol(self, attributes: Mapping[str, str], peer: str) -> str:
        """Return http, grpc, sql, resp, kafka (or another messaging system's name), or an empty text."""
        database = attributes.get("db.system.name") or attributes.get("db.system")
        if database:
            return _DATABASES.get(database, database)
        if "rpc.system" in attributes or "rpc.service" in attributes:
            return "grpc"
        if "messaging.system" in attributes:
            return attributes["messaging.system"]
        if any(name.startswith("http.") for name in attributes):
            return "http"
        return self._protocols.get(peer, "")


def _is_address(host: str) -> bool:
    if not (host[0].isdigit() or ":" in host):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    """Return an AnyValue as text."""
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    if kind == "string_value":
        return str(value.string_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "array_value":
        return "[" + ",".join(_text(item) for item in value.array_value.values) + "]"
    if kind == "kvlist_value":
        return "{" + ",".join(f"{item.key}={_text(item.value)}" for item in value.kvlist_value.values) + "}"
    if kind == "bytes_value":
        return bytes(value.bytes_value).hex()
    return str(getattr(value, kind))


def _attributes(items: Iterable[Any]) -> dict[str, str]:
    return {item.key: _text(item.value) for item in sorted(items, key=lambda item: str(item.key))}


def span_rows(resource_spans: Any, directory: Directory) -> tuple[list[Span], list[Span]]:
    """Return the public rows of one ResourceSpans, and the rows of the truth stream."""
    resource = _attributes(resource_spans.resource.attributes)
    service, pod = resource.get("service.name", ""), resource.get("k8s.pod.name", "")
    public: list[Span] = []
    truth: list[Span] = []
    for scope in resource_spans.scope_spans:
        for span in scope.spans:
            row, flags = _span_row(span, service, pod, directory)
            if service in _FLAG_SERVICES:
                truth.append(msgspec.structs.replace(row, attributes=row.attributes | flags))
                continue
            public.append(row)
            if flags:
                truth.append(msgspec.structs.replace(row, attributes=flags))
    return public, truth


def _span_row(span: Any, service: str, pod: str, directory: Directory) -> tuple[Span, dict[str, str]]:
    everything = _attributes(span.attributes)
    flags = {name: value for name, value in everything.items() if name.startswith(_FLAG)}
    for event in span.events:
        flags |= {name: value for name, value in _attributes(event.attributes).items() if name.startswith(_FLAG)}
    kept = {name: value for name, value in everything.items() if name != SAMPLING and not name.startswith(_FLAG)}
    if pod:
        kept["k8s.pod.name"] = pod
    if span.status.message:
        kept["otel.status_description"] = span.status.message
    kind: _Kind = _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else "internal"
    peer = directory.peer(kept) if kind in ("client", "producer") else ""
    row = Span(
        time=span.end_time_unix_nano,
        duration_ns=span.end_time_unix_nano - span.start_time_unix_nano,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        service=service,
        peer=peer,
        operation=span.name,
        kind=kind,
        protocol=directory.protocol(kept, peer or service),
        status=_STATUSES[span.status.code] if 0 <= span.status.code < len(_STATUSES) else "unset",
        attributes=kept,
        sampling_probability=float(everything.get(SAMPLING, "1")),
    )
    return row, flags


def log_rows(resource_logs: Any) -> tuple[list[LogRow], list[LogRow]]:
    """Return the public rows of one ResourceLogs, and the rows of the truth stream."""
    resource = _attributes(resource_logs.resource.attributes)
    service = resource.get("service.name", "")
    public: list[LogRow] = []
    truth: list[LogRow] = []
    for scope in resource_logs.scope_logs:
        for record in scope.log_records:
            attributes = _attributes(record.attributes)
            if "k8s.pod.name" in resource:
                attributes["k8s.pod.name"] = resource["k8s.pod.name"]
            row = LogRow(
                time=record.time_unix_nano or record.observed_time_unix_nano,
                service=service,
                severity=record.severity_text or _SEVERITIES[(min(record.severity_number, 24) + 3) // 4],
                body=_text(record.body),
                trace_id=record.trace_id.hex(),
                span_id=record.span_id.hex(),
                attributes=attributes,
            )
            (truth if _speaks_of_flags(row) else public).append(row)
    return public, truth


def _speaks_of_flags(row: LogRow) -> bool:
    body = row.body.lower()
    return (
        row.service in _FLAG_SERVICES
        or any(name.startswith(_FLAG) for name in row.attributes)
        or any(word in body for word in _FLAG_WORDS)
    )
