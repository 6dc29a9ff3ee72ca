"""How fast an environment steps, an episode runs and a run is rebuilt, with every wire in use: HTTP, watches, OTLP, JetStream.

`step_at_zero_load` is a step whose kernel has nothing to do: what remains is the machinery, beside the floor of publishing that many
acknowledged messages. `episode_at_load` is 600 s of small-core at 50 requests/s, beside the kernel alone under the same load, and
what became of it: bytes a sample on disk, and its rebuild beside reading its archive. `log_appends` are acknowledged publishes beside
writing and syncing as many bytes to a file.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import msgspec
from result import Measurement, median_ms

import otel_control_gym as ocg
from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.clock import new_run_id
from otel_control_gym.engine.codec import encode
from otel_control_gym.engine.events import ClockAdvanced, SamplesCollected
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.stands.twin.run import TwinRun

__all__ = ("episode_at_load", "log_appends", "step_at_zero_load")

ENDLESS = 30 * 10_000  #: seconds; the benchmark decides when to stop


async def step_at_zero_load(steps: int) -> list[Measurement]:
    """Measure `env.step` of 30 s without users, and the floor: as many acknowledged publishes as a step writes messages."""
    config = ocg.resolve("small-core", workload="steady", seed=1, horizon_seconds=ENDLESS)
    config = msgspec.structs.replace(config, workload=msgspec.structs.replace(config.workload, users=0))
    durations: list[float] = []
    sequences: list[int] = []
    with tempfile.TemporaryDirectory() as directory:
        async with ocg.make(config, data_dir=directory) as env:
            await env.reset()
            await env.step(ocg.Noop())
            for _ in range(steps):
                began = time.perf_counter()
                _, _, _, info = await env.step(ocg.Noop())
                durations.append(time.perf_counter() - began)
                sequences.append(info["log_sequence"])
        messages = sequences[-1] - sequences[-2]
        floor = await _publish_seconds(Path(directory), messages, rounds=max(5, steps))
    return [
        Measurement(
            name="env.step of 30 s, no load",
            value=median_ms(durations),
            unit="ms",
            floor=median_ms(floor),
            floor_name=f"{messages} acknowledged publishes, one after the other",
            aim="<= 10 ms",
            detail={"steps": steps, "messages": messages},
        )
    ]


async def _publish_seconds(directory: Path, messages: int, *, rounds: int) -> list[float]:
    async with open_broker(directory) as broker, LogConnection(broker) as connection:
        log = await connection.create("benchmark", new_run_id())
        durations = []
        for index in range(rounds):
            began = time.perf_counter()
            for _ in range(messages):
                await log.append(ClockAdvanced(time=index, since=index, decision_step=None, lag_ns=0))
            durations.append(time.perf_counter() - began)
    return durations


async def log_appends(publishes: int) -> list[Measurement]:
    """Measure acknowledged publishes per second, beside writing and syncing the same bodies to a file one by one."""
    with tempfile.TemporaryDirectory() as directory:
        (elapsed,) = await _publish_seconds(Path(directory), publishes, rounds=1)
        body = encode(ClockAdvanced(time=0, since=0, decision_step=None, lag_ns=0))
        with (Path(directory) / "floor").open("wb", buffering=0) as file:
            began = time.perf_counter()
            for _ in range(publishes):
                file.write(body)
                os.fsync(file.fileno())
            floor = time.perf_counter() - began
    return [
        Measurement(
            name="acknowledged publishes, one after the other",
            value=publishes / elapsed,
            unit="1/s",
            floor=publishes / floor,
            floor_name="write and fsync of the same bytes",
            detail={"publishes": publishes},
        )
    ]


async def episode_at_load(seconds: int) -> list[Measurement]:
    """Measure an episode of `seconds` control time at 50 requests/s and 5 s scrapes, its size and its rebuild."""
    config = ocg.resolve("small-core", workload="steady", seed=1, horizon_seconds=ENDLESS)
    with tempfile.TemporaryDirectory() as directory:
        async with ocg.make(config, data_dir=directory) as env:
            await env.reset()
            began = time.perf_counter()
            for _ in range(seconds // 30):
                await env.step(ocg.Noop())
            control = time.perf_counter() - began
        run = ocg.open_run(env.run_dir)
        archive = run.path / ARCHIVE_NAME
        began = time.perf_counter()
        samples = sum(
            entry.event.values.size for entry in read_archive(archive) if isinstance(entry.event, SamplesCollected)
        )
        reading = time.perf_counter() - began
        began = time.perf_counter()
        ocg.rebuild(run)
        rebuilding = time.perf_counter() - began
        archive_bytes = archive.stat().st_size
        table_bytes = sum(file.stat().st_size for file in run.path.iterdir()) - archive_bytes
    detail = {
        "samples": samples,
        "digest": run.content_digest,
        "archive_bytes": archive_bytes,
        "other_bytes": table_bytes,
    }
    return [
        Measurement(
            name=f"episode of {seconds} s at 50 requests/s, all wires",
            value=seconds / control,
            unit="x real time",
            floor=_kernel_speed(config, seconds),
            floor_name="the twin alone: kernel, control plane, scrapes",
            aim=">= 300",
            detail=detail,
        ),
        Measurement(
            name="rebuild of that run, all files",
            value=samples / rebuilding,
            unit="samples/s",
            floor=samples / reading,
            floor_name="reading its archive",
            detail=detail,
        ),
        Measurement(
            name="that run's archive, every event counted",
            value=archive_bytes / samples,
            unit="bytes/sample",
            detail=detail,
        ),
    ]


def _kernel_speed(config: ocg.RunConfig, seconds: int) -> float:
    """Return how many times faster than real time the twin lives when nobody looks."""
    run = TwinRun(config)
    start = run.now
    while run.advance_once(start + 60_000_000_000):  # users spawn
        pass
    began = time.perf_counter()
    while run.advance_once(start + (60 + seconds) * 1_000_000_000):
        pass
    return seconds / (time.perf_counter() - began)
