"""Failures are summed up by who failed at what, towards whom and how; what sampling left out is estimated."""

from __future__ import annotations

from typing import Any

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import LogRow, Span
from otel_control_gym.projections.summaries import error_summaries


def span(seconds: float, *, probability: float = 1.0, **changes: Any) -> Span:
    fields: dict[str, Any] = {
        "time": round(seconds * SECOND),
        "duration_ns": 1,
        "trace_id": f"{round(seconds * 10):032x}",
        "span_id": "s",
        "parent_span_id": "",
        "service": "frontend",
        "peer": "cart",
        "operation": "GetCart",
        "kind": "client",
        "protocol": "grpc",
        "status": "error",
        "attributes": {"rpc.grpc.status_code": "14", "otel.status_description": "refused"},
        "sampling_probability": probability,
    }
    return Span(**(fields | changes))


def test_an_edge_s_failures_are_counted_by_their_status_and_weighted() -> None:
    spans = [span(1, probability=0.5), span(2, probability=0.25), span(3, attributes={"rpc.grpc.status_code": "4"})]
    spans += [
        span(61),
        span(4, status="ok"),
        span(5, peer="", operation="GET /", attributes={"http.status_code": "500"}),
    ]
    found = error_summaries(spans, [], 0, 60 * SECOND)
    assert [
        (row.time // SECOND, row.operation, row.peer, row.status, row.count, row.weighted_count) for row in found
    ] == [
        (0, "GET /", "", "http 500", 1, 1),
        (0, "GetCart", "cart", "grpc 14", 2, 6),
        (0, "GetCart", "cart", "grpc 4", 1, 1),
        (60, "GetCart", "cart", "grpc 14", 1, 1),
    ]


def test_the_example_is_the_first_trace_with_the_commonest_message() -> None:
    rare, common = {"exception.message": "a"}, {"exception.message": "b"}
    spans = [span(1, attributes=rare), span(2, attributes=common), span(3, attributes=common)]
    (row,) = error_summaries(spans, [], 0, 60 * SECOND)
    assert (row.top_message, row.trace_id, row.status) == ("b", f"{20:032x}", "error")


def test_records_count_from_warnings_on_however_their_sdk_spells_them() -> None:
    rows = [
        LogRow(
            time=1, service="cart", severity=severity, body=f"{severity}\ntrace of the stack", sampling_probability=0.5
        )
        for severity in ("INFO", "Warning", "ERROR", "CRITICAL")
    ]
    found = error_summaries([], rows, 0, SECOND)
    assert [(row.operation, row.status, row.top_message, row.weighted_count) for row in found] == [
        ("log", "CRITICAL", "CRITICAL", 2),
        ("log", "ERROR", "ERROR", 2),
        ("log", "Warning", "Warning", 2),
    ]
