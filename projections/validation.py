"""A run's directory ➜ where it breaks the data contract.

In: a directory. Out: violations, each with the id of its rule, the file and a sentence; none means valid. It reads what is on disk and
trusts nothing that wrote it. The rules are `RULES`.

It doesn't check that the numbers are right: only a rebuild from the archive can (`ocg rebuild`), and gives the same bytes or doesn't.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.projections import schemas
from otel_control_gym.projections.documents import METADATA_KEYS
from otel_control_gym.projections.schemas import TableSchema
from otel_control_gym.projections.tables import arrow_schema

__all__ = ("RULES", "Violation", "validate")

RULES: Mapping[str, str] = {
    "file-missing": "every file of the contract is there, the archive too",
    "file-unreadable": "every file can be read as what it is",
    "schema": "columns, their order, their types and which may be null are the contract's",
    "column-metadata": "every column carries the contract's unit, description, rule and standing",
    "sorted": "rows are in the order that the contract gives, and no key comes twice",
    "run-id": "every row is of the run that metadata.json names",
    "metadata-keys": "metadata.json has the contract's keys and no others",
    "metadata-values": "contract version and status are known ones",
    "service-key": "every service is a node of graph.json",
    "edge-key": "every pair of source and target is an edge of graph.json, whose ends are nodes",
    "action-key": "every action that a table names is a row of actions.parquet",
    "labels": "actions.parquet and labels.parquet have the same actions, with the same visibility",
    "bucket-alignment": "a bucket starts a whole number of buckets after the run's start, and lies within the run",
    "bucket-grid": "the feature tables have a row for every entity in every bucket",
    "range": "coverage and ratios lie between 0 and 1, counts and rates aren't negative",
    "archive-digest": "event_log.zst is the file that the tables were made of",
    "file-digest": "every file is the one that was written: its SHA-256 is the one in metadata.json",
}
_SHARES = ("coverage", "error_ratio", "cpu_throttled_ratio", "propensity", "sampling_probability")
_NEVER_NEGATIVE = (
    "request_rate",
    "error_rate",
    "request_count",
    "error_count",
    "latency_count",
    "latency_mean_ms",
    "restarts",
)


class Violation(msgspec.Struct, frozen=True):
    """A rule that a file breaks."""

    rule_id: str
    file: str
    message: str


Tables = Mapping[str, pa.Table]


class _Run(msgspec.Struct, frozen=True, eq=False):
    """What could be read of a run's directory."""

    directory: Path
    metadata: dict[str, Any]
    graph: dict[str, Any]
    tables: Tables  #: by name, those whose schema is right


def validate(directory: Path | str) -> list[Violation]:
    """Return what is wrong with a run's directory, sorted by file; an empty list means that it keeps the contract."""
    path = Path(directory)
    documents: dict[str, Any] = {}
    tables: dict[str, pa.Table] = {}
    wanted = (*schemas.FILES, schemas.ARCHIVE)
    violations = [
        Violation("file-missing", name, RULES["file-missing"]) for name in wanted if not (path / name).is_file()
    ]
    for name in schemas.JSON_FILES:
        violations += _read_json(path / name, documents)
    for table in schemas.TABLES:
        violations += _read_table(path / table.file, table, tables)
    run = _Run(path, documents.get("metadata.json") or {}, documents.get("graph.json") or {}, tables)
    if run.metadata and run.graph:
        for check in _CHECKS:
            violations += check(run)
    return sorted(violations, key=lambda violation: (violation.file, violation.rule_id, violation.message))


# --- reading --------------------------------------------------------------------------------------------------------------


def _read_json(path: Path, documents: dict[str, Any]) -> Iterator[Violation]:
    if not path.is_file():
        return
    try:
        content = path.read_bytes()
        if path.suffix == ".zst":
            text = zstandard.ZstdDecompressor().decompressobj().decompress(content).decode()
            documents[path.name] = [json.loads(line) for line in text.splitlines()]
        else:
            documents[path.name] = json.loads(content)
    except (ValueError, zstandard.ZstdError) as error:
        yield Violation("file-unreadable", path.name, str(error))


def _read_table(path: Path, schema: TableSchema, tables: dict[str, pa.Table]) -> Iterator[Violation]:
    if not path.is_file():
        return
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        yield Violation("file-unreadable", path.name, str(error))
        return
    wanted = arrow_schema(schema)
    if not table.schema.equals(wanted):
        differing = [
            f"{field.name}: {field.type}"
            for field in wanted
            if field.name not in table.schema.names or table.field(field.name) != field
        ]
        extra = sorted(set(table.schema.names) - set(wanted.names))
        yield Violation(
            "schema",
            path.name,
            f"wanted {', '.join(differing) or 'another order'}; unexpected {', '.join(extra) or 'none'}",
        )
        return
    for field in wanted:
        if table.field(field.name).metadata != field.metadata:
            yield Violation("column-metadata", path.name, f"{field.name}: {table.field(field.name).metadata}")
    tables[schema.name] = table


# --- rules ----------------------------------------------------------------------------------------------------------------


def _metadata(run: _Run) -> Iterator[Violation]:
    missing = [key for key in METADATA_KEYS if key not in run.metadata]
    extra = sorted(set(run.metadata) - set(METADATA_KEYS))
    if missing or extra:
        yield Violation("metadata-keys", "metadata.json", f"missing {missing}, unexpected {extra}")
    if run.metadata.get("contract_version") != schemas.CONTRACT_VERSION:
        found = run.metadata.get("contract_version")
        yield Violation(
            "metadata-values",
            "metadata.json",
            f"contract_version {found}, this program reads {schemas.CONTRACT_VERSION}",
        )
    if run.metadata.get("status") not in ("completed", "aborted", "void"):
        yield Violation("metadata-values", "metadata.json", f"status {run.metadata.get('status')!r}")


