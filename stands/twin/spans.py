"""Sampled spans, and the logs that go with them, as OTLP.

In: the kernel's span records (`state.SPAN`). Out: export requests as the demo's collector would send them on, serialised.

All that a span says besides ids and times depends on a few things (pod, kind, operation, status, probability, ...), so it is put
together once per combination and copied. Ids are the kernel's draws: same seed, same ids. Logs are those that a service writes for
a call of that kind, so they are as sampled as the spans are, and bear their ids. Upstream: `stand` drains the kernel. Downstream: the
gym's OTLP receiver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec
import numpy as np
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from otel_control_gym.stands.twin.conventions import (
    Attribute,
    PodIdentity,
    call_attributes,
    message_attributes,
    message_span_name,
    resource_attributes,
    span_name,
)
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import CLIENT, CONSUMER, INTERNAL, OK, PRODUCER, SERVER
from otel_control_gym.stands.twin.topology import Table

__all__ = ("Export", "SpanExporter")

_KINDS = {
    SERVER: Span.SPAN_KIND_SERVER,
    CLIENT: Span.SPAN_KIND_CLIENT,
    INTERNAL: Span.SPAN_KIND_INTERNAL,
    PRODUCER: Span.SPAN_KIND_PRODUCER,
    CONSUMER: Span.SPAN_KIND_CONSUMER,
}
_TEMPLATES: Final = 4096  #: kept before all are made anew
_BATCH: Final = 1000  #: spans of a request, about 250 kB

#: What services of the demo log when they have done what they were asked: (service, operation) -> text.
_DONE = {
    ("checkout", "PlaceOrder"): "order placed",
    ("payment", "Charge"): "Transaction complete.",
    ("product-catalog", "GetProduct"): "Product Found",
    ("accounting", "process orders"): "Order details",
    ("fraud-detection", "process orders"): "Consumed record with orderId",
}
#: What checkout logs when one of its calls fails: operation -> (severity, text).
_ORDER_FAILED = {
    "GetCart": ("ERROR", "failed to get user cart during checkout"),
    "GetProduct": ("ERROR", "failed to prepare order: failed to get product"),
    "Convert": ("ERROR", "failed to prepare order: failed to convert price"),
    "POST /get-quote": ("ERROR", "failed to prepare order: shipping quote failure"),
    "Charge": ("ERROR", "failed to charge card"),
    "POST /ship-order": ("ERROR", "shipping error"),
    "POST /send_order_confirmation": ("WARN", "failed to send order confirmation"),
    "publish orders": ("ERROR", "Failed to write message"),
}
_SILENT = ("frontend", "load-generator")  #: send no logs of their calls
_SEVERITIES = {
    "INFO": SeverityNumber.SEVERITY_NUMBER_INFO,
    "WARN": SeverityNumber.SEVERITY_NUMBER_WARN,
    "ERROR": SeverityNumber.SEVERITY_NUMBER_ERROR,
}


#: Pod, kind, operation, outcome, status, failed, attempt, probability.
_Key = tuple[int, int, int, int, int, int, int, float]


class Export(msgspec.Struct, frozen=True):
    """A serialised export request of a signal."""

    signal: Literal["traces", "logs"]
    body: bytes


class _Template(msgspec.Struct, frozen=True):
    """What all spans of a combination have in common."""

    span: Span
    log: LogRecord | None


class SpanExporter:
    """Turns span records of one run into OTLP.

    Args:
        simulation: whose spans they are.
        identity: slot -> pod.
    """

    def __init__(self, simulation: Simulation, identity: Callable[[int], PodIdentity]) -> None:
        self._simulation = simulation
        self._identity = identity
        self._resources: dict[int, Resource] = {}
        self._templates: dict[_Key, _Template] = {}

    def export(self, spans: Table) -> Iterator[Export]:
        """Yield the requests that carry these spans and their logs, in batches of bounded size."""
        for first in range(0, len(spans), _BATCH):
            traces, logs = self._batch(spans[first : first + _BATCH])
            yield Export("traces", traces)
            if logs:
                yield Export("logs", logs)

    def _batch(self, spans: Table) -> tuple[bytes, bytes]:
        traces, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
        if len(self._templates) > _TEMPLATES:
            self._templates.clear()
        scopes_of_spans: dict[int, ScopeSpans] = {}
        scopes_of_logs: dict[int, ScopeLogs] = {}
        columns = (
            spans[name].tolist()
            for name in (
                "pod",
                "kind",
                "operation",
                "outcome",
                "status",
                "failed",
                "attempt",
                "probability",
                "start",
                "end",
            )
        )
        for identifiers, (slot, kind, operation, outcome, status, failed, attempt, probability, start, end) in zip(
            _identifiers(spans), zip(*columns, strict=True), strict=True
        ):
            key = (slot, kind, operation, outcome, status, failed, attempt, probability)
            template = self._templates.get(key) or self._make_template(key)
            scope = scopes_of_spans.get(slot)
            if scope is None:
                resource_spans = traces.resource_spans.add(resource=self._resource(slot))
                scope = scopes_of_spans[slot] = resource_spans.scope_spans.add()
            span = scope.spans.add()
            span.CopyFrom(template.span)
            span.trace_id, span.span_id, span.parent_span_id = identifiers
            span.start_time_unix_nano, span.end_time_unix_nano = start, end
            if template.log is not None:
                log_scope = scopes_of_logs.get(slot)
                if log_scope is None:
                    resource_logs = logs.resource_logs.add(resource=self._resource(slot))
                    log_scope = scopes_of_logs[slot] = resource_logs.scope_logs.add()
                record = log_scope.log_records.add()
                record.CopyFrom(template.log)
                record.trace_id, record.span_id = identifiers[:2]
                record.time_unix_nano = record.observed_time_unix_nano = end
        return traces.SerializeToString(), logs.SerializeToString()

    def _resource(self, slot: int) -> Resource:
        found = self._resources.get(slot)
        if found is None:
            attributes = resource_attributes(self._identity(slot), self._simulation.config)
            found = self._resources[slot] = Resource(attributes=_attributes(attributes))
        return found

    def _make_template(self, key: _Key) -> _Template:
        slot, kind, row, outcome, status, failed, attempt, probability = key
        names, config = self._simulation.names, self._simulation.config
        owner = self._simulation.slots[slot]
        attributes: dict[str, Attribute]
        log = None
        if kind == INTERNAL:
            name, attributes = span_name(INTERNAL, names.flows[row], None), {}
        elif kind in (PRODUCER, CONSUMER):
            target, operation = names.operations[row]
            name = message_span_name(config, kind, owner, operation)
            attributes = message_attributes(config, kind=kind, owner=owner, operation=operation, failed=bool(failed))
            log = _log(kind, owner, target, operation, outcome)
        else:
            target, operation = names.operations[row]
            name = span_name(kind, operation, config.services[target])
            attributes = call_attributes(
                config, kind=kind, owner=owner, target=target, operation=operation, status=status, attempt=attempt
            )
            log = _log(kind, owner, target, operation, outcome)
        span = Span(
            name=name, kind=_KINDS[kind], attributes=_attributes(attributes | {"sampling.probability": probability})
        )
        if log is not None:  # it comes with its span or not at all
            log.attributes.extend(_attributes({"sampling.probability": probability}))
        if failed:
            span.status.code = Status.STATUS_CODE_ERROR
        template = self._templates[key] = _Template(span, log)
        return template


def _identifiers(spans: Table) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (trace id, span id, parent's span id, empty for a root) of each span."""
    fields = ("trace_high", "trace_low", "span_id", "parent_id")
    raw = np.stack([spans[name] for name in fields], axis=1).astype(">u8").tobytes()
    for at in range(0, len(raw), 32):
        parent = raw[at + 24 : at + 32]
        yield raw[at : at + 16], raw[at + 16 : at + 24], parent if any(parent) else b""


def _log(kind: int, owner: str, target: str, operation: str, outcome: int) -> LogRecord | None:
    """Return what a service logs at the end of a call of this kind, if anything."""
    if kind in (SERVER, CONSUMER) and outcome == OK:
        text, severity = _DONE.get((owner, operation), ""), "INFO"
    elif kind in (CLIENT, PRODUCER) and outcome != OK and owner not in _SILENT:
        severity, text = "ERROR", f"call of {target} {operation} failed"
        if owner == "checkout":
            severity, text = _ORDER_FAILED.get(operation, (severity, text))
    else:
        return None
    if not text:
        return None
    record = LogRecord(severity_number=_SEVERITIES[severity], severity_text=severity)
    record.body.string_value = text
    return record


def _attributes(values: dict[str, Attribute]) -> list[KeyValue]:
    found = []
    for name, value in values.items():
        item = KeyValue(key=name)
        if isinstance(value, str):
            item.value.string_value = value
        elif isinstance(value, int):
            item.value.int_value = value
        else:
            item.value.double_value = value
        found.append(item)
    return found
