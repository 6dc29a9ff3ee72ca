"""OTLP spans ➜ rows, and what of them a policy mustn't see.

In: a decoded ResourceSpans, which is used up, and the application's configuration. Out: `Span` rows in two lots, public and truth.

- **Peers.** Spans name the other end in many ways, and some wrongly: Go's gRPC client writes the resolved IP into `server.address`.
  So the RPC service decides first, then a host name, never an address.
- **Flags leak**: see `collectors.attributes`. Such attributes, statuses' texts among them, and flagd's own spans go to the truth stream,
  the rest stays public.
- **Sampling.** A share of the *traces* is kept, whichever spans of one arrive when and where, so that what is kept hangs together: a trace
  is kept if a hash of its id falls below the share. The hash has nothing to do with the digits by which samplers before us may have
  chosen, so the probabilities multiply; theirs is in our overlay's attribute or, as OpenTelemetry writes it, in the trace state.
  Failed spans aren't preferred: whether a trace has one isn't known when its first span comes (the twin prefers them when it sends).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec

from otel_control_gym.collectors.attributes import (
    FLAG_SERVICES,
    SAMPLING,
    attributes,
    is_flag,
    sent_probability,
    speaks_of_flags,
    take_probability,
)
from otel_control_gym.engine.events import Span
from otel_control_gym.engine.settings import ServiceConfiguration

__all__ = ("Directory", "keeps", "span_rows")

_Kind: TypeAlias = Literal["server", "client", "internal", "producer", "consumer"]
_KINDS: tuple[_Kind, ...] = (
    "internal", "internal", "server", "client", "producer", "consumer",
)  # fmt: skip
_Status: TypeAlias = Literal["unset", "ok", "error"]
_STATUSES: tuple[_Status, ...] = ("unset", "ok", "error")
_OWN = ("trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano")
_KINDS_OF_SPANS = 1 << 12  #: that are remembered
_HOSTS = ("server.address", "net.peer.name", "peer.service", "http.host")
_DATABASES = {"postgresql": "sql", "mysql": "sql", "redis": "resp", "valkey": "resp"}
_HASH_BYTES = 8
_THRESHOLD_DIGITS = 14  #: of a sampling threshold in the trace state, at most: 56 bits


class Directory:
    """Who is who in the application: RPC services and host names ➜ services."""

    def __init__(self, services: ServiceConfiguration | None) -> None:
        known = services.services if services is not None else {}
        self._protocols = {name: service.protocol for name, service in known.items()}
        self.flags = tuple(services.flags) if services is not None else ()  #: names of the application's feature flags
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


def keeps(trace_id: bytes, ratio: float) -> bool:
    """Return whether a trace is among the share `ratio` of traces that is kept; the same answer for all its spans, in every process."""
    if ratio >= 1:
        return True
    digest = hashlib.blake2b(trace_id, digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest) < ratio * (1 << 8 * _HASH_BYTES)


def span_rows(resource_spans: Any, directory: Directory, ratio: float = 1.0) -> tuple[list[Span], list[Span]]:
    """Return the public rows of one ResourceSpans, and the rows of the truth stream; of the share `ratio` of the traces."""
    resource = attributes(resource_spans.resource.attributes)
    service, pod = resource.get("service.name", ""), resource.get("k8s.pod.name", "")
    public: list[Span] = []
    truth: list[Span] = []
    for scope in resource_spans.scope_spans:
        for span in scope.spans:
            if not keeps(span.trace_id, ratio):
                continue
            row, flags = _span_row(span, service, pod, directory, ratio)
            if service in FLAG_SERVICES:
                truth.append(msgspec.structs.replace(row, attributes=row.attributes | flags))
                continue
            public.append(row)
            if flags:
                truth.append(msgspec.structs.replace(row, attributes=flags))
    return public, truth


def _span_row(span: Any, service: str, pod: str, directory: Directory, ratio: float) -> tuple[Span, dict[str, str]]:
    """Return a span's row, and what it says of flags; the span is taken apart for it."""
    probability = take_probability(span.attributes)
    identity = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    for name in _OWN:
        span.ClearField(name)
    shared = _shared(span.SerializeToString(), service, pod, directory)
    row = Span(
        time=end,
        duration_ns=end - start,
        trace_id=identity[0],
        span_id=identity[1],
        parent_span_id=identity[2],
        service=service,
        peer=shared.peer,
        operation=shared.operation,
        kind=shared.kind,
        protocol=shared.protocol,
        status=shared.status,
        attributes=shared.attributes,
        sampling_probability=ratio * (shared.probability if probability is None else probability),
    )
    return row, shared.flags


class _Shared(msgspec.Struct, frozen=True):
    """What spans say that differ in nothing but their ids, times and sampling."""

    peer: str
    operation: str
    kind: _Kind
    protocol: str
    status: _Status
    attributes: dict[str, str]
    flags: dict[str, str]
    probability: float


@lru_cache(maxsize=_KINDS_OF_SPANS)
def _shared(encoded: bytes, service: str, pod: str, directory: Directory) -> _Shared:
    """Return what an encoded span says that was stripped of all that is its own; few are different, so they are remembered."""
    from opentelemetry.proto.trace.v1 import trace_pb2

    span = trace_pb2.Span.FromString(encoded)
    everything = attributes(span.attributes)
    if span.status.message:
        everything["otel.status_description"] = span.status.message
    flags = {
        name: value for name, value in everything.items() if is_flag(name) or speaks_of_flags(value, directory.flags)
    }
    kept = {name: value for name, value in everything.items() if name != SAMPLING and name not in flags}
    for event in span.events:
        flags |= {name: value for name, value in attributes(event.attributes).items() if is_flag(name)}
    if pod:
        kept["k8s.pod.name"] = pod
    kind: _Kind = _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else "internal"
    peer = directory.peer(kept) if kind in ("client", "producer") else ""
    before = sent_probability(everything)
    return _Shared(
        peer=peer,
        operation=span.name,
        kind=kind,
        protocol=directory.protocol(kept, peer or service),
        status=_STATUSES[span.status.code] if 0 <= span.status.code < len(_STATUSES) else "unset",
        attributes=kept,
        flags=flags,
        probability=_threshold_probability(span.trace_state) if before is None else before,
    )


def _threshold_probability(trace_state: str) -> float:
    """Return the probability that a sampling threshold (`ot=th:...` of the W3C trace state) stands for; 1 without one.

    The threshold is the share that is *rejected*, in hex digits of which trailing zeros are left out.
    """
    for member in trace_state.split(","):
        vendor, _, value = member.strip().partition("=")
        if vendor != "ot":
            continue
        for field in value.split(";"):
            key, _, digits = field.partition(":")
            if key == "th" and 0 < len(digits) <= _THRESHOLD_DIGITS and set(digits) <= set("0123456789abcdef"):
                return 1 - int(digits.ljust(_THRESHOLD_DIGITS, "0"), 16) / (1 << 4 * _THRESHOLD_DIGITS)
    return 1.0
