"""Sampled spans, and the logs that go with them, as OTLP.

In: the kernel's span records (`state.SPAN`). Out: export requests as the demo's collector would send them on, serialised.

All that a span says besides ids, times and its probability depends on a few things (service, kind, operation, status, ...), so it is put
together once per combination and copied. Ids are the kernel's draws: same seed, same ids. Logs are those that a service writes for
a call of that kind (`log_messages`), so they are as sampled as the spans are, and bear their ids and their probability. Upstream: `stand`
drains the kernel. Downstream: the gym's OTLP receiver.
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
from otel_control_gym.stands.twin.log_messages import Facts, Message, When, messages
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
_KEPT: Final = 4096  #: templates, or probabilities, before all are made anew
_BATCH: Final = 1000  #: spans of a request, about 250 kB

_SEVERITIES = {
    "info": SeverityNumber.SEVERITY_NUMBER_INFO,
    "information": SeverityNumber.SEVERITY_NUMBER_INFO,
    "warn": SeverityNumber.SEVERITY_NUMBER_WARN,
    "error": SeverityNumber.SEVERITY_NUMBER_ERROR,
    "": SeverityNumber.SEVERITY_NUMBER_UNSPECIFIED,
}
#: Kind of the span -> when a message is logged if all went well, and if not.
_OCCASIONS: dict[int, tuple[When, When]] = {
    SERVER: ("served", "failed"),
    CONSUMER: ("served", "failed"),
    CLIENT: ("called", "call failed"),
    PRODUCER: ("called", "call failed"),
    INTERNAL: ("task", "task"),
}


#: Service, kind, operation, outcome, status, failed, attempt.
_Key = tuple[str, int, int, int, int, int, int]


class Export(msgspec.Struct, frozen=True):
    """A serialised export request of a signal."""

    signal: Literal["traces", "logs"]
    body: bytes


class _Template(msgspec.Struct, frozen=True):
    """What all spans of a combination have in common: the span, and its log records as far as they don't vary."""

    span: Span
    logs: tuple[tuple[LogRecord, Message], ...]
    operation: str


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
        self._samplings: dict[float, KeyValue] = {}  # by probability

    def export(self, spans: Table) -> Iterator[Export]:
        """Yield the requests that carry these spans and their logs, in batches of bounded size."""
        for first in range(0, len(spans), _BATCH):
            traces, logs = self._batch(spans[first : first + _BATCH])
            yield Export("traces", traces)
            if logs:
                yield Export("logs", logs)

    def _batch(self, spans: Table) -> tuple[bytes, bytes]:
        traces, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
        for made in (self._templates, self._samplings):
            if len(made) > _KEPT:
                made.clear()
        scopes_of_spans: dict[int, ScopeSpans] = {}
        scopes_of_logs: dict[int, ScopeLogs] = {}
        slots = self._simulation.slots
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
            key = (slots[slot], kind, operation, outcome, status, failed, attempt)
            template = self._templates.get(key) or self._make_template(key)
            sampling = self._samplings.get(probability) or self._make_sampling(probability)
            scope = scopes_of_spans.get(slot)
            if scope is None:
                resource_spans = traces.resource_spans.add(resource=self._resource(slot))
                scope = scopes_of_spans[slot] = resource_spans.scope_spans.add()
            span = scope.spans.add()
            span.CopyFrom(template.span)
            span.attributes.append(sampling)
            span.trace_id, span.span_id, span.parent_span_id = identifiers
            span.start_time_unix_nano, span.end_time_unix_nano = start, end
            if not template.logs:
                continue
            log_scope = scopes_of_logs.get(slot)
            if log_scope is None:
                resource_logs = logs.resource_logs.add(resource=self._resource(slot))
                log_scope = scopes_of_logs[slot] = resource_logs.scope_logs.add()
            facts = Facts(identifiers[0], identifiers[1], template.operation, status, start, end)
            for common, message in template.logs:
                record = log_scope.log_records.add()
                record.CopyFrom(common)
                record.trace_id, record.span_id = identifiers[:2]
                record.time_unix_nano = record.observed_time_unix_nano = end
                if message.varies:
                    _fill(record, message, facts)
                record.attributes.append(sampling)
        return traces.SerializeToString(), logs.SerializeToString()

    def _resource(self, slot: int) -> Resource:
        found = self._resources.get(slot)
        if found is None:
            attributes = resource_attributes(self._identity(slot), self._simulation.config)
            found = self._resources[slot] = Resource(attributes=_attributes(attributes))
        return found

    def _make_template(self, key: _Key) -> _Template:
        owner, kind, row, outcome, status, failed, attempt = key
        names, config = self._simulation.names, self._simulation.config
        attributes: dict[str, Attribute]
        if kind == INTERNAL:
            operation = names.flows[row]
            name, attributes = span_name(INTERNAL, operation, None), {}
        elif kind in (PRODUCER, CONSUMER):
            _, operation = names.operations[row]
            name = message_span_name(config, kind, owner, operation)
            attributes = message_attributes(config, kind=kind, owner=owner, operation=operation, failed=bool(failed))
        else:
            target, operation = names.operations[row]
            name = span_name(kind, operation, config.services[target])
            attributes = call_attributes(
                config, kind=kind, owner=owner, target=target, operation=operation, status=status, attempt=attempt
            )
        span = Span(name=name, kind=_KINDS[kind], attributes=_attributes(attributes))
        if failed:
            span.status.code = Status.STATUS_CODE_ERROR
        well, badly = _OCCASIONS[kind]
        said = messages(well if outcome == OK else badly, owner, operation)
        logs = tuple((_record(message), message) for message in said)
        template = self._templates[key] = _Template(span, logs, operation)
        return template

    def _make_sampling(self, probability: float) -> KeyValue:
        (sampling,) = _attributes({"sampling.probability": probability})
        self._samplings[probability] = sampling
        return sampling


def _identifiers(spans: Table) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (trace id, span id, parent's span id, empty for a root) of each span."""
    fields = ("trace_high", "trace_low", "span_id", "parent_id")
    raw = np.stack([spans[name] for name in fields], axis=1).astype(">u8").tobytes()
    for at in range(0, len(raw), 32):
        parent = raw[at + 24 : at + 32]
        yield raw[at : at + 16], raw[at + 16 : at + 24], parent if any(parent) else b""


def _record(message: Message) -> LogRecord:
    """Return what all records of a message have in common; its gaps are left open."""
    record = LogRecord(severity_number=_SEVERITIES[message.severity.lower()], severity_text=message.severity)
    record.body.string_value = message.text
    record.attributes.extend(_attributes({**message.attributes}))
    return record


def _fill(record: LogRecord, message: Message, facts: Facts) -> None:
    record.body.string_value = message.text.format_map(facts)
    for attribute in record.attributes:
        if attribute.key in message.attributes:
            attribute.value.string_value = message.attributes[attribute.key].format_map(facts)


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
