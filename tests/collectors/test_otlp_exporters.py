"""The exporters of the OpenTelemetry SDK push to the receiver, in every encoding, over every transport; and what gRPC answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio.to_thread
import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as JsonSpans
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.collectors.otlp_intake import LARGEST_BYTES, Intake
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import LogRow, LogsCollected, Span, SpansCollected
from otel_control_gym.engine.protocols import Barrier

RESOURCE = Resource({"service.name": "checkout", "k8s.pod.name": "checkout-1"})
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


@pytest.fixture
def spans() -> Sequence[ReadableSpan]:
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("PlaceOrder", kind=SpanKind.SERVER) as parent:
        parent.set_attribute("app.order.items", 3)
        with tracer.start_as_current_span("GetCart", kind=SpanKind.CLIENT) as child:
            child.set_attributes({"server.address": "cart", "rpc.system": "grpc"})
            child.set_status(StatusCode.ERROR, "no cart")
    return memory.get_finished_spans()


@pytest.fixture
def records() -> Sequence[ReadableLogRecord]:
    memory = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    provider.get_logger("test").emit(
        LogRecord(
            timestamp=1_700_000_000_000_000_000,
            severity_number=SeverityNumber.WARN,
            severity_text="WARNING",
            body="no cart",
            attributes={"app.user.id": "u"},
        )
    )
    return memory.get_finished_logs()


def span_exporter(name: str, receiver: OtlpReceiver) -> Any:
    http = receiver.endpoint + "/v1/traces"
    match name:
        case "protobuf":
            return HttpSpans(http)
        case "protobuf, gzip":
            return HttpSpans(http, compression=Compression.Gzip)
        case "json":
            return JsonSpans(http)
        case "grpc":
            return GrpcSpans(receiver.grpc_endpoint, insecure=True)
        case _:
            return GrpcSpans(receiver.grpc_endpoint, insecure=True, compression=grpc.Compression.Gzip)


async def sent(exporter: Any, items: Sequence[Any]) -> str:
    """Export as the SDK does, in a thread of its own; the name of its result."""
    try:
        result = await anyio.to_thread.run_sync(exporter.export, items)
    finally:
        await anyio.to_thread.run_sync(exporter.shutdown)
    return str(result.name)


async def rows(receiver: OtlpReceiver, kind: type) -> Any:
    await receiver.drain(Barrier(time=1, resource_version=""))
    return [row for event, _ in receiver.flush(1) if isinstance(event, kind) for row in getattr(event, "rows", ())]


@pytest.mark.parametrize("name", ["protobuf", "protobuf, gzip", "json", "grpc", "grpc, gzip"])
async def test_spans_of_the_sdk_arrive_as_they_were_made(name: str, spans: Sequence[ReadableSpan]) -> None:
    receiver = OtlpReceiver(grpc=True)
    async with receiver.open():
        assert await sent(span_exporter(name, receiver), spans) == "SUCCESS"
        found: list[Span] = await rows(receiver, SpansCollected)
    by_name = {row.operation: row for row in found}
    assert set(by_name) == {"PlaceOrder", "GetCart"}
    for span in spans:
        row, context = by_name[span.name], span.get_span_context()
        assert context is not None
        assert row.trace_id == f"{context.trace_id:032x}"
        assert row.span_id == f"{context.span_id:016x}"
        assert row.time == span.end_time
        assert row.service == "checkout"
    server, client = by_name["PlaceOrder"], by_name["GetCart"]
    assert client.parent_span_id == server.span_id
    assert (server.kind, server.parent_span_id, server.attributes["app.order.items"]) == ("server", "", "3")
    assert (client.kind, client.peer, client.protocol, client.status) == ("client", "cart", "grpc", "error")


@pytest.mark.parametrize("over", ["http", "grpc"])
async def test_log_records_of_the_sdk_arrive_as_they_were_made(over: str, records: Sequence[ReadableLogRecord]) -> None:
    receiver = OtlpReceiver(grpc=True)
    async with receiver.open():
        exporter: Any = (
            HttpLogs(receiver.endpoint + "/v1/logs")
            if over == "http"
            else GrpcLogs(receiver.grpc_endpoint, insecure=True)
        )
        assert await sent(exporter, records) == "SUCCESS"
        (row,) = await rows(receiver, LogsCollected)
    assert row == LogRow(
        time=1_700_000_000_000_000_000,
        service="checkout",
        severity="WARN",
        severity_number=13,
        body="no cart",
        attributes={"app.user.id": "u", "k8s.pod.name": "checkout-1", "severity_text": "WARNING"},
    )


# --- what gRPC answers ----------------------------------------------------------------------------------------------------


async def call(receiver: OtlpReceiver, method: str, body: bytes) -> bytes:
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(receiver.grpc_endpoint, options=options) as channel:
        answer: bytes = await channel.unary_unary(method)(body, timeout=20)
        return answer


async def refusal(receiver: OtlpReceiver, method: str, body: bytes) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(receiver, method, body)
    return caught.value


def details(error: grpc.aio.AioRpcError) -> Status:
    found = dict(error.trailing_metadata() or ())
    return Status.FromString(found["grpc-status-details-bin"])


async def test_an_empty_export_is_a_success_over_grpc() -> None:
    receiver = OtlpReceiver(grpc=True)
    async with receiver.open():
        assert await call(receiver, TRACES, b"") == ExportTraceServiceResponse().SerializeToString()
        assert await call(receiver, LOGS, b"") == ExportLogsServiceResponse().SerializeToString()


async def test_rejected_spans_are_counted_over_grpc() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="nobody's")
    receiver = OtlpReceiver(grpc=True)
    async with receiver.open():
        answer = await call(receiver, TRACES, request.SerializeToString())
    assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 1


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        (TRACES, b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (TRACES, bytes(LARGEST_BYTES + 1), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (TRACES.replace("trace", "metrics").replace("Trace", "Metrics"), b"", grpc.StatusCode.UNIMPLEMENTED),
    ],
    ids=["protobuf", "large", "metrics"],
)
async def test_what_grpc_refuses_for_good_says_nothing_of_coming_again(
    method: str, body: bytes, code: grpc.StatusCode
) -> None:
    receiver = OtlpReceiver(grpc=True)
    async with receiver.open():
        error = await refusal(receiver, method, body)
    assert error.code() == code
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        assert details(error).code == 3
        assert not details(error).details


async def test_over_grpc_too_a_sender_comes_again_when_there_is_room() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add(schema_url="x")
    body = request.SerializeToString()
    receiver = OtlpReceiver(grpc=True, intake=Intake(kept_bytes=len(body)))
    async with receiver.open():
        await call(receiver, TRACES, body)
        error = await refusal(receiver, TRACES, body)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        (packed,) = details(error).details
        wait = RetryInfo()
        assert packed.Unpack(wait)
        assert wait.retry_delay.seconds > 0
        await receiver.drain(Barrier(time=1, resource_version=""))
        await call(receiver, TRACES, body)


async def test_there_is_no_grpc_endpoint_where_none_was_asked_for() -> None:
    receiver = OtlpReceiver()
    async with receiver.open():
        with pytest.raises(StandError):
            _ = receiver.grpc_endpoint
