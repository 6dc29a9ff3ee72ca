"""A run ➜ what each telemetry stream showed of each service in each minute, stream by stream, and whether a fault was on it.

In: a run opened with truth. Out: `StreamMinutes`. Streams are what an operator could leave out: metrics of requests, metrics of resources,
call edges, traces, logs, cluster events, and a monitoring tool's findings. Only public rows are read; truth makes the label alone.

A column is what the minute showed (on the scale of logarithms where it is a rate, a time or a size), and its change against the median of
the first minutes of control. Unknown is NaN. Every second minute without a fault is left out by its number: there are many, all alike.

Blocking. Upstream: `fault_windows` for the label. Downstream: `stream_values`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from otel_control_gym.baselines.entity_series import read_entity_series
from otel_control_gym.baselines.fault_windows import RunTruth, read_truth
from otel_control_gym.engine.runs import Run

__all__ = ("STREAMS", "StreamMinutes", "stream_minutes")

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

STREAMS: Mapping[str, tuple[str, ...]] = {
    "metrics of requests": ("request_rate", "error_ratio", "latency_mean_ms", "latency_p95_ms"),
    "metrics of resources": (
        "cpu_usage_cores",
        "memory_usage_bytes",
        "network_rx_bytes_per_s",
        "network_tx_bytes_per_s",
        "cpu_saturation",
        "memory_saturation",
        "cpu_throttled_ratio",
        "restarts",
        "replicas_ready",
    ),
    "edges": (
        "as caller: error_ratio",
        "as caller: latency_mean_ms",
        "as caller: retry_rate",
        "as callee: error_ratio",
        "as callee: latency_mean_ms",
        "as callee: retry_rate",
    ),
    "traces": ("spans", "failed spans", "longest span_ms"),
    "logs": ("log_count", "log_warning_count", "log_error_count", "log patterns"),
    "cluster events": ("normal events", "warning events"),
    "findings": ("findings_open", "finding_severity"),
}
"""Columns of each stream."""
_COLUMNS = tuple(name for names in STREAMS.values() for name in names)
_RATIOS = ("error_ratio", "saturation", "throttled_ratio", "severity")  #: seen as they are
_MINUTE = 60
_REFERENCE_MINUTES = 3  #: of control; nothing is injected so early
_MICROSECONDS = 1_000_000


class StreamMinutes(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """R rows of (minute, service) of a run."""

    family_id: str
    fault_types: tuple[str, ...]  #: of the run, by onset
    values: Mapping[str, Float]  #: stream -> [R, 2 * columns]
    faulty: npt.NDArray[
        np.bool_
    ]  #: [R] a fault was in force all the minute that sits in this service or should show on it


def stream_minutes(run: Run) -> StreamMinutes:
    """Return the minutes of a run that was opened with truth.

    Raises: UsageError: it was opened without. DatasetError: a table is missing.
    """
    truth, series = read_truth(run), read_entity_series(run)
    reader = _Reader(msgspec.structs.replace(run, truth=False), series.services)
    first = int(run.metadata["granularity_config"]["warmup_seconds"]) // _MINUTE
    shown = _seen(reader.all())
    reference = np.nanmedian(
        np.concatenate([np.full((1, *shown.shape[1:]), np.nan), shown[first : first + _REFERENCE_MINUTES]]), axis=0
    )
    changed = shown - reference
    kept, faulty = _labels(truth, series.services, len(shown), first + _REFERENCE_MINUTES)
    minutes, services = np.nonzero(kept)
    position = {name: place for place, name in enumerate(_COLUMNS)}
    return StreamMinutes(
        family_id=truth.family_id,
        fault_types=tuple(dict.fromkeys(fault.fault_type for fault in truth.faults)),
        values={
            stream: np.concatenate(
                [part[minutes, services][:, [position[name] for name in names]] for part in (shown, changed)], axis=1
            )
            for stream, names in STREAMS.items()
        },
        faulty=faulty[minutes, services],
    )


def _labels(
    truth: RunTruth, services: Sequence[str], count: int, first: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return [minutes, services] which cells are kept, and on which of them a fault was."""
    starts = np.arange(count) * _MINUTE
    kept = np.ones((count, len(services)), dtype=bool)
    faulty = np.zeros_like(kept)
    kept[starts // _MINUTE % 2 == 1] = False
    for fault in truth.faults:
        touched = (starts + _MINUTE > fault.onset) & (starts < fault.end + 2 * _MINUTE)
        kept[touched] = False
    for fault in truth.faults:
        inside = (starts >= fault.onset) & (starts + _MINUTE <= fault.end)
        kept[inside] = True
        named = {name for entity in (*fault.affected, *fault.ends) for name in entity.split("->")}
        faulty[np.ix_(inside, np.array([name in named for name in services], dtype=bool))] = True
    kept[:first] = False
    return kept, faulty


def _seen(values: Float) -> Float:
    found = values.copy()
    for place, name in enumerate(_COLUMNS):
        if not name.endswith(_RATIOS):
            found[..., place] = np.log1p(np.maximum(values[..., place], 0.0))
    return found


class _Reader:
    """The public tables of a run, per minute and service."""

    def __init__(self, run: Run, services: Sequence[str]) -> None:
        self._run, self._services = run, {name: place for place, name in enumerate(services)}
        origin = datetime.fromisoformat(run.run_start)
        self._origin = int(origin.timestamp()) * _MICROSECONDS + origin.microsecond
        seconds = (datetime.fromisoformat(run.run_end) - origin).total_seconds()
        self._count = int(seconds // _MINUTE)

    def all(self) -> Float:
        """Return [minutes, services, columns] in the columns' units."""
        found = {**self._nodes(), **self._edges(), **self._traces(), **self._patterns(), **self._events()}
        return np.stack([found[name] for name in _COLUMNS], axis=-1)

    def _nodes(self) -> dict[str, Float]:
        wanted = [
            *STREAMS["metrics of requests"],
            *STREAMS["metrics of resources"],
            "log_count",
            "log_warning_count",
            "log_error_count",
            *STREAMS["findings"],
        ]
        rows = self._rows("node_features", ["service", *wanted])
        return {name: self._mean(rows, rows["service"].to_pylist(), _numbers(rows, name)) for name in wanted}

    def _edges(self) -> dict[str, Float]:
        wanted = ("error_ratio", "latency_mean_ms", "retry_rate")
        rows = self._rows("edge_features", ["source", "target", *wanted])
        return {
            f"as {end}: {name}": self._largest(rows, rows[column].to_pylist(), _numbers(rows, name))
            for end, column in (("caller", "source"), ("callee", "target"))
            for name in wanted
        }

    def _traces(self) -> dict[str, Float]:
        """Return what sampled spans show, each counted for those that it stands for."""
        columns = ["service", "duration_ms", "status", "sampling_probability"]
        rows = self._rows("spans", columns)
        services, weights = rows["service"].to_pylist(), 1.0 / _numbers(rows, "sampling_probability")
        failed = np.array([status == "error" for status in rows["status"].to_pylist()], dtype=np.float64)
        return {
            "spans": self._sum(rows, services, weights),
            "failed spans": self._sum(rows, services, weights * failed),
            "longest span_ms": self._largest(rows, services, _numbers(rows, "duration_ms")),
        }

    def _patterns(self) -> dict[str, Float]:
        rows = self._rows("log_patterns", ["service"])
        return {"log patterns": self._sum(rows, rows["service"].to_pylist(), np.ones(len(rows)))}

    def _events(self) -> dict[str, Float]:
        rows = self._rows("events", ["source", "type", "object"])
        services = [self._service_of(name) for name in rows["object"].to_pylist()]
        of_cluster = np.array([source == "kubernetes" for source in rows["source"].to_pylist()], dtype=bool)
        warning = np.array([kind == "Warning" for kind in rows["type"].to_pylist()], dtype=bool)
        return {
            "normal events": self._sum(rows, services, (of_cluster & ~warning).astype(np.float64)),
            "warning events": self._sum(rows, services, (of_cluster & warning).astype(np.float64)),
        }

    def _service_of(self, name: str) -> str:
        """Return the service that an object (`Pod/cart-756cd8c67f-dh6fd`) belongs to: the longest name that it begins with."""
        own = name.rpartition("/")[2]
        fitting = [service for service in self._services if own == service or own.startswith(f"{service}-")]
        return max(fitting, key=len, default="")

    def _rows(self, table: str, columns: Sequence[str]) -> pa.Table:
        return self._run.table(table, columns=["time", *columns]).to_arrow()

    def _places(self, rows: pa.Table, services: Sequence[str]) -> tuple[Int, Int, npt.NDArray[np.bool_]]:
        minute = (rows["time"].cast("int64").to_numpy() - self._origin) // (_MINUTE * _MICROSECONDS)
        place = np.array([self._services.get(name, -1) for name in services], dtype=np.int64)
        return minute, place, (place >= 0) & (minute >= 0) & (minute < self._count)

    def _sum(self, rows: pa.Table, services: Sequence[str], values: Float) -> Float:
        minute, place, inside = self._places(rows, services)
        found = np.zeros((self._count, len(self._services)))
        np.add.at(found, (minute[inside], place[inside]), values[inside])
        return found

    def _mean(self, rows: pa.Table, services: Sequence[str], values: Float) -> Float:
        known = np.isfinite(values)
        totals = self._sum(rows, services, np.where(known, values, 0.0))
        counts = self._sum(rows, services, known.astype(np.float64))
        return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)

    def _largest(self, rows: pa.Table, services: Sequence[str], values: Float) -> Float:
        minute, place, inside = self._places(rows, services)
        found = np.full((self._count, len(self._services)), np.nan)
        chosen = inside & np.isfinite(values)
        np.fmax.at(found, (minute[chosen], place[chosen]), values[chosen])
        return found


def _numbers(rows: pa.Table, name: str) -> Float:
    found: Float = rows[name].to_numpy(zero_copy_only=False).astype(np.float64)
    return found
