"""A collector that plays back what a stand would have shown, and how its distorted events are read: for the tests of distortion."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

import otel_control_gym as ocg
from otel_control_gym.collectors import DistortedCollector
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import Event, SamplesCollected, SeriesDeclaration, SeriesDeclared
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.settings import Distortion, RunSettings

START = 1_767_571_200 * SECOND
SCRAPE = 5  #: s
KEY = 0x5EED


def at(seconds: float) -> int:
    return START + round(seconds * SECOND)


@functools.cache
def _public() -> RunSettings:
    return ocg.resolve("small-core", workload="steady").public


def settings(distortion: Distortion) -> RunSettings:
    public = _public()
    telemetry = msgspec.structs.replace(public.telemetry, distortion=distortion)
    return msgspec.structs.replace(public, telemetry=telemetry)


class Playback:
    """A source whose events are known beforehand: at a flush it gives those that are due."""

    def __init__(self, source: str, events: Sequence[tuple[Event, bool]] = ()) -> None:
        self.source = source
        self.waiting = list(events)

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        yield

    async def drain(self, barrier: Barrier) -> None: ...

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        due = [pair for pair in self.waiting if pair[0].time <= now]
        self.waiting = self.waiting[len(due) :]
        return [(msgspec.structs.replace(event, time=now), truth) for event, truth in due]

    def newest(self) -> Mapping[str, int]:
        return {}


Series = dict[tuple[tuple[str, str], ...], dict[int, float]]  #: labels -> time -> value


class Scraped(Playback):
    """Metrics: series as functions of the number of the scrape, scraped every `SCRAPE` seconds."""

    def __init__(self, series: dict[tuple[tuple[str, str], ...], npt.NDArray[np.float64]]) -> None:
        super().__init__("metrics")
        self._series = list(series.items())
        self._declared: dict[int, int] = {}
        self._next = 0

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        last = (now - START) // (SCRAPE * SECOND)
        columns: list[tuple[int, int, float]] = []
        new: list[SeriesDeclaration] = []
        for position, (labels, values) in enumerate(self._series):
            for number in range(self._next, min(last + 1, len(values))):
                if np.isnan(values[number]):
                    continue
                if position not in self._declared:
                    self._declared[position] = len(self._declared)
                    new.append(SeriesDeclaration(series=self._declared[position], labels=dict(labels)))
                columns.append((self._declared[position], at(number * SCRAPE), values[number]))
        self._next = last + 1
        columns.sort()
        events: list[Event] = [SeriesDeclared(time=now, rows=tuple(new))] if new else []
        if columns:
            events.append(
                SamplesCollected(
                    time=now,
                    series=np.array([row[0] for row in columns], np.int32),
                    times=np.array([row[1] for row in columns], np.int64),
                    values=np.array([row[2] for row in columns]),
                )
            )
        return [(event, False) for event in events]


def distort(inner: Playback, distortion: Distortion, *, key: int = KEY) -> DistortedCollector:
    return DistortedCollector(inner, settings(distortion), key=key, now=START)


def played(collector: Any, cuts: Sequence[int]) -> list[tuple[Event, bool]]:
    """Return all that flushes at the given seconds give."""
    return [pair for seconds in cuts for pair in collector.flush(at(seconds))]


def samples(events: Sequence[tuple[Event, bool]]) -> Series:
    """Return the public samples by their labels, as a fold would find them."""
    labels: list[tuple[tuple[str, str], ...]] = []
    found: Series = {}
    for event, truth in events:
        if truth:
            continue
        if isinstance(event, SeriesDeclared):
            assert [row.series for row in event.rows] == list(range(len(labels), len(labels) + len(event.rows)))
            labels += [tuple(sorted(row.labels.items())) for row in event.rows]
        elif isinstance(event, SamplesCollected):
            for series, time, value in zip(event.series.tolist(), event.times.tolist(), event.values, strict=True):
                assert time not in found.get(labels[series], {}), "a sample comes once"
                found.setdefault(labels[series], {})[time] = float(value)
    return found


def labelled(name: str, **labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"__name__": name, **labels}.items()))


def calls(service: str, status: str = "STATUS_CODE_UNSET") -> tuple[tuple[str, str], ...]:
    return labelled(
        "traces_span_metrics_calls_total",
        service_name=service,
        span_kind="SPAN_KIND_SERVER",
        status_code=status,
    )


def memory(service: str) -> tuple[tuple[str, str], ...]:
    return labelled("k8s_pod_memory_working_set_bytes", k8s_deployment_name=service, k8s_pod_name=f"{service}-1-a")


def cpu(service: str) -> tuple[tuple[str, str], ...]:
    return labelled("k8s_pod_cpu_time_seconds_total", k8s_deployment_name=service, k8s_pod_name=f"{service}-1-a")


def latency(service: str, part: str, le: str = "") -> tuple[tuple[str, str], ...]:
    name = f"traces_span_metrics_duration_milliseconds_{part}"
    extra = {"le": le} if le else {}
    return labelled(name, service_name=service, span_kind="SPAN_KIND_SERVER", **extra)


def edge_calls(name: str, client: str, server: str) -> tuple[tuple[str, str], ...]:
    return labelled(f"traces_service_graph_{name}", client=client, server=server)
