"""A log ➜ the files of a run's directory.

In: the entries of a log and a directory, which may hold the log's archive already. Out: every file of the data contract. All are written
under a temporary name beside the directory and moved in when the last one is whole, `metadata.json` at the end: a run is there when
that file is. Same log and same bucket give the same bytes: the writer's settings are fixed, and no clock is read.

Blocking; callers put it into a worker thread. Upstream: `engine.archive` reads the log.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from otel_control_gym.engine.clock import rfc3339
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.events import KubernetesEvent, LogRow, Recorded
from otel_control_gym.projections.fold import RunState, fold
from otel_control_gym.projections.metadata import Identity, graph_document, metadata_document
from otel_control_gym.projections.schemas import ARCHIVE, FILES, ROW_GROUP_ROWS, TABLES, TableSchema
from otel_control_gym.projections.suspicions import finding_records
from otel_control_gym.projections.tables import make_tables
from otel_control_gym.projections.timelines import Timeline

__all__ = ("dataset_files", "write_dataset")

_RUN_NAME = re.compile(r"run_([0-9A-Za-z]+)$")
_LEVEL = 3  #: of zstd
RowT = TypeVar("RowT", bound=KubernetesEvent | LogRow)


def write_dataset(
    entries: Iterable[Recorded],
    directory: Path,
    *,
    run_id: str | None = None,
    content_digest: str = "",
    bucket_seconds: int | None = None,
) -> None:
    """Fold a log and write the dataset of its run into `directory`; files of the same names are replaced, others stay.

    Args:
        entries: the log, public and truth, from its first event to its last (or to where it breaks off).
        directory: the run's directory; made if it doesn't exist.
        run_id: the run's id (default: what follows `run_` in the directory's name).
        content_digest: the log's, as its archive states it.
        bucket_seconds: width of the feature tables' buckets (default: the run's own).

    Raises:
        ConfigurationError: the bucket is finer than the scrape interval, or no multiple of it.
        LogCorrupted: the log contradicts itself, or doesn't begin with `RunDeclared`.
        OSError: the files can't be written.
    """
    archive = directory / ARCHIVE
    identity = Identity(
        run_id=run_id or _run_id(directory),
        content_digest=content_digest,
        archive_sha256=hashlib.sha256(archive.read_bytes()).hexdigest() if archive.exists() else "",
    )
    files = dataset_files(fold(entries), identity, bucket_seconds)
    draft = directory.with_name(f".{directory.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        for name in FILES:
            (draft / name).write_bytes(files[name])
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "metadata.json").unlink(missing_ok=True)
        for name in (*(name for name in FILES if name != "metadata.json"), "metadata.json"):
            (draft / name).replace(directory / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def dataset_files(state: RunState, identity: Identity, bucket_seconds: int | None = None) -> dict[str, bytes]:
    """Return the content of every file of `schemas.FILES`.

    Raises: ConfigurationError: the bucket is finer than the scrape interval, or no multiple of it.
    """
    bucket = bucket_seconds or state.settings.granularity.observation_bucket_seconds
    tables = make_tables(state, identity.run_id, bucket)
    files = {schema.file: _parquet(tables[schema.file], schema) for schema in TABLES}
    files["graph.json"] = _json(graph_document(state))
    files["coroot_findings.json"] = _json(finding_records(state))
    files["logs.jsonl.zst"] = _lines(
        _records(state.logs, state.truth.logs, lambda row: (row.service, row.severity, row.body))
    )
    files["k8s_events.jsonl.zst"] = _lines(
        _records(
            state.kubernetes_events,
            state.truth.kubernetes_events,
            lambda row: (row.object_kind, row.object_name, row.reason, row.message),
        )
    )
    document = metadata_document(state, identity, bucket)
    document["hashes"]["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    files["metadata.json"] = _json(document)
    return files


def _run_id(directory: Path) -> str:
    match = _RUN_NAME.search(directory.name)
    if match is None:
        raise UsageError(f"{directory} doesn't say which run it is for\n  give a run_id, or name it run_<run_id>")
    return match.group(1)


def _parquet(table: pa.Table, schema: TableSchema) -> bytes:
    order = [(name, "ascending") for name in schema.order]
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=True,
        write_statistics=True,
        version="2.6",
        data_page_version="1.0",
        row_group_size=ROW_GROUP_ROWS,
        sorting_columns=pq.SortingColumn.from_ordering(table.schema, order, null_placement="at_end"),
    )
    return sink.getvalue()


def _json(document: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"


def _lines(records: Sequence[dict[str, Any]]) -> bytes:
    text = b"".join(msgspec.json.encode(record, order="sorted") + b"\n" for record in records)
    return zstandard.ZstdCompressor(level=_LEVEL).compress(text)


def _records(
    public: Timeline[RowT], truth: Timeline[RowT], key: Callable[[RowT], tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Return the rows of both streams as JSON objects that say which stream they are of, by (time, key)."""
    both = [*((row, "public") for row in public.all()), *((row, "truth") for row in truth.all())]
    both.sort(key=lambda pair: (pair[0].time, key(pair[0]), pair[1]))
    return [
        msgspec.to_builtins(row) | {"time": rfc3339(row.time), "visibility": visibility} for row, visibility in both
    ]
