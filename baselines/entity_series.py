"""Public telemetry of a run ➜ one array over buckets, entities and features: what detectors and rankers read.

In: runs. Out: `EntitySeries`. Services and call edges stand side by side on one axis, because a fault may sit on either; a feature that an
entity doesn't have is NaN, and so is what didn't arrive. Only public rows are read, also of runs that were opened with truth; what a
monitoring tool suspected (`finding_severity`) is kept apart, so that no detector of ours leans on it unseen.

Upstream: `engine.runs`. Downstream: `anomaly_detectors`, `root_cause_cases`; the labels to score them are `fault_windows`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.runs import Run

__all__ = ("FEATURES", "EntitySeries", "read_entity_series")

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_NODE_FEATURES = (
    "request_rate",
    "error_ratio",
    "latency_mean_ms",
    "cpu_usage_cores",
    "memory_usage_bytes",
    "network_rx_bytes_per_s",
    "network_tx_bytes_per_s",
    "cpu_throttled_ratio",
    "restarts",
)
_EDGE_FEATURES = ("request_rate", "error_ratio", "latency_mean_ms", "retry_rate")
FEATURES: tuple[str, ...] = (*_NODE_FEATURES, "retry_rate")
"""The features along the last axis; those of an edge are request_rate, error_ratio, latency_mean_ms and retry_rate.

What an actuator writes itself (replicas, limits) isn't among them: that somebody scaled a service is no anomaly.
"""

_WORKLOAD = "workload"  #: kind of the node that makes the load: no part of the application
_MICROSECONDS = 1_000_000


class EntitySeries(msgspec.Struct, frozen=True, kw_only=True, eq=False, dict=True):
    """What was seen of a run's services and edges. Times are seconds after the run's start."""

    run_id: str
    family_id: str
    configuration: str
    bucket_seconds: int
    warmup_buckets: int
    seconds: float  #: the run's length
    services: tuple[str, ...]  #: S, the load generator isn't one
    edges: tuple[
        tuple[str, str], ...
    ]  #: source and target; where two protocols run along an edge, it stands here twice
    values: Float  #: [T, S + E, F], services first; bucket t is [t, t + 1) * bucket_seconds
    suspicions: Float  #: [T, S] what the monitoring tool had told by the bucket's end: 0 nothing, 1 warning, 2 critical

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """Names along the second axis; of an edge `source->target`."""
        return (*self.services, *(f"{source}->{target}" for source, target in self.edges))

    @property
    def buckets(self) -> int:
        """T."""
        return len(self.values)

    @property
    def starts(self) -> Float:
        """Start of each bucket [T], s."""
        return np.arange(self.buckets, dtype=np.float64) * self.bucket_seconds


def read_entity_series(run: Run) -> EntitySeries:
    """Return the public telemetry of a run; of one that was opened with truth, too.

    Raises: DatasetError: a table is missing.
    """
    run = msgspec.structs.replace(run, truth=False)
    granularity = run.metadata["granularity_config"]
    width = int(granularity["observation_bucket_seconds"])
    origin = datetime.fromisoformat(run.run_start)
    seconds = (datetime.fromisoformat(run.run_end) - origin).total_seconds()
    outside = {node["id"] for node in run.graph["nodes"] if node["kind"] == _WORKLOAD}
    services = tuple(node["id"] for node in run.graph["nodes"] if node["id"] not in outside)
    keys = [(edge["source"], edge["target"], edge["protocol"]) for edge in run.graph["edges"]]
    count = int(seconds // width)
    placed = _Placed(run, width, int(origin.timestamp()) * _MICROSECONDS + origin.microsecond, count)
    nodes = placed.cells("node_features", ("service",), [(name,) for name in services], _NODE_FEATURES)
    edges = placed.cells("edge_features", ("source", "target", "protocol"), keys, _EDGE_FEATURES)
    suspicions = placed.cells("node_features", ("service",), [(name,) for name in services], ("finding_severity",))
    values = np.full((count, len(services) + len(keys), len(FEATURES)), np.nan)
    values[:, : len(services), [FEATURES.index(name) for name in _NODE_FEATURES]] = nodes
    values[:, len(services) :, [FEATURES.index(name) for name in _EDGE_FEATURES]] = edges
    return EntitySeries(
        run_id=run.run_id,
        family_id=run.family_id,
        configuration=run.service_config,
        bucket_seconds=width,
        warmup_buckets=int(granularity["warmup_seconds"]) // width,
        seconds=seconds,
        services=services,
        edges=tuple((source, target) for source, target, _ in keys),
        values=values,
        suspicions=np.nan_to_num(suspicions[:, :, 0]),
    )


class _Placed:
    """Tables of one run whose rows are placed by bucket and entity."""

    def __init__(self, run: Run, width: int, origin: int, count: int) -> None:
        self._run, self._width, self._origin, self._count = run, width * _MICROSECONDS, origin, count

    def cells(
        self, table: str, keys: Sequence[str], entities: Sequence[tuple[str, ...]], features: Sequence[str]
    ) -> Float:
        """Return features as [T, entities, features]; rows of other entities, or beyond the run's end, are left out."""
        rows = self._run.table(table, columns=["time", *keys, *features]).to_arrow()
        places = {entity: place for place, entity in enumerate(entities)}
        named = zip(*(rows[key].to_pylist() for key in keys), strict=True)
        place = np.array([places.get(name, -1) for name in named], np.int64)
        bucket = (rows["time"].cast("int64").to_numpy() - self._origin) // self._width
        inside = (place >= 0) & (bucket >= 0) & (bucket < self._count)
        cells = np.full((self._count, len(entities), len(features)), np.nan)
        for column, feature in enumerate(features):
            read = rows[feature].to_numpy(zero_copy_only=False).astype(np.float64)
            cells[bucket[inside], place[inside], column] = read[inside]
        return cells
