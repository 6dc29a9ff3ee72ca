"""Counters conserve flow: nothing is lost or invented, whatever the buckets, restarts, gaps and flushes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.events import Recorded
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.projections.features import edge_features, node_features
from otel_control_gym.projections.fold import RunState, fold

HORIZON = 120
CALLS = "traces_span_metrics_calls_total"
CPU = "k8s_pod_cpu_time_seconds_total"
LogOf = Callable[..., list[Recorded]]


def labels_of(metric: str, service: str, pod: str) -> dict[str, str]:
    if metric == CPU:
        return {"k8s_deployment_name": service, "k8s_pod_name": pod}
    return {
        "service_name": service,
        "k8s_pod_name": pod,
        "span_kind": "SPAN_KIND_SERVER",
        "status_code": "STATUS_CODE_UNSET",
    }


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[float, str, dict[str, str], float]]:
    """Scrapes of several pods' counters that are born, restart and vanish; some scrapes are missed."""
    missed = draw(st.sets(st.sampled_from(range(0, HORIZON + 1, 5)), max_size=6))
    scrapes = []
    for number in range(draw(st.integers(1, 4))):
        metric = draw(st.sampled_from([CALLS, CPU]))
        unit = 1.0 if metric == CALLS else 0.1
        labels = labels_of(metric, draw(st.sampled_from(["frontend", "cart"])), f"pod-{number}")
        born, gone = sorted(draw(st.tuples(st.integers(0, 24), st.integers(0, 24))))
        value = draw(st.integers(0, 50))
        for scrape in range(born, gone + 1):
            value = draw(st.integers(0, 3)) if draw(st.integers(0, 9)) == 0 else value + draw(st.integers(0, 40))
            if scrape * 5 not in missed:
                scrapes.append((scrape * 5.0, metric, labels, value * unit))
    return scrapes


def undemanding(settings: RunSettings) -> RunSettings:
    """Every quantity from its first source only, and none owed that never came."""
    node = {
        name: msgspec.structs.replace(sources[0], expected=False)
        for name, sources in settings.metrics.sources("node").items()
    }
    return msgspec.structs.replace(settings, metrics=msgspec.structs.replace(settings.metrics, node=node))


flushes = st.sets(st.sampled_from(range(5, HORIZON, 5))).map(lambda chosen: [*chosen, HORIZON])


def column(state: RunState, name: str, bucket: int, *, end: int | None = None) -> np.ndarray[Any, Any]:
    return node_features(state.telemetry(), state.buckets(bucket, end=end))[name]


@given(lives(), flushes, flushes)
def test_cells_do_not_depend_on_how_the_log_was_cut(log_of: LogOf, scrapes: Any, one: Any, other: Any) -> None:
    states = [fold(log_of(scrapes, cuts)) for cuts in (one, other)]
    for bucket in (5, 10, 30):
        first, second = (node_features(state.telemetry(), state.buckets(bucket)) for state in states)
        for name in first:
            assert first[name].tobytes() == second[name].tobytes(), name


@given(lives(), flushes)
@settings(deadline=None)
def test_a_cell_of_a_prefix_is_the_cell_of_the_whole_log(log_of: LogOf, scrapes: Any, cuts: Any) -> None:
    entries = log_of(scrapes, cuts)
    whole = fold(entries)
    for end in range(1, len(entries) + 1):
        prefix = fold(entries[:end])
        if prefix.known_until > prefix.origin:
            seen = node_features(prefix.telemetry(), prefix.buckets(10))
            later = node_features(whole.telemetry(), whole.buckets(10))
            for name, values in seen.items():
                assert values.tobytes() == later[name][: len(values)].tobytes(), name


@given(lives(), flushes)
def test_a_coarse_count_is_the_sum_of_the_fine_ones(log_of: LogOf, scrapes: Any, cuts: Any) -> None:
    state = fold(log_of(scrapes, cuts))
    fine, coarse = column(state, "request_count", 10), column(state, "request_count", 30)
    sums = fine.reshape(4, 3, 3).sum(axis=1)
    known = ~np.isnan(sums)
    assert np.array_equal(coarse[known], sums[known])


