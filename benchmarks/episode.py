"""How fast an environment steps and an episode runs, with every wire in use: HTTP, watches, OTLP, JetStream.

`step_at_zero_load` is a step whose kernel has nothing to do: what remains is the machinery, beside the floor of publishing that many
acknowledged messages. `episode_at_load` is 600 s of small-core at 50 requests/s.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import msgspec
import otel_control_gym as ocg
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.clock import new_run_id
from otel_control_gym.engine.events import ClockAdvanced
from otel_control_gym.engine.log import LogConnection

from result import Measurement, median_ms

__all__ = ("episode_at_load", "step_at_zero_load")


async def step_at_zero_load(steps: int) -> list[Measurement]:
    """Measure `env.step` of 30 s without users, and the floor: as many acknowledged publishes as a step writes messages."""
    config = ocg.resolve("small-core", workload="steady", seed=1)
    config = msgspec.structs.replace(config, workload=msgspec.structs.replace(config.workload, users=0))
    durations: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        async with ocg.make(config, data_dir=directory) as env:
            await env.reset()
            await env.step(ocg.Noop())
            info = None
            for _ in range(steps):
                before = info["log_sequence"] if info else 0
                began = time.perf_counter()
                _, _, _, info = await env.step(ocg.Noop())
                durations.append(time.perf_counter() - began)
            assert info is not None
            messages = info["log_sequence"] - before
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
                await log.append(ClockAdvanced(time=index, since=index, decision_step=None))
            durations.append(time.perf_counter() - began)
    return durations


async def episode_at_load(seconds: int) -> list[Measurement]:
    """Measure an episode of `seconds` control time at 50 requests/s, 5 s scrapes, and its dataset."""
    config = ocg.resolve("small-core", workload="steady", seed=1)
    with tempfile.TemporaryDirectory() as directory:
        env = ocg.make(config, data_dir=directory)
        await env.__aenter__()
        try:
            await env.reset()
            began = time.perf_counter()
            for _ in range(seconds // 30):
                _, _, _, info = await env.step(ocg.Noop())
            control = time.perf_counter() - began
        finally:
            closing = time.perf_counter()
            await env.__aexit__(None, None, None)
        closed = time.perf_counter() - closing
        size = sum(file.stat().st_size for file in env.run_dir.iterdir())
    return [
        Measurement(
            name=f"episode of {seconds} s at 50 requests/s, all wires",
            value=seconds / control,
            unit="x real time",
            aim=">= 300",
            detail={
                "control_wall_seconds": control,
                "cooldown_and_dataset_wall_seconds": closed,
                "run_bytes": size,
                "log_sequence": info["log_sequence"],
            },
        )
    ]
