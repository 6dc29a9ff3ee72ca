"""How fast a log becomes a state, an observation and a dataset, how much memory that takes, and how large the log is on disk.

Two logs: one of small-core's size, folded in this process, for the observation; and a long one (5,000 series scraped every second for an
hour: 18 million samples), rebuilt from its archive on disk in processes of their own, so that their memory can be told. Seconds of a
rebuild are processor time, the kernel's included: everything is done by one thread. Every digest is of what was computed: a faster fold
that does less shows.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prometheus_size import prometheus_bytes
from result import Measurement, median_ms
from synthetic_log import LogSize, events, series_labels, write_archive

from otel_control_gym.engine.events import Recorded, SamplesCollected
from otel_control_gym.projections import fold, observation_arrays
from otel_control_gym.projections.features import edge_features, node_features

__all__ = ("LARGE", "SMALL", "Sizes", "folds")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Which logs are measured, and how often: the fastest round counts, others were disturbed by what else the machine does."""

    observed: LogSize
    long: LogSize
    on_disk: LogSize
    rounds: int


SMALL = Sizes(
    observed=LogSize(services=3, seconds=120),
    long=LogSize(services=3, seconds=120, scrape_seconds=1),
    on_disk=LogSize(services=1, seconds=120, scrape_seconds=1),
    rounds=1,
)
LARGE = Sizes(
    observed=LogSize(services=14, seconds=3600),
    long=LogSize(services=34, seconds=3600, scrape_seconds=1),
    on_disk=LogSize(services=3, seconds=3600, scrape_seconds=1),
    rounds=3,
)
_ONCE = Path(__file__).with_name("rebuild_once.py")
_READ = "archive on disk, decompress, verify, unpack, fold"


async def folds(sizes: Sizes) -> list[Measurement]:
    """Measure folds, rebuilds and logs of the given sizes."""
    measurements = _observation(sizes.observed)
    with tempfile.TemporaryDirectory() as directory:
        archives = {}
        for name, size in (
            ("long", sizes.long),
            ("half", replace(sizes.long, seconds=sizes.long.seconds // 2)),
            ("on disk", sizes.on_disk),
        ):
            archives[name] = Path(directory) / f"{name}.zst"
            await write_archive(size, archives[name])
        measurements += _rebuilds(sizes, archives["long"], archives["half"])
        measurements += _size_on_disk(sizes.on_disk, archives["on disk"])
    return measurements


def _observation(size: LogSize) -> list[Measurement]:
    entries = [Recorded(seq=number + 1, event=event) for number, event in enumerate(events(size))]
    samples = sum(entry.event.series.size for entry in entries if isinstance(entry.event, SamplesCollected))
    began = time.perf_counter()
    state = fold(entries)
    folded = time.perf_counter() - began
    observed = []
    for _ in range(10):
        began = time.perf_counter()
        observation_arrays(state, state.known_until, window_seconds=60, bucket_seconds=10)
        observed.append(time.perf_counter() - began)
    columns = [make(state.telemetry(), state.buckets(10)) for make in (node_features, edge_features)]
    digest = hashlib.sha256(b"".join(values.tobytes() for each in columns for values in each.values())).hexdigest()
    detail: dict[str, Any] = {"samples": samples, "series": state.samples.values.shape[1], "digest": digest}
    return [
        Measurement(name="fold: events in memory", value=samples / folded, unit="samples/s", detail=detail),
        Measurement(name="fold: observation of 60 s", value=median_ms(observed), unit="ms", detail=detail),
    ]


def _rebuilds(sizes: Sizes, long: Path, half: Path) -> list[Measurement]:
    samples = len(series_labels(sizes.long)) * (sizes.long.seconds // sizes.long.scrape_seconds + 1)
    detail = {"samples": samples, "series": len(series_labels(sizes.long)), "run_seconds": sizes.long.seconds}
    read = _best(sizes.rounds, long, "fold")
    one, three = (_best(sizes.rounds, long, "tables", *buckets) for buckets in (("10",), ("10", "30", "60")))
    shorter = _best(1, half, "tables", "10")
    measurements = [
        Measurement(
            name=f"rebuild: {_READ}",
            value=samples / read["processor_seconds"],
            unit="samples/s",
            aim=">= 20 million",
            detail=detail | read,
        )
    ]
    for what, written in (("one granularity", one), ("three granularities", three)):
        measurements.append(
            Measurement(
                name=f"rebuild: {_READ}, write the tables of {what}",
                value=samples / written["processor_seconds"],
                unit="samples/s",
                floor=samples / read["processor_seconds"],
                floor_name="without tables",
                aim=">= 20 million" if written is one else "",
                detail=detail | written,
            )
        )
    measurements.append(
        Measurement(
            name="rebuild: peak memory with tables, above the start of the process",
            value=max(1.0, one["memory_mib"]),
            unit="MiB",
            floor=max(1.0, shorter["memory_mib"]),
            floor_name="run of half the length",
            aim="doesn't grow with the run",
            detail=detail | {"samples_in_float64_mib": samples * 8 / 2**20},
        )
    )
    return measurements


def _best(rounds: int, archive: Path, *what: str) -> dict[str, Any]:
    """Return the figures of the fastest of some rebuilds."""
    command = [sys.executable, str(_ONCE), str(archive), *what]
    found: list[dict[str, Any]] = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(rounds)
    ]
    assert len({each["digest"] for each in found}) == 1, "a rebuild isn't the same twice"
    return min(found, key=lambda each: float(each["processor_seconds"]))


def _size_on_disk(size: LogSize, archive: Path) -> list[Measurement]:
    samples = len(series_labels(size)) * (size.seconds // size.scrape_seconds + 1)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    beside = prometheus_bytes(size)
    return [
        Measurement(
            name="log: on disk, beside Prometheus",
            value=archive.stat().st_size / samples,
            unit="bytes/sample",
            floor=None if beside is None else beside / samples,
            floor_name="the same samples in Prometheus' TSDB" if beside is not None else "",
            aim="smaller than Prometheus' TSDB",
            detail={
                "samples": samples,
                "series": len(series_labels(size)),
                "digest": digest,
                "prometheus": "present" if beside is not None else "absent: promtool isn't on the path",
            },
        )
    ]