def _rows(run: _Run) -> Iterator[Violation]:
    for schema in schemas.TABLES:
        if schema.name not in run.tables:
            continue
        table = run.tables[schema.name]
        if set(table["run_id"].to_pylist()) - {run.metadata.get("run_id")}:
            yield Violation("run-id", schema.file, f"other runs than {run.metadata.get('run_id')!r}")
        keys = list(zip(*(_sortable(table[name]) for name in schema.order), strict=True))
        problem = next((row for row, pair in enumerate(pairwise(keys)) if _wrong(*pair, schema)), None)
        if problem is not None:
            yield Violation("sorted", schema.file, f"row {problem + 1} doesn't follow row {problem}")


def _sortable(column: pa.ChunkedArray) -> list[tuple[bool, Any]]:
    return [(value is None, value) for value in column.to_pylist()]


def _wrong(before: tuple[Any, ...], after: tuple[Any, ...], schema: TableSchema) -> bool:
    return before > after or (schema.unique and before == after)


def _graph(run: _Run) -> Iterator[Violation]:
    nodes = {node["id"] for node in run.graph["nodes"]}
    edges = {(edge["source"], edge["target"]) for edge in run.graph["edges"]}
    for source, target in sorted(edges):
        if not {source, target} <= nodes:
            yield Violation("edge-key", "graph.json", f"{source}->{target} has an end that is no node")
    for name in ("node_features", "weak_labels"):
        if name in run.tables:
            strange = sorted(set(run.tables[name]["service"].to_pylist()) - nodes)
            if strange:
                yield Violation(
                    "service-key", f"{name}.parquet", f"no nodes of graph.json: {', '.join(map(str, strange))}"
                )
    if "edge_features" in run.tables:
        table = run.tables["edge_features"]
        pairs = set(zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True))
        for pair in sorted(pairs - edges, key=str):
            yield Violation("edge-key", "edge_features.parquet", f"no edge of graph.json: {pair[0]}->{pair[1]}")


def _actions(run: _Run) -> Iterator[Violation]:
    if "actions" not in run.tables:
        return
    actions = _visibility(run.tables["actions"])
    if "labels" in run.tables and _visibility(run.tables["labels"]) != actions:
        yield Violation("labels", "labels.parquet", "other actions, or another visibility, than in actions.parquet")
    for name, column in (("rewards", "action_id"), ("events", "caused_by_action_id"), ("certificates", "action_id")):
        if name in run.tables:
            strange = sorted(
                {value for value in run.tables[name][column].to_pylist() if value is not None} - set(actions)
            )
            if strange:
                yield Violation("action-key", f"{name}.parquet", f"not in actions.parquet: {', '.join(strange)}")


def _visibility(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["action_id"].to_pylist(), table["visibility"].to_pylist(), strict=True))


def _buckets(run: _Run) -> Iterator[Violation]:
    granularity = run.metadata["granularity_config"]
    start = _microseconds(run.metadata["run_start"])
    end = _microseconds(run.metadata["run_end"])
    bucket = granularity["observation_bucket_seconds"]
    widths = {
        "node_features": bucket,
        "edge_features": bucket,
        "control_inputs": bucket,
        "weak_labels": bucket,
        "rewards": granularity["reward_bucket_seconds"],
        "error_summaries": granularity["log_pattern_window_seconds"],
    }
    for name, seconds in widths.items():
        if name not in run.tables:
            continue
        times = np.unique(pc.cast(run.tables[name]["time"], pa.int64()).to_numpy())
        outside = (times < start) | (times >= end)
        if ((times - start) % (seconds * SECOND // 1000)).any() or outside.any():
            message = f"not on buckets of {seconds} s from {run.metadata['run_start']} to {run.metadata['run_end']}"
            yield Violation("bucket-alignment", f"{name}.parquet", message)
    for name, entities in (("node_features", "nodes"), ("edge_features", "edges")):
        if name in run.tables:
            table = run.tables[name]
            buckets = len(pc.unique(table["time"]))
            if table.num_rows != buckets * len(run.graph[entities]):
                message = f"{table.num_rows} rows for {buckets} buckets of {len(run.graph[entities])} {entities}"
                yield Violation("bucket-grid", f"{name}.parquet", message)


def _microseconds(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))


def _ranges(run: _Run) -> Iterator[Violation]:
    for name, table in run.tables.items():
        for column in table.schema.names:
            if column not in _SHARES and column not in _NEVER_NEGATIVE:
                continue
            found = pc.min_max(table[column]).as_py()
            low, high = found["min"], found["max"]
            if low is not None and (low < 0 or (column in _SHARES and high > 1)):
                yield Violation("range", f"{name}.parquet", f"{column} lies between {low} and {high}")


def _archive(run: _Run) -> Iterator[Violation]:
    path = run.directory / schemas.ARCHIVE
    stated = run.metadata.get("hashes", {}).get("event_log", "")
    if stated and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != stated:
        yield Violation("archive-digest", schemas.ARCHIVE, f"its SHA-256 isn't {stated}")


def _files(run: _Run) -> Iterator[Violation]:
    for name, stated in sorted(run.metadata.get("hashes", {}).get("files", {}).items()):
        path = run.directory / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != stated:
            yield Violation("file-digest", name, f"its SHA-256 isn't {stated}: it was changed after it was written")


_CHECKS: tuple[Callable[[_Run], Iterator[Violation]], ...] = (
    _metadata,
    _rows,
    _graph,
    _actions,
    _buckets,
    _ranges,
    _archive,
    _files,
)