@given(st.lists(st.integers(0, 1000), min_size=25, max_size=25))
def test_counts_add_up_to_the_growth_of_the_counter_over_its_restarts(log_of: LogOf, values: list[int]) -> None:
    labels = labels_of(CALLS, "frontend", "a")
    state = fold(log_of([(5.0 * i, CALLS, labels, value) for i, value in enumerate(values)], [HORIZON]))
    grown = sum(b - a if b >= a else b for a, b in pairwise(values))
    for bucket in (5, 10, 30, 60):
        assert column(state, "request_count", bucket)[:, 0].sum() == grown


def test_growth_up_to_an_edge_belongs_to_the_bucket_that_ends_there(scribe: Any) -> None:
    log = scribe()
    for seconds, count in ((0, 100), (10, 130), (20, 130)):
        log.calls(seconds, count)
    log.flush(20)
    assert column(fold(log.entries), "request_count", 10)[:, 0].tolist() == [30, 0]


def test_a_series_that_is_born_after_a_scrape_counts_from_zero(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10, 15, 20):
        log.calls(seconds, 100)
        if seconds >= 15:
            log.calls(seconds, 7, pod="b")
    log.flush(20)
    assert column(fold(log.entries), "request_count", 10)[:, 0].tolist() == [0, 7]


def test_a_vanished_series_keeps_what_it_counted_and_grows_no_more(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 35, 5):
        log.calls(seconds, 2 * seconds)
        if seconds <= 10:
            log.calls(seconds, 3 * seconds, pod="b")
    log.flush(30)
    assert column(fold(log.entries), "request_count", 10)[:, 0].tolist() == [50, 20, 20]


def test_a_gap_is_null_and_what_grew_in_it_is_not_put_into_the_bucket_after(scribe: Any) -> None:
    log = scribe(change=undemanding)
    for seconds in (0, 5, 10, 30, 35, 40, 45, 50):
        log.calls(seconds, 2 * seconds)
    log.flush(50)
    state = fold(log.entries)
    found = column(state, "request_count", 10)[:, 0]
    assert np.array_equal(found, [20, np.nan, np.nan, 20, 20], equal_nan=True)
    assert column(state, "coverage", 10)[:, 0].tolist() == [1, 0, 0.5, 1, 1]
    assert column(state, "request_count", 50)[0, 0] == 100


def test_one_missed_scrape_at_an_edge_moves_no_growth_out_of_the_run(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 15, 20):
        log.calls(seconds, 2 * seconds)
    log.flush(20)
    state = fold(log.entries)
    assert column(state, "request_count", 10)[:, 0].tolist() == [10, 30]
    assert column(state, "request_rate", 10)[:, 0].tolist() == [2, 2]  # over 5 s and 15 s, as they were sampled


def test_a_series_that_comes_back_makes_its_bucket_unknown_though_others_were_read(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 45, 5):
        log.calls(seconds, seconds)
        if seconds <= 10 or seconds >= 35:
            log.calls(seconds, seconds, pod="b")
    log.flush(40)
    found = column(fold(log.entries), "request_count", 10)[:, 0]
    assert np.array_equal(found, [20, 10, 10, np.nan], equal_nan=True)


def test_an_instrumented_service_without_requests_has_zero_and_one_that_sends_no_spans_has_null(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10):
        log.calls(seconds, seconds)
    log.flush(10)
    state = fold(log.entries)
    assert np.array_equal(column(state, "request_count", 10)[0], [10, 0, np.nan], equal_nan=True)
    assert np.array_equal(column(state, "error_count", 10)[0], [0, 0, np.nan], equal_nan=True)
    assert np.isnan(column(state, "error_ratio", 10)[0, 1])


