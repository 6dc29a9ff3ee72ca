"""A run whose process dies leaves no child, loses nothing that was acknowledged, and is put in order by the next start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet as pq
import pytest

import otel_control_gym as ocg

STEPPING = """
import sys, anyio
import otel_control_gym as ocg

async def main() -> None:
    config = ocg.resolve("small-core", seed=11, horizon_seconds=300_000)
    async with ocg.make(config, data_dir=sys.argv[1]) as env:
        await env.reset()
        while True:
            _, _, _, info = await env.step(ocg.Noop())
            print(info["run_id"], info["log_sequence"], flush=True)

anyio.run(main)
"""


def children_of(directory: Path) -> list[int]:
    """Return the processes that have the data directory's broker store on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it ended while we looked
                continue
            if str(directory) in command and "nats-server" in command:
                found.append(int(entry.name))
    return found


def parent_of(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))


def stepping(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STEPPING, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )


async def gone(directory: Path) -> None:
    """Wait until no broker of the directory is left."""
    with anyio.fail_after(20):
        while children_of(directory):  # noqa: ASYNC110 - another process ends; there is no event to wait for
            await anyio.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for child processes in /proc")
async def test_a_killed_run_is_aborted_by_the_next_start_and_its_log_makes_a_valid_dataset(tmp_path: Path) -> None:
    process = stepping(tmp_path)
    assert process.stdout is not None
    lines = [process.stdout.readline().split() for _ in range(3)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    run_id, sequence = lines[-1]
    await gone(tmp_path)

    async with ocg.make("small-core", data_dir=tmp_path):
        pass
    run = next(run for run in ocg.find_runs(tmp_path) if run.run_id == run_id)
    assert run.status == "aborted"
    assert ocg.validate(run.path) == []
    metadata = json.loads((run.path / "metadata.json").read_text())
    assert metadata["run_id"] == run_id
    decisions = pq.read_table(run.path / "actions.parquet").to_pylist()
    assert len(decisions) >= 3, "acknowledged steps were lost"
    assert int(sequence) > 0
    await gone(tmp_path)


async def test_two_processes_on_one_data_directory_lose_nothing(tmp_path: Path) -> None:
    first, second = stepping(tmp_path), stepping(tmp_path)
    assert first.stdout is not None
    assert second.stdout is not None
    run_of = {first.pid: first.stdout.readline().split()[0], second.pid: second.stdout.readline().split()[0]}
    (server,) = children_of(tmp_path)
    owner, other = (first, second) if parent_of(server) == first.pid else (second, first)
    # The broker's owner dies, and its server with it; the other one must take over and go on.
    owner.kill()
    owner.wait()
    assert other.stdout is not None
    after: list[Any] = [other.stdout.readline().split() for _ in range(400)]
    assert {run_id for run_id, _ in after} == {run_of[other.pid]}
    assert [int(sequence) for _, sequence in after] == sorted(int(sequence) for _, sequence in after)
    assert [parent_of(child) for child in children_of(tmp_path)] == [other.pid]
    other.kill()
    other.wait()
    first.stdout.close()
    second.stdout.close()
    seen = list(run_of.values())
    async with ocg.make("small-core", data_dir=tmp_path):
        pass
    runs = {run.run_id: run for run in ocg.find_runs(tmp_path)}
    assert set(seen) <= set(runs)
    for run_id in seen:
        assert runs[run_id].status == "aborted"
        assert ocg.validate(runs[run_id].path) == []


def test_the_same_seed_gives_the_same_digest_in_processes_with_other_hash_seeds(tmp_path: Path) -> None:
    program = """
import json, sys, anyio
import otel_control_gym as ocg

async def main() -> None:
    async with ocg.make("small-core", data_dir=sys.argv[1], seed=11) as env:
        await env.reset()
        for action in (ocg.Noop(), ocg.Scale("frontend", replicas=2), ocg.Restart("cart")):
            await env.step(action)
    print(json.loads((env.run_dir / "metadata.json").read_text())["content_digest"])

anyio.run(main)
"""
    digests = set()
    for hash_seed in ("1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / hash_seed)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) >= 32
