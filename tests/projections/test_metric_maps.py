"""Another stand is another map, not other code: the same quantities under other names make the same tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
import pytest

from otel_control_gym import configs
from otel_control_gym.collectors.prometheus import PrometheusCollector
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.settings import MetricMap, RunSettings
from otel_control_gym.projections.features import node_features
from otel_control_gym.projections.fold import fold
from otel_control_gym.stands.twin.servers.listening import listen
from otel_control_gym.stands.twin.servers.prometheus import PrometheusServer
from otel_control_gym.stands.twin.time_series import TimeSeries

HORIZON = 60
BOUNDS_MS = (10, 50, 200, 1000)
Series = Iterator[tuple[dict[str, str], float]]


def packaged(name: str) -> MetricMap:
    text = files(configs).joinpath(f"metrics/{name}.yaml").read_bytes()
    offered = msgspec.yaml.decode(text, type=MetricMap)
    return offered.with_edges_of(sorted(offered.edge_sources)[-1])


def usage(seconds: int) -> dict[str, float]:
    """What a pod has come to after that many seconds."""
    return {
        "cpu": 0.25 * seconds,
        "memory": 2e7 + 1e5 * seconds,
        "rx": 1024.0 * seconds,
        "tx": 2048.0 * seconds,
        "restarts": float(seconds >= 40),
        "periods": 10.0 * seconds,
        "throttled": 4.0 * seconds,
    }


def as_the_demo_has_it(service: str, seconds: int) -> Series:
    calls = {"service_name": service, "span_kind": "SPAN_KIND_SERVER"}
    for status, factor in (("STATUS_CODE_UNSET", 12), ("STATUS_CODE_ERROR", 1)):
        own = calls | {"status_code": status}
        yield {"__name__": "traces_span_metrics_calls_total"} | own, factor * seconds
        yield {"__name__": "traces_span_metrics_duration_milliseconds_count"} | own, factor * seconds
        yield {"__name__": "traces_span_metrics_duration_milliseconds_sum"} | own, factor * seconds * 64.0
        for place, bound in enumerate((*BOUNDS_MS, "+Inf")):
            below = factor * seconds * (place + 1) / 5
            yield {"__name__": "traces_span_metrics_duration_milliseconds_bucket", "le": str(bound)} | own, below
    pod = {"k8s_deployment_name": service, "k8s_pod_name": f"{service}-7d9c-abcde"}
    found = usage(seconds)
    yield {"__name__": "k8s_pod_cpu_time_seconds_total"} | pod, found["cpu"]
    yield {"__name__": "k8s_pod_memory_working_set_bytes"} | pod, found["memory"]
    yield {"__name__": "k8s_container_restarts"} | pod, found["restarts"]
    yield {"__name__": "k8s_pod_network_io_bytes_total", "direction": "receive"} | pod, found["rx"]
    yield {"__name__": "k8s_pod_network_io_bytes_total", "direction": "transmit"} | pod, found["tx"]
    yield {"__name__": "container_cpu_cfs_periods_total", "pod": pod["k8s_pod_name"]}, found["periods"]
    yield {"__name__": "container_cpu_cfs_throttled_periods_total", "pod": pod["k8s_pod_name"]}, found["throttled"]
    yield {"__name__": "k8s_deployment_available", "k8s_deployment_name": service}, 1.0
    yield {"__name__": "k8s_deployment_desired", "k8s_deployment_name": service}, 1.0
    yield {"__name__": "k8s_container_cpu_limit"} | pod, 0.5
    yield {"__name__": "k8s_container_memory_limit_bytes"} | pod, 1e8


def as_another_cluster_has_it(service: str, seconds: int) -> Series:
    for code, factor in (("200", 12), ("503", 1)):
        own = {"service": service, "http_response_status_code": code, "http_request_method": "GET"}
        yield {"__name__": "http_server_request_duration_seconds_count"} | own, factor * seconds
        yield {"__name__": "http_server_request_duration_seconds_sum"} | own, factor * seconds * 0.064
        for place, bound in enumerate((*(limit / 1000 for limit in BOUNDS_MS), "+Inf")):
            below = factor * seconds * (place + 1) / 5
            yield {"__name__": "http_server_request_duration_seconds_bucket", "le": str(bound)} | own, below
    pod, found = {"pod": f"{service}-7d9c-abcde", "namespace": "shop"}, usage(seconds)
    for container, share in (
        ("app", 0.75),
        ("sidecar", 0.25),
        ("", 1.0),
    ):  # the last one is the pod's cgroup: their sum
        own = pod | {"container": container}
        yield {"__name__": "container_cpu_usage_seconds_total"} | own, share * found["cpu"]
        yield {"__name__": "container_memory_working_set_bytes"} | own, share * found["memory"]
    yield {"__name__": "kube_pod_container_status_restarts_total", "container": "app"} | pod, found["restarts"]
    for interface, times in (("eth0", 1.0), ("lo", 50.0)):
        own = pod | {"interface": interface}
        yield {"__name__": "container_network_receive_bytes_total"} | own, times * found["rx"]
        yield {"__name__": "container_network_transmit_bytes_total"} | own, times * found["tx"]
    yield {"__name__": "container_cpu_cfs_periods_total", "container": "app"} | pod, found["periods"]
    yield {"__name__": "container_cpu_cfs_throttled_periods_total", "container": "app"} | pod, found["throttled"]
    yield {"__name__": "kube_deployment_status_replicas_available", "deployment": service}, 1.0
    yield {"__name__": "kube_deployment_spec_replicas", "deployment": service}, 1.0
    for resource, limit in (("cpu", 0.5), ("memory", 1e8)):
        yield {"__name__": "kube_pod_container_resource_limits", "resource": resource, "container": "app"} | pod, limit


async def columns(scribe: Any, at: Any, metrics: MetricMap, shown: Any) -> Mapping[str, np.ndarray]:
    """Serve series by a Prometheus, collect them by the map, fold the log, return the columns of frontend and cart."""

    def change(settings: RunSettings) -> RunSettings:
        return msgspec.structs.replace(settings, metrics=metrics)

    series = TimeSeries()
    server = PrometheusServer(lambda: at(HORIZON))
    server.attach(series)
    numbers: np.ndarray | None = None
    for seconds in range(0, HORIZON + 1, 5):
        row = [item for service in ("frontend", "cart") for item in shown(service, seconds)]
        if numbers is None:
            numbers = np.array([series.declare(labels) for labels, _ in row])
        series.append(at(seconds), numbers, np.array([value for _, value in row], np.float64))
    log = scribe(change=change)
    async with listen(server.application()) as url:
        endpoints = Endpoints(kubernetes=url, namespace="x", prometheus=url, coroot=url, load_generator=url, flagd=url)
        collector = PrometheusCollector(endpoints, metrics, scrape_interval_seconds=5, now=at(0))
        async with collector.open():
            for seconds in (0, 25, HORIZON):
                await collector.drain(Barrier(time=at(seconds), resource_version=""))
                for event, _ in collector.flush(at(seconds)):
                    log.add(event)
    log.flush(HORIZON)
    state = fold(log.entries)
    found = node_features(state.telemetry(), state.buckets(10))
    return {name: values[:, :2] for name, values in found.items()}


async def test_kubernetes_own_metrics_under_their_names_make_the_tables_that_the_demos_make(
    scribe: Any, at: Any
) -> None:
    demo = await columns(scribe, at, packaged("otel-demo-2.2.0"), as_the_demo_has_it)
    other = await columns(scribe, at, packaged("kubernetes-semconv"), as_another_cluster_has_it)
    assert demo.keys() == other.keys()
    for name, values in demo.items():
        if name.startswith("finding"):
            continue  # no metric tells of findings
        assert not np.isnan(values).any(), name
        assert other[name] == pytest.approx(values, rel=1e-12), name
    assert demo["restarts"].sum(axis=0).tolist() == [1, 1]
    assert demo["error_ratio"] == pytest.approx(1 / 13)
    assert demo["latency_mean_ms"] == pytest.approx(64.0)
    assert demo["coverage"].min() == 1


@pytest.mark.parametrize("name", ["otel-demo-2.2.0", "kubernetes-semconv"])
def test_a_packaged_map_feeds_every_feature_of_a_node(name: str) -> None:
    quantities = {
        "request_count",
        "error_count",
        "latency",
        "cpu_seconds",
        "memory_bytes",
        "restarts",
        "network_rx_bytes",
        "network_tx_bytes",
        "cfs_periods",
        "cfs_throttled_periods",
        "replicas_ready",
        "replicas_desired",
        "cpu_limit",
        "memory_limit",
    }
    assert set(packaged(name).node) == quantities