def test_before_the_first_request_of_all_a_scrape_of_anything_is_enough_for_zero(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10):
        log.sample(seconds, 1, "k8s_deployment_available", k8s_deployment_name="cart")
    log.flush(10)
    state = fold(log.entries)
    assert column(state, "request_count", 10)[0, :2].tolist() == [0, 0]
    assert column(state, "request_rate", 10)[0, :2].tolist() == [0, 0]


def test_without_a_base_scrape_the_first_bucket_is_unknown(scribe: Any) -> None:
    log = scribe()
    for seconds in (10, 15, 20):
        log.calls(seconds, seconds)
    log.flush(20)
    assert np.array_equal(column(fold(log.entries), "request_count", 10)[:, 0], [np.nan, 10], equal_nan=True)


def test_errors_are_zero_until_the_first_one_on_edges_whose_failures_have_a_metric_of_their_own(scribe: Any) -> None:
    log = scribe()
    ends = {"client": "frontend", "server": "cart"}
    for seconds in (0, 5, 10, 15, 20):
        log.sample(seconds, seconds, "traces_service_graph_request_total", **ends)
        if seconds >= 15:
            log.sample(seconds, 2, "traces_service_graph_request_failed_total", **ends)
    log.flush(20)
    state = fold(log.entries)
    assert edge_features(state.telemetry(), state.buckets(10))["error_count"][:, 0].tolist() == [0, 2]


def test_a_gauge_is_the_last_value_in_the_bucket_summed_over_pods_and_gone_with_them(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 35, 5):
        log.sample(seconds, 0.5 + seconds, "k8s_container_cpu_limit", k8s_deployment_name="cart", k8s_pod_name="a")
        if seconds <= 10:
            log.sample(seconds, 1.0, "k8s_container_cpu_limit", k8s_deployment_name="cart", k8s_pod_name="b")
    log.flush(30)
    assert column(fold(log.entries), "cpu_limit_cores", 10)[:, 1].tolist() == [11.5, 20.5, 30.5]


def test_what_is_refreshed_every_ten_seconds_is_covered_at_that_resolution(scribe: Any) -> None:
    log = scribe(change=undemanding)
    for seconds in (0, 10, 20):
        log.sample(seconds, 0.3 * seconds, CPU, k8s_deployment_name="cache", k8s_pod_name="a")
    log.flush(20)
    state = fold(log.entries)
    assert column(state, "cpu_usage_cores", 10)[:, 2] == pytest.approx([0.3, 0.3])
    assert column(state, "coverage", 10)[:, 2].tolist() == [1, 1]


@pytest.mark.parametrize(("desired", "coverage"), [(0.0, [1, 1, 1]), (1.0, [1, 2 / 3, 2 / 3])])
def test_a_service_scaled_to_zero_owes_no_readings_of_its_pods(
    scribe: Any, desired: float, coverage: list[float]
) -> None:
    log = scribe(change=undemanding)
    for seconds in range(0, 31, 5):
        log.sample(seconds, desired if seconds > 10 else 1.0, "k8s_deployment_desired", k8s_deployment_name="cache")
        if seconds in (0, 10):  # per bucket: two readings of the deployment, one of its pod
            log.sample(seconds, 0.3 * seconds, CPU, k8s_deployment_name="cache", k8s_pod_name="a")
    log.flush(30)
    assert column(fold(log.entries), "coverage", 10)[:, 2].tolist() == pytest.approx(coverage)


def test_series_of_services_outside_the_graph_feed_nothing(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 5, 10):
        log.calls(seconds, seconds, service="grafana")
    log.flush(10)
    assert column(fold(log.entries), "request_count", 10)[0, :2].tolist() == [0, 0]


def test_who_is_called_by_nobody_has_no_requests_to_count(scribe: Any) -> None:
    log = scribe(callers=("load-generator",))
    for seconds in (0, 5, 10):
        log.calls(seconds, seconds)
    log.flush(10)
    assert np.array_equal(column(fold(log.entries), "request_count", 10)[0], [10, 0, np.nan, np.nan], equal_nan=True)


