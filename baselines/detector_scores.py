"""What detectors said of every scored bucket, as Parquet, so that anybody can reckon the figures anew. Blocking.

Columns: run_id, family_id, time_s (start of the bucket after the run's start), kind (`BucketKind`, truth), detector, seed, score, threshold
(an alarm is a score above it).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from otel_control_gym.baselines.detector_runs import Scored
from otel_control_gym.baselines.fault_windows import BucketKind
from otel_control_gym.baselines.labelled_runs import LabelledRun
from otel_control_gym.engine.errors import DatasetError

__all__ = ("write_scores",)


def write_scores(file: Path, runs: Sequence[LabelledRun], scored: Sequence[Scored]) -> None:
    """Write the scores into a file, under another name first.

    Raises: DatasetError: it can't be written.
    """
    names = np.array([kind.name.lower() for kind in BucketKind])
    parts = []
    for found in scored:
        for one in found.runs:
            run = runs[one.position]
            count = run.series.buckets
            parts.append(
                pa.table(
                    {
                        "run_id": [run.series.run_id] * count,
                        "family_id": [run.series.family_id] * count,
                        "time_s": run.series.starts,
                        "kind": names[run.kinds],
                        "detector": [found.detector] * count,
                        "seed": np.full(count, found.seed),
                        "score": one.score,
                        "threshold": np.full(count, one.threshold),
                    }
                )
            )
    draft = file.with_name(f".{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables(parts), draft, compression="zstd")
        draft.replace(file)
    except OSError as error:
        raise DatasetError(f"{file} can't be written: {error.strerror or error}") from error
