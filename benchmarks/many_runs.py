"""Many copies of one run, read through `open_runs` and reported, in a process of its own; prints what that took as JSON.

Usage: many_runs.py RUN COUNT DIRECTORY. The copies share their tables with the run (hard links), each has a metadata.json with an id of its
own; the campaign's files are the run's campaign's. So they aren't valid, which the report says of each: it looks at all of them.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path

from rebuild_once import memory

import otel_control_gym as ocg
from otel_control_gym.engine.campaigns.report import write_report

MIB = 2**20


def copies(run: Path, count: int, directory: Path) -> Path:
    """Make a campaign's directory with so many copies of a run, and return it."""
    campaign = run.parents[1]
    target = directory / campaign.name
    shutil.copytree(campaign, target, ignore=shutil.ignore_patterns("service_config=*"))
    metadata = json.loads((run / "metadata.json").read_text(encoding="utf-8"))
    for number in range(count):
        run_id = f"{metadata['run_id'][:-4]}{number:04d}"
        place = target / run.parent.name / f"run_{run_id}"
        shutil.copytree(run, place, copy_function=os.link)
        (place / "metadata.json").unlink()
        (place / "metadata.json").write_text(json.dumps(metadata | {"run_id": run_id}), encoding="utf-8")
    return target


def main(run: Path, count: int, directory: Path) -> dict[str, float]:
    """Read all rows of the largest tables as they come, then write the report."""
    campaign = copies(run, count, directory)
    before = memory("VmRSS")
    runs = ocg.open_runs(campaign, truth=True)
    rows = sum(
        batch.num_rows
        for name in ("node_features", "edge_features", "spans")
        for batch in runs.table(name).to_batches()
    )
    began = time.perf_counter()
    written = write_report(campaign)
    return {
        "rows": rows,
        "report_seconds": time.perf_counter() - began,
        "on_disk_mib": written.size_bytes / MIB,
        "memory_mib": (memory("VmHWM") - before) / MIB,
        "helper_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
