"""A state ➜ the Arrow tables of its run.

In: a state and the run's id. Out: one table per file of `schemas.TABLES`, sorted, with unit, description, rule and standing in every
field's metadata. What is computed here is only the layout; numbers come from `features`, `rewards`, `happenings` and `summaries`.

There are two kinds. The rows of `BUCKET_TABLES` belong to buckets, and those of a stretch of buckets can be made as soon as nothing
changes in it any more; so they are made while the log is folded, and the samples before them are let go. The rows of
`MOMENT_TABLES` are made when the log is folded.
Next: `projections.table_files` writes a table, `projections.dataset` all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.projections import schemas
from otel_control_gym.projections.decisions import action_rows, label_rows
from otel_control_gym.projections.features import edge_features, edge_statuses, node_features
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.happenings import happenings
from otel_control_gym.projections.inputs import control_input_rows
from otel_control_gym.projections.rewards import reward_rows
from otel_control_gym.projections.schemas import Column, ColumnType, TableSchema
from otel_control_gym.projections.summaries import error_summaries
from otel_control_gym.projections.suspicions import weak_label_rows
from otel_control_gym.projections.traffic import Statuses

__all__ = (
    "BUCKET_TABLES",
    "MOMENT_TABLES",
    "BucketTable",
    "arrow_schema",
    "encoded",
    "make_tables",
    "plain_table",
)

_ARROW: dict[ColumnType, pa.DataType] = {
    "time": pa.timestamp("us", tz="UTC"),
    "text": pa.string(),
    "id": pa.dictionary(pa.int32(), pa.string()),
    "number": pa.float64(),
    "count": pa.int64(),
    "flag": pa.bool_(),
    "json": pa.string(),
    "texts": pa.list_(pa.string()),
    "numbers_by_name": pa.map_(pa.string(), pa.float64()),
    "counts_by_name": pa.map_(pa.string(), pa.int64()),
}
Rows = Sequence[Mapping[str, Any]]
Content = Rows | dict[str, Any]
_PLAIN = ("ok", "error")  #: statuses where a source has no others
_TEXTS = 1 << 12  #: of attributes that are remembered
_EVER = 1 << 62  #: [ns] after every moment of a run


def arrow_schema(table: TableSchema) -> pa.Schema:
    """Return the table's Arrow schema with its metadata."""
    fields = [
        pa.field(
            column.name,
            _ARROW[column.type],
            nullable=column.standing != "key",
            metadata={
                "unit": column.unit,
                "description": column.description,
                "rule": column.rule,
                "standing": column.standing,
            },
        )
        for column in table.columns
    ]
    about = {"table": table.name, "row": table.row, "contract_version": str(schemas.CONTRACT_VERSION)}
    return pa.schema(fields, metadata=about)


def make_tables(state: RunState, run_id: str, bucket_seconds: int) -> dict[str, pa.Table]:
    """Return the tables of a state that holds its whole run, by file name.

    Raises: ConfigurationError: the bucket is finer than the scrape interval, or no multiple of it.
    """
    view = state.at(replace(state.settings.granularity, observation_bucket_seconds=bucket_seconds))
    contents: dict[TableSchema, Content] = {
        table: kind.make(view, view.buckets(getattr(view.settings.granularity, kind.width)))
        for table, kind in BUCKET_TABLES.items()
    } | {table: make(view) for table, make in MOMENT_TABLES.items()}
    return {table.file: encoded(plain_table(table, contents[table], run_id), table) for table in schemas.TABLES}


def plain_table(schema: TableSchema, content: Content, run_id: str) -> pa.Table:
    """Return rows, or columns that are in order already, as a table; ids are plain strings, so that tables can be joined."""
    in_order = isinstance(content, dict)
    if not isinstance(content, dict):
        content = {
            column.name: [row[column.name] for row in content] for column in schema.columns if column.name != "run_id"
        }
    length = len(next(iter(content.values())))
    columns = [
        _column(column, [run_id] * length if column.name == "run_id" else content[column.name])
        for column in schema.columns
    ]
    table = pa.Table.from_arrays(columns, names=[column.name for column in schema.columns])
    if in_order:
        return table
    keys = [(name, "ascending") for name in schema.order]
    # Stable, null last; times count in microseconds here, as the file keeps them.
    return table.take(pc.sort_indices(table, sort_keys=keys))


