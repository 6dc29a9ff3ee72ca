"""Failed spans and failing log records ➜ a few rows per window.

In: spans, log records and the length of windows aligned to the run's start. Out: `ErrorSummary` per service, operation, peer and status. A
failed client span names the peer that it called: those rows are the errors of an edge.

Spans and records are samples, and failures are kept preferably: `count` is what lies in the files, `weighted_count` estimates how many
there were (each counts 1 / its sampling probability).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from otel_control_gym.engine.events import LogRow, Span
from otel_control_gym.projections.log_counts import severity_class

__all__ = ("ErrorSummary", "error_summaries")

_Key: TypeAlias = tuple[str, str, str, str]  #: service, operation, peer, status
_STATUSES = (  #: attributes that hold the status of a protocol, in old and new conventions, and the protocol
    ("rpc.grpc.status_code", "grpc"),
    ("rpc.response.status_code", "grpc"),
    ("http.response.status_code", "http"),
    ("http.status_code", "http"),
)
_MESSAGES = (
    "exception.message",
    "otel.status_description",
    "error.message",
    "error.type",
)  #: the first that a span has


class ErrorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A failing operation, or a severity of failing log records, of a service in a window."""

    time: int  #: start of the window
    service: str
    operation: str
    peer: str  #: service that was called; empty for what it did itself
    status: str
    top_message: str  #: the most frequent, the first in order among equals
    trace_id: str  #: of the first that has it; empty without one
    count: int
    weighted_count: float


class _Failure(msgspec.Struct, frozen=True):
    key: _Key
    time: int
    message: str
    trace_id: str
    probability: float


def error_summaries(
    spans: Iterable[Span], rows: Iterable[LogRow], origin: int, length: int
) -> tuple[ErrorSummary, ...]:
    """Return one row per (window of `length` ns, service, operation, peer, status), sorted.

    Rows are made of failed spans, and of log records that are warnings or worse; both come in the order of their times.
    """
    groups: defaultdict[tuple[int, _Key], list[_Failure]] = defaultdict(list)
    for failure in (*_failed_spans(spans), *_failing_records(rows)):
        groups[origin + (failure.time - origin) // length * length, failure.key].append(failure)
    return tuple(_summary(time, groups[time, key]) for time, key in sorted(groups))


def _summary(time: int, failures: list[_Failure]) -> ErrorSummary:
    service, operation, peer, status = failures[0].key
    counts = Counter(failure.message for failure in failures)
    top = min(counts, key=lambda message: (-counts[message], message))
    return ErrorSummary(
        time=time,
        service=service,
        operation=operation,
        peer=peer,
        status=status,
        top_message=top,
        trace_id=next((failure.trace_id for failure in failures if failure.message == top and failure.trace_id), ""),
        count=len(failures),
        weighted_count=sum(1 / failure.probability for failure in failures),
    )


def _failed_spans(spans: Iterable[Span]) -> Iterator[_Failure]:
    for span in spans:
        if span.status == "error":
            message = next((span.attributes[name] for name in _MESSAGES if span.attributes.get(name)), "")
            key = (span.service, span.operation, span.peer, _status(span))
            yield _Failure(key, span.time, message, span.trace_id, span.sampling_probability)


def _status(span: Span) -> str:
    """Return the status of the span's protocol, e.g. `grpc 14`, or `error` where it tells none that failed."""
    for name, protocol in _STATUSES:
        code = span.attributes.get(name, "")
        if code not in ("", "0", "OK"):
            return f"{protocol} {code}"
    return "error"


def _failing_records(rows: Iterable[LogRow]) -> Iterator[_Failure]:
    for row in rows:
        if severity_class(row.severity) != "other":
            key = (row.service, "log", "", row.severity)
            yield _Failure(key, row.time, row.body.partition("\n")[0], row.trace_id, row.sampling_probability)
