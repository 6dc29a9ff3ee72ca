"""A run ➜ node and edge series, topology and incident windows in the shape of the public ChronoGraph dataset.

In: a `Recording`. Out: the content of its files by path. ChronoGraph (Lutu et al., arXiv 2509.04449, github.com/bit-ml/ChronoGraph) has
one directed graph of services, `edges.csv`; per service and per edge, series as pairs of `values` and `steps`; and windows of incidents.
Its readers take the names of features from the file, so ours keep the names of our columns, with their units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from otel_control_gym.projections.adapters.formats import Correspondence, FileKind, Format, Omission
from otel_control_gym.projections.adapters.recordings import MICROSECOND, Incident, Recording, Series

__all__ = ("CHRONOGRAPH", "chronograph_files")

NODE_COLUMNS = ("cpu_usage_cores", "memory_usage_bytes", "network_rx_bytes_per_s", "network_tx_bytes_per_s")
EDGE_COLUMNS = (
    "request_count",
    "error_count",
    "latency_mean_ms",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
)

CHRONOGRAPH = Format(
    name="chronograph",
    summary="Series on the nodes and edges of the service graph, its topology, and the windows of incidents.",
    read_by="whoever reads the ChronoGraph dataset (arXiv 2509.04449, `github.com/bit-ml/ChronoGraph`): forecasting and anomaly "
    "detection on graphs",
    files=(
        FileKind("run_<run_id>/edges.csv", "`source,target` of every declared edge"),
        FileKind("run_<run_id>/node_features.json", "service ➜ feature ➜ `values` and `steps`"),
        FileKind("run_<run_id>/edge_features_part0.json", "`source->target` ➜ feature ➜ `values` and `steps`"),
        FileKind("run_<run_id>/incidents.csv", "windows: first and last step, service, kind of fault", truth=True),
        FileKind(
            "run_<run_id>/labels.json", "service ➜ `values` (1 in an incident of its own) and `steps`", truth=True
        ),
        FileKind("run_<run_id>/about.json", "start of step 0, width of a step, unit of every feature"),
    ),
    fields=(
        Correspondence("CPU usage of a service", "`cpu_usage_cores`", "all pods"),
        Correspondence("memory usage", "–", "only the working set is measured"),
        Correspondence("memory working set", "`memory_usage_bytes`", "all pods"),
        Correspondence("network traffic in, out", "`network_rx_bytes_per_s`, `network_tx_bytes_per_s`"),
        Correspondence("number of requests on an edge", "`request_count`", "per step, as the caller sees it"),
        Correspondence("return codes", "`error_count`", "of `request_count`: failed or not; no count per code"),
        Correspondence("latency", "`latency_mean_ms`, `latency_p50_ms`, `latency_p95_ms`, `latency_p99_ms`"),
        Correspondence("steps", "index of the bucket, 0 at the run's start", "theirs are half hours, ours buckets"),
        Correspondence(
            "incident window", "`labels`: from the injection to its verified end", "whole steps that it touches"
        ),
    ),
    rules=(
        "A cell that is null here is absent from `values` and `steps`, as a missing reading is there.",
        "Two protocols on the same pair of services share a key there: counts are added, the mean latency is weighted by requests, and "
        "quantiles, which can't be joined, are left out for that pair.",
        "Faults of strength zero and faults that didn't take effect are no incidents. A fault on an edge is an incident of its caller, "
        "which is where it shows, and of the called end. One on a group or the workload is a window without a service.",
        "The paper names the metrics, not their keys: names of features are ours.",
    ),
    left_out=(
        Omission("actions and rewards", "ChronoGraph observes, nobody acts in it"),
        Omission("graph validity, protocols, kinds of nodes", "an edge is a pair of ids there"),
        Omission("request, error and saturation features of services", "its nodes have resource metrics alone"),
        Omission("spans, logs, Kubernetes events, findings", "no place for them"),
        Omission("coverage", "only a missing reading can be said, by its absence"),
        Omission("control inputs (offered load, replicas, limits)", "no exogenous series there"),
    ),
)


def chronograph_files(recording: Recording) -> dict[str, bytes]:
    """Return the content of each file by its path below the export's directory."""
    folder = f"run_{recording.run_id}"
    nodes = {column: recording.nodes(column) for column in NODE_COLUMNS}
    edges = {column: recording.edges(column) for column in EDGE_COLUMNS}
    pairs = sorted({(edge["source"], edge["target"]) for edge in recording.graph["edges"]})
    steps = len(nodes[NODE_COLUMNS[0]].times)
    incidents = recording.incidents()
    windows = [(_window(recording, incident, steps), incident) for incident in incidents]
    about = {
        "run_id": recording.run_id,
        "start": recording.metadata["run_start"],
        "step_seconds": recording.bucket_seconds,
        "steps": steps,
        "units": {
            column: _unit(recording, table, column)
            for table, columns in (("node_features", NODE_COLUMNS), ("edge_features", EDGE_COLUMNS))
            for column in columns
        },
    }
    content: dict[str, bytes] = {
        "edges.csv": _csv([("source", "target"), *pairs]),
        "node_features.json": _json(
            {entity[0]: _trajectories(nodes, [position]) for position, entity in enumerate(_entities(nodes))}
        ),
        "edge_features_part0.json": _json(
            {f"{source}->{target}": _trajectories(edges, _places(edges, source, target)) for source, target in pairs}
        ),
        "incidents.csv": _csv(
            [
                ("first_step", "last_step", "service", "fault_type", "action_id"),
                *(
                    (str(first), str(last), service, incident.fault_type, incident.action_id)
                    for (first, last), incident in windows
                    for service in _services(incident) or ("",)
                ),
            ]
        ),
        "labels.json": _json({name: _labels(name, windows, steps) for name in recording.node_ids}),
        "about.json": _json(about),
    }
    return {f"{folder}/{name}": text for name, text in content.items()}


