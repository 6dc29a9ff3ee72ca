"""One dataset that is being written, at one granularity.

In: a state that grows. Out: every file of the data contract, first in a draft beside the run's directory. Rows of buckets in which
nothing changes any more are written while the log is folded; the rest when it is at its end. `publish` moves the files in,
`metadata.json` at the end: a run is there when that file is. Same log and same granularity give the same bytes: the writers' settings
are fixed, and no clock is read.

Upstream: `projections.dataset` folds the log. Downstream: `projections.tables` makes rows, `projections.table_files` writes them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec
import zstandard

from otel_control_gym.engine.clock import SECOND, rfc3339
from otel_control_gym.engine.events import KubernetesEvent, LogRow
from otel_control_gym.engine.settings import Granularity
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.metadata import Identity, graph_document, metadata_document
from otel_control_gym.projections.read_me import read_me
from otel_control_gym.projections.schemas import ARCHIVE, FILES, READ_ME, TableSchema
from otel_control_gym.projections.suspicions import finding_records
from otel_control_gym.projections.table_files import LEVEL, TableFile
from otel_control_gym.projections.tables import BUCKET_TABLES, MOMENT_TABLES, plain_table
from otel_control_gym.projections.timelines import Timeline

__all__ = ("DatasetDraft",)

RowT = TypeVar("RowT", bound=KubernetesEvent | LogRow)
_METADATA = "metadata.json"


class DatasetDraft:
    """The dataset of a run on its way to `directory`; a context manager that leaves no draft behind."""

    def __init__(self, directory: Path, run_id: str, granularity: Granularity | None = None) -> None:
        self._directory = directory
        self._draft = directory.with_name(f".{directory.name}.draft")
        self._run_id = run_id
        self._granularity = granularity
        self._tables: dict[TableSchema, TableFile] = {}
        self._written = dict.fromkeys(BUCKET_TABLES, 0)  # buckets
        self._open_files = ExitStack()

    def __enter__(self) -> DatasetDraft:
        """Make an empty draft."""
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        for table in BUCKET_TABLES:
            self._tables[table] = self._open_files.enter_context(TableFile(self._draft / table.file, table))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what is left of the draft."""
        self._open_files.close()
        shutil.rmtree(self._draft, ignore_errors=True)

    def grow(self, state: RunState) -> None:
        """Write the rows of the buckets in which nothing changes any more.

        Raises: ConfigurationError: a bucket is finer than the scrape interval, or no multiple of it.
        """
        self._add_buckets(self._seen(state), end=state.lateness.settled - 1)

    def next_edge(self, state: RunState) -> int:
        """Return the oldest edge that the rows to come are made of: the start of the next bucket of any table, less what is looked back."""
        granularity, scrape = self._seen(state).settings.granularity, state.settings.granularity.scrape_interval_seconds
        seconds: int = min(
            written * getattr(granularity, BUCKET_TABLES[table].width) for table, written in self._written.items()
        )
        metrics = state.settings.metrics
        quantities = (*metrics.sources("node").values(), *metrics.sources("edge").values())
        look_back = max((source.resolution_seconds for sources in quantities for source in sources), default=0)
        # When a slow source changed shows against the edge before.
        return max(0, seconds - look_back - scrape) // scrape

    def finish(self, state: RunState, content_digest: str) -> None:
        """Write all that isn't written yet: the log, whose digest it is, is at its end.

        Raises: ConfigurationError: as `grow`. LogCorrupted: the log doesn't begin with `RunDeclared`.
        """
        view = self._seen(state)
        self._add_buckets(view, end=view.known_until)
        self._open_files.close()
        for table, make in MOMENT_TABLES.items():
            with TableFile(self._draft / table.file, table) as file:
                file.add(plain_table(table, make(view), self._run_id))
        self._write("graph.json", _json(graph_document(view)))
        self._write("coroot_findings.json", _json(finding_records(view)))
        logs = _records(view.logs, view.truth.logs, lambda row: (row.service, row.severity, row.body))
        self._write("logs.jsonl.zst", _lines(logs))
        happened = _records(
            view.kubernetes_events,
            view.truth.kubernetes_events,
            lambda row: (row.object_kind, row.object_name, row.reason, row.message),
        )
        self._write("k8s_events.jsonl.zst", _lines(happened))
        archive = self._directory / ARCHIVE
        identity = Identity(
            run_id=self._run_id,
            content_digest=content_digest,
            archive_sha256=_sha256(archive) if archive.exists() else "",
        )
        document = metadata_document(view, identity)
        self._write(READ_ME, read_me(document).encode())
        document["hashes"]["files"] = {name: _sha256(self._draft / name) for name in sorted(FILES) if name != _METADATA}
        self._write(_METADATA, _json(document))

    def publish(self) -> None:
        """Move the files to their directory, `metadata.json` last."""
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / _METADATA).unlink(missing_ok=True)
        for name in (*(name for name in FILES if name != _METADATA), _METADATA):
            (self._draft / name).replace(self._directory / name)

    def _seen(self, state: RunState) -> RunState:
        return state if self._granularity is None else state.at(self._granularity)

    def _add_buckets(self, view: RunState, end: int) -> None:
        for table, kind in BUCKET_TABLES.items():
            seconds: int = getattr(view.settings.granularity, kind.width)
            start = view.origin + self._written[table] * seconds * SECOND
            buckets: Buckets = view.buckets(seconds, start=start, end=end)
            if buckets.count:
                self._tables[table].add(plain_table(table, kind.make(view, buckets), self._run_id))
                self._written[table] += buckets.count

    def _write(self, name: str, content: bytes) -> None:
        (self._draft / name).write_bytes(content)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(document: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"


def _lines(records: Sequence[dict[str, Any]]) -> bytes:
    text = b"".join(msgspec.json.encode(record, order="sorted") + b"\n" for record in records)
    return zstandard.ZstdCompressor(level=LEVEL).compress(text)


def _records(
    public: Timeline[RowT], truth: Timeline[RowT], key: Callable[[RowT], tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Return the rows of both streams as JSON objects that say which stream they are of, by (time, key)."""
    both = [*((row, "public") for row in public.all()), *((row, "truth") for row in truth.all())]
    both.sort(key=lambda pair: (pair[0].time, key(pair[0]), pair[1]))
    return [
        msgspec.to_builtins(row) | {"time": rfc3339(row.time), "visibility": visibility} for row, visibility in both
    ]
