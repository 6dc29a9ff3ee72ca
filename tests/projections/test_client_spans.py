"""Spans stand for as many as their sampling says, in the bucket in which they ended, and not at all where some were missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.events import CollectorGap, Span, SpansCollected
from otel_control_gym.engine.settings import MetricMap, RunSettings
from otel_control_gym.projections.features import edge_features, edge_statuses
from otel_control_gym.projections.fold import RunState, fold


@pytest.fixture(scope="session")
def start(scribe: Any, packaged_metrics: MetricMap) -> Any:
    def change(settings: RunSettings) -> RunSettings:
        return msgspec.structs.replace(settings, metrics=packaged_metrics.with_edges_of("client_spans"))

    return lambda: scribe(change=change)


def span(log: Any, seconds: float, number: int = 0, **changes: Any) -> Span:
    """A call of the cart by the frontend that ends then."""
    usual: dict[str, Any] = {
        "duration_ns": 10_000_000,
        "parent_span_id": "",
        "service": "frontend",
        "peer": "cart",
        "operation": "GetCart",
        "kind": "client",
        "protocol": "grpc",
        "status": "unset",
        "attributes": {"rpc.grpc.status_code": "0"},
        "sampling_probability": 1.0,
    }
    return Span(time=log.moment(seconds), trace_id=f"{number:032x}", span_id=f"{number:016x}", **(usual | changes))


def told(log: Any, spans: Sequence[Span], until: int) -> RunState:
    rows = tuple(sorted(spans, key=lambda one: (one.time, one.trace_id, one.span_id)))
    log.add(SpansCollected(time=log.moment(until), rows=rows))
    log.flush(until)
    return fold(log.entries)


def column(state: RunState, name: str, bucket: int = 10) -> list[float]:
    values: list[float] = edge_features(state.telemetry(), state.buckets(bucket))[name][:, 0].tolist()
    return values


def test_a_kept_span_stands_for_as_many_as_its_probability_says(start: Any) -> None:
    log = start()
    kept = [span(log, 3, 1, sampling_probability=0.1), span(log, 4, 2, sampling_probability=0.5, status="error")]
    state = told(log, kept, 10)
    assert column(state, "request_count") == [12]
    assert column(state, "error_count") == [2]
    assert column(state, "request_rate") == [1.2]
    assert column(state, "error_ratio") == pytest.approx([1 / 6])


def test_a_mean_weighs_spans_as_counts_do(start: Any) -> None:
    log = start()
    kept = [
        span(log, 3, 1, duration_ns=100_000_000, sampling_probability=0.25),
        span(log, 4, 2, duration_ns=20_000_000),
    ]
    assert column(told(log, kept, 10), "latency_mean_ms") == pytest.approx([(4 * 100 + 20) / 5])


def test_a_span_counts_in_the_bucket_in_which_it_ended(start: Any) -> None:
    log = start()
    ends = [0.0, 9.999, 10.0, 29.0]
    state = told(log, [span(log, at, number) for number, at in enumerate(ends)], 30)
    assert column(state, "request_count") == [2, 1, 1]


@given(st.lists(st.tuples(st.floats(0, 59.9), st.sampled_from([0.125, 0.5, 1.0])), min_size=1, max_size=40))
def test_coarse_counts_are_the_sums_of_fine_ones(start: Any, ends: list[tuple[float, float]]) -> None:
    log = start()
    kept = [span(log, at, number, sampling_probability=share) for number, (at, share) in enumerate(ends)]
    state = told(log, [*kept, span(log, 0, 999)], 60)
    fine = np.array(column(state, "request_count", 10)).reshape(2, 3).sum(axis=1)
    assert column(state, "request_count", 30) == pytest.approx(fine)


def test_a_quantile_is_the_smallest_duration_that_covers_its_share_of_the_weights(start: Any) -> None:
    log = start()
    quick = [span(log, 5, number, duration_ns=1_000_000) for number in range(19)]
    slow = span(log, 5, 99, duration_ns=50_000_000, sampling_probability=1 / 81)  # weighs 81 of 100
    state = told(log, [*quick, slow], 10)
    assert [column(state, name) for name in ("latency_p50_ms", "latency_p95_ms")] == [[50], [50]]
    log = start()
    assert np.isnan(column(told(log, [*quick], 10), "latency_p50_ms")).all()  # one less than 20


def test_other_kinds_and_other_edges_are_not_counted(start: Any) -> None:
    log = start()
    others = [span(log, 5, 1, kind="server"), span(log, 5, 2, peer="cache"), span(log, 5, 3, kind="internal")]
    state = told(log, others, 10)
    assert column(state, "request_count") == [0]


def test_statuses_and_tries_again_come_from_the_attributes(start: Any) -> None:
    log = start()
    kept = [
        span(log, 5, 1),
        span(log, 5, 2, status="error", attributes={"rpc.grpc.status_code": "14"}, sampling_probability=0.5),
        span(log, 5, 3, attributes={"http.response.status_code": "200", "http.request.resend_count": "1"}),
        span(log, 5, 4, attributes={"http.response.status_code": "200", "http.request.resend_count": "0"}),
        span(log, 5, 5, status="error", attributes={}),
    ]
    state = told(log, kept, 10)
    found = edge_statuses(state.telemetry(), state.buckets(10))
    assert dict(zip(found.codes, found.counts[0, 0].tolist(), strict=True)) == {
        "0": 1,
        "14": 2,
        "200": 2,
        "error": 1,
        "ok": 0,
    }
    assert column(state, "retry_rate") == [0.1]


def test_while_the_receiver_missed_spans_nothing_is_known_and_coverage_tells_how_long(start: Any) -> None:
    log = start()
    log.add(CollectorGap(time=log.moment(30), source="spans", start=log.moment(8), end=log.moment(14), reason="down"))
    state = told(log, [span(log, 1, 1), span(log, 16, 2), span(log, 25, 3)], 30)
    assert np.isnan(column(state, "request_count")[:2]).all()
    assert column(state, "request_count")[2] == 1
    assert column(state, "coverage") == pytest.approx([0.8, 0.6, 1.0])


def test_before_the_first_span_of_all_nothing_is_known_and_nothing_covered(start: Any) -> None:
    log = start()
    state = told(log, [span(log, 15, 1, service="cart", peer="cache")], 30)
    assert column(state, "request_count") == pytest.approx([np.nan, 0, 0], nan_ok=True)
    assert column(state, "coverage") == [0, 1, 1]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_cells_do_not_depend_on_how_spans_came(start: Any, cut: int) -> None:
    whole, parts = start(), start()
    kept = [span(whole, 3.0 * number, number, duration_ns=(number + 1) * 7_000_000) for number in range(9)]
    expected = told(whole, kept, 30)
    for rows in (kept[:cut], kept[cut:]):
        parts.add(SpansCollected(time=parts.moment(30), rows=tuple(rows)))
    parts.flush(30)
    found = fold(parts.entries)
    for name in ("request_count", "latency_mean_ms", "error_count"):
        assert column(found, name) == pytest.approx(column(expected, name), nan_ok=True)
