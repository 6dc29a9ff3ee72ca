"""Failed spans and failing log records ➜ a few rows per window.

In: spans, log records and the length of windows aligned to the run's start. Out: `ErrorSummary` per service, operation and status.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from otel_control_gym.engine.events import LogRow, Span

__all__ = ("ErrorSummary", "error_summaries")

KeyT = TypeVar("KeyT", bound=tuple[object, ...])
_FAILING = frozenset({"WARN", "ERROR", "FATAL"})


class ErrorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A failing operation, or a severity of log records, of a service in a window."""

    time: int  #: start of the window
    service: str
    operation: str
    status: str
    top_message: str
    count: int


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
