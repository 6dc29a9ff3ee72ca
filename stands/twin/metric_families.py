"""What kind of metric a series belongs to: the family's name, its type, a sentence about it.

In: names of series. Out: families, for `/metrics` and for Prometheus' metadata.

Types follow from the names, because the collector's translation of OTLP into Prometheus' names makes them so: what ends in `_total` is a
counter, what has buckets is a histogram with its sum and count, everything else is a gauge.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

__all__ = ("MetricFamily", "families")

_PARTS = ("_bucket", "_count", "_sum")
_TOTAL = "_total"
_HELP = {
    "container_cpu_cfs_periods_total": "Elapsed enforcement periods of a container's CPU quota.",
    "container_cpu_cfs_throttled_periods_total": "Periods in which a container was throttled.",
    "container_cpu_cfs_throttled_seconds_total": "Time for which a container was throttled.",
    "container_net_latency_seconds": "Round-trip time of a container to a peer.",
    "container_net_tcp_active_connections": "Open TCP connections of a container to a peer.",
    "container_net_tcp_failed_connects_total": "TCP connections of a container to a peer that failed.",
    "k8s_container_cpu_limit": "CPU limit of a container, in cores.",
    "k8s_container_cpu_request": "CPU request of a container, in cores.",
    "k8s_container_memory_limit_bytes": "Memory limit of a container.",
    "k8s_container_memory_request_bytes": "Memory request of a container.",
    "k8s_container_ready": "Whether a container passes its readiness probe.",
    "k8s_container_restarts": "How often a pod's container has been restarted.",
    "k8s_deployment_available": "Pods of a deployment that are available.",
    "k8s_deployment_desired": "Pods that a deployment shall have.",
    "k8s_pod_cpu_time_seconds_total": "CPU time of a pod.",
    "k8s_pod_cpu_usage": "CPU usage of a pod in cores, over the kubelet's last interval.",
    "k8s_pod_memory_working_set_bytes": "Working set of a pod.",
    "k8s_pod_network_io_bytes_total": "Bytes that a pod received or transmitted.",
    "kafka_brokers": "Brokers of the cluster.",
    "kafka_consumer_group_lag_ratio": "Messages of a partition that a group has not consumed yet.",
    "kafka_consumer_group_lag_sum_ratio": "Messages of a topic that a group has not consumed yet.",
    "kafka_consumer_group_members": "Members of a consumer group.",
    "kafka_consumer_group_offset_ratio": "Offset that a group has committed in a partition.",
    "kafka_consumer_group_offset_sum_ratio": "Sum of the offsets that a group has committed in a topic.",
    "kafka_partition_current_offset_ratio": "Newest offset of a partition.",
    "kafka_partition_oldest_offset_ratio": "Oldest offset of a partition.",
    "kafka_partition_replicas": "Replicas of a partition.",
    "kafka_partition_replicas_in_sync": "Replicas of a partition that are in sync.",
    "kafka_topic_partitions": "Partitions of a topic.",
    "traces_service_graph_request_client_seconds": "Duration of calls between two services, as the caller sees it.",
    "traces_service_graph_request_failed_total": "Failed calls between two services.",
    "traces_service_graph_request_server_seconds": "Duration of calls between two services, as the called one sees it.",
    "traces_service_graph_request_total": "Calls between two services.",
    "traces_span_metrics_calls_total": "Spans by service, name, kind and status.",
    "traces_span_metrics_duration_milliseconds": "Duration of spans by service, name, kind and status.",
}


class MetricFamily(msgspec.Struct, frozen=True):
    """Series that are described together."""

    name: str  #: a counter's with `_total`, a histogram's without its parts' endings
    type: Literal["counter", "gauge", "histogram"]
    help: str


def families(names: Iterable[str]) -> dict[str, MetricFamily]:
    """Return the family of each series' name; `names` are all that are told of together, so that a histogram's parts are known."""
    given = sorted(set(names))
    histograms = {name.removesuffix("_bucket") for name in given if name.endswith("_bucket")}
    found: dict[str, MetricFamily] = {}
    for name in given:
        base = next((base for part in _PARTS if (base := name.removesuffix(part)) in histograms), None)
        if base is not None:
            found[name] = MetricFamily(base, "histogram", _HELP.get(base, ""))
        else:
            found[name] = MetricFamily(name, "counter" if name.endswith(_TOTAL) else "gauge", _HELP.get(name, ""))
    return found
