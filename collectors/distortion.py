"""Poorer telemetry: collectors ➜ the same collectors, whose events are degraded before they enter the log.

In: collectors, the run's `Distortion`, a key. Out: collectors that drain as before and change what a flush gives. It is the edge at which
a real stand's telemetry degrades too (scrapes that fail, clocks that are off, services that send nothing), so actuators, stands and folds
don't know of it. Whatever is not telemetry, or belongs to the truth stream already, passes through as it is.

Every draw is a function of the key and of what it is for (a series and a moment, a service and a scrape, a row's content), so how a run is
cut into flushes changes nothing, and an action changes no draw of what it doesn't touch. The key is derived from the seed one way: a
policy that sees the settings and the telemetry can't reckon back.

With `keep_clean`, the truth stream gets what the stand really showed (`engine.clean_telemetry`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import anyio.lowlevel

from otel_control_gym.collectors.distortion_draws import Stretches
from otel_control_gym.collectors.distortion_rows import PollDistortion, RowDistortion, is_hidden, is_lost
from otel_control_gym.collectors.distortion_samples import SampleDistortion
from otel_control_gym.collectors.distortion_transit import Transit
from otel_control_gym.engine.clean_telemetry import CLEAN_FORMS, clean_form
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import (
    AutoscalersObserved,
    CollectorGap,
    Event,
    FindingsObserved,
    KubernetesEventsObserved,
    LogsCollected,
    PodsTransitioned,
    RolloutsObserved,
    RoutesObserved,
    SamplesCollected,
    SeriesDeclared,
    SpansCollected,
    WorkloadObserved,
)
from otel_control_gym.engine.protocols import Barrier, Collector
from otel_control_gym.engine.settings import Delay, Distortion, RunSettings, TelemetrySource

__all__ = ("DistortedCollector", "distorted")

_SOURCES: Final[dict[type[Event], TelemetrySource]] = {
    RolloutsObserved: "kubernetes",
    PodsTransitioned: "kubernetes",
    AutoscalersObserved: "kubernetes",
    RoutesObserved: "kubernetes",
    KubernetesEventsObserved: "kubernetes",
    WorkloadObserved: "workload",
    SeriesDeclared: "metrics",
    SamplesCollected: "metrics",
    SpansCollected: "spans",
    LogsCollected: "logs",
    FindingsObserved: "findings",
}
_OF_COLLECTOR: Final[dict[str, tuple[TelemetrySource, ...]]] = {"spans": ("spans", "logs")}


def distorted(
    collectors: Sequence[Collector], settings: RunSettings, *, key: int, now: int, opened: Collector
) -> tuple[Collector, ...]:
    """Return the collectors as the settings' distortion makes them; those of a run without any are the same objects.

    Args:
        key: of all draws.
        now: the run's first moment.
        opened: the one that is open already and isn't to be opened again.
    """
    if settings.telemetry.distortion == Distortion():
        return tuple(collectors)
    return tuple(
        DistortedCollector(collector, settings, key=key, now=now, is_open=collector is opened)
        for collector in collectors
    )


class DistortedCollector:
    """A collector whose telemetry is degraded between its buffer and the log."""

    def __init__(self, inner: Collector, settings: RunSettings, *, key: int, now: int, is_open: bool = False) -> None:
        self.source = inner.source
        self._inner, self._is_open, self._since = inner, is_open, now
        self._distortion = distortion = settings.telemetry.distortion
        sources: tuple[TelemetrySource, ...] = _OF_COLLECTOR.get(inner.source, (inner.source,))  # type: ignore[arg-type]  # a collector's source is one
        self._silences: dict[TelemetrySource, Stretches] = {
            source: Stretches(distortion.silences[source], key, source, now)
            for source in sources
            if source in distortion.silences
        }
        services = tuple(settings.services.services)

        def seen(row: Any) -> bool:
            return not is_hidden(row, distortion.hidden, services) and not is_lost(row, distortion, key)

        self._ways: dict[type[Event], SampleDistortion | RowDistortion | PollDistortion] = {}
        for kind, source in _SOURCES.items():
            silence = self._silences.get(source)
            transit = Transit(distortion.delays.get(source, Delay()), key, source)
            if source not in sources or kind is SamplesCollected:
                continue
            if kind is SeriesDeclared:
                self._ways[kind] = SampleDistortion(
                    distortion,
                    settings.metrics,
                    interval=settings.granularity.scrape_interval_seconds * SECOND,
                    key=key,
                    origin=now,
                    silence=silence,
                    transit=transit,
                )
            elif kind is FindingsObserved:
                self._ways[kind] = PollDistortion(seen, silence, transit)
            else:
                self._ways[kind] = RowDistortion(kind, seen, silence, transit)

    def open(self) -> AbstractAsyncContextManager[None]:
        """Open the collector, unless it is open."""
        return self._opened_already() if self._is_open else self._inner.open()

    @staticmethod
    @asynccontextmanager
    async def _opened_already() -> AsyncIterator[None]:
        await anyio.lowlevel.checkpoint()
        yield

    async def drain(self, barrier: Barrier) -> None:
        """Drain the collector."""
        await self._inner.drain(barrier)

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return the collector's events as they arrive, then the gaps, then (with `keep_clean`) what they were."""
        found = self._inner.flush(now)
        telemetry = [event for event, truth in found if not truth and type(event) in CLEAN_FORMS]
        events: list[tuple[Event, bool]] = []
        released: set[type[Event]] = set()
        for kind, way in self._ways.items():
            self._take(way, kind, telemetry)
        for event, truth in found:
            if truth or type(event) not in _SOURCES:
                events.append((event, truth))
                continue
            kind = SeriesDeclared if type(event) is SamplesCollected else type(event)
            if kind in self._ways and kind not in released:
                released.add(kind)
                events += [(each, False) for each in self._ways[kind].release(now)]
        for kind, way in self._ways.items():
            if kind not in released:
                events += [(each, False) for each in way.release(now)]
        events += [(gap, False) for gap in self._silent_gaps(now)]
        if self._distortion.keep_clean:
            events += [(clean_form(event), True) for event in telemetry]
        self._since = now
        return events

    @staticmethod
    def _take(way: Any, kind: type[Event], telemetry: Sequence[Event]) -> None:
        if isinstance(way, SampleDistortion):
            way.take(telemetry)
            return
        for event in telemetry:
            if type(event) is kind:
                way.take(event)

    def newest(self) -> Mapping[str, int]:
        """Return what the collector has told, before it was distorted."""
        return self._inner.newest()

    def _silent_gaps(self, now: int) -> list[CollectorGap]:
        return [
            CollectorGap(time=now, source=source, start=start, end=end, reason="source silent")
            for source, stretches in self._silences.items()
            for start, end in stretches.between(self._since, now)
        ]