def _window(recording: Recording, incident: Incident, steps: int) -> tuple[int, int]:
    """Return the first and last step that an incident touches."""
    width = recording.bucket_seconds * MICROSECOND
    first = (incident.injected - recording.start) // width
    last = (incident.end - 1 - recording.start) // width
    return min(first, steps - 1), min(last, steps - 1)


def _services(incident: Incident) -> tuple[str, ...]:
    if incident.kind == "edge":
        source, _, target = incident.target.partition("->")
        return source, target
    return (incident.service,) if incident.service else ()


def _labels(service: str, windows: list[tuple[tuple[int, int], Incident]], steps: int) -> dict[str, list[int]]:
    marks = np.zeros(steps, np.int64)
    for (first, last), incident in windows:
        if service in _services(incident):
            marks[first : last + 1] = 1
    return {"values": marks.tolist(), "steps": list(range(steps))}


def _entities(columns: Mapping[str, Series]) -> tuple[tuple[str, ...], ...]:
    return next(iter(columns.values())).entities


def _places(columns: Mapping[str, Series], source: str, target: str) -> list[int]:
    return [position for position, entity in enumerate(_entities(columns)) if entity[:2] == (source, target)]


def _trajectories(columns: Mapping[str, Series], places: list[int]) -> dict[str, dict[str, list[Any]]]:
    """Return the features of a node or edge; `places` are its columns, several where protocols share a pair."""
    found = {}
    for name, series in columns.items():
        values = series.values[:, places]
        if len(places) == 1:
            joined = values[:, 0]
        elif name.endswith("_count"):
            joined = values.sum(axis=1)
        elif name == "latency_mean_ms":
            weights = columns["request_count"].values[:, places]
            total = np.nansum(weights, axis=1)
            joined = np.where(total > 0, np.nansum(values * weights, axis=1) / np.maximum(total, 1), np.nan)
        else:
            continue
        known = np.flatnonzero(~np.isnan(joined))
        found[name] = {"values": joined[known].tolist(), "steps": known.tolist()}
    return found


def _unit(recording: Recording, table: str, column: str) -> str:
    metadata = recording.tables[table].schema.field(column).metadata or {}
    return str(metadata.get(b"unit", b"").decode())


def _csv(rows: list[tuple[str, ...]]) -> bytes:
    return "".join(",".join(row) + "\n" for row in rows).encode()


def _json(document: Any) -> bytes:
    return bytes(msgspec.json.encode(document))