def encoded(plain: pa.Table, schema: TableSchema) -> pa.Table:
    """Return a plain table with the contract's schema: ids with a dictionary of those that occur in it."""
    columns = [
        plain.column(column.name).combine_chunks().dictionary_encode().cast(_ARROW["id"])
        if column.type == "id"
        else plain.column(column.name)
        for column in schema.columns
    ]
    return pa.Table.from_arrays(columns, schema=arrow_schema(schema))


def _column(column: Column, values: Any) -> pa.Array:
    target = _ARROW[column.type]
    if column.type == "time":
        if isinstance(values, np.ndarray):
            return pa.array(values // 1000, pa.int64()).cast(target)
        return pa.array([None if value is None else value // 1000 for value in values], pa.int64()).cast(target)
    if column.type == "id":
        return pa.array(values, pa.string())
    if isinstance(values, np.ndarray):
        return pa.array(values, target, mask=np.isnan(values))
    return pa.array(values, target)


# --- buckets --------------------------------------------------------------------------------------------------------------


def _times(state: RunState, buckets: Buckets, repeats: int) -> npt.NDArray[np.int64]:
    return np.repeat(state.origin + buckets.edges[:-1] * state.samples.interval, repeats)


def _nodes(state: RunState, buckets: Buckets) -> dict[str, Any]:
    names = [node.id for node in state.graph.nodes]
    order = sorted(range(len(names)), key=lambda position: names[position])
    columns = node_features(state.telemetry(), buckets)
    return {
        "time": _times(state, buckets, len(names)),
        "service": [names[position] for position in order] * buckets.count,
        **{name: values[:, order].ravel() for name, values in columns.items()},
    }


def _edges(state: RunState, buckets: Buckets) -> dict[str, Any]:
    ends = [(edge.source, edge.target, edge.protocol) for edge in state.graph.edges]
    order = sorted(range(len(ends)), key=lambda position: ends[position])
    columns = {name: values[:, order].ravel() for name, values in edge_features(state.telemetry(), buckets).items()}
    return {
        "time": _times(state, buckets, len(ends)),
        **{
            key: [ends[position][part] for position in order] * buckets.count
            for part, key in enumerate(("source", "target", "protocol"))
        },
        "status_counts": _status_counts(edge_statuses(state.telemetry(), buckets), order),
        **columns,
    }


def _status_counts(found: Statuses, order: Sequence[int]) -> list[list[tuple[str, int]] | None]:
    """Return, bucket after bucket, what calls over each edge came to; None where it isn't known."""
    counts = np.rint(found.counts).astype(np.int64).tolist()
    return [
        _named(dict(zip(found.codes, counts[row][edge], strict=True))) if found.known[row, edge] else None
        for row in range(len(counts))
        for edge in order
    ]


def _named(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the statuses that came, in order; of an edge that has only them, both `ok` and `error`."""
    came = [(code, count) for code, count in counts.items() if count]
    if any(code not in _PLAIN for code, _ in came):
        return came
    return [(code, counts.get(code, 0)) for code in _PLAIN]


# --- moments --------------------------------------------------------------------------------------------------------------


def _events(state: RunState) -> Rows:
    return [
        {
            "time": row.time,
            "source": row.source,
            "type": row.type,
            "reason": row.reason,
            "object": row.object,
            "message": row.message,
            "count": row.count,
            "visibility": row.visibility,
            "caused_by_action_id": row.caused_by_action_id,
        }
        for row in happenings(state, -_EVER, _EVER, truth=True)
    ]


def _rewards(state: RunState, buckets: Buckets) -> Rows:
    decisions = [life.requested for life in state.lives.all() if life.requested.decision_step is not None]
    begin, end = (int(state.origin + edge * state.samples.interval) for edge in (buckets.edges[0], buckets.edges[-1]))
    rows = []
    for row in reward_rows(state, start=begin, end=end):
        before = [decision.action_id for decision in decisions if decision.time <= row.time]
        rows.append(
            {
                "time": row.time,
                "reward_name": state.settings.reward.name,
                "value": row.value,
                "components": list(row.components.items()),
                "action_id": before[-1] if before else None,
            }
        )
    return rows


def _spans(state: RunState) -> Rows:
    both = [*((span, "public") for span in state.spans.all()), *((span, "truth") for span in state.truth.spans.all())]
    return [
        {
            "time": span.time,
            "duration_ms": span.duration_ns / 1e6,
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_span_id": span.parent_span_id,
            "service": span.service,
            "peer": span.peer,
            "operation": span.operation,
            "kind": span.kind,
            "protocol": span.protocol,
            "status": span.status,
            "attributes": _json(tuple(span.attributes.items())),
            "sampling_probability": span.sampling_probability,
            "visibility": visibility,
        }
        for span, visibility in both
    ]


@lru_cache(maxsize=_TEXTS)
def _json(items: tuple[tuple[str, str], ...]) -> str:
    """Return attributes as JSON; most spans have those of many others."""
    return json.dumps(dict(items), sort_keys=True)


def _weak_labels(state: RunState) -> Rows:
    return weak_label_rows(state, state.buckets(state.settings.granularity.observation_bucket_seconds))


def _errors(state: RunState) -> Rows:
    length = state.settings.granularity.log_pattern_window_seconds * SECOND
    return [
        {
            "time": row.time,
            "service": row.service,
            "operation": row.operation,
            "peer": row.peer,
            "status": row.status,
            "top_message": row.top_message,
            "trace_id": row.trace_id,
            "count": row.count,
            "weighted_count": row.weighted_count,
        }
        for row in error_summaries(state.spans.all(), state.logs.all(), state.origin, length)
    ]


def _traces(state: RunState) -> Rows:
    length = state.settings.granularity.trace_aggregation_seconds * SECOND
    found = state.trace_windows.between(state.origin, state.known_until, state.origin, length, cut=False)
    return [msgspec.structs.asdict(row) for row in found]


def _patterns(state: RunState) -> Rows:
    length = state.settings.granularity.log_pattern_window_seconds * SECOND
    found = state.log_windows.between(state.origin, state.known_until, state.origin, length, cut=False)
    return [msgspec.structs.asdict(row) for row in found]


class BucketTable(msgspec.Struct, frozen=True):
    """A table whose rows belong to buckets."""

    width: str  #: which of the granularity's times is the length of its buckets
    make: Callable[[RunState, Buckets], Content]


_OBSERVATION = "observation_bucket_seconds"
BUCKET_TABLES: Mapping[TableSchema, BucketTable] = {
    schemas.NODE_FEATURES: BucketTable(_OBSERVATION, _nodes),
    schemas.EDGE_FEATURES: BucketTable(_OBSERVATION, _edges),
    schemas.REWARDS: BucketTable("reward_bucket_seconds", _rewards),
    schemas.CONTROL_INPUTS: BucketTable(_OBSERVATION, control_input_rows),
}
MOMENT_TABLES: Mapping[TableSchema, Callable[[RunState], Content]] = {
    schemas.ACTIONS: action_rows,
    schemas.EVENTS: _events,
    schemas.LABELS: label_rows,
    schemas.SPANS: lambda state: _spans(state) if state.settings.telemetry.traces != "aggregated" else [],
    schemas.WEAK_LABELS: _weak_labels,
    schemas.ERROR_SUMMARIES: _errors,
    schemas.TRACE_SUMMARIES: lambda state: _traces(state) if state.settings.telemetry.traces != "raw" else [],
    schemas.LOG_PATTERNS: _patterns,
    schemas.CERTIFICATES: lambda _state: [],
}
assert {*BUCKET_TABLES, *MOMENT_TABLES} == {*schemas.TABLES}, "every table of the contract is made, and once"