def test_a_scrape_between_edges_stands_at_the_edge_after_it(scribe: Any) -> None:
    log = scribe()
    for seconds in (-2, 3, 8, 13, 18, 23):
        log.calls(seconds, 10 * seconds + 100)
    log.flush(25)
    state = fold(log.entries)
    assert column(state, "request_count", 10)[:, 0].tolist() == [100, 100]
    assert column(state, "request_rate", 10)[:, 0].tolist() == [10, 10]
    assert state.samples.times[2, 0] == log.moment(8)


def test_a_pod_that_is_gone_leaves_its_service_without_usage_after_its_last_bucket(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 35, 5):
        log.sample(seconds, 1.0, "k8s_container_restarts", k8s_deployment_name="frontend", k8s_pod_name="b")
        if seconds <= 10:
            log.sample(seconds, 1.0, "k8s_container_restarts", k8s_deployment_name="cart", k8s_pod_name="a")
    log.flush(30)
    found = column(fold(log.entries), "restarts", 10)[:, 1]
    assert np.array_equal(found, [0, np.nan, np.nan], equal_nan=True)


def test_an_error_series_that_comes_back_makes_the_errors_of_its_bucket_unknown(scribe: Any) -> None:
    log = scribe()
    ends = {"client": "frontend", "server": "cart"}
    for seconds in range(0, 45, 5):
        log.sample(seconds, seconds, "traces_service_graph_request_total", **ends)
        if seconds <= 10 or seconds >= 35:
            log.sample(seconds, 2.0, "traces_service_graph_request_failed_total", **ends)
    log.flush(40)
    state = fold(log.entries)
    found = edge_features(state.telemetry(), state.buckets(10))
    assert found["request_count"][:, 0].tolist() == [10, 10, 10, 10]
    assert np.array_equal(found["error_count"][:, 0], [0, 0, 0, np.nan], equal_nan=True)


def test_errors_are_unknown_where_the_requests_are(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 35, 5):
        log.calls(seconds, seconds)
        if not 10 <= seconds <= 20:
            log.sample(seconds, seconds, "traces_service_graph_request_total", client="frontend", server="cart")
    log.flush(30)
    state = fold(log.entries)
    found = edge_features(state.telemetry(), state.buckets(10))
    assert np.isnan(found["request_count"][1, 0])
    assert np.array_equal(found["error_count"][:, 0], [0, np.nan, np.nan], equal_nan=True)


@given(st.permutations(range(5)))
def test_sums_do_not_depend_on_the_order_in_which_series_were_declared(scribe: Any, order: list[int]) -> None:
    amounts = (0.0137, 1e8 / 7, 0.77, 1 / 3, 0.0029)

    def usage(pods: list[int]) -> bytes:
        log = scribe()
        for seconds in (0, 10, 20):
            for pod in pods:
                labels = {"k8s_deployment_name": "cart", "k8s_pod_name": f"pod-{pod}"}
                log.sample(seconds, amounts[pod] * seconds, CPU, **labels)
        log.flush(20)
        return column(fold(log.entries), "cpu_usage_cores", 10)[:, 1].tobytes()

    assert usage(order) == usage(list(range(5)))


def test_a_pod_that_the_newest_scrape_passed_over_is_not_added_to_its_successor(scribe: Any) -> None:
    log = scribe()
    memory = "k8s_pod_memory_working_set_bytes"  # its resolution, 10 s, is longer than the scrape interval
    for seconds in range(0, 25, 5):
        for pod, lives in (("old", seconds <= 15), ("new", seconds >= 15)):
            for metric in (memory, "k8s_container_cpu_limit"):
                if lives:
                    log.sample(seconds, 1.0, metric, k8s_deployment_name="cart", k8s_pod_name=pod)
    log.flush(20)
    state = fold(log.entries)
    assert column(state, "memory_usage_bytes", 10)[:, 1].tolist() == [1, 1]
    assert column(state, "cpu_limit_cores", 10)[:, 1].tolist() == [1, 1]


