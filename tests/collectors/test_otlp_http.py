"""OTLP over HTTP, as the specification has it: encodings, compression, and who may try again."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import aiohttp
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.collectors.otlp_intake import LARGEST_BYTES, Intake
from otel_control_gym.engine.events import LogsCollected, SpansCollected
from otel_control_gym.engine.protocols import Barrier

PROTOBUF, JSON = "application/x-protobuf", "application/json"
#: As the specification shows a span and a log record: hex ids, enumerations as integers, 64-bit integers as strings.
SPAN: dict[str, Any] = {
    "traceId": "5B8EFFF798038103D269B633813FC60C",
    "spanId": "EEE19B7EC3C1B174",
    "parentSpanId": "EEE19B7EC3C1B173",
    "name": "I'm a server span",
    "startTimeUnixNano": "1544712660000000000",
    "endTimeUnixNano": "1544712661000000000",
    "kind": 2,
    "status": {"code": 2, "message": "boom"},
    "attributes": [
        {"key": "my.span.attr", "value": {"stringValue": "some value"}},
        {"key": "count", "value": {"intValue": "9007199254740993"}},
        {"key": "ratio", "value": {"doubleValue": 0.5}},
        {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}, {"bytesValue": "AAEC"}]}}},
    ],
    "droppedAttributesCount": None,
    "a_field_of_a_later_version": {"deep": [1]},
    "aFieldOfALaterVersion": "?",
}
RECORD: dict[str, Any] = {
    "timeUnixNano": "1544712660300000000",
    "observedTimeUnixNano": 1544712660300000000,
    "severityNumber": 10,
    "severityText": "Information",
    "traceId": "5B8EFFF798038103D269B633813FC60C",
    "spanId": "EEE19B7EC3C1B174",
    "body": {"stringValue": "Example log record"},
}
RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]}


def traces(**changes: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": RESOURCE, "scopeSpans": [{"spans": [SPAN | changes]}]}]}


async def post(
    receiver: OtlpReceiver, body: bytes, content_type: str, path: str = "/v1/traces", **headers: str
) -> tuple[int, str, bytes, str]:
    """Return status, content type, body and Retry-After of the answer."""
    sent = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(receiver.endpoint + path, data=io.BytesIO(body), headers=sent) as answer,
    ):
        return answer.status, answer.content_type, await answer.read(), answer.headers.get("Retry-After", "")


async def rows(receiver: OtlpReceiver, kind: type) -> Any:
    await receiver.drain(Barrier(time=1, resource_version=""))
    return [row for event, _ in receiver.flush(1) if isinstance(event, kind) for row in getattr(event, "rows", ())]


async def test_json_is_read_as_the_specification_writes_it() -> None:
    receiver = OtlpReceiver()
    async with receiver.open():
        assert await post(receiver, json.dumps(traces()).encode(), JSON) == (200, JSON, b"{}", "")
        (span,) = await rows(receiver, SpansCollected)
        logs = {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [{"logRecords": [RECORD]}]}]}
        assert (await post(receiver, json.dumps(logs).encode(), JSON, "/v1/logs"))[0] == 200
        (line,) = await rows(receiver, LogsCollected)
    assert span.trace_id == line.trace_id == "5b8efff798038103d269b633813fc60c"
    assert (span.span_id, span.parent_span_id) == ("eee19b7ec3c1b174", "eee19b7ec3c1b173")
    assert (span.time, span.duration_ns) == (1544712661000000000, 10**9)
    assert (span.service, span.kind, span.status) == ("my.service", "server", "error")
    assert span.attributes["count"] == "9007199254740993", "a 64-bit integer doesn't go through a double"
    assert (span.attributes["list"], span.attributes["ratio"]) == ("[true,000102]", "0.5")
    assert (line.severity, line.severity_number, line.body) == ("INFO", 10, "Example log record")


async def test_only_keys_in_lower_camel_case_are_fields() -> None:
    span = {key: value for key, value in SPAN.items() if key != "parentSpanId"} | {"parent_span_id": "EEE19B7EC3C1B173"}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}], "resource_spans": "anything"}
    receiver = OtlpReceiver()
    async with receiver.open():
        assert (await post(receiver, json.dumps(body).encode(), JSON))[0] == 200
        (row,) = await rows(receiver, SpansCollected)
    assert row.parent_span_id == ""


async def test_json_and_protobuf_say_the_same() -> None:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "my.service"
    span = resource.scope_spans.add().spans.add(name=SPAN["name"], kind=2)
    span.trace_id, span.span_id = bytes.fromhex(SPAN["traceId"]), bytes.fromhex(SPAN["spanId"])
    span.parent_span_id = bytes.fromhex(SPAN["parentSpanId"])
    span.start_time_unix_nano, span.end_time_unix_nano = 1544712660000000000, 1544712661000000000
    span.status.code = 2
    receiver = OtlpReceiver()
    async with receiver.open():
        await post(receiver, request.SerializeToString(), PROTOBUF)
        by_protobuf = await rows(receiver, SpansCollected)
        await post(receiver, json.dumps(traces(attributes=[], status={"code": 2})).encode(), JSON)
        assert await rows(receiver, SpansCollected) == by_protobuf


@pytest.mark.parametrize(
    "changes",
    [
        {"traceId": "no hex digits at all"},
        {"spanId": 12},
        {"kind": "SPAN_KIND_SERVER"},
        {"status": {"code": "STATUS_CODE_ERROR"}},
        {"startTimeUnixNano": "soon"},
        {"name": 7},
    ],
)
async def test_json_that_breaks_the_mapping_is_refused_for_good(changes: dict[str, Any]) -> None:
    receiver = OtlpReceiver()
    async with receiver.open():
        status, content_type, answer, _ = await post(receiver, json.dumps(traces(**changes)).encode(), JSON)
        assert (status, content_type) == (400, JSON)
        said = json.loads(answer)
        assert said["code"] == 3
        assert "ExportTraceServiceRequest in json" in said["message"]
        assert await rows(receiver, SpansCollected) == []


@pytest.mark.parametrize(
    ("body", "content_type", "headers", "expected", "code"),
    [
        (b"\xff\xff\xff", PROTOBUF, {}, 400, 3),
        (b"{", JSON, {}, 400, 3),
        (b"[]", JSON, {}, 400, 3),
        (b"[" * 100_000, JSON, {}, 400, 3),
        (b"hello", "text/plain", {}, 415, 12),
        (b"", PROTOBUF, {"Content_Encoding": "zstd"}, 415, 12),
        (b"no gzip", PROTOBUF, {"Content_Encoding": "gzip"}, 400, 3),
        (gzip.compress(b"{}")[:-8], JSON, {"Content_Encoding": "gzip"}, 400, 3),
        (gzip.compress(bytes(LARGEST_BYTES + 1), 1), PROTOBUF, {"Content_Encoding": "gzip"}, 413, 8),
        (bytes(LARGEST_BYTES + 1), PROTOBUF, {}, 413, 8),
    ],
    ids=[
        "protobuf", "json", "no object", "deep", "media type", "compression", "no gzip", "half a gzip", "a bomb", "large",
    ],
)  # fmt: skip
async def test_what_is_no_otlp_is_refused_with_a_status_in_the_requests_encoding(
    body: bytes, content_type: str, headers: dict[str, str], expected: int, code: int
) -> None:
    receiver = OtlpReceiver()
    async with receiver.open():
        status, answered, answer, retry_after = await post(receiver, body, content_type, **headers)
    assert (status, retry_after) == (expected, "")
    if content_type == PROTOBUF:
        assert (answered, Status.FromString(answer).code) == (PROTOBUF, code)
        assert Status.FromString(answer).message
    else:
        assert (answered, json.loads(answer)["code"]) == (JSON, code)


async def test_gzip_of_several_members_is_read_whole() -> None:
    text = json.dumps(traces()).encode()
    body = gzip.compress(text[:100]) + gzip.compress(text[100:])
    receiver = OtlpReceiver()
    async with receiver.open():
        assert (await post(receiver, body, JSON, Content_Encoding="gzip"))[0] == 200
        assert len(await rows(receiver, SpansCollected)) == 1


async def test_an_empty_request_is_a_success() -> None:
    receiver = OtlpReceiver()
    async with receiver.open():
        assert await post(receiver, b"", PROTOBUF) == (200, PROTOBUF, b"", "")
        assert await post(receiver, b"{}", JSON) == (200, JSON, b"{}", "")


async def test_rejected_spans_are_counted_in_json_too() -> None:
    receiver = OtlpReceiver()
    async with receiver.open():
        _, _, answer, _ = await post(receiver, json.dumps(traces(traceId="00" * 16)).encode(), JSON)
    partial = json.loads(answer)["partialSuccess"]
    assert partial["rejectedSpans"] == "1"
    assert "trace id" in partial["errorMessage"]


async def test_a_sender_comes_again_when_there_is_room() -> None:
    body = json.dumps(traces()).encode()
    receiver = OtlpReceiver(intake=Intake(kept_bytes=len(body)))
    async with receiver.open():
        assert (await post(receiver, body, JSON))[0] == 200
        status, _, answer, retry_after = await post(receiver, body, JSON)
        assert (status, json.loads(answer)["code"]) == (503, 14)
        assert int(retry_after) > 0
        assert len(await rows(receiver, SpansCollected)) == 1
        assert (await post(receiver, body, JSON))[0] == 200
