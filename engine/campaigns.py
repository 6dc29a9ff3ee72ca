"""A directory of runs ➜ all of them as one: a list to filter, and one lazily read table per file of the contract.

In: a directory that holds `campaign=<c>/service_config=<s>/run_<run_id>/`. Out: `Runs`. Its tables have `campaign` and `service_config`
as columns, from the folders' names; DuckDB and Arrow read the same folders without this module, with hive partitioning.

A void run (its fault was the stand's own, or nothing happened) is kept on disk and left out here unless asked for. Upstream:
`engine.runs` finds the runs. Downstream: notebooks, adapters, baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, overload

import msgspec

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.runs import Run, check_contract, find_runs

if TYPE_CHECKING:
    from otel_control_gym.engine.run_tables import RunTable

__all__ = ("Runs", "open_runs")

STATUSES = ("completed", "aborted", "void")
SCORED = ("metrics",)  #: streams whose coverage counts


class Runs(Sequence[Run]):
    """Runs, oldest first; a slice of them, or those that `where` selects, is one again."""

    def __init__(self, directory: Path, runs: Sequence[Run]) -> None:
        self.directory = directory
        self._runs = tuple(runs)

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        if isinstance(index, slice):
            return Runs(self.directory, self._runs[index])
        return self._runs[index]

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def where(self, condition: Callable[[Run], bool]) -> Runs:
        """Return the runs for which a condition holds."""
        return Runs(self.directory, [run for run in self._runs if condition(run)])

    def table(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> RunTable:
        """Return a table over all the runs, with `campaign` and `service_config` as columns; runs in order, rows as in their files.

        `start` and `end` are aware datetimes: runs have starts of their own.

        Raises: UsageError: there is no such table or column.
        """
        from otel_control_gym.engine.run_tables import open_table

        return open_table(
            name,
            [run.path for run in self._runs],
            columns=columns,
            start=start,
            end=end,
            truth=any(run.truth for run in self._runs),
            base=self.directory,
        )

    def __repr__(self) -> str:
        return f"<{len(self)} runs in {self.directory}>"


def open_runs(
    directory: str | Path,
    *,
    status: Collection[str] = ("completed", "aborted"),
    min_coverage: float = 0.0,
    campaign: str | None = None,
    service_config: str | None = None,
    truth: bool = False,
) -> Runs:
    """Return the runs of a directory, oldest first.

    Args:
        directory: what holds the `campaign=…` folders; one such folder, or one `service_config=…` folder, does too.
        status: which runs; name `void` to have those, too.
        min_coverage: share of the metrics that must have come (0.95 is what a dataset for training should have).
        campaign: of this campaign alone.
        service_config: of this application alone.
        truth: as for `open_run`.

    Raises:
        UsageError: there is no such directory, or a status that doesn't exist.
        DatasetError: a run's metadata can't be read, or a run keeps a later contract than this program knows.
    """
    base = _base(Path(directory))
    unknown = sorted(set(status) - set(STATUSES))
    if unknown:
        raise UsageError(f"status {', '.join(unknown)}: a run is completed, aborted or void")
    found = []
    for run in find_runs(base):
        if run.status not in status or not run.path.is_relative_to(directory):
            continue
        if campaign not in (None, run.campaign) or service_config not in (None, run.service_config):
            continue
        check_contract(run)
        if all(run.coverage.get(stream, 0.0) >= min_coverage for stream in SCORED):
            found.append(msgspec.structs.replace(run, truth=truth))
    return Runs(base, found)


def _base(directory: Path) -> Path:
    """Return the directory that holds the `campaign=…` folders.

    Raises: UsageError: there is no such directory.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory\n  name the one that holds the `campaign=…` folders")
    if directory.name.startswith("service_config="):
        return directory.parent.parent
    return directory.parent if directory.name.startswith("campaign=") else directory