# --- stale markers, skew, what never came ----------------------------------------------------------------------------------

MEMORY = "k8s_pod_memory_working_set_bytes"
STALE = float(np.array(0x7FF0000000000002, np.uint64).view(np.float64))  # Prometheus' own: a NaN with this payload


def test_a_gauge_that_was_marked_stale_is_gone_at_once_and_is_no_reading(scribe: Any) -> None:
    log = scribe(change=undemanding)
    for seconds, value in ((0, 5e6), (10, 6e6), (20, STALE), (30, STALE)):
        log.sample(seconds, value, MEMORY, k8s_deployment_name="cache", k8s_pod_name="a")
    log.flush(30)
    state = fold(log.entries)
    assert column(state, "memory_usage_bytes", 10)[:, 2].tolist() == pytest.approx([6e6, np.nan, np.nan], nan_ok=True)
    assert column(state, "coverage", 10)[:, 2].tolist() == [1, 0, 0]


def test_of_a_services_pods_only_the_one_that_was_marked_stale_is_left_out(scribe: Any) -> None:
    log = scribe()
    for seconds in (0, 10, 20):
        for pod in ("a", "b"):
            stale = pod == "a" and seconds == 20
            log.sample(seconds, STALE if stale else 4e6, MEMORY, k8s_deployment_name="cache", k8s_pod_name=pod)
    log.flush(20)
    assert column(fold(log.entries), "memory_usage_bytes", 10)[:, 2].tolist() == [8e6, 4e6]


@given(st.lists(st.one_of(st.none(), st.integers(0, 500)), min_size=25, max_size=25))
def test_stale_markers_between_a_counters_samples_change_nothing(log_of: LogOf, values: list[int | None]) -> None:
    labels = labels_of(CALLS, "frontend", "a")
    marked = [(5.0 * i, CALLS, labels, STALE if value is None else value) for i, value in enumerate(values)]
    plain = [scrape for scrape, value in zip(marked, values, strict=True) if value is not None]
    one, other = (fold(log_of(scrapes, [HORIZON])) for scrapes in (marked, plain))
    for bucket in (5, 30):
        assert np.array_equal(
            column(one, "request_count", bucket), column(other, "request_count", bucket), equal_nan=True
        )


@pytest.mark.parametrize("name", ["memory_usage_bytes", "cpu_usage_cores"])
def test_what_nobody_scrapes_any_more_does_not_stay_at_its_last_value_beyond_its_resolution(
    scribe: Any, name: str
) -> None:
    log = scribe()
    for seconds in range(0, 41, 5):
        if seconds <= 15:
            log.sample(seconds, 5e6, MEMORY, k8s_deployment_name="cache", k8s_pod_name="a")
            log.sample(seconds, 0.5 * seconds, CPU, k8s_deployment_name="cache", k8s_pod_name="a")
        log.calls(seconds, seconds)
    log.flush(40)
    known = ~np.isnan(column(fold(log.entries), name, 5)[:, 2])
    assert known.tolist() == [True] * 3 + [False] * 5


def test_a_replaced_pods_counter_adds_to_its_predecessors_and_both_are_conserved(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 61, 5):
        if seconds <= 30:
            log.calls(seconds, 10 * seconds, pod="old")
        if seconds >= 25:
            log.calls(seconds, 3 * (seconds - 20), pod="new")  # the first sample is growth since it was born
    log.flush(60)
    for bucket in (5, 10, 30):
        assert column(fold(log.entries), "request_count", bucket)[:, 0].sum() == 10 * 30 + 3 * 40


