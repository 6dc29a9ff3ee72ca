"""Ten kills at moments by chance, of workers, of the broker, of the campaign itself: the campaign ends with the planned runs, each once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import yaml

import otel_control_gym as ocg
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.campaigns.files import load_plan
from otel_control_gym.engine.campaigns.keyed_draws import Draws
from otel_control_gym.engine.campaigns.record import CampaignRecord
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.locks import listed_runs
from otel_control_gym.engine.log import LogConnection

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc"),
]

RUNS = 12
CAMPAIGN: dict[str, Any] = {
    "name": "killed",
    "configurations": ["small-core"],
    "workloads": ["steady"],
    "strata": {"baseline": RUNS},
    "actions": ["scale"],
    "interventions": ["network_delay"],
    "length": {"short_seconds": 120, "long_seconds": [120, 120], "long_share": 0.0},
    "bounds": None,
}
VICTIMS = ("worker", "broker", "campaign") * 3 + ("everything",)
WORDS = {"worker": "worker_process", "broker": "server.conf", "campaign": "command_line", "everything": ""}
LATEST_MS = 1500  #: after a further run began a kill comes at the latest


def processes(data_dir: Path, victim: str = "everything") -> list[int]:
    """Return the processes of a kind that have the data directory on their command line, the oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it ended while we looked
                continue
            if str(data_dir) in command and WORDS[victim] in command:
                found.append(int(entry.name))
    return sorted(found)


async def until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - other processes; there is no event to wait for
            await anyio.sleep(0.01)


def begin(file: Path, data_dir: Path) -> subprocess.Popen[str]:
    program = "from otel_control_gym.engine.command_line import main; main()"
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            program,
            "campaign",
            "run",
            str(file),
            "--workers",
            "2",
            "--json",
            "--data-dir",
            str(data_dir),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def a_further_run_has_begun(process: subprocess.Popen[str], data_dir: Path, seen: set[str]) -> None:
    """Return when a run is in progress that wasn't at the kill before, so that kills hit work and not only processes that start."""
    await until(lambda: process.poll() is not None or bool(set(listed_runs(data_dir)) - seen))


async def kill_ten_times(file: Path, data_dir: Path, seed: int) -> dict[str, Any]:
    """Play a campaign, kill, and begin it anew where it was itself the victim; return what its last process said."""
    process = begin(file, data_dir)
    draws = Draws(seed, "kills")
    seen: set[str] = set()
    for number, victim in enumerate(draws.shuffled("order", VICTIMS)):
        await a_further_run_has_begun(process, data_dir, seen)
        await anyio.sleep(draws.between(f"moment {number}", 0, LATEST_MS, 1) / 1000)
        found = processes(data_dir, victim)
        assert process.poll() is None, f"over before kill {number} ({victim}): {process.communicate()}"
        seen |= set(listed_runs(data_dir))
        for hit in found if victim == "everything" else found[:1]:
            os.kill(hit, signal.SIGKILL)
        if victim in ("campaign", "everything"):
            await anyio.to_thread.run_sync(process.communicate)
            await nobody_is_left(data_dir)
            process = begin(file, data_dir)
    answer, complaint = await anyio.to_thread.run_sync(process.communicate)
    assert process.returncode == 0, complaint
    result: dict[str, Any] = json.loads(answer)
    return result


async def nobody_is_left(data_dir: Path) -> None:
    await until(lambda: not processes(data_dir))


async def test_whatever_is_killed_a_campaign_ends_with_the_planned_runs_each_once(tmp_path: Path) -> None:
    file, data_dir = tmp_path / "killed.yaml", tmp_path / "data"
    file.write_text(yaml.safe_dump(CAMPAIGN))
    try:
        result = await kill_ten_times(file, data_dir, seed=1)
    except BaseException:
        for left in processes(data_dir):  # what the next test mustn't find
            os.kill(left, signal.SIGKILL)
        raise
    assert (result["planned"], result["completed"], result["failed"]) == (RUNS, RUNS, 0)
    assert processes(data_dir) == []

    async with open_broker(data_dir) as broker, JetStream(broker) as jetstream, LogConnection(broker) as connection:
        state = (await CampaignRecord.open(jetstream, "killed")).state
        in_the_broker = {run.run_id for run in await connection.runs()}
    named = {key: found.completed.run_id for key, found in state.keys.items() if found.completed is not None}
    runs = ocg.find_runs(data_dir)
    played: dict[str, list[str]] = {}
    for run in runs:
        if run.status != "aborted":
            played.setdefault(ocg.open_run(run.path, truth=True).metadata["scenario_id"], []).append(run.run_id)
    assert set(named) == {run.key for run in load_plan(file).runs}
    once = {key: [run_id] for key, run_id in named.items()}
    assert played == once, state.keys
    for run in runs:
        assert ocg.validate(run.path) == []  # its chain holds, and its tables are the fold of its log
    assert in_the_broker.isdisjoint(listed_runs(data_dir)), "a run has no end"
    assert in_the_broker <= {run.run_id for run in runs}, "a run has no dataset"
