"""Summaries of spans are estimates of what there was, and say how much they rest on."""

from __future__ import annotations

import math
from typing import Any

import pytest

from otel_control_gym.engine.events import Span
from otel_control_gym.projections.trace_summaries import summarize_spans

MILLISECOND = 1_000_000


def span(number: int, **changes: Any) -> Span:
    fields: dict[str, Any] = {
        "time": number,
        "duration_ns": MILLISECOND,
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "parent_span_id": "",
        "service": "cart",
        "peer": "",
        "operation": "GetCart",
        "kind": "server",
        "protocol": "grpc",
        "status": "unset",
    }
    return Span(**fields | changes)


def test_each_sampled_span_stands_for_as_many_as_its_probability_says() -> None:
    kept = [span(1, sampling_probability=0.1, status="error"), span(2, sampling_probability=0.02)]
    (row,) = summarize_spans(0, kept)
    assert (row.count, row.error_count, row.sampled_count) == (60.0, 10.0, 2)


def test_mean_and_quantiles_are_those_of_all_spans_not_of_the_sample() -> None:
    """Slow spans that are kept ten times as often count a tenth each."""
    slow = [span(i, duration_ns=100 * MILLISECOND, sampling_probability=1.0) for i in range(100)]
    fast = [span(100 + i, duration_ns=1 * MILLISECOND, sampling_probability=0.1) for i in range(90)]
    (row,) = summarize_spans(0, slow + fast)
    assert row.latency_mean_ms == pytest.approx((100 * 100 + 900 * 1) / 1000)
    assert (row.latency_p50_ms, row.latency_p95_ms, row.latency_p99_ms) == (1.0, 100.0, 100.0)


def test_a_quantile_without_a_span_beyond_it_is_left_out() -> None:
    for count, known in ((1, ()), (2, ("p50",)), (19, ("p50",)), (20, ("p50", "p95")), (100, ("p50", "p95", "p99"))):
        (row,) = summarize_spans(0, [span(i, duration_ns=(i + 1) * MILLISECOND) for i in range(count)])
        found = {"p50": row.latency_p50_ms, "p95": row.latency_p95_ms, "p99": row.latency_p99_ms}
        assert tuple(name for name, value in found.items() if value is not None) == known
        for name, value in found.items():
            if value is not None:
                assert value == math.ceil(count * int(name[1:]) / 100)


def test_rows_tell_callers_apart_also_those_that_cant_be_known() -> None:
    trace = {"trace_id": "a" * 32}
    spans = [
        span(1, service="frontend", operation="GET /", span_id="f" * 16, **trace),
        span(2, parent_span_id="f" * 16, **trace),
        span(3, parent_span_id="e" * 16, **trace),
        span(4),
        span(5, parent_span_id="f" * 16, trace_id="b" * 32),
    ]
    rows = {(row.service, row.parent_service): row.sampled_count for row in summarize_spans(0, spans)}
    assert rows == {("frontend", ""): 1, ("cart", "frontend"): 1, ("cart", ""): 1, ("cart", None): 2}


def test_exemplars_are_the_slowest_and_the_first_that_failed() -> None:
    spans = [span(1), span(2, duration_ns=9 * MILLISECOND), span(3, status="error"), span(4, status="error")]
    (row,) = summarize_spans(0, spans)
    assert (row.slow_trace_id, row.failed_trace_id) == (f"{2:032x}", f"{3:032x}")
    (row,) = summarize_spans(0, spans[:1])
    assert row.failed_trace_id is None
