"""Rules about rows: sorted, keyed, of this run, inside it, on the buckets, within the ranges that their units allow.

In: a `CheckedRun` whose metadata and graph keep their schemas. Out: violations. Next: `decision_rules`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.projections import schemas
from otel_control_gym.projections.rules import CheckedRun, Rule
from otel_control_gym.projections.schemas import TableSchema

__all__ = ("TABLE_RULES",)

Found = Iterator[tuple[str, str]]

_SHARES = ("coverage", "error_ratio", "cpu_throttled_ratio", "propensity", "sampling_probability", "confidence")
_NEVER_NEGATIVE = (
    "request_rate",
    "error_rate",
    "request_count",
    "error_count",
    "latency_count",
    "latency_mean_ms",
    "restarts",
    "cpu_usage_cores",
    "memory_usage_bytes",
    "replicas_ready",
    "replicas_desired",
    "duration_ms",
    "duration_s",
    "count",
)
_MOMENTS = ("actions", "spans")  #: tables of moments that lie within the run; other events may have begun before it


def _run_id(run: CheckedRun) -> Found:
    for table in schemas.TABLES:
        if table.name in run.tables:
            others = set(pc.unique(run.tables[table.name]["run_id"]).to_pylist()) - {run.metadata["run_id"]}
            if others:
                yield table.file, f"rows of {', '.join(sorted(map(str, others)))}, not of {run.metadata['run_id']}"


def _sorted(run: CheckedRun) -> Found:
    for table in schemas.TABLES:
        if table.name not in run.tables:
            continue
        keys = list(zip(*(_sortable(run.tables[table.name][name]) for name in table.order), strict=True))
        problem = next((row for row, pair in enumerate(pairwise(keys)) if _wrong(*pair, table)), None)
        if problem is not None:
            yield table.file, f"row {problem + 1} doesn't follow row {problem}"


def _sortable(column: pa.ChunkedArray) -> list[tuple[bool, Any]]:
    return [(value is None, value) for value in column.to_pylist()]


def _wrong(before: tuple[Any, ...], after: tuple[Any, ...], table: TableSchema) -> bool:
    return before > after or (table.unique and before == after)


def _service_key(run: CheckedRun) -> Found:
    nodes = {node["id"] for node in run.graph["nodes"]}
    named = [("actions", "target_service")]
    named += [(name, "service") for name in ("node_features", "weak_labels", "error_summaries")]
    for name, column in named:
        if name in run.tables:
            strange = sorted(set(pc.unique(run.tables[name][column]).to_pylist()) - nodes - {None})
            if strange:
                yield f"{name}.parquet", f"no nodes of graph.json: {', '.join(strange)}"


def _edge_key(run: CheckedRun) -> Found:
    nodes = {node["id"] for node in run.graph["nodes"]}
    edges = {(edge["source"], edge["target"]) for edge in run.graph["edges"]}
    for source, target in sorted(edges):
        if not {source, target} <= nodes:
            yield "graph.json", f"{source}->{target} has an end that is no node"
    if "edge_features" in run.tables:
        table = run.tables["edge_features"]
        pairs = set(zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True))
        for pair in sorted(pairs - edges, key=str):
            yield "edge_features.parquet", f"no edge of graph.json: {pair[0]}->{pair[1]}"
    for row in run.actions:
        if row["target_edge"] is not None and tuple(row["target_edge"].split("->")) not in edges:
            yield "actions.parquet", f"{row['action_id']} acts on {row['target_edge']}, no edge of graph.json"


def _action_key(run: CheckedRun) -> Found:
    known = {row["action_id"] for row in run.actions}
    named = [("rewards", "action_id"), ("events", "caused_by_action_id"), ("certificates", "action_id")]
    for name, column in [*named, ("actions", "parent_action_id")]:
        if name in run.tables and "actions" in run.tables:
            strange = sorted(set(run.tables[name][column].to_pylist()) - known - {None})
            if strange:
                yield f"{name}.parquet", f"not in actions.parquet: {', '.join(strange)}"


def _widths(run: CheckedRun) -> dict[str, int]:
    """Return the seconds of a row, by table."""
    granularity = run.metadata["granularity_config"]
    bucket = granularity["observation_bucket_seconds"]
    return {
        "node_features": bucket,
        "edge_features": bucket,
        "control_inputs": bucket,
        "weak_labels": bucket,
        "rewards": granularity["reward_bucket_seconds"],
        "error_summaries": granularity["log_pattern_window_seconds"],
    }


def _alignment(run: CheckedRun) -> Found:
    start, end = _bounds(run)
    for name, seconds in _widths(run).items():
        if name not in run.tables:
            continue
        times = np.unique(_times(run.tables[name]["time"]))
        outside = (times < start) | (times >= end)
        if ((times - start) % (seconds * SECOND // 1000)).any() or outside.any():
            message = f"not on buckets of {seconds} s from {run.metadata['run_start']} to {run.metadata['run_end']}"
            yield f"{name}.parquet", message


def _grid(run: CheckedRun) -> Found:
    for name, entities in (("node_features", "nodes"), ("edge_features", "edges")):
        if name not in run.tables:
            continue
        table, wanted = run.tables[name], len(run.graph[entities])
        times = np.unique(_times(table["time"]))
        if table.num_rows != len(times) * wanted:
            yield f"{name}.parquet", f"{table.num_rows} rows for {len(times)} buckets of {wanted} {entities}"
        elif len(times) and (np.diff(times) != _widths(run)[name] * SECOND // 1000).any():
            yield f"{name}.parquet", "a bucket between the first and the last is missing"


def _moments(run: CheckedRun) -> Found:
    start, end = _bounds(run)
    for name in _MOMENTS:
        if name in run.tables:
            times = _times(run.tables[name]["time"])
            if ((times < start) | (times > end)).any():
                yield f"{name}.parquet", f"rows before {run.metadata['run_start']} or after {run.metadata['run_end']}"


def _range(run: CheckedRun) -> Found:
    for name, table in run.tables.items():
        for column in table.schema.names:
            if column not in _SHARES and column not in _NEVER_NEGATIVE:
                continue
            found = pc.min_max(table[column]).as_py()
            low, high = found["min"], found["max"]
            if low is not None and (low < 0 or (column in _SHARES and high > 1)):
                yield f"{name}.parquet", f"{column} lies between {low} and {high}"


def _coverage(run: CheckedRun) -> Found:
    for stream, about in sorted(run.metadata["streams"].items()):
        if stream == "log":
            continue
        share = about.get("coverage")
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            yield "metadata.json", f"stream {stream} has a coverage of {share}"
        elif about.get("rows") and share == 0:
            yield "metadata.json", f"stream {stream} has rows and a coverage of 0"


def _bounds(run: CheckedRun) -> tuple[int, int]:
    """Return the run's start and end in microseconds."""
    return _microseconds(run.metadata["run_start"]), _microseconds(run.metadata["run_end"])


def _microseconds(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))


def _times(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return a column of times in microseconds."""
    times: npt.NDArray[np.int64] = pc.cast(column, pa.int64()).to_numpy()
    return times


TABLE_RULES: tuple[Rule, ...] = (
    Rule("run-id", "every row is of the run that metadata.json names", _run_id),
    Rule("sorted", "rows are in the order that the contract gives, and no key comes twice", _sorted),
    Rule("service-key", "every service that a table names is a node of graph.json", _service_key),
    Rule(
        "edge-key", "every edge that a table names is one of graph.json, and the ends of those are its nodes", _edge_key
    ),
    Rule("action-key", "every action that a table names is a row of actions.parquet", _action_key),
    Rule(
        "bucket-alignment",
        "a bucket starts a whole number of buckets after the run's start, and lies within the run",
        _alignment,
    ),
    Rule("bucket-grid", "the feature tables have a row for every entity in every bucket, without a hole", _grid),
    Rule("moments", "spans end and actions are requested within the run", _moments),
    Rule("range", "shares lie between 0 and 1; counts, rates, amounts and durations aren't negative", _range),
    Rule("coverage", "metadata.json states, in 0..1, which share of each telemetry stream came", _coverage),
)
