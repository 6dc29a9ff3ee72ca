"""Campaigns: how fast one is played, how large it is, how fast it is rebuilt on all processors, what a report on hundreds of runs takes,
and how long baselines take to be trained and scored on one.

The small size plays a campaign of two short runs, of which nothing can be learnt; the large one that and `mvp`, the packaged one, siblings
included, on which the baselines are trained that need no branches.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import yaml
from baseline_times import measure_baselines
from result import Measurement

from otel_control_gym.baselines.catalogue import BASELINES
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.campaigns.files import load_plan
from otel_control_gym.engine.campaigns.plans import CampaignPlan
from otel_control_gym.engine.campaigns.rebuilding import rebuild_campaign
from otel_control_gym.engine.campaigns.run_facts import run_facts
from otel_control_gym.engine.campaigns.running import campaign_directory, run_campaign, run_directories

__all__ = ("measure",)

SMALL: dict[str, Any] = {
    "name": "benchmark",
    "configurations": ["small-core"],
    "workloads": ["steady"],
    "strata": {"single_fault": 1},
    "actions": ["scale"],
    "interventions": ["network_delay"],
    "length": {"short_seconds": 450, "long_seconds": [450, 450], "long_share": 0.0},
    "bounds": None,
}
MANY = 500  #: runs that must fit
FEW = 50
BUCKET = 30
MIB = 2**20
NEED_BRANCHES = ("effect", "cause")  #: baselines


async def measure(*, small: bool) -> list[Measurement]:
    """Play, rebuild and report; return figures of each campaign."""
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        file = base / "benchmark.yaml"
        file.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
        plans = [load_plan(file)] if small else [load_plan(file), load_plan("mvp")]
        measurements: list[Measurement] = []
        for plan in plans:
            measurements += await played(plan, base / "data", workers=1 if small else os.cpu_count() or 1)
            measurements += await anyio.to_thread.run_sync(
                rebuilt, campaign_directory(base / "data", plan.settings.name)
            )
        if not small:
            measurements += await anyio.to_thread.run_sync(trained, campaign_directory(base / "data", "mvp"))
        one = run_directories(campaign_directory(base / "data", "benchmark"))[0]
        measurements += await anyio.to_thread.run_sync(reported, one, 4 if small else FEW, 8 if small else MANY)
    return measurements


async def played(plan: CampaignPlan, data_dir: Path, *, workers: int) -> list[Measurement]:
    """Play a campaign and return how long it took and how large it is."""
    name = f"campaign {plan.settings.name}"
    async with open_broker(data_dir) as broker:
        result = await run_campaign(plan, broker, data_dir=data_dir, nats=None, workers=workers)
    paths = run_directories(campaign_directory(data_dir, plan.settings.name))
    facts = [await anyio.to_thread.run_sync(run_facts, path) for path in paths]
    tables = [file for run in facts for file in run.files if file.rows is not None]
    rows = sum(file.rows or 0 for file in tables)
    digest = hashlib.sha256(json.dumps(sorted((run.key, run.content_digest) for run in facts)).encode()).hexdigest()
    detail = {
        "digest": digest,
        "runs": result.completed,
        "planned": result.planned,
        "retried": result.retried,
        "workers": workers,
        "invalid": sum(run.violation_count > 0 for run in facts),
    }
    aim = "<= 300 with two workers" if plan.settings.name == "mvp" else ""
    return [
        Measurement(name=f"{name}: played", value=result.wall_seconds, unit="s", aim=aim, detail=detail),
        Measurement(
            name=f"{name}: runs", value=60 * result.completed / result.wall_seconds, unit="1/min", detail=detail
        ),
        Measurement(
            name=f"{name}: control time per wall time", value=result.episode_seconds / result.wall_seconds, unit="s/s"
        ),
        Measurement(name=f"{name}: a run on disk", value=result.size_bytes / MIB / len(facts), unit="MiB"),
        Measurement(
            name=f"{name}: a row of its tables", value=sum(file.size_bytes for file in tables) / rows, unit="B"
        ),
    ]


def rebuilt(directory: Path) -> list[Measurement]:
    """Rebuild a campaign with one process, then with all, and return the rate beside the sum of the cores."""
    processors = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as out:
        one = rebuild_campaign(directory, [BUCKET], out=Path(out) / "one", processes=1)
        every = rebuild_campaign(directory, [BUCKET], out=Path(out) / "every", processes=processors)
    return [
        Measurement(
            name=f"{directory.name.replace('=', ' ')}: rebuilt, all processors",
            value=every.log_bytes / MIB / every.wall_seconds,
            unit="MiB of log/s",
            floor=every.processes * one.log_bytes / MIB / one.wall_seconds,
            floor_name="one process, times the processes",
            aim="near it; a process takes seconds to start",
            detail={"runs": every.runs, "processes": every.processes, "failed": len(every.failed)},
        )
    ]


def trained(directory: Path) -> list[Measurement]:
    """Return how long each baseline takes that learns from runs alone."""
    names = [entry.name for entry in BASELINES if entry.name not in NEED_BRANCHES]
    return measure_baselines(directory, names, split="iid", seeds=5)


def reported(run: Path, few: int, many: int) -> list[Measurement]:
    """Read and report so many copies of a run, and return what of the memory was due to their number."""
    lesser, greater = many_runs(run, few), many_runs(run, many)
    return [
        Measurement(
            name=f"campaign: memory of a process that reads and reports {many} runs",
            value=greater["memory_mib"],
            unit="MiB",
            floor=lesser["memory_mib"],
            floor_name=f"{few} runs",
            aim="<= 1,024; Arrow keeps each file's footer, nothing else grows with the runs",
            detail={name: greater[name] for name in ("rows", "on_disk_mib", "helper_mib")},
        ),
        Measurement(name=f"campaign: report on {many} runs", value=greater["report_seconds"], unit="s"),
    ]


def many_runs(run: Path, count: int) -> dict[str, float]:
    """Return what reading and reporting `count` copies of a run takes, in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        ran = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("many_runs.py")), str(run), str(count), directory],
            check=True,
            capture_output=True,
            text=True,
        )
        figures: dict[str, float] = json.loads(ran.stdout)
        return figures
