"""The spans of a trace window ➜ a row per operation and who called it.

In: the public spans that ended in a window. Out: `TraceSummary` rows. The live observation's `traces` and `trace_summaries.parquet` are
these rows.

Spans are samples. Each stands for 1/probability spans, so counts and errors are estimates of how many there were, the mean and the
quantiles are weighted alike, and `sampled_count` tells how much they rest on. A quantile is the duration of the first span, from the
fastest on, at which the weight reaches its share; it is left out where too few spans lie beyond it.

**Who called.** A span's parent is looked for among the spans of the same window alone. A parent that ends in the next window, or that
wasn't sampled, isn't known: a summary that waited for it would change after its window was seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from otel_control_gym.engine.events import Span

__all__ = ("TraceSummary", "summarize_spans")

_LEAST = {0.5: 2, 0.95: 20, 0.99: 100}  #: spans that a quantile needs for one to lie beyond it
_Key = tuple[str, str, bool, str, str, str]


class TraceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The spans of an operation, called by one service, that ended in a trace window."""

    time: int  #: start of the window
    service: str
    operation: str
    parent_service: (
        str | None
    )  #: service of the parent span; empty: a root; None: the parent isn't among the window's spans
    kind: str
    protocol: str
    count: float  #: estimate of how many there were
    error_count: float  #: of those: failed
    sampled_count: int  #: spans behind the estimates
    latency_mean_ms: float
    latency_p50_ms: float | None  #: None below 2 spans
    latency_p95_ms: float | None  #: None below 20 spans
    latency_p99_ms: float | None  #: None below 100 spans
    slow_trace_id: str  #: of the longest span
    failed_trace_id: str | None  #: of the first failed span; None without


def summarize_spans(start: int, spans: Sequence[Span]) -> tuple[TraceSummary, ...]:
    """Return one row per (service, operation, parent's service, kind, protocol) of the window that begins at `start`, sorted."""
    owners = {(span.trace_id, span.span_id): span.service for span in spans}
    groups: defaultdict[_Key, list[Span]] = defaultdict(list)
    for span in spans:
        parent = owners.get((span.trace_id, span.parent_span_id)) if span.parent_span_id else ""
        groups[span.service, span.operation, parent is None, parent or "", span.kind, span.protocol].append(span)
    return tuple(_summary(start, key, groups[key]) for key in sorted(groups))


def _summary(start: int, key: _Key, spans: list[Span]) -> TraceSummary:
    service, operation, orphaned, parent, kind, protocol = key
    ordered = sorted(spans, key=lambda span: (span.duration_ns, span.trace_id, span.span_id))
    weights = [1 / span.sampling_probability for span in ordered]
    total = sum(weights)
    failed = [span for span in spans if span.status == "error"]
    return TraceSummary(
        time=start,
        service=service,
        operation=operation,
        parent_service=None if orphaned else parent,
        kind=kind,
        protocol=protocol,
        count=total,
        error_count=sum(1 / span.sampling_probability for span in failed),
        sampled_count=len(spans),
        latency_mean_ms=sum(span.duration_ns * weight for span, weight in zip(ordered, weights, strict=True))
        / total
        / 1e6,
        latency_p50_ms=_quantile(ordered, weights, total, 0.5),
        latency_p95_ms=_quantile(ordered, weights, total, 0.95),
        latency_p99_ms=_quantile(ordered, weights, total, 0.99),
        slow_trace_id=ordered[-1].trace_id,
        failed_trace_id=failed[0].trace_id if failed else None,
    )


def _quantile(ordered: list[Span], weights: list[float], total: float, share: float) -> float | None:
    if len(ordered) < _LEAST[share]:
        return None
    reached = 0.0
    for span, weight in zip(ordered, weights, strict=True):
        reached += weight
        if reached >= share * total:
            return span.duration_ns / 1e6
    return ordered[-1].duration_ns / 1e6  # rounding
