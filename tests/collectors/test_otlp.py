"""Pushed telemetry becomes rows; what tells of feature flags becomes truth; what can't become a row is told to its sender."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import aiohttp
import msgspec
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.collectors.log_records import severity
from otel_control_gym.collectors.spans import Directory, span_rows
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import LogsCollected, SpansCollected
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.settings import Flag, RunSettings, ServiceConfiguration

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
        span = scope.spans.add(name="op", kind=wanted.get("kind", 2), trace_id=wanted.get("trace", bytes([1] * 16)))
        span.span_id = wanted.get("id", (number + 1).to_bytes(8))
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


async def test_spans_arrive_as_rows_in_order_of_their_ends(settings: RunSettings) -> None:
    receiver = OtlpReceiver()
    receiver.know(settings)
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


@pytest.mark.parametrize(
    ("planted", "attributes"),
    [
        ("Feature Flag enabled", {}),
        ("FeatureFlag 'x' is activated, overloading queue now", {}),
        ("evaluated", {"feature_flag__key": "x"}),
        ("adFailure is on", {}),  # by its name alone, which the configuration knows
        ("evaluated", {"app__setting": "adfailure=on"}),
    ],
)
async def test_log_records_that_speak_of_flags_are_truth(
    planted: str, attributes: dict[str, str], settings: RunSettings
) -> None:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    put(resource.resource.attributes, service__name="ad")
    for number, (body, extra) in enumerate((("order placed", {}), (planted, attributes))):
        record = resource.scope_logs.add().log_records.add(time_unix_nano=number + 1, severity_number=9)
        record.body.string_value = body
        put(record.attributes, **extra)
    receiver = OtlpReceiver()
    receiver.know(with_flag(settings, "adFailure"))
    async with receiver.open():
        await push(receiver, "/v1/logs", request.SerializeToString())
        found = await collected(receiver)
    (public,) = found[LogsCollected, False]
    (truth,) = found[LogsCollected, True]
    assert (public.body, public.severity, public.service) == ("order placed", "INFO", "ad")
    assert truth.body == planted


async def test_a_span_s_status_that_speaks_of_a_flag_is_truth_and_the_span_is_public(settings: RunSettings) -> None:
    request = spans_of("product-catalog", {"status": 2, "attributes": {"exception__message": "ADFAILURE", "a": "b"}})
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.status.message = "Error: Product Catalog Fail Feature Flag Enabled"
    receiver = OtlpReceiver()
    receiver.know(with_flag(settings, "adFailure"))
    async with receiver.open():
        await push(receiver, "/v1/traces", request.SerializeToString())
        found = await collected(receiver)
    (public,) = found[SpansCollected, False]
    assert (public.status, public.attributes) == ("error", {"a": "b", "k8s.pod.name": "product-catalog-1"})
    (truth,) = found[SpansCollected, True]
    assert sorted(truth.attributes) == ["exception.message", "otel.status_description"]


def with_flag(settings: RunSettings, name: str) -> RunSettings:
    flag = Flag(variants={"off": False, "on": True})
    services = msgspec.structs.replace(settings.services, flags={name: flag})
    return msgspec.structs.replace(settings, services=services)


async def test_what_cant_become_a_row_is_rejected_alone() -> None:
    good = {"id": b"12345678"}
    bad: list[dict[str, Any]] = [{"trace": bytes(16)}, {"id": b"short"}, {"end": 0}, {"end": 500}]
    receiver = OtlpReceiver()
    async with receiver.open():
        status, answer = await push(receiver, "/v1/traces", spans_of("cart", *bad, good).SerializeToString())
        found = await collected(receiver)
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (status, partial.rejected_spans) == (200, len(bad))
    for reason in ("trace id", "span id", "without an end", "ends before it starts"):
        assert reason in partial.error_message
    assert [row.span_id for row in found[SpansCollected, False]] == [b"12345678".hex()]


async def test_a_log_record_without_a_time_is_rejected_alone() -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for observed in (0, 7):
        records.add(observed_time_unix_nano=observed).body.string_value = f"observed at {observed}"
    receiver = OtlpReceiver()
    async with receiver.open():
        status, answer = await push(receiver, "/v1/logs", request.SerializeToString())
        found = await collected(receiver)
    assert (status, ExportLogsServiceResponse.FromString(answer).partial_success.rejected_log_records) == (200, 1)
    assert [(row.time, row.body) for row in found[LogsCollected, False]] == [(7, "observed at 7")]


async def test_a_share_of_the_traces_is_kept_whole_with_its_probability(settings: RunSettings) -> None:
    """Weighted by 1/probability, what is kept counts what was sent; the tolerance is four standard deviations of a binomial."""
    ratio, sent, traces = 0.25, 0.5, 2_000
    telemetry = msgspec.structs.replace(settings.telemetry, span_sampling_ratio=ratio)
    receiver = OtlpReceiver()
    receiver.know(msgspec.structs.replace(settings, telemetry=telemetry))
    ids = [number.to_bytes(16) for number in range(1, traces + 1)]
    spans: list[dict[str, Any]] = [
        {"trace": trace, "id": bytes([part] * 8), "attributes": {"sampling__probability": str(sent)}}
        for part in (1, 2)
        for trace in ids
    ]
    async with receiver.open():
        # The halves of every trace come in different exports, from different services.
        for half, service in ((spans[:traces], "cart"), (spans[traces:], "frontend")):
            await push(receiver, "/v1/traces", spans_of(service, *half).SerializeToString())
        rows = (await collected(receiver))[SpansCollected, False]
    assert {row.sampling_probability for row in rows} == {sent * ratio}
    kept = Counter(row.trace_id for row in rows)
    assert set(kept.values()) == {2}, "a trace is kept whole or not at all"
    estimate = sum(1 / row.sampling_probability for row in rows)
    assert estimate == pytest.approx(2 * traces / sent, rel=4 * math.sqrt((1 - ratio) / (ratio * traces)))


@pytest.mark.parametrize(
    ("trace_state", "probability"),
    [("", 1.0), ("ot=th:8", 0.5), ("other=x,ot=rv:1;th:c", 0.25), ("ot=th:0", 1.0), ("ot=th:xyz", 1.0)],
)
def test_the_trace_state_tells_how_a_trace_was_sampled(trace_state: str, probability: float) -> None:
    (resource,) = spans_of("cart", {}).resource_spans
    resource.scope_spans[0].spans[0].trace_state = trace_state
    ((row,), _) = span_rows(resource, Directory(None))
    assert row.sampling_probability == probability


@pytest.mark.parametrize(
    ("number", "text", "expected"),
    [
        (9, "Information", ("INFO", 9)),
        (0, "information", ("INFO", 9)),
        (0, "WARNING", ("WARN", 13)),
        (18, "", ("ERROR", 18)),
        (24, "whatever", ("FATAL", 24)),
        (0, "Critical", ("FATAL", 21)),
        (0, "loud", ("UNSPECIFIED", 0)),
        (99, "", ("UNSPECIFIED", 0)),
    ],
)
def test_a_severity_has_one_of_six_names_whoever_sent_it(number: int, text: str, expected: tuple[str, int]) -> None:
    assert severity(number, text) == expected


async def test_a_log_row_keeps_what_its_sender_said_besides(settings: RunSettings) -> None:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    put(resource.resource.attributes, service__name="cart", k8s__pod__name="cart-1")
    record = resource.scope_logs.add().log_records.add(
        time_unix_nano=5, severity_text="Information", event_name="proxy.access"
    )
    record.trace_id, record.span_id, record.body.string_value = bytes([1] * 16), bytes([2] * 8), "hello"
    put(record.attributes, sampling__probability="0.5", user="u")
    receiver = OtlpReceiver()
    async with receiver.open():
        await push(receiver, "/v1/logs", request.SerializeToString())
        (row,) = (await collected(receiver))[LogsCollected, False]
    assert (row.severity, row.severity_number, row.sampling_probability) == ("INFO", 9, 0.5)
    assert (row.trace_id, row.span_id) == ("01" * 16, "02" * 8)
    assert row.attributes == {
        "event.name": "proxy.access", "k8s.pod.name": "cart-1", "severity_text": "Information", "user": "u",
    }  # fmt: skip


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
