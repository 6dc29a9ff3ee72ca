"""A campaign's directory ➜ its runs with telemetry for detectors and rankers, and truth for scoring them.

In: `campaign=NAME`. Out: `LabelledRun`s, oldest first, without void runs, and without branches, which share all but the end of a run with
their parents. Blocking.

Upstream: `entity_series`, `fault_windows`. Downstream: `detector_runs`, `anomalies`, `root_causes`.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.entity_series import EntitySeries, read_entity_series
from otel_control_gym.baselines.fault_windows import BucketKind, RunTruth, bucket_kinds, read_truth
from otel_control_gym.engine.archive import ARCHIVE_NAME
from otel_control_gym.engine.archive_reader import read_messages
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.events import Finding, FindingsObserved
from otel_control_gym.engine.run_collections import open_runs
from otel_control_gym.engine.run_log import recorded
from otel_control_gym.engine.runs import Run

__all__ = ("LabelledRun", "labelled_runs", "main_runs")

Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

_DECODED = (FindingsObserved.__struct_config__.tag,)


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
        return _told(self.run)

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


def _told(run: Run) -> list[tuple[float, Finding]]:
    origin = datetime.fromisoformat(run.run_start).timestamp()
    told = []
    for message, truth in read_messages(run.path / ARCHIVE_NAME):
        if not truth and message.tag in _DECODED:  # all else stays packed: it is nearly the whole log
            event = recorded(message, truth=False).event
            if isinstance(event, FindingsObserved):
                told += [(event.time / SECOND - origin, finding) for finding in event.rows]
    return told
