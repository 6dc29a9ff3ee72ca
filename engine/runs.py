"""Runs on disk: where they are, what state they are in, how they are stored.

In: a data directory, a run's log. Out: run directories (`campaign=<c>/service_config=<s>/run_<run_id>/`), which DuckDB and Arrow read
with hive partitioning. A run is there when its `metadata.json` is: the archive comes first, the tables after it, that file last.
Upstream: `engine.env` and `engine.recovery` store; downstream: the command line and notebooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.to_thread
import msgspec

from otel_control_gym.engine.archive import ARCHIVE_NAME, export_archive, read_archive
from otel_control_gym.engine.errors import DatasetError, UsageError, nearest
from otel_control_gym.engine.events import Recorded
from otel_control_gym.engine.log import RunLog
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.projections import CONTRACT_VERSION

if TYPE_CHECKING:
    from otel_control_gym.engine.run_tables import Moment, RunTable
    from otel_control_gym.engine.run_windows import Windows

__all__ = (
    "Run",
    "WriteDataset",
    "check_contract",
    "find_run",
    "find_runs",
    "open_run",
    "run_directory",
    "store_run",
)

_PREFIX = "run_"


class WriteDataset(Protocol):
    """Folds a log and writes the tables of its run into a directory; blocking (`projections.write_dataset`)."""

    def __call__(self, entries: Iterable[Recorded], directory: Path, *, content_digest: str) -> None:
        """Write the dataset; `content_digest` is the log's."""
        ...


