"""Pushed telemetry becomes rows; what tells of feature flags becomes truth; what isn't OTLP is refused."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.collectors.spans import Directory
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import LogsCollected, SpansCollected
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.settings import ServiceConfiguration

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def put(items: Any, **values: str) -> None:
    for key, value in values.items():
        items.add(key=key.replace("__", ".")).value.string_value = value


def spans_of(service: str, *spans: dict[str, Any]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    put(resource.resource.attributes, service__name=service, k8s__pod__name=f"{service}-1")
    scope = resource.scope_spans.add()
    for number, wanted in enumerate(spans):
        span = scope.spans.add(name="op", kind=wanted.get("kind", 2), trace_id=bytes(16), span_id=bytes([number] * 8))
        span.start_time_unix_nano, span.end_time_unix_nano = 1_000, wanted.get("end", 5_000)
        span.status.code = wanted.get("status", 0)
        put(span.attributes, **wanted.get("attributes", {}))
        if "flag" in wanted:
            put(span.events.add(name="feature_flag").attributes, feature_flag__key=wanted["flag"])
    return request


async def push(receiver: OtlpReceiver, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(receiver.endpoint + path, data=body, headers=PROTOBUF | headers) as answer,
    ):
        return answer.status, await answer.read()


async def collected(receiver: OtlpReceiver) -> dict[tuple[type, bool], Any]:
    await receiver.drain(Barrier(time=9_000, resource_version=""))
    return {(type(event), truth): getattr(event, "rows", None) for event, truth in receiver.flush(9_000)}


async def test_spans_arrive_as_rows_in_order_of_their_ends(services: ServiceConfiguration) -> None:
    receiver = OtlpReceiver()
    receiver.know(services)
    async with receiver.open():
        client = {"rpc__system": "grpc", "rpc__service": "oteldemo.CartService", "server__address": "10.0.0.7"}
        request = spans_of(
            "frontend",
            {"end": 8_000, "kind": 3, "status": 2, "attributes": client | {"sampling__probability": "0.25"}},
            {"end": 3_000},
        )
        assert await push(receiver, "/v1/traces", request.SerializeToString()) == (200, b"")
        found = await collected(receiver)
        assert await collected(receiver) == {}
    first, second = found[SpansCollected, False]
    assert (first.time, second.time, second.duration_ns) == (3_000, 8_000, 7_000)
    assert (first.kind, first.peer, first.sampling_probability) == ("server", "", 1.0)
    assert (second.kind, second.peer, second.protocol, second.status) == ("client", "cart", "grpc", "error")
    assert second.sampling_probability == 0.25
    assert second.attributes["k8s.pod.name"] == "frontend-1"
    assert "sampling.probability" not in second.attributes


async def test_feature_flags_go_to_the_truth_stream() -> None:
    receiver = OtlpReceiver()
    async with receiver.open():
        span = {"flag": "paymentFailure", "attributes": {"feature_flag__provider": "flagd", "http__route": "/"}}
        await push(receiver, "/v1/traces", spans_of("checkout", span).SerializeToString())
        await push(receiver, "/v1/traces", spans_of("flagd", {}).SerializeToString())
        found = await collected(receiver)
    (public,) = found[SpansCollected, False]
    assert public.service == "checkout"
    assert not [name for name in public.attributes if "flag" in name]
    flags = {row.service: row.attributes for row in found[SpansCollected, True]}
    assert flags["checkout"] == {"feature_flag.key": "paymentFailure", "feature_flag.provider": "flagd"}
    assert "flagd" in flags


async def test_logs_that_speak_of_flags_are_truth() -> None:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    put(resource.resource.attributes, service__name="ad")
    for number, body in enumerate(("order placed", "Feature Flag adFailure enabled")):
        record = resource.scope_logs.add().log_records.add(time_unix_nano=number + 1, severity_number=9)
        record.body.string_value = body
    receiver = OtlpReceiver()
    async with receiver.open():
        await push(receiver, "/v1/logs", request.SerializeToString())
        found = await collected(receiver)
    (public,) = found[LogsCollected, False]
    (truth,) = found[LogsCollected, True]
    assert (public.body, public.severity, public.service) == ("order placed", "INFO", "ad")
    assert "adFailure" in truth.body


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [(b"{}", {"Content-Type": "application/json"}, 415), (b"\xff\xff\xff", {}, 400), (b"", {}, 200)],
)
async def test_what_is_no_otlp_is_refused_with_a_reason(body: bytes, headers: dict[str, str], expected: int) -> None:
    receiver = OtlpReceiver()
    async with receiver.open():
        status, answer = await push(receiver, "/v1/traces", body, **headers)
        assert status == expected
        assert (expected == 200) == (answer == b"")
        assert await collected(receiver) == {}


async def test_there_is_no_endpoint_before_it_listens() -> None:
    with pytest.raises(StandError):
        _ = OtlpReceiver().endpoint


@pytest.mark.parametrize(
    ("attributes", "peer", "protocol"),
    [
        ({"server.address": "cart.otel-demo.svc.cluster.local"}, "cart", "grpc"),
        ({"server.address": "10.96.0.1", "rpc.system": "grpc"}, "", "grpc"),
        ({"server.address": "postgresql", "db.system": "postgresql"}, "postgresql", "sql"),
        ({"http.host": "quote:8090", "http.method": "POST"}, "quote", "http"),
        ({}, "", ""),
    ],
)
def test_peers_are_names_never_addresses(
    services: ServiceConfiguration, attributes: dict[str, str], peer: str, protocol: str
) -> None:
    directory = Directory(services)
    assert directory.peer(attributes) == peer
    assert directory.protocol(attributes, peer) == protocol
