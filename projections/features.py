"""Samples ➜ the feature columns of nodes and edges.

In: a state's samples and series, and a range of buckets. Out: one array [T, N] per column, NaN where the value isn't known. The live
observation and the tables on disk both come from here, so they are equal bit for bit.

Upstream: `projections.growth` (what is known about a counter or gauge), `projections.histograms`. Downstream: `projections.arrays`
(observation), `projections.tables` (Parquet), `projections.rewards`.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.projections.growth import Buckets, Increase, Level, arrivals, increase, level, sum_by
from otel_control_gym.projections.histograms import quantiles, share_below
from otel_control_gym.projections.samples import Samples
from otel_control_gym.projections.schemas import EDGE_NUMBERS, NODE_NUMBERS
from otel_control_gym.projections.series import SeriesIndex, Table
from otel_control_gym.projections.signals import Signals
from otel_control_gym.projections.unread import Unread, masked

__all__ = ("Telemetry", "edge_features", "fast_share", "node_features", "node_usage")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class Telemetry(msgspec.Struct, frozen=True, eq=False):
    """What the columns are computed of: samples, series, who is declared to send spans, and what has no samples."""

    samples: Samples
    series: SeriesIndex
    instrumented_nodes: Bool  #: [N] it serves calls and sends spans
    instrumented_edges: Bool  #: [E] the caller sends spans
    signals: Signals  #: log records and findings
    unread_nodes: tuple[Unread, ...] = ()  #: whose scrapes were lost, and when
    unread_edges: tuple[Unread, ...] = ()


def node_features(telemetry: Telemetry, buckets: Buckets) -> dict[str, Float]:
    """Return the numeric columns of `node_features`, each float64 [T, N]."""
    reader = _Reader(telemetry, "node", buckets, telemetry.instrumented_nodes)
    columns = reader.traffic()
    used = reader.usage()
    usage, memory = used["cpu_usage_cores"], used["memory_usage_bytes"]
    cpu_limit, memory_limit = reader.level("cpu_limit"), reader.level("memory_limit")
    periods = reader.increase("cfs_periods")
    throttled = reader.increase("cfs_throttled_periods", base=periods)
    columns |= {
        **used,
        "network_rx_bytes_per_s": reader.rate("network_rx_bytes"),
        "network_tx_bytes_per_s": reader.rate("network_tx_bytes"),
        "cpu_saturation": _ratio(usage, cpu_limit),
        "memory_saturation": _ratio(memory, memory_limit),
        "cpu_throttled_ratio": _ratio(reader.known(throttled), reader.known(periods)),
        "replicas_ready": reader.level("replicas_ready"),
        "replicas_desired": reader.level("replicas_desired"),
        "cpu_limit_cores": cpu_limit,
        "memory_limit_bytes": memory_limit,
        **telemetry.signals.columns(buckets),
        "coverage": reader.coverage(),
    }
    return _known({name: columns[name] for name in NODE_NUMBERS}, telemetry, "node", buckets)


def node_usage(telemetry: Telemetry, buckets: Buckets) -> dict[str, Float]:
    """Return three of the columns of `node_features`, [T, N] each: cpu_usage_cores, memory_usage_bytes, restarts."""
    used = _Reader(telemetry, "node", buckets, telemetry.instrumented_nodes).usage()
    return _known(used, telemetry, "node", buckets)


def edge_features(telemetry: Telemetry, buckets: Buckets) -> dict[str, Float]:
    """Return the numeric columns of `edge_features`, each float64 [T, E]."""
    reader = _Reader(telemetry, "edge", buckets, telemetry.instrumented_edges)
    columns = reader.traffic()
    columns["retry_rate"] = np.full_like(columns["request_rate"], np.nan)  # no source of the metric map counts retries
    columns["coverage"] = reader.coverage()
    return _known({name: columns[name] for name in EDGE_NUMBERS}, telemetry, "edge", buckets)


def fast_share(telemetry: Telemetry, buckets: Buckets, node: int, threshold_ms: float) -> Float:
    """Return the share [T] of a node's answers that took at most `threshold_ms`; NaN where there were none or it isn't known."""
    reader = _Reader(telemetry, "node", buckets, telemetry.instrumented_nodes)
    histogram, bounds, valid = reader.histogram()
    share = share_below(histogram[:, node], bounds, threshold_ms)
    column = np.where(valid[:, node], share, np.nan)[:, None]
    lost = [msgspec.structs.replace(item, entity=0) for item in telemetry.unread_nodes if item.entity == node]
    return masked({"fast": column}, lost, buckets, telemetry.samples, 1)["fast"][:, 0]


def _known(columns: dict[str, Float], telemetry: Telemetry, table: Table, buckets: Buckets) -> dict[str, Float]:
    """Return the columns without the cells of which a lost scrape of the entity's own target takes the ground."""
    lost = telemetry.unread_nodes if table == "node" else telemetry.unread_edges
    entities = (telemetry.instrumented_nodes if table == "node" else telemetry.instrumented_edges).size
    return masked(columns, lost, buckets, telemetry.samples, entities)


