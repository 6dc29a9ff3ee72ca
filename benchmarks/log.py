"""How fast the log acknowledges, reads and archives, and how many bytes a sample takes in it.

The samples are those of a step of 30 s: 2,000 counters scraped every 5 s, of which a fifth are sums on the 0.01 grid and one in a
hundred lies on no grid. Every append is on the disk when it is acknowledged.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from otel_control_gym.engine.archive import export_archive, read_archive
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.events import Event, PhaseEntered, SamplesCollected
from otel_control_gym.engine.log import LogConnection, RunLog
from otel_control_gym.engine.packing import pack_samples, unpack_samples

__all__ = ("measure",)

_SERIES = 2_000
_SCRAPES = 6


async def measure(*, small: bool) -> dict[str, float | str]:
    """Run the log's benchmarks and return figures by name and unit, and a digest of what was written."""
    events, steps = (50, 5) if small else (1_000, 100)
    figures = _packing(rounds=steps)
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory)
        async with open_broker(data_dir) as broker, LogConnection(broker) as connection:
            log = await connection.create("benchmark", "BENCHMARK")
            figures |= await _appends(log, events)
            for step in range(steps):
                await log.append(_step(step))
            began = time.perf_counter()
            messages = len([message async for message in log.messages()])
            figures["read, verified [messages/s]"] = messages / (time.perf_counter() - began)
            archive = data_dir / "event_log.zst"
            began = time.perf_counter()
            await export_archive(log, archive)
            figures["archive written [messages/s]"] = messages / (time.perf_counter() - began)
            began = time.perf_counter()
            samples = sum(_samples(entry.event) for entry in read_archive(archive))
            figures["archive read [samples/s]"] = samples / (time.perf_counter() - began)
            figures["archive [bytes/sample]"] = archive.stat().st_size / samples
            figures["digest"] = log.content_digest()
    return figures


def _step(number: int) -> SamplesCollected:
    """Return the samples of one step; the same number gives the same samples."""
    moments = number * _SCRAPES + np.arange(_SCRAPES, dtype=np.int64)
    series = np.arange(_SERIES, dtype=np.int64)[:, None]
    counts = (series * 7919 % 1000 + 1) * moments + (series + moments) * 2654435761 % 13
    values = counts.astype(np.float64)
    values[::5] = np.round(values[::5] * 1.37, 2)
    values[::100] *= np.pi
    return SamplesCollected(
        time=int(moments[-1]) * 5_000_000_000,
        series=np.repeat(np.arange(_SERIES, dtype=np.int32), _SCRAPES),
        times=np.tile(moments * 5_000_000_000, _SERIES),
        values=values.ravel(),
    )


def _samples(event: Event) -> int:
    return len(event.values) if isinstance(event, SamplesCollected) else 0


def _packing(rounds: int) -> dict[str, float | str]:
    steps = [_step(number) for number in range(rounds)]
    samples = sum(_samples(step) for step in steps)
    began = time.perf_counter()
    bodies = [pack_samples(step.series, step.times, step.values) for step in steps]
    packed = time.perf_counter()
    for body in bodies:
        unpack_samples(body)
    unpacked = time.perf_counter()
    return {
        "packed [samples/s]": samples / (packed - began),
        "unpacked [samples/s]": samples / (unpacked - packed),
        "body [bytes/sample]": sum(map(len, bodies)) / samples,
    }


async def _appends(log: RunLog, events: int) -> dict[str, float | str]:
    figures: dict[str, float | str] = {}
    for batch in (1, 7, 42):
        began = time.perf_counter()
        for first in range(0, events, batch):
            await log.append_all([(PhaseEntered(time=first, phase="control"), False)] * batch)
        written = -(-events // batch) * batch
        figures[f"acknowledged appends, {batch} at a time [1/s]"] = written / (time.perf_counter() - began)
    return figures
