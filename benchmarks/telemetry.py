"""How fast pushed spans are received and become rows, by encoding and transport, and how fast windows are summed up.

The floor of reception is none that a library could reach: compare the ways with each other. Every figure is of the same spans.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable

import aiohttp
import grpc.aio
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.engine.events import LogRow, SpansCollected
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.projections.log_patterns import masked, summarize_logs
from otel_control_gym.projections.trace_summaries import summarize_spans

__all__ = ("measure",)

_SPANS_A_REQUEST = 1_000
_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
Send = Callable[[], Awaitable[object]]


async def measure(*, small: bool) -> dict[str, float | str]:
    """Run the benchmarks of spans and logs and return figures by name and unit, and a digest of the rows."""
    requests, records = (2, 2_000) if small else (50, 100_000)
    export = _export()
    body, text = export.SerializeToString(), _json(export)
    figures: dict[str, float | str] = {}
    receiver = OtlpReceiver(grpc=True)
    async with (
        receiver.open(),
        aiohttp.ClientSession() as session,
        grpc.aio.insecure_channel(receiver.grpc_endpoint) as channel,
    ):
        url = receiver.endpoint + "/v1/traces"

        def post(content: bytes, media_type: str) -> Send:
            async def send() -> object:
                async with session.post(url, data=content, headers={"Content-Type": media_type}) as answer:
                    return await answer.read()

            return send

        async def call() -> object:
            return await channel.unary_unary(_METHOD)(body)

        ways: dict[str, Send] = {
            "protobuf over HTTP": post(body, "application/x-protobuf"),
            "JSON over HTTP": post(text, "application/json"),
            "gRPC": call,
        }
        for name, send in ways.items():
            began = time.perf_counter()
            for _ in range(requests):
                await send()
            received = time.perf_counter()
            figures[f"received, {name} [spans/s]"] = requests * _SPANS_A_REQUEST / (received - began)
            await receiver.drain(Barrier(time=1, resource_version=""))
            rows = [row for event, _ in receiver.flush(1) if isinstance(event, SpansCollected) for row in event.rows]
            assert len(rows) == requests * _SPANS_A_REQUEST, "every span became a row"
        figures["rows made of spans [spans/s]"] = len(rows) / (time.perf_counter() - received)
    began = time.perf_counter()
    summaries = summarize_spans(0, rows)
    figures["summed up [spans/s]"] = len(rows) / (time.perf_counter() - began)
    lines = [_line(number) for number in range(records)]
    masked.cache_clear()
    began = time.perf_counter()
    patterns = summarize_logs(0, lines)
    figures["mined [log records/s]"] = records / (time.perf_counter() - began)
    figures["digest"] = hashlib.sha256(repr((summaries, patterns)).encode()).hexdigest()
    return figures


def _export() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "cart"
    spans = resource.scope_spans.add().spans
    for number in range(1, _SPANS_A_REQUEST + 1):
        span = spans.add(name="oteldemo.CartService/GetCart", kind=2)
        span.trace_id, span.span_id = number.to_bytes(16), number.to_bytes(8)
        span.start_time_unix_nano, span.end_time_unix_nano = 1_000, 1_000 + number * 1_000
        for name in ("rpc.system", "rpc.service", "rpc.method", "server.address", "app.user.id"):
            span.attributes.add(key=name).value.string_value = f"value of {name}"
    return request


def _json(request: ExportTraceServiceRequest) -> bytes:
    """Return the request in OTLP's JSON, whose ids are hex digits and whose enumerations are integers."""
    document = json_format.MessageToDict(request, use_integers_for_enums=True)
    for span, sent in zip(
        document["resourceSpans"][0]["scopeSpans"][0]["spans"],
        request.resource_spans[0].scope_spans[0].spans,
        strict=True,
    ):
        span |= {"traceId": sent.trace_id.hex(), "spanId": sent.span_id.hex()}
    return json.dumps(document).encode()


def _line(number: int) -> LogRow:
    texts = (
        f"GetCartAsync called with userId={hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()}",
        f"order {number} placed after {number % 977}ms",
        f"user {('ada', 'grace', 'ken')[number % 3]} viewed product OLJCESPC7Z",
        "payment went through",
    )
    return LogRow(time=number, service="cart", severity="INFO", body=texts[number % len(texts)])
