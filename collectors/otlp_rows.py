"""Decoded spans and log records ➜ the events of a flush, whichever way they came: pushed to the gym, or read where the stand keeps them.

In: ResourceSpans and ResourceLogs, which are used up. Out: `SpansCollected` and `LogsCollected`, public and truth, rows by time. What a
policy mustn't see is told apart here and nowhere else, so a way that is added leaks no more than the others. Upstream: `otlp`, `retrieval`.
Next: `spans` and `log_records` make rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import anyio.lowlevel

from otel_control_gym.collectors.log_records import log_rows
from otel_control_gym.collectors.spans import Directory, span_rows
from otel_control_gym.engine.events import Event, LogRow, LogsCollected, Span, SpansCollected
from otel_control_gym.engine.settings import RunSettings

__all__ = ("SpansAndLogs",)


class SpansAndLogs:
    """Rows that wait for the next flush."""

    def __init__(self) -> None:
        self._directory = Directory(None)
        self._ratio = 1.0
        self._since = 0
        self._spans: dict[bool, list[Span]] = {False: [], True: []}
        self._logs: dict[bool, list[LogRow]] = {False: [], True: []}
        self._newest: dict[str, int] = {}

    def know(self, settings: RunSettings, *, since: int = 0) -> None:
        """Take in the application, so that peers can be told by RPC service, and the share of the traces that is wanted.

        What ended before `since` [ns] isn't the run's: a stand that lives on its own has sent it while it was being reset.
        """
        self._since = since
        self._directory = Directory(settings.services)
        self._ratio = settings.telemetry.span_sampling_ratio

    async def take(self, spans: Iterable[Any], logs: Iterable[Any]) -> None:
        """Make rows of ResourceSpans and ResourceLogs, a resource at a time, so that a large export holds nobody up."""
        for resource in spans:
            for truth, found in zip((False, True), span_rows(resource, self._directory, self._ratio), strict=True):
                self._spans[truth] += [span for span in found if span.time >= self._since]
            await anyio.lowlevel.checkpoint()
        for resource in logs:
            for truth, lines in zip((False, True), log_rows(resource, self._directory.flags), strict=True):
                self._logs[truth] += [line for line in lines if line.time >= self._since]
            await anyio.lowlevel.checkpoint()

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return spans, then logs, each public first; rows by time."""
        events: list[tuple[Event, bool]] = []
        for truth, spans in self._spans.items():
            if spans:
                rows = tuple(sorted(spans, key=lambda row: (row.time, row.trace_id, row.span_id)))
                self._newest |= {} if truth else {"spans": rows[-1].time}
                events.append((SpansCollected(time=now, rows=rows), truth))
        for truth, logs in self._logs.items():
            if logs:
                lines = tuple(
                    sorted(logs, key=lambda row: (row.time, row.service, row.trace_id, row.span_id, row.body))
                )
                self._newest |= {} if truth else {"logs": lines[-1].time}
                events.append((LogsCollected(time=now, rows=lines), truth))
        self._spans, self._logs = {False: [], True: []}, {False: [], True: []}
        return events

    def newest(self) -> Mapping[str, int]:
        """Return the times of the newest span and log record that a policy may see."""
        return self._newest
