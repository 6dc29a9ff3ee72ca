"""Samples ➜ the feature columns of nodes and edges.

In: a state's telemetry and a range of buckets. Out: one array [T, N] per column, NaN where the value isn't known. The live observation
and the tables on disk both come from here, so they are equal bit for bit.

Upstream: `projections.quantities`, `projections.traffic`, `projections.client_spans`. Downstream: `projections.arrays` (observation),
`projections.tables` (Parquet), `projections.rewards`.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.projections import traffic
from otel_control_gym.projections.client_spans import SpanTraffic
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.quantities import Quantities, Telemetry
from otel_control_gym.projections.schemas import EDGE_NUMBERS, NODE_NUMBERS
from otel_control_gym.projections.series import Table
from otel_control_gym.projections.traffic import Statuses
from otel_control_gym.projections.unread import masked

__all__ = ("Telemetry", "edge_features", "edge_statuses", "fast_share", "node_features", "node_usage")

Float = npt.NDArray[np.float64]


def node_features(telemetry: Telemetry, buckets: Buckets) -> dict[str, Float]:
    """Return the numeric columns of `node_features`, each float64 [T, N]."""
    quantities = Quantities(telemetry, "node", buckets)
    columns = traffic.traffic(quantities)
    used = _usage(quantities)
    usage, memory = used["cpu_usage_cores"], used["memory_usage_bytes"]
    cpu_limit, memory_limit = quantities.level("cpu_limit"), quantities.level("memory_limit")
    columns |= {
        **used,
        "network_rx_bytes_per_s": quantities.rate("network_rx_bytes"),
        "network_tx_bytes_per_s": quantities.rate("network_tx_bytes"),
        "cpu_saturation": _ratio(usage, cpu_limit),
        "memory_saturation": _ratio(memory, memory_limit),
        # A throttling is counted when it begins, a period when it ends: one more of the former may fall into a bucket.
        "cpu_throttled_ratio": np.minimum(quantities.ratio("cfs_throttled_periods", "cfs_periods"), 1.0),
        "replicas_ready": quantities.level("replicas_ready"),
        "replicas_desired": quantities.level("replicas_desired"),
        "cpu_limit_cores": cpu_limit,
        "memory_limit_bytes": memory_limit,
        **telemetry.signals.columns(buckets),
        "coverage": quantities.coverage(),
    }
    return _known({name: columns[name] for name in NODE_NUMBERS}, telemetry, "node", buckets)


def node_usage(telemetry: Telemetry, buckets: Buckets) -> dict[str, Float]:
    """Return three of the columns of `node_features`, [T, N] each: cpu_usage_cores, memory_usage_bytes, restarts."""
    return _known(_usage(Quantities(telemetry, "node", buckets)), telemetry, "node", buckets)


def edge_features(telemetry: Telemetry, buckets: Buckets) -> dict[str, Float]:
    """Return the numeric columns of `edge_features`, each float64 [T, E]."""
    quantities, spans = Quantities(telemetry, "edge", buckets), _spans(telemetry, buckets)
    columns = traffic.traffic(quantities, spans)
    if spans is None:
        columns["coverage"] = quantities.coverage()
    else:
        assert telemetry.spans is not None, "it gave the traffic"
        expected = np.broadcast_to(telemetry.spans.senders.astype(np.float64), quantities.shape)
        columns["coverage"] = quantities.coverage(expected * spans.arrived[:, None], expected)
    return _known({name: columns[name] for name in EDGE_NUMBERS}, telemetry, "edge", buckets)


def edge_statuses(telemetry: Telemetry, buckets: Buckets) -> Statuses:
    """Return how the calls of each edge ended."""
    return traffic.statuses(Quantities(telemetry, "edge", buckets), _spans(telemetry, buckets))


def fast_share(telemetry: Telemetry, buckets: Buckets, node: int, threshold_ms: float) -> Float:
    """Return the share [T] of a node's answers that took at most `threshold_ms`; NaN where there were none or it isn't known."""
    column = traffic.fast_share(Quantities(telemetry, "node", buckets), node, threshold_ms)[:, None]
    lost = [msgspec.structs.replace(item, entity=0) for item in telemetry.unread_nodes if item.entity == node]
    return masked({"fast": column}, lost, buckets, telemetry.samples, 1)["fast"][:, 0]


def _known(columns: dict[str, Float], telemetry: Telemetry, table: Table, buckets: Buckets) -> dict[str, Float]:
    """Return the columns without the cells of which a lost scrape of the entity's own target takes the ground."""
    lost = telemetry.unread_nodes if table == "node" else telemetry.unread_edges
    return masked(columns, lost, buckets, telemetry.samples, telemetry.covered[table, ""].size)


def _usage(quantities: Quantities) -> dict[str, Float]:
    """Return the columns of what pods use, and how often their containers restarted."""
    return {
        "cpu_usage_cores": quantities.rate("cpu_seconds"),
        "memory_usage_bytes": quantities.level("memory_bytes"),
        "restarts": quantities.growth("restarts"),
    }


def _spans(telemetry: Telemetry, buckets: Buckets) -> SpanTraffic | None:
    if telemetry.spans is None:
        return None
    return telemetry.spans.traffic(buckets, telemetry.samples.origin, telemetry.samples.interval)


def _ratio(part: Float, whole: Float) -> Float:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