class Run(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A run directory: what it is, and lazy access to what is in it.

    Nothing is read before it is asked for, and only what is public: rows that a policy could know, metadata without seed, scenario and
    interventions. `open_run(…, truth=True)` shows the rest. A run of an earlier contract looks like one of today's: columns that it
    didn't have are null, tables that it didn't have are empty.
    """

    run_id: str
    status: str  #: completed, aborted, void
    path: Path
    campaign: str
    service_config: str
    done_reason: str | None
    stand: str
    run_start: str
    run_end: str
    content_digest: str
    contract_version: int
    family_id: str  #: runs of one family share script and seed: splits keep them together
    coverage: dict[str, float]  #: share of each telemetry stream that came, by its name
    truth: bool = False  #: whether what only hindsight knows is shown

    def table(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> RunTable:
        """Return a table, e.g. `node_features`, of the rows in [start, end); see `RunTable` for what it can become.

        `start` and `end` are aware datetimes or seconds after `run_start`; a bucket belongs to where it starts.

        Raises: UsageError: there is no such table or column. DatasetError: the file is missing.
        """
        from otel_control_gym.engine.run_tables import moment_of, open_table, table_schema

        file = self.path / table_schema(name).file
        if not file.is_file() and self.contract_version == CONTRACT_VERSION:
            raise DatasetError(f"{file} is missing\n  `ocg rebuild` makes it again from {ARCHIVE_NAME}")
        origin = datetime.fromisoformat(self.run_start)
        return open_table(
            name,
            [self.path],
            columns=columns,
            start=moment_of(start, origin),
            end=moment_of(end, origin),
            truth=self.truth,
        )

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of `metadata.json`; without `truth` the keys that its `ground_truth` lists are left out."""
        from otel_control_gym.engine.run_documents import public_metadata, read_metadata

        document = read_metadata(self.path / "metadata.json")
        return document if self.truth else public_metadata(document)

    @cached_property
    def graph(self) -> dict[str, Any]:
        """Content of `graph.json`: `nodes` and `edges`, whose ids are the keys of the tables."""
        from otel_control_gym.engine.run_documents import read_document

        document: dict[str, Any] = read_document(self.path / "graph.json")
        return document

    @cached_property
    def findings(self) -> list[dict[str, Any]]:
        """Content of `coroot_findings.json`: what Coroot suspected, by time."""
        from otel_control_gym.engine.run_documents import read_document

        document: list[dict[str, Any]] = read_document(self.path / "coroot_findings.json")
        return document

    def logs(self) -> Iterator[dict[str, Any]]:
        """Yield the log records of `logs.jsonl.zst`, by time."""
        from otel_control_gym.engine.run_documents import read_lines

        return read_lines(self.path / "logs.jsonl.zst", truth=self.truth)

    def kubernetes_events(self) -> Iterator[dict[str, Any]]:
        """Yield the records of `k8s_events.jsonl.zst`, by time."""
        from otel_control_gym.engine.run_documents import read_lines

        return read_lines(self.path / "k8s_events.jsonl.zst", truth=self.truth)

    def events(self) -> Iterator[Recorded]:
        """Yield the events of the run's log, `event_log.zst`, in the order in which they became known."""
        return read_archive(self.path / ARCHIVE_NAME, truth=self.truth)

    def windows(self, *, history: int | None = None, horizon: int | None = None, partial: bool = False) -> Windows:
        """Return the run's decision steps as numpy arrays, ready for a PyTorch `Dataset`; see `run_windows.Windows`.

        Args:
            history: seconds before the decision (default: the run's observation window).
            horizon: seconds after it (default: the control step).
            partial: also the decisions whose horizon reaches beyond the run's end, masked there.

        Raises: UsageError: one of them is no multiple of the run's bucket.
        """
        from otel_control_gym.engine.run_windows import Windows

        return Windows(self, history=history, horizon=horizon, partial=partial)


class _Stream(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a stream's entry in `metadata.json` that lists need."""

    coverage: float | None = None


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `metadata.json` that lists need."""

    run_id: str
    status: str
    done_reason: str | None
    stand: str
    run_start: str
    run_end: str
    content_digest: str
    contract_version: int
    family_id: str
    streams: dict[str, _Stream]


def run_directory(data_dir: Path, settings: RunSettings, run_id: str) -> Path:
    """Return where the dataset of a run belongs."""
    return (
        data_dir / f"campaign={settings.campaign}" / f"service_config={settings.services.name}" / f"{_PREFIX}{run_id}"
    )


async def store_run(log: RunLog, directory: Path, write_dataset: WriteDataset) -> None:
    """Export a log into a run directory and write its dataset from that archive, both in worker threads.

    Raises: LogError: the log can't be read. DatasetError: the files can't be written.
    """
    archive = directory / ARCHIVE_NAME
    try:
        await anyio.Path(directory).mkdir(parents=True, exist_ok=True)
        await export_archive(log, archive)
        await anyio.to_thread.run_sync(
            lambda: write_dataset(read_archive(archive), directory, content_digest=log.content_digest())
        )
    except OSError as error:
        raise DatasetError(f"{directory} can't be written: {error.strerror or error}") from error


def find_runs(data_dir: str | Path) -> list[Run]:
    """Return all runs of a data directory that have a dataset, oldest first."""
    paths = Path(data_dir).glob(f"campaign=*/service_config=*/{_PREFIX}*/metadata.json")
    return sorted((_run(path.parent) for path in paths), key=lambda run: run.run_id)


def open_run(reference: str | Path, data_dir: str | Path | None = None, *, truth: bool = False) -> Run:
    """Return a run by its directory, its id, a unique beginning of its id, or `latest` (all but the first need `data_dir`).

    What is public is shown; with `truth` also interventions, labels, seed and scenario: for evaluation, never for a model's input.

    Raises:
        UsageError: there is no such run.
        DatasetError: its metadata can't be read, or it keeps a later contract than this program knows.
    """
    run = find_run(reference, data_dir)
    check_contract(run)
    return msgspec.structs.replace(run, truth=truth)


def check_contract(run: Run) -> None:
    """Refuse a run that a later program wrote: what it holds could be misread.

    Raises: DatasetError: it keeps a later contract than this program knows.
    """
    if not 1 <= run.contract_version <= CONTRACT_VERSION:
        raise DatasetError(
            f"{run.path}: written under data contract {run.contract_version}; this program reads 1 to {CONTRACT_VERSION}\n"
            "  upgrade otel-control-gym to read it"
        )


def find_run(reference: str | Path, data_dir: str | Path | None = None) -> Run:
    """Return a run as `open_run` does, of whatever contract.

    Raises: UsageError: there is no such run. DatasetError: its metadata can't be read.
    """
    path = Path(reference)
    if (path / "metadata.json").is_file():
        return _run(path)
    if data_dir is None or path.is_dir() or len(path.parts) > 1:
        problem = "it has no metadata.json" if path.is_dir() else "there is no such directory"
        raise UsageError(f"{path} is no run directory: {problem}")
    runs = find_runs(data_dir)
    if not runs:
        raise UsageError(f"there are no runs in {data_dir}\n  `ocg run` makes one; `--data-dir` names another place")
    wanted = str(reference).removeprefix(_PREFIX)
    if wanted == "latest":
        return runs[-1]
    found = [run for run in runs if run.run_id.startswith(wanted)]
    if len(found) != 1:
        problem = "no run" if not found else f"{len(found)} runs"
        remedy = nearest(wanted, [run.run_id for run in runs[-5:]])
        raise UsageError(f"{problem} in {data_dir} begins with {wanted!r}\n  {remedy} (`ocg runs` lists all)")
    return found[0]


def _run(path: Path) -> Run:
    file = path / "metadata.json"
    try:
        metadata = msgspec.json.decode(file.read_bytes(), type=_Metadata)
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(f"{file} can't be read: {error}") from error
    fields = msgspec.structs.asdict(metadata)
    streams: dict[str, _Stream] = fields.pop("streams")
    return Run(
        path=path,
        campaign=path.parent.parent.name.removeprefix("campaign="),
        service_config=path.parent.name.removeprefix("service_config="),
        coverage={name: stream.coverage for name, stream in streams.items() if stream.coverage is not None},
        **fields,
    )