class _Reader:
    """Reads quantities of one table for a range of buckets."""

    def __init__(self, telemetry: Telemetry, table: Table, buckets: Buckets, instrumented: Bool) -> None:
        self._samples, self._series = telemetry.samples, telemetry.series
        self._table, self._buckets, self._instrumented = table, buckets, instrumented
        self._shape = (buckets.count, instrumented.size)

    def increase(self, quantity: str, *, base: Increase | None = None) -> Increase:
        """Return the growth of a counter; nothing is known of a quantity that the metric map doesn't have."""
        feed = self._series.feed(self._table, quantity)
        if feed is None:
            return self._unknown()
        return increase(self._samples, feed, self._buckets, self._covered(quantity), base=base)

    def known(self, grown: Increase) -> Float:
        """Return a growth as a column: NaN where it isn't known."""
        return np.where(grown.valid, grown.growth, np.nan)

    def rate(self, quantity: str) -> Float:
        """Return the growth of a counter per second."""
        grown = self.increase(quantity)
        return self.known(grown) / grown.seconds[:, None]

    def level(self, quantity: str) -> Float:
        """Return a gauge's column."""
        feed = self._series.feed(self._table, quantity)
        if feed is None:
            return np.full(self._shape, np.nan)
        found: Level = level(self._samples, feed, self._buckets, self._shape[1])
        return np.where(found.valid, found.value, np.nan)

    def usage(self) -> dict[str, Float]:
        """Return the columns of what pods use, and how often their containers restarted."""
        return {
            "cpu_usage_cores": self.rate("cpu_seconds"),
            "memory_usage_bytes": self.level("memory_bytes"),
            "restarts": self.known(self.increase("restarts")),
        }

    def traffic(self) -> dict[str, Float]:
        """Return the columns of requests, errors and latency, which nodes and edges share."""
        requested = self.increase("request_count")
        failed = self.increase("error_count", base=requested)
        requests, errors, seconds = self.known(requested), self.known(failed), requested.seconds[:, None]
        return {
            "request_rate": requests / seconds,
            "error_rate": errors / seconds,
            "error_ratio": _ratio(errors, requests),
            "request_count": requests,
            "error_count": errors,
            **self._latency(),
        }

    def _latency(self) -> dict[str, Float]:
        histogram, bounds, valid = self.histogram()
        found = quantiles(np.where(valid[..., None], histogram, 0.0), bounds, (0.5, 0.95, 0.99))
        counted = self._part("count")
        total = self._part("sum", base=counted)
        feed = self._series.feed(self._table, "latency", "sum")
        scale = feed.source.scale if feed is not None else 1.0
        count = self.known(counted)
        return {
            "latency_count": count,
            "latency_mean_ms": _ratio(self.known(total), count) * scale,
            "latency_p50_ms": found[..., 0],
            "latency_p95_ms": found[..., 1],
            "latency_p99_ms": found[..., 2],
        }

    def histogram(self) -> tuple[Float, Float, Bool]:
        """Return the growth of the latency's cumulative buckets [T, N, L], their bounds [L] in ms, and where they are known [T, N]."""
        counted = self._part("count")
        feed = self._series.feed(self._table, "latency", "bucket")
        if feed is None or feed.series.size == 0:
            return np.zeros((*self._shape, 1)), np.array([np.inf]), counted.valid
        samples, edges = self._samples, self._samples.positions(self._buckets.edges)
        values = samples.values[edges[:, None], feed.series]
        cells = sum_by(
            values[1:] - values[:-1],
            feed.entity * feed.bounds.size + feed.bound,
            self._shape[1] * feed.bounds.size,
        )
        return cells.reshape(*self._shape, feed.bounds.size), feed.bounds, counted.valid

    def _part(self, part: str, *, base: Increase | None = None) -> Increase:
        feed = self._series.feed(self._table, "latency", "count" if part == "count" else "sum")
        if feed is None:
            return self._unknown()
        return increase(self._samples, feed, self._buckets, self._covered("latency"), base=base)

    def coverage(self) -> Float:
        """Return arrived / expected readings [T, N] over all sources that cover the entity; 0 where none does."""
        arrived, expected = np.zeros(self._shape), np.zeros(self._shape)
        unmanned = self.level("replicas_desired") == 0  # scaled to zero: there is no pod that anything could be read of
        for quantity, part in self._series.sources(self._table):
            feed = self._series.feed(self._table, quantity, part)
            if feed is None or quantity in _PARTS_OF_OTHERS:
                continue
            came, due = arrivals(self._samples, feed, self._buckets, self._covered(quantity))
            arrived += came
            expected += np.where(unmanned, came, due) if quantity in _OF_PODS else due
        return np.divide(arrived, expected, out=np.zeros(self._shape), where=expected > 0)

    def _covered(self, quantity: str) -> Bool:
        return self._instrumented if quantity in _OF_SPANS else np.zeros_like(self._instrumented)

    def _unknown(self) -> Increase:
        return Increase(np.zeros(self._shape), np.zeros(self._shape, bool), np.full(self._shape[0], np.nan))


_OF_SPANS = frozenset({"request_count", "error_count", "latency"})  #: 0 without a series where the service sends spans
_OF_PODS = frozenset(
    {
        "cpu_seconds",
        "memory_bytes",
        "restarts",
        "network_rx_bytes",
        "network_tx_bytes",
        "cfs_periods",
        "cpu_limit",
        "memory_limit",
    }
)
_PARTS_OF_OTHERS = frozenset({"error_count", "cfs_throttled_periods"})  #: have a series only once something was counted


def _ratio(part: Float, whole: Float) -> Float:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