@given(st.integers(-2400, 2400), st.lists(st.integers(0, 50), min_size=24, max_size=24))
def test_a_scraper_whose_clock_is_off_loses_no_request_and_shows_the_right_rate(
    log_of: LogOf, skew_ms: int, steps: list[int]
) -> None:
    labels = labels_of(CALLS, "frontend", "a")
    moments = [5.0 * i + (skew_ms / 1000 if 0 < i < 24 else 0.0) for i in range(25)]
    shown = np.concatenate([[0], np.cumsum(steps)])
    counts = log_of([(at, CALLS, labels, value) for at, value in zip(moments, shown.tolist(), strict=True)], [HORIZON])
    assert column(fold(counts), "request_count", 10)[:, 0].sum() == shown[-1]
    steady = log_of([(at, CALLS, labels, 4.0 * at) for at in moments], [HORIZON])
    assert column(fold(steady), "request_rate", 10)[:, 0] == pytest.approx(np.full(12, 4.0))


def _coverage(log: Any, row: int = 2) -> list[float]:
    return [round(value, 3) for value in column(fold(log.entries), "coverage", 30)[:, row].tolist()]


PODS = (CPU, MEMORY, "k8s_container_restarts", "k8s_deployment_available", "k8s_deployment_desired")


def _scrape_pods(log: Any, seconds: int, *left_out: str) -> None:
    for metric in PODS:
        if metric not in left_out:
            log.sample(seconds, 1.0, metric, k8s_deployment_name="cache", k8s_pod_name="a")
    for direction in ("receive", "transmit"):
        labels = {"k8s_deployment_name": "cache", "k8s_pod_name": "a", "direction": direction}
        log.sample(seconds, 1.0, "k8s_pod_network_io_bytes_total", **labels)
    log.sample(seconds, 1.0, "traces_service_graph_request_total", client="cart", server="cache")
    log.sample(seconds, 1.0, "traces_service_graph_request_client_seconds_count", client="cart", server="cache")


def test_where_everything_came_coverage_is_whole(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 61, 5):
        _scrape_pods(log, seconds)
    log.flush(60)
    assert _coverage(log) == [1, 1]


def test_a_dropped_scrape_lowers_the_coverage_of_its_bucket_by_its_share(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 61, 5):
        if seconds not in (
            35,
            40,
        ):  # of six scrapes two are missed; what is refreshed every 10 s misses one reading of three
            _scrape_pods(log, seconds)
    log.flush(60)
    assert _coverage(log) == [1, round(2 / 3, 3)]


def test_a_series_that_vanishes_lowers_the_coverage_from_then_on(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 61, 5):
        _scrape_pods(log, seconds, *([MEMORY] if seconds > 30 else []))
    log.flush(60)
    owed = 3 * 4 + 6 * 3 + 6 * 2  # kubelet every 10 s; restarts and replicas; requests and latency, as callers see them
    assert _coverage(log) == [1, round((owed - 3) / owed, 3)]


def test_a_source_that_never_came_lowers_the_coverage_from_the_beginning(scribe: Any) -> None:
    log = scribe()
    for seconds in range(0, 61, 5):
        _scrape_pods(log, seconds, CPU, MEMORY)
    log.flush(60)
    owed = 3 * 4 + 6 * 3 + 6 * 2
    assert _coverage(log) == [round((owed - 6) / owed, 3)] * 2


def test_a_counter_that_appears_late_in_a_long_run_grows_from_zero_whatever_lay_in_memory(
    log_of: LogOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, 7, dtype))
    pods = [0.0] * 16 + [100.0] + [450.0]  # when each is first scraped: the second crowd gets columns to spare
    scrapes = [
        (at, CALLS, labels_of(CALLS, "cart" if born == 450 else "frontend", f"pod-{pod}"), 3.0)
        for at in (5.0 * scrape for scrape in range(100))
        for pod, born in enumerate(pods)
        if at >= born
    ]
    state = fold(log_of(scrapes, [*range(50, 500, 50), 495]))
    cart = column(state, "request_count", 5)[:, [node.id for node in state.graph.nodes].index("cart")]
    assert cart[89] == 3.0, "in the bucket that ends where it was first read"
    assert np.nansum(cart) == 3.0
