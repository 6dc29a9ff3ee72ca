"""Each cell of a row is from the first source that knows it; who is meant is found by labels, aliases and addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from otel_control_gym.engine.settings import AddressBook, Consumer, EdgeSettings, MetricMap, RunSettings, Topic
from otel_control_gym.projections.features import edge_features, edge_statuses, node_features
from otel_control_gym.projections.fold import RunState, fold

ASKED = "traces_service_graph_request_total"
FAILED = "traces_service_graph_request_failed_total"
CALLS = "traces_span_metrics_calls_total"
Change = Callable[[RunSettings], RunSettings]
#: Edges of the scribe's application.
CART, CACHE = 0, 1


def nodes(state: RunState, name: str) -> list[list[float]]:
    rows: list[list[float]] = node_features(state.telemetry(), state.buckets(10))[name].tolist()
    return rows


def edges(state: RunState, name: str) -> np.ndarray[Any, Any]:
    return edge_features(state.telemetry(), state.buckets(10))[name]


def statuses(state: RunState, edge: int) -> list[dict[str, float] | None]:
    found = edge_statuses(state.telemetry(), state.buckets(10))
    return [
        {code: count for code, count in zip(found.codes, row, strict=True) if count} if known else None
        for row, known in zip(found.counts[:, edge].tolist(), found.known[:, edge].tolist(), strict=True)
    ]


def with_metrics(**changes: Any) -> Change:
    return lambda settings: msgspec.structs.replace(
        settings, metrics=msgspec.structs.replace(settings.metrics, **changes)
    )


def offering(settings: RunSettings, source: Any, offered: MetricMap) -> RunSettings:
    return msgspec.structs.replace(settings, metrics=offered.with_edges_of(source))


@pytest.fixture
def node_agent(packaged_metrics: MetricMap) -> Change:
    return lambda settings: offering(settings, "node_agent", packaged_metrics)


@pytest.fixture
def span_metrics(packaged_metrics: MetricMap) -> Change:
    return lambda settings: offering(settings, "span_metrics", packaged_metrics)


# --- preference ----------------------------------------------------------------------------------------------------------------


def test_what_sends_no_spans_is_known_by_its_callers_and_who_does_by_its_own(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10):
        log.calls(seconds, 3 * seconds, service="cart")
        log.sample(seconds, 4 * seconds, ASKED, client="frontend", server="cart")
        log.sample(seconds, 7 * seconds, ASKED, client="cart", server="cache", connection_type="virtual_node")
    log.flush(10)
    assert nodes(fold(log.entries), "request_count") == [[0, 30, 70]]  # frontend, cart, cache


def test_without_any_sample_of_a_stand_in_what_sends_no_spans_stays_unknown(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10):
        log.calls(seconds, 3 * seconds)
    log.flush(10)
    assert np.isnan(nodes(fold(log.entries), "request_count")[0][2])


def test_once_its_metric_was_read_an_unasked_dependency_has_zero_requests(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10):
        log.sample(seconds, seconds, ASKED, client="frontend", server="cart")
    log.flush(10)
    state = fold(log.entries)
    assert nodes(state, "request_count")[0][2] == 0
    assert nodes(state, "error_count")[0][2] == 0


def test_a_row_never_mixes_requests_of_one_source_with_latency_of_another(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10):  # the cart's own spans tell of no request; its callers' of one that took 80 ms
        log.calls(seconds, 0, service="cart")
        for name, value in (
            ("total", seconds),
            ("client_seconds_count", seconds),
            ("client_seconds_sum", 0.08 * seconds),
        ):
            labels = {"client": "frontend", "server": "cart", "connection_type": "virtual_node"}
            log.sample(seconds, value, f"traces_service_graph_request_{name}", **labels)
    log.flush(10)
    state = fold(log.entries)
    assert nodes(state, "request_count")[0][1] == 0
    assert np.isnan(nodes(state, "latency_mean_ms")[0][1])


# --- statuses and tries again ---------------------------------------------------------------------------------------------------


def test_statuses_are_counted_by_the_first_label_that_tells_one(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10):
        both = {"client": "frontend", "server": "cart"}
        log.sample(seconds, 8 * seconds, ASKED, failed="false", client_rpc_grpc_status_code="0", **both)
        for name in (ASKED, FAILED):
            log.sample(seconds, seconds, name, failed="true", client_rpc_grpc_status_code="14", **both)
        log.sample(seconds, 2 * seconds, ASKED, client="cart", server="cache", failed="false")
    log.flush(10)
    state = fold(log.entries)
    assert statuses(state, CART) == [{"0": 80, "14": 10}]
    assert statuses(state, CACHE) == [{"ok": 20}]
    assert edges(state, "error_count").tolist() == [[10, 0]]


def test_attempts_after_the_first_are_the_retry_rate_and_zero_where_none_was_told_of(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10):
        both = {"client": "frontend", "server": "cart", "failed": "false"}
        log.sample(seconds, 6 * seconds, ASKED, **both)
        log.sample(seconds, 2 * seconds, ASKED, client_http_request_resend_count="1", **both)
        log.sample(seconds, 1 * seconds, ASKED, client_rpc_previous_attempts="2", **both)
        log.sample(seconds, 4 * seconds, ASKED, client="cart", server="cache", failed="false")
    log.flush(10)
    state = fold(log.entries)
    assert edges(state, "retry_rate").tolist() == [[3.0, 0.0]]
    assert edges(state, "request_rate").tolist() == [[9.0, 4.0]]


def test_without_a_source_of_retries_their_rate_is_unknown(scribe: Any, node_agent: Change) -> None:
    log = scribe(change=node_agent)
    for seconds in range(0, 31, 5):
        labels = {"app_id": "/k8s/shop/frontend", "destination": "cart:8080", "status": "2xx"}
        log.sample(seconds, seconds, "container_http_requests_total", **labels)
    log.flush(30)
    state = fold(log.entries)
    assert edges(state, "request_count")[:, CART].tolist() == [10, 10, 10]
    assert np.isnan(edges(state, "retry_rate")[:, CART]).all()


# --- whose a series is -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "destination", ["cart:8080", "cart.shop.svc.cluster.local:8080", "10.96.0.7:8080", "10.1.2.3:8080"]
)
def test_the_node_agents_destinations_are_names_or_addresses_that_somebody_knows(
    scribe: Any, node_agent: Change, destination: str
) -> None:
    log = scribe(change=node_agent)
    log.sample(0, 1, "kube_service_info", service="cart", cluster_ip="10.96.0.7")
    log.sample(0, 1, "kube_pod_info", pod="cart-7d9c-abcde", pod_ip="10.1.2.3")
    edge = {"app_id": "/k8s/shop/frontend", "destination": destination}
    for seconds in (0, 5, 10):
        log.sample(seconds, 9 * seconds, "container_http_requests_total", status="grpc:OK", **edge)
        log.sample(seconds, seconds, "container_http_requests_total", status="grpc:Unavailable", **edge)
        log.sample(
            seconds,
            3 * seconds,
            "container_redis_queries_total",
            app_id="/k8s/shop/cart",
            destination="cache:6379",
            status="ok",
        )
    log.flush(10)
    state = fold(log.entries)
    assert edges(state, "request_count").tolist() == [[100, 30]]
    assert edges(state, "error_count").tolist() == [[10, 0]]
    assert statuses(state, CART) == [{"grpc:OK": 90, "grpc:Unavailable": 10}]


def test_an_address_that_is_given_to_another_pod_is_the_newer_ones(scribe: Any, node_agent: Change) -> None:
    log = scribe(change=node_agent)
    log.sample(0, 1, "kube_pod_info", pod="cache-7d9c-abcde", pod_ip="10.1.2.3")
    log.sample(
        0, 0, "container_http_requests_total", app_id="/k8s/shop/frontend", destination="10.1.2.3:1", status="2xx"
    )
    log.flush(0)
    log.sample(5, 1, "kube_pod_info", pod="cart-7d9c-fghij", pod_ip="10.1.2.3")
    log.sample(
        10, 50, "container_http_requests_total", app_id="/k8s/shop/frontend", destination="10.1.2.3:1", status="2xx"
    )
    log.flush(10)
    assert edges(fold(log.entries), "request_count")[0, CART] == 50


def test_an_agents_edge_is_unknown_until_it_was_seen(scribe: Any, node_agent: Change) -> None:
    log = scribe(change=node_agent)
    for seconds in (0, 5, 10):
        log.sample(
            seconds, seconds, "container_http_requests_total", app_id="/k8s/shop/x", destination="y:1", status="2xx"
        )
    log.flush(10)
    assert np.isnan(edges(fold(log.entries), "request_count")).all()


def test_span_metrics_tell_the_peer_by_rpc_service_or_by_address(scribe: Any, span_metrics: Change) -> None:
    log = scribe(change=span_metrics)
    for seconds in (0, 5, 10):
        client = {"span_kind": "SPAN_KIND_CLIENT", "status_code": "STATUS_CODE_UNSET"}
        by_service = {"rpc_service": "oteldemo.CartService", "server_address": "10.96.0.7", "rpc_grpc_status_code": "0"}
        log.sample(seconds, 5 * seconds, CALLS, service_name="frontend", **by_service, **client)
        log.sample(seconds, 2 * seconds, CALLS, service_name="cart", server_address="cache", **client)
    log.flush(10)
    state = fold(log.entries)
    assert edges(state, "request_count").tolist() == [[50, 20]]
    assert (statuses(state, CART), statuses(state, CACHE)) == ([{"0": 50}], [{"ok": 20}])


def test_addresses_of_a_map_without_books_lead_nowhere(scribe: Any) -> None:
    book = AddressBook(metric="kube_service_info", address="cluster_ip", name="service")
    for books, expected in (((book,), 10), ((), 0)):
        log = scribe(change=with_metrics(addresses=books))
        log.sample(0, 1, "kube_service_info", service="cart", cluster_ip="10.96.0.7")
        for seconds in (0, 5, 10):
            log.sample(seconds, seconds, ASKED, client="frontend", server="10.96.0.7")
        log.flush(10)
        assert edges(fold(log.entries), "request_count")[0, CART] == expected


# --- messages ----------------------------------------------------------------------------------------------------------------------


def consuming(settings: RunSettings) -> RunSettings:
    """Let the cart consume what a broker (that sends no spans) hands out."""
    edge = EdgeSettings(source="cache", target="cart", protocol="kafka")
    topic = Topic(
        broker="cache", operation="publish", consumers=(Consumer(group="cart", service="cart", operation="take"),)
    )
    services = msgspec.structs.replace(
        settings.services, edges=(*settings.services.edges, edge), topics={"orders": topic}
    )
    return msgspec.structs.replace(settings, services=services)


def test_a_brokers_edge_to_a_consumer_has_the_messages_that_it_processed(scribe: Any) -> None:
    log = scribe(change=consuming)
    for seconds in (0, 5, 10):
        labels = {"service_name": "cart", "span_kind": "SPAN_KIND_CONSUMER"}
        log.sample(seconds, 3 * seconds, CALLS, status_code="STATUS_CODE_UNSET", **labels)
        log.sample(seconds, seconds, CALLS, status_code="STATUS_CODE_ERROR", **labels)
        for part, factor in (("count", 4), ("sum", 100)):
            log.sample(seconds, factor * seconds, f"traces_span_metrics_duration_milliseconds_{part}", **labels)
    log.flush(10)
    state = fold(log.entries)
    consumed = 2
    assert edges(state, "request_count")[0, consumed] == 40
    assert edges(state, "error_count")[0, consumed] == 10
    assert edges(state, "latency_mean_ms")[0, consumed] == 25
    assert statuses(state, consumed) == [{"ok": 30, "error": 10}]
    assert np.isnan(edges(state, "retry_rate")[0, consumed])


def test_a_consumer_without_messages_has_zero_of_them(scribe: Any) -> None:
    log = scribe(change=consuming)
    for seconds in (0, 5, 10):
        log.calls(seconds, seconds)
    log.flush(10)
    assert edges(fold(log.entries), "request_count")[0, 2] == 0


# --- native histograms -------------------------------------------------------------------------------------------------------------


def native(settings: RunSettings) -> RunSettings:
    (own, *_) = settings.metrics.sources("node")["latency"]
    source = msgspec.structs.replace(own, metric="seconds", kind="native_histogram", where={}, scale=1000.0)
    node = dict(settings.metrics.node) | {"latency": source}
    return msgspec.structs.replace(settings, metrics=msgspec.structs.replace(settings.metrics, node=node))


def native_samples(log: Any, seconds: float, held: dict[tuple[str, str], float], *, pod: str = "a") -> None:
    labels = {"service_name": "frontend", "pod": pod}
    log.sample(seconds, sum(held.values()), "seconds_count", **labels)
    log.sample(seconds, 2.0 * sum(held.values()), "seconds_sum", **labels)
    for (lower, upper), count in held.items():
        log.sample(seconds, count, "seconds_bucket", boundary_rule="0", lower_bound=lower, upper_bound=upper, **labels)


def test_a_native_histograms_quantile_is_interpolated_exponentially_in_milliseconds(scribe: Any) -> None:
    log = scribe(change=native)
    for seconds in (0, 5, 10):
        native_samples(log, seconds, {("1", "4"): 10.0 * seconds})
    log.flush(10)
    state = fold(log.entries)
    assert nodes(state, "latency_p50_ms")[0][0] == pytest.approx(2000)
    assert nodes(state, "latency_p95_ms")[0][0] == pytest.approx(1000 * 4**0.95)
    assert nodes(state, "latency_mean_ms")[0][0] == pytest.approx(2000)


def test_pods_of_two_resolutions_are_put_together(scribe: Any) -> None:
    log = scribe(change=native)
    for seconds in (0, 5, 10):
        native_samples(log, seconds, {("1", "2"): 10.0 * seconds, ("2", "4"): 0.0})
        native_samples(log, seconds, {("1", "4"): 10.0 * seconds}, pod="b")
    log.flush(10)
    # Up to 2 s: all 100 of one pod, and half of the other's 100; so the median is where 2/3 of these are reached.
    assert nodes(fold(log.entries), "latency_p50_ms")[0][0] == pytest.approx(1000 * 2 ** (2 / 3))


def test_where_a_histogram_changed_its_resolution_its_quantiles_are_unknown_and_then_known_again(scribe: Any) -> None:
    log = scribe(change=native)
    native_samples(log, 0, {("1", "2"): 100, ("2", "4"): 100})
    native_samples(log, 10, {("1", "2"): 150, ("2", "4"): 150})
    native_samples(log, 20, {("1", "2"): 0, ("2", "4"): 0, ("1", "4"): 400})
    native_samples(log, 30, {("1", "2"): 0, ("2", "4"): 0, ("1", "4"): 500})
    log.flush(30)
    state = fold(log.entries)
    assert [row[0] for row in nodes(state, "latency_count")] == [100, 100, 100]
    known = [not np.isnan(row[0]) for row in nodes(state, "latency_p50_ms")]
    assert known == [True, False, True]


def test_after_a_restart_a_native_histogram_counts_from_zero(scribe: Any) -> None:
    log = scribe(change=native)
    native_samples(log, 0, {("1", "2"): 100, ("2", "4"): 50})
    native_samples(log, 10, {("1", "2"): 0, ("2", "4"): 40})
    log.flush(10)
    state = fold(log.entries)
    assert nodes(state, "latency_count")[0][0] == 40
    assert nodes(state, "latency_p50_ms")[0][0] == pytest.approx(1000 * 2 * 2**0.5)
