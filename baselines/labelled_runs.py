"""A campaign's directory ➜ its runs with telemetry for detectors and rankers, and truth for scoring them.

In: `campaign=NAME`. Out: `LabelledRun`s, oldest first, without void runs, and without branches, which share all but the end of a run with
their parents. Blocking.

Upstream: `entity_series`, `fault_windows`. Downstream: `detector_runs`, `anomalies`, `root_causes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.entity_series import EntitySeries, read_entity_series
from otel_control_gym.baselines.fault_windows import BucketKind, RunTruth, bucket_kinds, read_truth
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.events import Finding, FindingsObserved, Recorded, RunDeclared
from otel_control_gym.engine.run_collections import open_runs
from otel_control_gym.engine.runs import Run

__all__ = ("LabelledRun", "labelled_runs", "main_runs")

Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]


class LabelledRun(msgspec.Struct, frozen=True, kw_only=True, eq=False, dict=True):
    """A run: what was seen of it, and what really happened."""

    run: Run  #: with truth
    series: EntitySeries
    truth: RunTruth

    @cached_property
    def kinds(self) -> Int:
        """`BucketKind` of each bucket [T]."""
        return bucket_kinds(self.truth, self.series)

    @cached_property
    def told(self) -> list[tuple[float, Finding]]:
        """What Coroot told, and when, in seconds after the run's start; its log is read at the first access."""
        return _told(msgspec.structs.replace(self.run, truth=False).events())

    @property
    def calm(self) -> Bool:
        """Which buckets are calm [T]."""
        return np.asarray(self.kinds == BucketKind.CALM)


def labelled_runs(directory: Path) -> list[LabelledRun]:
    """Return the runs of a campaign, oldest first.

    Raises: UsageError: there is no such campaign, or no run in it. DatasetError: a file can't be read.
    """
    return [LabelledRun(run=run, series=read_entity_series(run), truth=read_truth(run)) for run in main_runs(directory)]


def main_runs(directory: Path) -> list[Run]:
    """Return the runs of a campaign with truth, without void ones and branches.

    Raises: UsageError: there is no such campaign, or no run in it.
    """
    runs = [run for run in open_runs(directory, truth=True) if run.metadata["parent_run_id"] is None]
    if not runs:
        raise UsageError(f"{directory} has no runs to score on\n  `ocg campaign run` plays them")
    return runs


def _told(events: Iterable[Recorded]) -> list[tuple[float, Finding]]:
    """Return what Coroot told, and when, in seconds after the run's start."""
    origin, told = 0, []
    for recorded in events:
        if isinstance(recorded.event, RunDeclared):
            origin = recorded.event.time
        elif isinstance(recorded.event, FindingsObserved):
            told += [((recorded.event.time - origin) / SECOND, finding) for finding in recorded.event.rows]
    return told
