"""A campaign's directory ➜ its runs with telemetry for detectors and truth for scoring, and who is trained on what.

In: `campaign=NAME`. Out: `LabelledRun`s, and `Fold`s of them by family. A split of the campaign (`splits/NAME.json`) is one fold: fitted on
train and validation, scored on test. `crossed` is five: every family is scored once, by what was fitted on the others. That says the same
with five times the families, which `mvp` needs; the campaign's own splits ask for more (an application, a target that training never saw).

Branches are left out: they share all but the end of a run with their parents. Blocking.
Upstream: `entity_series`, `fault_windows`. Downstream: `anomalies`, `root_causes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.entity_series import EntitySeries, read_entity_series
from otel_control_gym.baselines.fault_windows import BucketKind, RunTruth, bucket_kinds, read_truth
from otel_control_gym.baselines.windows import read_split
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.randomness import derive_seed, draw_uniform
from otel_control_gym.engine.run_collections import open_runs
from otel_control_gym.engine.runs import Run

__all__ = ("CROSSED", "Fold", "LabelledRun", "folds_of", "labelled_runs", "open_main_runs")

Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

CROSSED = "crossed"
_FOLDS = 5


class LabelledRun(msgspec.Struct, frozen=True, kw_only=True, eq=False, dict=True):
    """A run: what was seen of it, and what really happened."""

    run: Run  #: with truth
    series: EntitySeries
    truth: RunTruth

    @cached_property
    def kinds(self) -> Int:
        """`BucketKind` of each bucket [T]."""
        return bucket_kinds(self.truth, self.series)

    @property
    def calm(self) -> Bool:
        """Which buckets are calm [T]."""
        return self.kinds == BucketKind.CALM


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """Positions of runs that are fitted on, and of those that are scored."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def open_main_runs(directory: Path) -> list[Run]:
    """Return the runs of a campaign with truth, without void ones and branches.

    Raises: UsageError: there is no such campaign, or no run in it.
    """
    runs = [run for run in open_runs(directory, truth=True) if run.metadata["parent_run_id"] is None]
    if not runs:
        raise UsageError(f"{directory} has no runs to score on\n  `ocg campaign run` plays them")
    return runs


def labelled_runs(directory: Path) -> list[LabelledRun]:
    """Return the runs of a campaign, oldest first.

    Raises: UsageError: there is no such campaign, or no run in it. DatasetError: a file can't be read.
    """
    return [
        LabelledRun(run=run, series=read_entity_series(run), truth=read_truth(run)) for run in open_main_runs(directory)
    ]


def folds_of(families: Sequence[str], directory: Path, split: str) -> tuple[Fold, ...]:
    """Return the folds of runs, by their families, in a split of a campaign's or `crossed`.

    Raises: UsageError: there is no such split, or it leaves nothing to fit or to score.
    """
    if split == CROSSED:
        ranked = sorted(set(families), key=lambda family: (draw_uniform(derive_seed(0, f"fold/{family}")), family))
        places = {family: number % _FOLDS for number, family in enumerate(ranked)}
        sides = [[places[family] == fold for family in families] for fold in range(_FOLDS)]
    else:
        found, _ = read_split(directory, split)
        sides = [[found.get(family) == "test" for family in families]]
    folds = tuple(
        Fold(
            train=tuple(number for number, tested in enumerate(side) if not tested),
            test=tuple(number for number, tested in enumerate(side) if tested),
        )
        for side in sides
    )
    if not all(fold.train and fold.test for fold in folds):
        raise UsageError(
            f"{directory}: split {split!r} leaves no runs to {'fit' if folds[0].test else 'score'}\n"
            f"  the campaign has {len(set(families))} families; play more of it"
        )
    return folds
