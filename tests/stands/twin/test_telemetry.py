"""Scraped series tell exactly what the kernel counted: nothing lost, nothing invented, nothing after a pod is gone."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import Granularity
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.state import CLIENT, ERROR, LOST, OK, REFUSED, SERVER

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig


def live(run: TwinRun, seconds: int) -> None:
    until = run.now + seconds * SECOND
    while run.advance_once(until):
        pass


def samples(run: TwinRun, **where: str) -> list[tuple[dict[str, str], np.ndarray]]:
    """Return labels and samples of the series with these labels, over the whole run."""
    where = {name if name != "name" else "__name__": value for name, value in where.items()}
    series = run.telemetry.series
    numbers = [
        number
        for number, labels in series.labels.items()
        if all(labels.get(name) == value for name, value in where.items())
    ]
    window = series.window(np.array(numbers, np.int64), run.start - 1, run.now)
    return [(series.labels[number], window.values[:, column]) for column, number in enumerate(numbers)]


def last(values: np.ndarray) -> float:
    return float(values[~np.isnan(values)][-1])


@pytest.fixture
def busy(make_config: MakeConfig) -> TwinRun:
    run = TwinRun(make_config(120))
    live(run, 60)
    return run


def test_calls_by_span_name_add_up_to_the_kernels_counters(busy: TwinRun) -> None:
    counted: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row, span_row in enumerate(busy.simulation.span_rows):
        kind = {SERVER: "SPAN_KIND_SERVER", CLIENT: "SPAN_KIND_CLIENT"}.get(span_row.kind, "SPAN_KIND_INTERNAL")
        calls = int(busy.simulation.span_buckets[row].sum())
        if calls:
            counted[busy.simulation.slots[span_row.slot], kind] += calls
    scraped: defaultdict[tuple[str, str], float] = defaultdict(float)
    for labels, values in samples(busy, name="traces_span_metrics_calls_total"):
        scraped[labels["service_name"], labels["span_kind"]] += last(values)
    assert counted == scraped
    assert counted["frontend", "SPAN_KIND_SERVER"] > 500


def test_every_histogram_is_whole(busy: TwinRun) -> None:
    for name, step in (
        ("traces_span_metrics_duration_milliseconds", "2"),
        ("traces_service_graph_request_client_seconds", "0.002"),
        ("traces_service_graph_request_server_seconds", "0.002"),
    ):
        by_series: defaultdict[tuple[tuple[str, str], ...], dict[str, float]] = defaultdict(dict)
        for labels, values in samples(busy, name=f"{name}_bucket"):
            rest = {key: value for key, value in labels.items() if key not in ("le", "__name__")}
            by_series[tuple(rest.items())][labels["le"]] = last(values)
        counts = {
            tuple((key, value) for key, value in labels.items() if key != "__name__"): last(values)
            for labels, values in samples(busy, name=f"{name}_count")
        }
        assert by_series.keys() == counts.keys()
        for key, buckets in by_series.items():
            bounds = sorted(buckets, key=float)
            assert bounds[0] == step
            assert len(bounds) == 17
            heights = [buckets[bound] for bound in bounds]
            assert heights == sorted(heights)
            assert buckets["+Inf"] == counts[key]


def test_edges_tell_what_callers_saw(busy: TwinRun) -> None:
    scraped: defaultdict[tuple[str, str], float] = defaultdict(float)
    for labels, values in samples(busy, name="traces_service_graph_request_total"):
        scraped[labels["client"], labels["server"]] += last(values)
    for row, (source, target, _) in enumerate(busy.simulation.names.edges):
        finished = busy.simulation.edge_counts[row, [OK, ERROR, REFUSED, LOST]].sum()
        assert scraped.get((source, target), 0.0) == finished
    assert scraped["load-generator", "frontend"] == busy.simulation.load_counters().served


def test_a_store_without_spans_is_a_virtual_node_whose_server_takes_no_time(busy: TwinRun) -> None:
    (labels, values), *_ = samples(busy, name="traces_service_graph_request_server_seconds_sum", server="postgresql")
    assert labels["connection_type"] == "virtual_node"
    assert last(values) == 0.0
    assert not samples(busy, name="traces_span_metrics_calls_total", service_name="postgresql")
    (ordinary, _), *_ = samples(busy, name="traces_service_graph_request_total", server="cart", client="frontend")
    assert "connection_type" not in ordinary


def test_a_counter_appears_when_it_first_counts(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(0))
    live(run, 20)
    assert not samples(run, name="traces_span_metrics_calls_total")
    assert not samples(run, name="traces_service_graph_request_total")
    assert samples(run, name="k8s_pod_cpu_time_seconds_total")
    run.simulation.set_users(50, 50.0)
    live(run, 30)
    assert samples(run, name="traces_span_metrics_calls_total", service_name="frontend")
    assert not samples(run, name="traces_span_metrics_calls_total", status_code="STATUS_CODE_ERROR")


def test_the_kubelets_figures_change_every_ten_seconds_only(busy: TwinRun) -> None:
    ((_, values),) = samples(busy, name="k8s_pod_cpu_time_seconds_total", service_name="frontend")
    assert len(values) == 13  # a scrape at the start, then every 5 s
    assert (values[0:12:2] == values[1:13:2]).all()
    assert (np.diff(values[::2]) > 0).all()


def test_a_scrape_between_two_looks_of_the_kubelet_repeats_the_older_one(make_config: MakeConfig) -> None:
    granularity = Granularity(
        scrape_interval_seconds=15, observation_bucket_seconds=15, control_step_seconds=30, reward_bucket_seconds=30
    )
    run = TwinRun(make_config(60, granularity=granularity))
    live(run, 15)
    ((_, values),) = samples(run, name="k8s_pod_cpu_time_seconds_total", service_name="frontend")
    slot = run.simulation.slots.index("frontend")
    assert 0 < values[-1] < run.simulation.pod_counters().cpu_seconds[slot]


def test_throttling_is_shown_for_containers_with_a_cpu_limit(busy: TwinRun) -> None:
    shown = {
        labels["container"]: last(values) for labels, values in samples(busy, name="container_cpu_cfs_periods_total")
    }
    limited = {name for name, service in busy.config.public.services.services.items() if service.cpu_limit_cores}
    assert shown.keys() == limited
    assert shown["frontend"] > 100


def test_objects_of_the_cluster_are_shown_as_they_are(busy: TwinRun) -> None:
    services = busy.config.public.services.services
    for name, service in services.items():
        for metric in ("k8s_deployment_desired", "k8s_deployment_available"):
            ((_, values),) = samples(busy, name=metric, k8s_deployment_name=name)
            assert last(values) == service.replicas
        ((_, limits),) = samples(busy, name="k8s_container_cpu_limit", k8s_deployment_name=name)
        assert last(limits) == service.cpu_limit_cores
        ((_, ready),) = samples(busy, name="k8s_container_ready", k8s_deployment_name=name)
        assert last(ready) == 1.0


def test_a_pod_that_is_gone_shows_one_last_count_and_then_nothing(busy: TwinRun) -> None:
    container = next(item for item in busy.world.containers if item.service == "cart")
    before = [row for row, span_row in enumerate(busy.simulation.span_rows) if span_row.slot == container.slot]
    live(busy, 2)
    busy.world.stop_container(container.uid)
    total = int(busy.simulation.span_buckets[before].sum())
    live(busy, 18)
    calls = samples(busy, name="traces_span_metrics_calls_total", k8s_pod_name=container.name)
    assert sum(last(values) for _, values in calls) == total
    for _, values in calls:
        assert np.isnan(values[-3:]).all()
        assert not np.isnan(values[-4])
    ((_, memory),) = samples(busy, name="k8s_pod_memory_working_set_bytes", k8s_pod_name=container.name)
    assert np.isnan(memory[-4:]).all()


def test_failing_calls_count_as_errors_on_the_way_up(busy: TwinRun) -> None:
    container = next(item for item in busy.world.containers if item.service == "product-catalog")
    busy.world.stop_container(container.uid)
    live(busy, 30)
    failed = samples(
        busy, name="traces_service_graph_request_failed_total", client="frontend", server="product-catalog"
    )
    ((labels, values),) = failed
    assert labels["failed"] == "true"
    assert labels["client_rpc_grpc_status_code"] == "14"
    assert last(values) > 50
    errors = samples(
        busy,
        name="traces_span_metrics_calls_total",
        service_name="frontend",
        span_kind="SPAN_KIND_SERVER",
        status_code="STATUS_CODE_ERROR",
    )
    assert {labels["span_name"] for labels, _ in errors} >= {"GET /api/products/{productId}"}
    users = samples(busy, name="traces_service_graph_request_total", client="load-generator", server="frontend")
    assert {(labels["failed"], labels["client_http_status_code"]) for labels, _ in users} >= {
        ("false", "200"),
        ("true", "500"),
    }


def test_peers_are_told_apart_only_where_the_edges_come_from_span_metrics(
    make_config: MakeConfig, busy: TwinRun
) -> None:
    assert not any("server_address" in labels for labels, _ in samples(busy, name="traces_span_metrics_calls_total"))
    config = make_config(120)
    services = msgspec.structs.replace(config.public.services, edge_source="span_metrics")
    run = TwinRun(msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, services=services)))
    live(run, 60)
    calls: defaultdict[tuple[str, str], float] = defaultdict(float)
    for labels, values in samples(run, name="traces_span_metrics_calls_total", span_kind="SPAN_KIND_CLIENT"):
        calls[labels["service_name"], labels["server_address"]] += last(values)
    for row, (source, target, protocol) in enumerate(run.simulation.names.edges):
        finished = run.simulation.edge_counts[row, [OK, ERROR, REFUSED, LOST]].sum()
        if protocol in ("sql", "resp"):  # other clients' addresses may be IPs
            assert calls[source, target] == finished > 0


def test_the_agents_requests_are_scraped_only_where_the_edges_come_from_it(
    make_config: MakeConfig, busy: TwinRun
) -> None:
    assert not samples(busy, name="container_http_requests_total")
    config = make_config(120)
    services = msgspec.structs.replace(config.public.services, edge_source="node_agent")
    run = TwinRun(msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, services=services)))
    live(run, 60)
    edge = {"app_id": "/k8s/otel-demo/frontend", "destination": "cart:8080"}
    ((labels, values),) = samples(run, name="container_http_requests_total", **edge)
    row = [names[:2] for names in run.simulation.names.edges].index(("frontend", "cart"))
    assert labels["status"] == "grpc:OK"
    assert last(values) == run.simulation.edge_counts[row, OK] > 0
    buckets = samples(run, name="container_http_requests_duration_seconds_total_bucket", **edge)
    heights = {labels["le"]: last(values) for labels, values in buckets}
    assert heights["+Inf"] == last(values)
    own = run.simulation.edge_buckets[row, 0, 0]
    assert (heights["0.01"], heights["0.1"], heights["10"]) == (own[:5].sum(), own[:7].sum(), own[:15].sum())
