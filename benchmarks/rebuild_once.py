"""One rebuild of an archive in a process of its own: how long it took, and how much memory it had at most; prints JSON.

Usage: rebuild_once.py ARCHIVE fold|tables [BUCKET ...]. `fold` reads the archive, verifies and unpacks every message and folds it, and lets
old edges go; `tables` writes the datasets, too, one for each bucket.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy.ma  # noqa: F401 - pyarrow loads these two with the first table: starting up is no part of the rebuild
import pyarrow.compute  # noqa: F401

from otel_control_gym.engine.archive import read_archive
from otel_control_gym.engine.events import ClockAdvanced
from otel_control_gym.engine.settings import Granularity
from otel_control_gym.projections import initial, step
from otel_control_gym.projections.dataset import STRETCH_EDGES, Target, write_datasets

MIB = 2**20


def main(archive: Path, what: str, buckets: Sequence[int]) -> dict[str, float | str]:
    """Rebuild once and return figures and a digest."""
    before = memory("VmRSS")
    began, processor = time.perf_counter(), time.process_time()
    digest = fold_alone(archive) if what == "fold" else write(archive, buckets)
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - processor,
        "memory_mib": (memory("VmHWM") - before) / MIB,
        "digest": digest,
    }


def fold_alone(archive: Path) -> str:
    """Fold the archive without making rows; the digest is of the values at the last edge."""
    state = initial()
    for entry in read_archive(archive):
        step(state, entry)
        if isinstance(entry.event, ClockAdvanced):
            state.samples.release(state.samples.edges - STRETCH_EDGES)
    return hashlib.sha256(state.samples.values[-1].tobytes()).hexdigest()


def write(archive: Path, buckets: Sequence[int]) -> str:
    """Write a dataset for each bucket; the digest is of their feature tables."""
    with tempfile.TemporaryDirectory() as directory:
        targets = [
            Target(
                directory=Path(directory) / f"{bucket}s",
                granularity=Granularity(
                    scrape_interval_seconds=1, observation_bucket_seconds=bucket, reward_bucket_seconds=max(30, bucket)
                ),
            )
            for bucket in buckets
        ]
        write_datasets(read_archive(archive), targets, run_id="BENCHMARK")
        files = [target.directory / f"{kind}_features.parquet" for target in targets for kind in ("node", "edge")]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def memory(field: str) -> int:
    """Return a figure of this process' memory in bytes; 0 where the system doesn't tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), sys.argv[2], [int(bucket) for bucket in sys.argv[3:]])))
