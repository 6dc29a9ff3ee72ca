"""What a served twin keeps of its telemetry, for whoever comes and reads it: traces as Jaeger does, logs as kubelets do.

In: the export requests that the twin sends anyway. Out: traces by the time at which their spans began, lines by pod. Nothing is made for
it: traces are those that were sampled, and what a container "writes" is its log records, one JSON object a line, with the ids, attributes
and the probability that they are sent with. A real container writes all that it writes, and many programs of the demo write nothing but
send everything by OTLP; here everybody writes.

Bounded as the real ones: the newest 25,000 traces, 10 MiB of lines a pod. The embedded twin has no such store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from otel_control_gym.stands.twin.spans import Export

__all__ = ("TRACES", "KeptTelemetry")

TRACES = 25_000  #: the demo's MEMORY_MAX_TRACES
_LOG_BYTES = 10 * 2**20  #: a kubelet's containerLogMaxSize
_PODS = 500  #: whose logs are kept; the pods that have been silent for longest go


class _Trace(msgspec.Struct):
    resources: list[ResourceSpans] = []  #: of one span each
    began: list[int] = []  #: of each span [ns]


class _Log(msgspec.Struct):
    lines: deque[tuple[int, bytes]]  #: (time [ns], text)
    size: int = 0


class KeptTelemetry:
    """The newest traces and log lines of a twin."""

    def __init__(self, *, traces: int = TRACES, log_bytes: int = _LOG_BYTES) -> None:
        self._most, self._log_bytes = traces, log_bytes
        self._traces: dict[bytes, _Trace] = {}  # the oldest first
        self._logs: dict[str, _Log] = {}  # by pod; who has been silent for longest first

    def take(self, exports: Iterable[Export]) -> None:
        """Keep what is sent together, up to a moment that the next lot begins after."""
        lines: dict[str, list[tuple[int, bytes]]] = {}
        for export in exports:
            if export.signal == "traces":
                self._keep_spans(ExportTraceServiceRequest.FromString(export.body))
                continue
            for resource in ExportLogsServiceRequest.FromString(export.body).resource_logs:
                pod = _text(resource.resource, "k8s.pod.name")
                found = lines.setdefault(pod, [])
                found += [(record.time_unix_nano, _line(record)) for record in resource.scope_logs[0].log_records]
        for pod, written in lines.items():
            self._keep_lines(pod, sorted(written, key=itemgetter(0)))

    def _keep_spans(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            for span in resource.scope_spans[0].spans:
                trace = self._traces.get(span.trace_id)
                if trace is None:
                    trace = self._traces[span.trace_id] = _Trace()
                    if len(self._traces) > self._most:
                        del self._traces[next(iter(self._traces))]
                kept = ResourceSpans(resource=resource.resource)
                kept.scope_spans.add().spans.append(span)
                trace.resources.append(kept)
                trace.began.append(span.start_time_unix_nano)

    def _keep_lines(self, pod: str, written: list[tuple[int, bytes]]) -> None:
        log = self._logs.pop(pod, None) or _Log(deque())
        self._logs[pod] = log
        log.lines.extend(written)
        log.size += sum(len(text) for _, text in written)
        while log.size > self._log_bytes:
            log.size -= len(log.lines.popleft()[1])
        if len(self._logs) > _PODS:
            del self._logs[next(iter(self._logs))]

    def services(self) -> list[str]:
        """Return who has sent spans that are kept, sorted."""
        return sorted(
            {_text(kept.resource, "service.name") for trace in self._traces.values() for kept in trace.resources}
        )

    def find(self, service: str, begin: int, end: int, most: int) -> list[ResourceSpans]:
        """Return whole traces, the newest first and at most so many, of which a span began from `begin` to `end` [ns].

        `service` is whose span; empty: anybody's.
        """
        found: list[ResourceSpans] = []
        for trace in reversed(self._traces.values()):
            if most <= 0:
                break
            if any(
                begin <= began <= end and service in ("", _text(kept.resource, "service.name"))
                for kept, began in zip(trace.resources, trace.began, strict=True)
            ):
                found += trace.resources
                most -= 1
        return found

    def lines(self, pod: str) -> Iterable[tuple[int, bytes]]:
        """Return what a pod has written: time [ns] and text, the oldest first."""
        log = self._logs.get(pod)
        return () if log is None else log.lines


def _text(resource: Any, name: str) -> str:
    return next((item.value.string_value for item in resource.attributes if item.key == name), "")


def _line(record: Any) -> bytes:
    fields: dict[str, Any] = {"level": record.severity_text or "unspecified", "msg": record.body.string_value}
    fields |= {"trace_id": record.trace_id.hex(), "span_id": record.span_id.hex()}
    for item in record.attributes:
        fields[item.key] = getattr(item.value, item.value.WhichOneof("value"))
    return msgspec.json.encode(fields)
