"""Pushed spans and logs: who they are from, how they hang together, how many there are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_control_gym.collectors.spans import Directory, span_rows
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.settings import TwinSettings
from otel_control_gym.stands.twin.stand import TwinStand

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig, Receiver

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
GENEROUS = TwinSettings(span_budget_per_600s=300_000)


def attributes(item: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in item.attributes}


def spans_of(receiver: Receiver) -> list[tuple[dict[str, Any], Span]]:
    return [
        (attributes(resource.resource), span)
        for request in receiver.traces
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def records_of(receiver: Receiver) -> list[tuple[Any, LogRecord]]:
    return [
        (resource.resource, record)
        for request in receiver.logs
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


@pytest.fixture
async def pushed(stand: TwinStand, receiver: Receiver, make_config: MakeConfig) -> Receiver:
    await stand.reset(make_config(100, twin=GENEROUS), otlp_endpoint=receiver.url)
    await stand.advance(stand.now + 60 * SECOND)
    return receiver


async def test_nothing_is_pushed_without_traffic(stand: TwinStand, receiver: Receiver, make_config: MakeConfig) -> None:
    await stand.reset(make_config(0), otlp_endpoint=receiver.url)
    await stand.advance(stand.now + 60 * SECOND)
    assert not receiver.traces
    assert not receiver.logs


async def test_a_span_says_which_pod_it_is_from(pushed: Receiver, stand: TwinStand) -> None:
    pods = {pod.uid: pod for pod in stand.run.control_plane.pods()}
    for resource, span in spans_of(pushed):
        pod = pods[resource["k8s.pod.uid"]]
        assert resource["service.name"] == pod.service
        assert resource["service.instance.id"] == pod.uid
        assert resource["k8s.pod.name"] == pod.name
        assert resource["service.namespace"] == "otel-demo"
        assert stand.run.start < span.end_time_unix_nano <= stand.now
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        assert len(span.trace_id) == 16
        assert len(span.span_id) == 8


async def test_spans_hang_together_across_services(pushed: Receiver) -> None:
    by_id = {span.span_id: (resource["service.name"], span) for resource, span in spans_of(pushed)}
    assert len(by_id) == len(spans_of(pushed))
    linked = 0
    for _, span in by_id.values():
        if span.kind == Span.SPAN_KIND_INTERNAL:
            assert not span.parent_span_id
            assert span.name.startswith("user_")
        if span.parent_span_id not in by_id:
            continue
        owner, parent = by_id[span.parent_span_id]
        assert parent.trace_id == span.trace_id
        if span.kind == Span.SPAN_KIND_SERVER:
            assert parent.kind == Span.SPAN_KIND_CLIENT
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano
        if span.kind == Span.SPAN_KIND_CLIENT and owner == "load-generator":
            assert parent.kind == Span.SPAN_KIND_INTERNAL
        linked += 1
    assert linked > 1000


async def test_attributes_follow_the_conventions_of_each_runtime(pushed: Receiver) -> None:
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    for resource, span in spans_of(pushed):
        found[resource["service.name"], span.kind, span.name] = attributes(span)
    server, client = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
    catalogue = found["product-catalog", server, "oteldemo.ProductCatalogService/GetProduct"]
    assert catalogue["rpc.system"] == "grpc"
    assert catalogue["rpc.service"] == "oteldemo.ProductCatalogService"
    assert catalogue["rpc.method"] == "GetProduct"
    assert catalogue["rpc.grpc.status_code"] == 0
    page = found["frontend", server, "GET /api/products/{productId}"]
    assert (page["http.method"], page["http.status_code"]) == ("GET", 200)
    assert page["http.route"] == "/api/products/{productId}"
    assert found["load-generator", client, "GET"]["server.address"] == "frontend"
    query = found["product-catalog", client, "SELECT products"]
    assert (query["db.system"], query["server.address"]) == ("postgresql", "postgresql")
    assert found["cart", client, "HGET"]["server.address"] == "valkey-cart"
    assert found["shipping", server, "POST /get-quote"]["http.response.status_code"] == 200
    # Go's gRPC client writes the resolved address, so nobody may take it for a name.
    assert found["checkout", client, "oteldemo.PaymentService/Charge"]["server.address"].startswith("10.96.")


async def test_weighted_spans_estimate_the_kernels_count(pushed: Receiver, stand: TwinStand) -> None:
    weights: dict[bytes, float] = {}
    for resource, span in spans_of(pushed):
        if (resource["service.name"], span.kind) == ("frontend", Span.SPAN_KIND_SERVER):
            weight = 1 / attributes(span)["sampling.probability"]
            weights[span.trace_id] = weights.get(span.trace_id, 0.0) + weight
    slot = stand.run.simulation.slots.index("frontend")
    true = int(stand.run.simulation.pod_counters().served[slot])
    # Traces are kept or not as wholes: the variance of the sum is that of Horvitz and Thompson over traces, at most sum of w².
    error = sum(weight**2 for weight in weights.values()) ** 0.5
    assert abs(sum(weights.values()) - true) < 4 * error
    assert true > 500


async def test_sampling_stays_within_its_budget(stand: TwinStand, receiver: Receiver, make_config: MakeConfig) -> None:
    await stand.reset(make_config(190), otlp_endpoint=receiver.url)
    for _ in range(10):
        await stand.advance(stand.now + 60 * SECOND)
    assert 2_500 < len(spans_of(receiver)) <= 5_500


async def test_failures_are_kept_more_willingly_and_logged(
    stand: TwinStand, receiver: Receiver, make_config: MakeConfig
) -> None:
    await stand.reset(make_config(190), otlp_endpoint=receiver.url)
    await stand.advance(stand.now + 60 * SECOND)
    cache = next(item for item in stand.run.world.containers if item.service == "valkey-cart")
    stand.run.world.stop_container(cache.uid)
    await stand.advance(stand.now + 60 * SECOND)
    failed = [(resource, span) for resource, span in spans_of(receiver) if span.status.code == Status.STATUS_CODE_ERROR]
    assert {"cart", "frontend"} <= {resource["service.name"] for resource, _ in failed}
    span_ids = {span.span_id: attributes(span) for _, span in failed}
    assert max(found["sampling.probability"] for found in span_ids.values()) > 0.02
    logs = [(attributes(resource)["service.name"], record) for resource, record in records_of(receiver)]
    errors = [(service, record) for service, record in logs if record.severity_number >= 17]
    assert {(service, record.body.string_value) for service, record in errors} == {
        ("cart", "Wasn't able to connect to redis")
    }
    for _, record in errors:
        assert attributes(record)["sampling.probability"] == span_ids[record.span_id]["sampling.probability"]


async def test_the_services_of_the_demo_that_log_do_and_no_others(pushed: Receiver) -> None:
    by_service: dict[str, set[str]] = {}
    for resource, record in records_of(pushed):
        by_service.setdefault(attributes(resource)["service.name"], set()).add(record.severity_text)
    assert by_service == {
        "cart": {"Information"},
        "checkout": {"INFO"},
        "currency": {"INFO"},
        "email": {"INFO"},
        "load-generator": {"INFO"},
        "payment": {"info"},
        "product-catalog": {"INFO"},
        "quote": {"INFO"},
        "recommendation": {"INFO"},
        "shipping": {"INFO"},
    }


async def test_log_records_hang_on_the_spans_that_they_tell_of(pushed: Receiver) -> None:
    spans = {(span.trace_id, span.span_id): (resource, span) for resource, span in spans_of(pushed)}
    users: dict[bytes, set[str]] = {}
    for resource, record in records_of(pushed):
        owner, span = spans[record.trace_id, record.span_id]
        assert owner == attributes(resource)
        assert record.time_unix_nano == span.end_time_unix_nano
        assert attributes(record)["sampling.probability"] == attributes(span)["sampling.probability"]
        assert "{" not in record.body.string_value
        users.setdefault(record.trace_id, set()).update(re.findall(UUID, record.body.string_value))
    assert all(len(found) <= 1 for found in users.values()), "one user a trace"
    assert len({user for found in users.values() for user in found}) > 10


async def test_a_proxy_logs_every_access_with_its_status(
    stand: TwinStand, receiver: Receiver, make_config: MakeConfig
) -> None:
    config = make_config(60, twin=GENEROUS)
    public = msgspec.structs.replace(config.public, services=load_services("medium-store")[0])
    await stand.reset(msgspec.structs.replace(config, public=public), otlp_endpoint=receiver.url)
    await stand.advance(stand.now + 30 * SECOND)
    spans = {span.span_id: attributes(span) for _, span in spans_of(receiver) if span.kind == Span.SPAN_KIND_SERVER}
    access = [
        record for resource, record in records_of(receiver) if attributes(resource)["service.name"] == "frontend-proxy"
    ]
    assert len(access) > 50
    for record in access:
        assert attributes(record)["event.name"] == "proxy.access"
        assert (
            f' HTTP/1.1" {spans[record.span_id]["http.response.status_code"]} - via_upstream'
            in record.body.string_value
        )


async def test_a_receiver_that_refuses_is_an_error_of_the_stand(
    stand: TwinStand, receiver: Receiver, make_config: MakeConfig
) -> None:
    receiver.status = 503
    await stand.reset(make_config(100, twin=GENEROUS), otlp_endpoint=receiver.url)
    with pytest.raises(StandError, match=r"v1/traces answered 503"):
        await stand.advance(stand.now + 30 * SECOND)


async def test_a_receiver_that_is_not_there_is_an_error_of_the_stand(stand: TwinStand, make_config: MakeConfig) -> None:
    await stand.reset(make_config(100, twin=GENEROUS), otlp_endpoint="http://127.0.0.1:9")
    with pytest.raises(StandError, match="gave no answer"):
        await stand.advance(stand.now + 30 * SECOND)


async def test_messages_are_told_of_by_their_producer_and_their_consumers(
    stand: TwinStand, receiver: Receiver, make_config: MakeConfig
) -> None:
    config = make_config(190, twin=GENEROUS)
    public = msgspec.structs.replace(config.public, services=load_services("async-store")[0])
    await stand.reset(msgspec.structs.replace(config, public=public), otlp_endpoint=receiver.url)
    await stand.advance(stand.now + 60 * SECOND)
    found: dict[tuple[str, int], tuple[str, dict[str, Any]]] = {}
    for resource, span in spans_of(receiver):
        if span.kind in (Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER):
            found[resource["service.name"], span.kind] = span.name, attributes(span)
            assert bool(span.parent_span_id) == (span.kind == Span.SPAN_KIND_PRODUCER)
            assert not [name for name in attributes(span) if name.startswith("feature_flag")]
    assert len(found) == 3
    name, sent = found["checkout", Span.SPAN_KIND_PRODUCER]
    assert name == "orders publish"
    assert sent["peer.service"] == sent["server.address"] == "kafka"
    for service, verb in (("accounting", "receive"), ("fraud-detection", "process")):
        name, read = found[service, Span.SPAN_KIND_CONSUMER]
        assert name == f"orders {verb}"
        assert read["messaging.consumer.group.name"] == service
    for _, said in found.values():
        assert (said["messaging.system"], said["messaging.destination.name"]) == ("kafka", "orders")
    everything = [
        row
        for request in receiver.traces
        for resource in request.resource_spans
        for row in span_rows(resource, Directory(public.services))[0]
    ]
    assert {(row.service, row.peer, row.protocol) for row in everything if row.kind in ("producer", "consumer")} == {
        ("checkout", "kafka", "kafka"),
        ("accounting", "", "kafka"),
        ("fraud-detection", "", "kafka"),
    }
