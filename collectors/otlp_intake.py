"""What happens to an OTLP export request, whichever way it came: it is decoded, looked through, and kept until the episode drains.

In: bodies, from `collectors.otlp_http` and `collectors.otlp_grpc`. Out: the answer, or a `Refused` that says in the specification's terms
what is wrong and whether it is worth trying again; and, on demand, the resources with what they sent.

What can't become a row is rejected alone, and counted in the answer (partial success): an id of the wrong length or of zeros, a span
that ends before it starts or never, a log record without a time. What can't be decoded is refused whole. When more is kept than fits,
senders are told to come again: a run whose episode has stopped must not take the machine's memory with it.

The Protobuf classes are imported when the first export comes.
"""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from otel_control_gym.engine.errors import OtelControlGymError

__all__ = (
    "LARGEST_BYTES",
    "Code",
    "Encoding",
    "Intake",
    "Refused",
    "SignalName",
    "decoded",
    "signal",
    "status_message",
    "unzipped",
)

LARGEST_BYTES = 64 * 2**20  #: of a request, unpacked, as the specification advises
_KEPT_BYTES = 4 * LARGEST_BYTES  #: of requests that wait for the episode
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
_GZIP = 16 + zlib.MAX_WBITS  #: tells zlib to expect gzip's header
Encoding: TypeAlias = Literal["protobuf", "json"]
SignalName: TypeAlias = Literal["traces", "logs"]
Code: TypeAlias = Literal["invalid_argument", "resource_exhausted", "unimplemented", "unavailable", "unauthenticated"]
#: google.rpc.Code
_CODES: dict[Code, int] = {
    "invalid_argument": 3, "resource_exhausted": 8, "unimplemented": 12, "unavailable": 14, "unauthenticated": 16,
}  # fmt: skip


class Refused(OtelControlGymError):
    """Raised when an export is refused whole. Only `unavailable` is worth trying again."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code


class Signal(msgspec.Struct, frozen=True):
    """One of OTLP's signals: its service, its messages, and what of a request can't be taken."""

    name: SignalName
    service: str  #: gRPC's, whose method is Export
    request: Callable[[], Any]
    response: Callable[..., Any]
    resources: str  #: field of the request
    rejected: str  #: field of the response's partial success
    reject: Callable[[Any], Counter[str]]  #: takes out of a resource's data what can't be taken, and counts why


@functools.cache
def signal(name: SignalName) -> Signal:
    """Return a signal by its name in the URL."""
    if name == "traces":
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

        return Signal(
            name,
            "opentelemetry.proto.collector.trace.v1.TraceService",
            traces.ExportTraceServiceRequest,
            traces.ExportTraceServiceResponse,
            "resource_spans",
            "rejected_spans",
            lambda resource: _reject([scope.spans for scope in resource.scope_spans], _fault_of_span),
        )
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs

    return Signal(
        name,
        "opentelemetry.proto.collector.logs.v1.LogsService",
        logs.ExportLogsServiceRequest,
        logs.ExportLogsServiceResponse,
        "resource_logs",
        "rejected_log_records",
        lambda resource: _reject([scope.log_records for scope in resource.scope_logs], _fault_of_record),
    )


class Intake:
    """Exports that were taken and wait to become rows."""

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._limit = kept_bytes
        self._waiting: dict[SignalName, list[Any]] = {"traces": [], "logs": []}
        self._bytes = 0

    def take(self, name: SignalName, request: Any, size: int) -> Any:
        """Keep a request, whose body has `size` bytes, and return the response to it.

        Raises: Refused: there is no room for it now.
        """
        if self._bytes + size > self._limit:
            raise Refused("unavailable", f"{self._bytes} bytes wait to be read; there is room for {self._limit}")
        kind = signal(name)
        faults: Counter[str] = Counter()
        for resource in getattr(request, kind.resources):
            faults += kind.reject(resource)
            self._waiting[name].append(resource)
        self._bytes += size
        if not faults:
            return kind.response()
        message = "; ".join(f"{count} × {fault}" for fault, count in sorted(faults.items()))
        return kind.response(partial_success={kind.rejected: faults.total(), "error_message": message})

    def release(self) -> tuple[list[Any], list[Any]]:
        """Return what has waited, ResourceSpans and ResourceLogs in the order of their arrival, and forget it."""
        found = self._waiting["traces"], self._waiting["logs"]
        self._waiting, self._bytes = {"traces": [], "logs": []}, 0
        return found


def decoded(name: SignalName, body: bytes, encoding: Encoding = "protobuf") -> Any:
    """Return the request of a body (unpacked).

    Raises: Refused: it can't be decoded.
    """
    from google.protobuf.message import DecodeError

    request = signal(name).request()
    try:
        if encoding == "json":
            from otel_control_gym.collectors.otlp_json import read_json

            read_json(body, request)
        else:
            request.ParseFromString(body)
    except (DecodeError, ValueError) as error:
        raise Refused("invalid_argument", f"the body is no {type(request).__name__} in {encoding}: {error}") from error
    return request


def unzipped(body: bytes) -> bytes:
    """Return what a gzip file holds, without unpacking more than a request may have.

    Raises: Refused: it isn't gzip, it is cut off, or it holds more than `LARGEST_BYTES`.
    """
    found = bytearray()
    rest = body
    try:
        while rest:  # a file may have several members
            member = zlib.decompressobj(_GZIP)
            found += member.decompress(rest, LARGEST_BYTES + 1 - len(found))
            if len(found) > LARGEST_BYTES:
                raise Refused("resource_exhausted", f"the body unpacks to more than {LARGEST_BYTES} bytes")
            if not member.eof:
                raise Refused("invalid_argument", "the body's gzip is cut off")
            rest = member.unused_data
    except zlib.error as error:
        raise Refused("invalid_argument", f"the body is no gzip: {error}") from error
    return bytes(found)


def status_message(refused: Refused) -> Any:
    """Return the google.rpc.Status that says why an export was refused."""
    from google.rpc.status_pb2 import Status

    return Status(code=_CODES[refused.code], message=str(refused))


# --- what can't become a row ----------------------------------------------------------------------------------------------


def _reject(lists: list[Any], fault_of: Callable[[Any], str]) -> Counter[str]:
    faults: Counter[str] = Counter()
    for items in lists:
        found = [fault_of(item) for item in items]
        if any(found):
            kept = [item for item, fault in zip(items, found, strict=True) if not fault]
            del items[:]
            items.extend(kept)
            faults.update(fault for fault in found if fault)
    return faults


def _fault_of_span(span: Any) -> str:
    if not _is_id(span.trace_id, _TRACE_ID_BYTES):
        return "a trace id that isn't 16 bytes, not all zero"
    if not _is_id(span.span_id, _SPAN_ID_BYTES):
        return "a span id that isn't 8 bytes, not all zero"
    if not span.end_time_unix_nano:
        return "a span without an end"
    if span.end_time_unix_nano < span.start_time_unix_nano:
        return "a span that ends before it starts"
    return ""


def _fault_of_record(record: Any) -> str:
    if not (record.time_unix_nano or record.observed_time_unix_nano):
        return "a log record without a time"
    if record.trace_id and len(record.trace_id) != _TRACE_ID_BYTES:
        return "a trace id that isn't 16 bytes"
    if record.span_id and len(record.span_id) != _SPAN_ID_BYTES:
        return "a span id that isn't 8 bytes"
    return ""


def _is_id(value: bytes, length: int) -> bool:
    return len(value) == length and any(value)
