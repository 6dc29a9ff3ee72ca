"""Coroot's findings ➜ `FindingsObserved`: suspicions, never truth.

In: incidents, alerts and the service map of Coroot's API, at most once per minute of episode time (its cache is refreshed no faster), and
the checks of those applications of which the map says that some report isn't ok. Out: findings that are new or changed since the last
poll. A poll that found nothing new is logged too, as an event without rows: silence and absence are different things. `/app/*/rca` is never
called, because it acts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from otel_control_gym.collectors.finding_book import FindingBook
from otel_control_gym.collectors.findings import (
    Alert,
    Application,
    ApplicationView,
    Incident,
    alert_finding,
    callees,
    check_findings,
    edge_findings,
    incident_finding,
    is_suspect,
    with_derived_cause,
)
from otel_control_gym.collectors.gaps import Gaps
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import Event, Finding, FindingsObserved
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.service_sessions import service_session

__all__ = ("CorootCollector",)

POLL_EVERY = 60 * SECOND
_ALERTS = 1000  #: that are read at a poll, the firing ones first
_ANSWER_SECONDS = 60.0  #: of Coroot's own user interface

T = TypeVar("T")


class _Project(msgspec.Struct):
    id: str


class _User(msgspec.Struct):
    projects: list[_Project] | None = None


class _Incidents(msgspec.Struct):
    data: list[Incident] | None


class _Alerts(msgspec.Struct):
    alerts: list[Alert] | None = None


class _AlertsAnswer(msgspec.Struct):
    data: _Alerts | None


class _Map(msgspec.Struct):
    map: list[Application] | None = None


class _MapAnswer(msgspec.Struct):
    data: _Map | None


class _ViewAnswer(msgspec.Struct):
    data: ApplicationView | None


class CorootCollector:
    """Polls Coroot; `now` is the run's first moment."""

    source = "findings"

    def __init__(self, endpoints: Endpoints, *, now: int) -> None:
        self._endpoints = endpoints
        self._base = f"{endpoints.coroot}/api"
        self._gaps = Gaps(self.source, now)
        self._next_poll = now
        self._answered = False  # the last poll was
        self._told_until: int | None = None
        self._book = FindingBook()
        self._events: list[tuple[int, tuple[Finding, ...]]] = []
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> AbstractAsyncContextManager[None]:
        """Open the connection."""
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with service_session(self._endpoints, self._base, _ANSWER_SECONDS) as self._session:
            yield

    async def drain(self, barrier: Barrier) -> None:
        """Poll, if a minute has passed since the last poll."""
        if barrier.time < self._next_poll:
            self._told_until = barrier.time if self._answered else self._told_until
            return
        self._next_poll = barrier.time + POLL_EVERY
        self._answered = False
        try:
            findings = await self._poll(barrier.time)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._gaps.read_up_to(barrier.time, f"no answer ({type(error).__name__})")
        except msgspec.MsgspecError as error:
            self._gaps.read_up_to(barrier.time, f"answer can't be read ({error})")
        else:
            self._gaps.read_up_to(barrier.time)
            self._answered = True
            self._told_until = barrier.time
            self._events.append((barrier.time, self._book.news(findings, barrier.time)))

    async def _poll(self, now: int) -> list[Finding]:
        user = await self._get("user", _User)
        if not user.projects:
            raise msgspec.ValidationError("Coroot has no project")
        project = f"project/{user.projects[0].id}"
        incidents = (await self._get(f"{project}/incidents", _Incidents)).data or []
        alerts = (await self._get(f"{project}/alerts?include_resolved=true&limit={_ALERTS}", _AlertsAnswer)).data
        overview = (await self._get(f"{project}/overview/map", _MapAnswer)).data
        applications = (overview.map if overview else None) or []
        found = [alert_finding(alert) for alert in (alerts.alerts if alerts else None) or []]
        found += edge_findings(applications, now)
        for application in applications:
            if application.indicators:
                view = (await self._get(f"{project}/app/{quote(application.id, safe='')}", _ViewAnswer)).data
                found += check_findings(application.id, view or ApplicationView(), now)
        suspects = [finding.services[-1] for finding in found if is_suspect(finding)]
        calls = callees(applications)
        found += [with_derived_cause(incident_finding(incident), calls, suspects) for incident in incidents]
        return found

    async def _get(self, path: str, answer: type[T]) -> T:
        assert self._session is not None, "drained outside of `open`"
        async with self._session.get(f"{self._base}/{path}") as response:
            response.raise_for_status()
            return msgspec.json.decode(await response.read(), type=answer)

    def newest(self) -> Mapping[str, int]:
        """Return the last barrier at which no poll was due, or one was answered."""
        return {} if self._told_until is None else {self.source: self._told_until}

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return one event per poll since the last flush; its time is the poll's."""
        events: list[Event] = [FindingsObserved(time=polled, rows=rows) for polled, rows in self._events]
        self._events = []
        events += self._gaps.flush(now)
        return [(event, False) for event in events]
