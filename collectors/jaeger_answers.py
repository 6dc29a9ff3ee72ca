"""Traces as Jaeger's query API gives them (OTLP in JSON, version 3 of the API) ➜ ResourceSpans.

In: bodies. Out: typed documents, and messages of those of their spans that are wanted. Pure.

Why not `otlp_json`, which reads the same format: Jaeger gives whole traces, most of whose spans we have had before, and the library's own
mapping takes a millisecond a span. Here a body is decoded once into structs, and only new spans become messages: a tenth of that. What
no row is made of (links, scopes, what was dropped) is left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ("Answer", "ResourceDocument", "SpanDocument", "message_of")


class ValueDocument(msgspec.Struct, rename="camel", gc=False):
    """An AnyValue: one of these."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None  #: 64 bits: in JSON a text
    double_value: float | str | None = None  #: NaN and infinities are texts
    bytes_value: str | None = None  #: in base64
    array_value: ListDocument | None = None
    kvlist_value: MapDocument | None = None


class ListDocument(msgspec.Struct, gc=False):
    """An ArrayValue."""

    values: list[ValueDocument] = []


class KeyDocument(msgspec.Struct, gc=False):
    """A KeyValue."""

    key: str
    value: ValueDocument = msgspec.field(default_factory=ValueDocument)


class MapDocument(msgspec.Struct, gc=False):
    """A KeyValueList."""

    values: list[KeyDocument] = []


class EventDocument(msgspec.Struct, gc=False):
    """An event of a span, as far as it can tell of a flag."""

    name: str = ""
    attributes: list[KeyDocument] = []


class StatusDocument(msgspec.Struct, gc=False):
    """A span's status."""

    code: int = 0
    message: str = ""


class SpanDocument(msgspec.Struct, rename="camel", gc=False):
    """A span; ids are hex digits."""

    trace_id: str
    span_id: str
    parent_span_id: str = ""
    trace_state: str = ""
    name: str = ""
    kind: int = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[KeyDocument] = []
    events: list[EventDocument] = []
    status: StatusDocument = msgspec.field(default_factory=StatusDocument)

    @property
    def start(self) -> int:
        """When it began [ns]."""
        return int(self.start_time_unix_nano)

    @property
    def end(self) -> int:
        """When it ended [ns]."""
        return int(self.end_time_unix_nano)


class ScopeDocument(msgspec.Struct, gc=False):
    """The spans of an instrumentation library."""

    spans: list[SpanDocument] = []


class AttributesDocument(msgspec.Struct, gc=False):
    """A Resource."""

    attributes: list[KeyDocument] = []


class ResourceDocument(msgspec.Struct, rename="camel", gc=False):
    """The spans of whoever sent them."""

    resource: AttributesDocument = msgspec.field(default_factory=AttributesDocument)
    scope_spans: list[ScopeDocument] = []

    @property
    def spans(self) -> list[SpanDocument]:
        """All of them."""
        return [span for scope in self.scope_spans for span in scope.spans]


class TracesDocument(msgspec.Struct, rename="camel", gc=False):
    """Some traces, cut up by who sent what."""

    resource_spans: list[ResourceDocument] = []


class ErrorDocument(msgspec.Struct):
    """Why there is no result; that no trace was found is such a reason."""

    message: str = ""


class Answer(msgspec.Struct):
    """An answer of the query API."""

    result: TracesDocument = msgspec.field(default_factory=TracesDocument)
    error: ErrorDocument | None = None


def message_of(resource: ResourceDocument, spans: list[SpanDocument]) -> Any:
    """Return a ResourceSpans of some of a resource's spans.

    Raises: ValueError: an id isn't made of hex digits, or a number is none.
    """
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

    message = ResourceSpans()
    _fill(message.resource.attributes, resource.resource.attributes)
    scope = message.scope_spans.add()
    for span in spans:
        made = scope.spans.add(
            trace_id=bytes.fromhex(span.trace_id),
            span_id=bytes.fromhex(span.span_id),
            parent_span_id=bytes.fromhex(span.parent_span_id),
            trace_state=span.trace_state,
            name=span.name,
            kind=span.kind,
            start_time_unix_nano=span.start,
            end_time_unix_nano=span.end,
        )
        _fill(made.attributes, span.attributes)
        for event in span.events:
            _fill(made.events.add(name=event.name).attributes, event.attributes)
        made.status.code, made.status.message = span.status.code, span.status.message
    return message


def _fill(items: Any, found: list[KeyDocument]) -> None:
    for item in found:
        _set(items.add(key=item.key).value, item.value)


def _set(value: Any, found: ValueDocument) -> None:
    if found.string_value is not None:
        value.string_value = found.string_value
    elif found.int_value is not None:
        value.int_value = int(found.int_value)
    elif found.bool_value is not None:
        value.bool_value = found.bool_value
    elif found.double_value is not None:
        value.double_value = float(found.double_value)
    elif found.array_value is not None:
        for inner in found.array_value.values:
            _set(value.array_value.values.add(), inner)
    elif found.kvlist_value is not None:
        _fill(value.kvlist_value.values, found.kvlist_value.values)
    elif found.bytes_value is not None:
        import base64

        value.bytes_value = base64.b64decode(found.bytes_value)
