"""Spans and logs that nobody pushes to us, read where the stand keeps them: traces from Jaeger, logs from pods.

In: barriers, an open stand. Out: the events that a receiver would give, and gaps for what the stand hasn't kept: as a receiver's, they
lower the coverage of spans and logs. What can't be reached at all is a gap of each step (`not collected: …`): a source that says so,
instead of one that is silently empty.

Who reads comes later than who is told, so what a span's program hasn't sent at a barrier is in a later flush, as with pushes. Upstream:
`jaeger`, `pod_logs`. Next: `otlp_rows`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp

from otel_control_gym.collectors.gaps import SILENCE, Gaps
from otel_control_gym.collectors.jaeger import JaegerTraces
from otel_control_gym.collectors.otlp_rows import SpansAndLogs
from otel_control_gym.collectors.pod_logs import PodLogs
from otel_control_gym.collectors.retrieved import Retrieved
from otel_control_gym.engine.events import Event
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.service_sessions import service_session
from otel_control_gym.engine.settings import RunSettings

__all__ = ("Retrieval",)

_ANSWER_SECONDS = 30.0


class Retrieval:
    """Stands among the collectors where a receiver would; `endpoints` are those of the open stand."""

    source = "spans"
    endpoint = ""  #: nobody pushes anything here

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._rows = SpansAndLogs()
        self._to_jaeger: aiohttp.ClientSession
        self._to_kubernetes: aiohttp.ClientSession
        self._begin(frozenset(), 0)

    def know(self, settings: RunSettings, *, since: int = 0) -> None:
        """Take in the application: who is called how, whose logs are wanted. The run begins at `since` [ns]."""
        self._rows.know(settings, since=since)
        self._begin(frozenset(settings.services.services), since)

    def _begin(self, services: frozenset[str], since: int) -> None:
        self._traces = JaegerTraces(self._endpoints.jaeger, now=since)
        self._pods = PodLogs(self._endpoints, services, now=since)
        self._gaps = {source: Gaps(source, since) for source in ("spans", "logs")}

    def open(self) -> AbstractAsyncContextManager[None]:
        """Open the connections."""
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        places = self._endpoints
        async with (
            service_session(places, places.jaeger, _ANSWER_SECONDS) as self._to_jaeger,
            service_session(places, f"{places.kubernetes}/", _ANSWER_SECONDS) as self._to_kubernetes,
        ):
            yield

    async def drain(self, barrier: Barrier) -> None:
        """Read what is new up to the barrier."""
        spans = await self._traces.read(self._to_jaeger, barrier.time)
        logs = await self._pods.read(self._to_kubernetes)
        for source, read in (("spans", spans), ("logs", logs)):
            _account(self._gaps[source], read, barrier.time)
        await self._rows.take(spans.found, logs.found)

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return spans, then logs, each public first, then gaps; rows by time."""
        return [*self._rows.flush(now), *((gap, False) for gaps in self._gaps.values() for gap in gaps.flush(now))]

    def newest(self) -> Mapping[str, int]:
        """Return the times of the newest span and log record that a policy may see."""
        return self._rows.newest()


def _account(gaps: Gaps, read: Retrieved, moment: int) -> None:
    """Note how far a source was read."""
    if gaps.since >= moment:
        return
    if read.problems or read.found or gaps.source == "logs":  # programs may have nothing to log
        gaps.read_up_to(moment, *read.problems)
    elif moment - gaps.since >= SILENCE:  # but under load there are spans always
        gaps.read_up_to(moment, "nothing new was in Jaeger")
