"""Spans and log records ➜ a few rows per window.

In: a state and a range of windows aligned to the run's start. Out: `TraceSummary` per service, operation and kind; `LogPattern` per
service and severity (records are counted together whatever their text; the example is the first of the commonest texts); and
`ErrorSummary` per service, operation and status. Spans are samples: `weighted_count` divides each by its sampling probability.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from otel_control_gym.engine.events import LogRow, Span

__all__ = ("ErrorSummary", "LogPattern", "TraceSummary", "error_summaries", "log_patterns", "trace_summaries")

KeyT = TypeVar("KeyT", bound=tuple[object, ...])
_FAILING = frozenset({"WARN", "ERROR", "FATAL"})


class TraceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The sampled spans of an operation that ended in a window."""

    time: int  #: start of the window
    service: str
    operation: str
    kind: str
    count: int
    weighted_count: float  #: estimate of how many there were
    error_count: int
    duration_mean_ms: float


class LogPattern(msgspec.Struct, frozen=True, kw_only=True):
    """The log records of a service and severity in a window."""

    time: int  #: start of the window
    service: str
    severity: str
    count: int
    example: str


class ErrorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A failing operation, or a severity of log records, of a service in a window."""

    time: int  #: start of the window
    service: str
    operation: str
    status: str
    top_message: str
    count: int


def trace_summaries(spans: Iterable[Span], origin: int, length: int) -> tuple[TraceSummary, ...]:
    """Return one row per (window of `length` ns, service, operation, kind), sorted."""
    groups: defaultdict[tuple[int, str, str, str], list[Span]] = defaultdict(list)
    for span in spans:
        groups[_window(span.time, origin, length), span.service, span.operation, span.kind].append(span)
    return tuple(
        TraceSummary(
            time=time,
            service=service,
            operation=operation,
            kind=kind,
            count=len(group),
            weighted_count=sum(1 / span.sampling_probability for span in group),
            error_count=sum(span.status == "error" for span in group),
            duration_mean_ms=sum(span.duration_ns for span in group) / len(group) / 1e6,
        )
        for (time, service, operation, kind), group in sorted(groups.items(), key=_key)
    )


def log_patterns(rows: Iterable[LogRow], origin: int, length: int) -> tuple[LogPattern, ...]:
    """Return one row per (window of `length` ns, service, severity), sorted."""
    groups: defaultdict[tuple[int, str, str], list[str]] = defaultdict(list)
    for row in rows:
        groups[_window(row.time, origin, length), row.service, row.severity].append(row.body)
    return tuple(
        LogPattern(time=time, service=service, severity=severity, count=len(texts), example=_commonest(texts))
        for (time, service, severity), texts in sorted(groups.items(), key=_key)
    )


def error_summaries(
    spans: Iterable[Span], rows: Iterable[LogRow], origin: int, length: int
) -> tuple[ErrorSummary, ...]:
    """Return one row per (window of `length` ns, service, operation, status) of failed spans and of warnings and errors, sorted."""
    groups: defaultdict[tuple[int, str, str, str], list[str]] = defaultdict(list)
    for time, service, operation, status, message in (*_failed_spans(spans), *_failing_logs(rows)):
        groups[_window(time, origin, length), service, operation, status].append(message)
    return tuple(
        ErrorSummary(
            time=time,
            service=service,
            operation=operation,
            status=status,
            top_message=_commonest(messages),
            count=len(messages),
        )
        for (time, service, operation, status), messages in sorted(groups.items(), key=_key)
    )


def _failed_spans(spans: Iterable[Span]) -> Iterator[tuple[int, str, str, str, str]]:
    for span in spans:
        if span.status == "error":
            message = span.attributes.get("exception.message") or span.attributes.get("error.type", "")
            yield span.time, span.service, span.operation, "error", message


def _failing_logs(rows: Iterable[LogRow]) -> Iterator[tuple[int, str, str, str, str]]:
    for row in rows:
        if row.severity.upper() in _FAILING:
            yield row.time, row.service, "log", row.severity, row.body


def _window(time: int, origin: int, length: int) -> int:
    return origin + (time - origin) // length * length


def _key(item: tuple[KeyT, object]) -> KeyT:
    return item[0]


def _commonest(texts: list[str]) -> str:
    counts = Counter(texts)
    return min(counts, key=lambda text: (-counts[text], text))
