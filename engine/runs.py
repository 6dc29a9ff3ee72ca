"""Runs on disk: where they are, what state they are in, how they are stored.

In: a data directory, a run's log. Out: run directories (`campaign=<c>/service_config=<s>/run_<run_id>/`), which DuckDB and Arrow read
with hive partitioning. A run is there when its `metadata.json` is: the archive comes first, the tables after it, that file last.
Upstream: `engine.env` and `engine.recovery` store; downstream: the command line and notebooks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
import msgspec

from otel_control_gym.engine.archive import ARCHIVE_NAME, export_archive, read_archive
from otel_control_gym.engine.errors import DatasetError, UsageError, nearest
from otel_control_gym.engine.events import Recorded
from otel_control_gym.engine.log import RunLog
from otel_control_gym.engine.settings import RunSettings

__all__ = ("Run", "WriteDataset", "find_runs", "open_run", "run_directory", "store_run")

_PREFIX = "run_"


class WriteDataset(Protocol):
    """Folds a log and writes the tables of its run into a directory; blocking (`projections.write_dataset`)."""

    def __call__(self, entries: Iterable[Recorded], directory: Path, *, content_digest: str) -> None:
        """Write the dataset; `content_digest` is the log's."""
        ...


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run directory, as its metadata tells it."""

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


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `metadata.json` that lists need."""

    run_id: str
    status: str
    done_reason: str | None
    stand: str
    run_start: str
    run_end: str
    content_digest: str


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


def open_run(reference: str | Path, data_dir: str | Path | None = None) -> Run:
    """Return a run by its directory, its id, a unique beginning of its id, or `latest` (the last two need `data_dir`).

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
    return Run(
        path=path,
        campaign=path.parent.parent.name.removeprefix("campaign="),
        service_config=path.parent.name.removeprefix("service_config="),
        **msgspec.structs.asdict(metadata),
    )
