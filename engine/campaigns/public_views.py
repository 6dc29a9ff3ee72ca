"""A run on disk ➜ what of it is public: the rows, records, metadata, places in the log and sizes of files that a leak could hide in.

In: a run's directory, and how far one may look. Out: a `PublicView`, read through `open_run` without truth, as a policy or a model's author
would. With `until` only what was known strictly before that moment is there: a bucket counts when it is over, and of the metadata what the
run's end decided is left out.

Blocking. Downstream: `engine.campaigns.leak_channels`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from otel_control_gym.engine.archive import ARCHIVE_NAME
from otel_control_gym.engine.archive_reader import read_messages
from otel_control_gym.engine.runs import Run, open_run

__all__ = ("CROCKFORD", "TABLES", "PublicView", "Span", "begun_ms", "public_view")

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  #: digits of run ids, by value
_ROW_SECONDS = {
    "node_features": "observation_bucket_seconds",
    "edge_features": "observation_bucket_seconds",
    "control_inputs": "observation_bucket_seconds",
    "weak_labels": "observation_bucket_seconds",
    "rewards": "reward_bucket_seconds",
    "error_summaries": "log_pattern_window_seconds",
    "log_patterns": "log_pattern_window_seconds",
    "trace_summaries": "trace_aggregation_seconds",
}
"""How long a row of a table lasts, by the granularity's key: it is known when it is over. Rows of other tables are moments."""
TABLES = (*_ROW_SECONDS, "events", "spans", "actions")
"""Tables that are looked into; of labels and certificates nothing that matters is public."""
_OUTCOMES = (
    "action_schedule",
    "content_digest",
    "done_reason",
    "hashes",
    "run_end",
    "status",
    "streams",
    "void_reason",
    "void_rule",
    "wall_time",
)
"""Keys of `metadata.json` that aren't known before a run is over."""
_ENVIRONMENT = "run.environment.1"  #: says when and where the run was played, and differs in every run


class Span(msgspec.Struct, frozen=True):
    """From when until when one may look, in seconds after the run's start."""

    start: float
    end: float


class PublicView(msgspec.Struct, frozen=True, kw_only=True):
    """What is public of a run."""

    run_id: str
    metadata: dict[str, Any]
    tables: dict[str, pa.Table]
    order: dict[str, tuple[str, ...]]  #: table -> columns by which its rows should be sorted
    logs: list[dict[str, Any]]
    kubernetes_events: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    graph: dict[str, Any]
    messages: list[tuple[int, str]]  #: (sequence, type tag) of the public stream
    sizes: dict[str, int]  #: file -> bytes; empty before the run's end
    elapsed_seconds: float | None  #: of wall time, from the run's id to its last file; null before the run's end
    digest: str  #: of the public stream: types and bodies, all but where and when it was played


def public_view(directory: Path, span: Span | None = None) -> PublicView:
    """Return what is public of a run, of all of it or of a span.

    Raises: DatasetError, LogError: a file is missing or can't be read.
    """
    run = open_run(directory)
    tables = {name: _rows(run, name, span) for name in TABLES}
    messages, digest = _stream(run, span)
    metadata = run.metadata
    if span is not None:
        metadata = {key: value for key, value in metadata.items() if key not in _OUTCOMES}
    return PublicView(
        run_id=run.run_id,
        metadata=metadata,
        tables=tables,
        order={name: run.table(name).description.order for name in TABLES},
        logs=_within(run, list(run.logs()), span),
        kubernetes_events=_within(run, list(run.kubernetes_events()), span),
        findings=_within(run, run.findings, span),
        graph=run.graph if span is None else {},
        messages=messages,
        sizes={file.name: file.stat().st_size for file in sorted(directory.iterdir())} if span is None else {},
        elapsed_seconds=_elapsed(directory, run.run_id) if span is None else None,
        digest=digest,
    )


def _rows(run: Run, name: str, span: Span | None) -> pa.Table:
    if span is None:
        return run.table(name).to_arrow()
    key = _ROW_SECONDS.get(name)
    lasting = float(run.metadata["granularity_config"][key]) if key is not None else 0.0
    # Time is kept in microseconds, so this is the first moment at which a row isn't known yet.
    return run.table(name, start=span.start, end=span.end - lasting + (1e-6 if lasting else 0.0)).to_arrow()


def _within(run: Run, records: list[dict[str, Any]], span: Span | None) -> list[dict[str, Any]]:
    if span is None:
        return records
    first, end = (_moment(run, seconds) for seconds in (span.start, span.end))
    return [
        record
        for record in records
        if first <= datetime.fromisoformat(str(record.get("time", record.get("timestamp")))) < end
    ]


def _moment(run: Run, seconds: float) -> datetime:
    return datetime.fromisoformat(run.run_start) + timedelta(seconds=seconds)


def _stream(run: Run, span: Span | None) -> tuple[list[tuple[int, str]], str]:
    first, end = (None, None) if span is None else (_moment(run, span.start), _moment(run, span.end))
    messages: list[tuple[int, str]] = []
    digest = hashlib.sha256()
    for message, truth in read_messages(run.path / ARCHIVE_NAME):
        if truth or not (first is None or end is None or first <= _time(message.headers) < end):
            continue
        messages.append((message.sequence, message.tag))
        if message.tag != _ENVIRONMENT:
            digest.update(f"{message.sequence} {message.tag} {len(message.body)} ".encode() + message.body)
    return messages, digest.hexdigest()


def _time(headers: dict[str, str]) -> datetime:
    return datetime.fromisoformat(headers["ce-time"])


def _elapsed(directory: Path, run_id: str) -> float:
    return (directory / "metadata.json").stat().st_mtime - begun_ms(run_id) / 1000


def begun_ms(run_id: str) -> int:
    """Return the wall time that a run's id begins with [ms]; 0 of an id of another kind."""
    head = run_id[:10]
    if any(letter not in CROCKFORD for letter in head):
        return 0
    return sum(CROCKFORD.index(letter) << 5 * place for place, letter in enumerate(reversed(head)))
