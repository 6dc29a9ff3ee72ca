"""What the fold makes of distorted telemetry: null where nobody looked or nothing is shown, never a zero; and the clean view on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from otel_control_gym.engine.clean_telemetry import CLEAN_FORMS, clean_form
from otel_control_gym.engine.errors import LogCorrupted
from otel_control_gym.engine.events import CleanGap, CollectorGap, Recorded, RunDeclared
from otel_control_gym.engine.settings import Delay, Distortion, Emergency, Hidden, TelemetrySettings
from otel_control_gym.projections import fold, initial, reached_emergency, step, step_reward
from otel_control_gym.projections.features import edge_features, fast_share, node_features, node_usage
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.rewards import reward_rows
from otel_control_gym.projections.tables import make_tables
from otel_control_gym.projections.unread import masked, unread

CPU = "k8s_pod_cpu_time_seconds_total"
FRONTEND, CART, CACHE = 0, 1, 2


def declared(entries: list[Recorded], distortion: Distortion) -> list[Recorded]:
    """Return a log whose run was declared with this distortion."""
    first = entries[0].event
    assert isinstance(first, RunDeclared)
    settings = msgspec.structs.replace(first.settings, telemetry=TelemetrySettings(distortion=distortion))
    head = msgspec.structs.replace(entries[0], event=msgspec.structs.replace(first, settings=settings))
    return [head, *entries[1:]]


def nodes(state: RunState, bucket: int = 10) -> dict[str, Any]:
    return node_features(state.telemetry(), state.buckets(bucket))


# --- a target that wasn't scraped -----------------------------------------------------------------------------------------------


def unscraped(scribe: Callable[..., Any], lost: set[int], *, told: bool = True) -> RunState:
    """A run of a minute in which some scrapes of cart were lost."""
    log = scribe()
    for seconds in range(0, 65, 5):
        log.calls(seconds, 10.0 * seconds)
        log.sample(seconds, seconds * 0.5, CPU, k8s_deployment_name="frontend", k8s_pod_name="f")
        if seconds not in lost:
            log.calls(seconds, 10.0 * seconds, service="cart")
            log.sample(seconds, seconds * 0.5, CPU, k8s_deployment_name="cart", k8s_pod_name="c")
    if lost and told:
        start, end = log.moment(min(lost) - 5), log.moment(max(lost))
        log.add(
            CollectorGap(time=end, source="metrics", start=start, end=end, reason="not scraped", services=("cart",))
        )
    log.flush(60)
    return fold(log.entries)


def test_a_service_that_was_not_scraped_has_null_where_a_zero_would_be_a_lie(scribe: Callable[..., Any]) -> None:
    told = nodes(unscraped(scribe, {20, 25, 30}))
    for name in ("request_count", "request_rate", "cpu_usage_cores"):
        assert np.isnan(told[name][:, CART]).tolist() == [False, True, True, True, False, False]
        assert not np.isnan(told[name][:, FRONTEND]).any()
    assert told["coverage"][1, CART] <= 0.5
    assert told["coverage"][2, CART] == 0
    assert told["coverage"][:, FRONTEND].tolist() == nodes(unscraped(scribe, set()))["coverage"][:, FRONTEND].tolist()
    untold = nodes(unscraped(scribe, {20, 25, 30}, told=False))
    assert untold["request_count"][2, CART] == 0  # what the gap is for


def test_what_was_lost_within_a_bucket_is_in_the_growth_of_the_whole(scribe: Callable[..., Any]) -> None:
    found = nodes(unscraped(scribe, {25}))
    assert found["request_count"][:, CART].tolist() == [100.0] * 6


def test_coverage_is_at_most_the_share_of_the_scrapes_that_were_not_lost(scribe: Callable[..., Any]) -> None:
    state = unscraped(scribe, {25})
    lost, cells = unread(state.gaps, [node.id for node in state.graph.nodes]), np.ones((6, len(state.graph.nodes)))
    seen = masked({"coverage": cells}, lost, state.buckets(10), state.samples, cells.shape[1])["coverage"]
    assert seen[:, CART].tolist() == [1, 1, 0.5, 1, 1, 1]
    low = masked({"coverage": cells / 4}, lost, state.buckets(10), state.samples, cells.shape[1])["coverage"]
    assert (low == 0.25).all()


def test_edges_are_read_at_their_callers(scribe: Callable[..., Any]) -> None:
    state = unscraped(scribe, {20})
    edges = edge_features(state.telemetry(), state.buckets(10))
    assert np.isnan(edges["request_count"][:, 1]).tolist() == [False, True, True, False, False, False]
    assert not np.isnan(edges["request_count"][:, 0]).any()


def test_usage_and_fast_share_know_of_the_loss_too(scribe: Callable[..., Any]) -> None:
    state = unscraped(scribe, {20})
    buckets = state.buckets(10)
    assert np.isnan(node_usage(state.telemetry(), buckets)["cpu_usage_cores"][1:3, CART]).all()
    assert np.isnan(fast_share(state.telemetry(), buckets, CART, 500.0)[1:3]).all()


def test_a_slow_source_that_shows_its_figure_once_more_was_not_read_anew(scribe: Callable[..., Any]) -> None:
    log = scribe()
    for seconds in range(0, 65, 5):
        refreshed = seconds // 10 * 10
        if seconds != 30:  # the scrape at a refresh is lost, the one before it showed the figure of 20 s
            log.sample(seconds, refreshed * 0.5, CPU, k8s_deployment_name="cart", k8s_pod_name="c")
    log.flush(60)
    usage = nodes(fold(log.entries))["cpu_usage_cores"][:, CART]
    assert np.isnan(usage).tolist() == [False, False, True, False, False, False]
    assert usage[[0, 1, 3, 4, 5]].tolist() == pytest.approx([0.5] * 5)


# --- what is hidden ---------------------------------------------------------------------------------------------------------------


def test_what_is_hidden_is_null_and_not_zero(scribe: Callable[..., Any]) -> None:
    log = scribe()
    for seconds in range(0, 35, 5):
        log.calls(seconds, 10.0 * seconds)
    log.flush(30)
    seen = fold(log.entries)
    hidden = fold(declared(log.entries, Distortion(hidden=Hidden(services=("cart",)))))
    assert nodes(seen)["request_count"][:, CART].tolist() == [0, 0, 0]
    assert np.isnan(nodes(hidden)["request_count"][:, CART]).all()
    assert nodes(hidden)["coverage"][:, CART].tolist() == [0, 0, 0]
    assert nodes(hidden)["request_count"][:, FRONTEND].tolist() == nodes(seen)["request_count"][:, FRONTEND].tolist()
    edges = edge_features(hidden.telemetry(), hidden.buckets(10))
    assert np.isnan(edges["request_count"]).all()
    one = fold(declared(log.entries, Distortion(hidden=Hidden(edges=("cart->cache",)))))
    edges = edge_features(one.telemetry(), one.buckets(10))
    assert np.isnan(edges["request_count"][:, 1]).all()
    assert edges["request_count"][:, 0].tolist() == [0, 0, 0]
    feature = fold(declared(log.entries, Distortion(hidden=Hidden(features=("edge.request_count",)))))
    assert np.isnan(edge_features(feature.telemetry(), feature.buckets(10))["request_count"]).all()


# --- delay ------------------------------------------------------------------------------------------------------------------------


def test_a_step_is_paid_for_the_buckets_whose_telemetry_has_arrived(eventful: list[Recorded], at: Any) -> None:
    prompt, late = fold(eventful), fold(declared(eventful, Distortion(delays={"workload": Delay(seconds=10.0)})))
    rows = [row.components["error_budget_burn"] for row in reward_rows(prompt)]
    assert len(set(rows)) > 1
    for position in range(1, len(rows)):
        start, end = at(30 * position), at(30 * position + 30)
        assert step_reward(prompt, start, end).components["error_budget_burn"] == rows[position]
        assert step_reward(late, start, end).components["error_budget_burn"] == rows[position - 1]
    assert step_reward(late, at(0), at(30)).value == 0


def test_an_emergency_is_seen_as_late_as_its_telemetry(scribe: Callable[..., Any], at: Any) -> None:
    log = scribe()
    log.workload([(5 * i, 50 * i, 50 * i, 50 * i) for i in range(1, 25)])
    log.flush(120)
    rule = Emergency(availability_below=0.5, for_seconds=60)
    late = fold(declared(log.entries, Distortion(delays={"workload": Delay(seconds=1.0)})))
    assert reached_emergency(fold(log.entries), rule, start=at(0), now=at(60))
    assert not reached_emergency(late, rule, start=at(0), now=at(60))
    assert reached_emergency(late, rule, start=at(0), now=at(90))


# --- the clean view ---------------------------------------------------------------------------------------------------------------


def with_clean(entries: list[Recorded]) -> list[Recorded]:
    """Return the log of a run that saw nothing of its telemetry, which the truth stream kept."""
    found: list[Recorded] = []
    written = {False: 0, True: 0}  # of each stream, which numbers its events for itself
    for entry in entries:
        if not entry.truth and type(entry.event) in CLEAN_FORMS:
            entry = msgspec.structs.replace(entry, event=clean_form(entry.event), truth=True)
        written[entry.truth] += 1
        found.append(msgspec.structs.replace(entry, seq=written[entry.truth]))
    return found


def test_the_clean_view_has_the_tables_of_a_run_without_distortion(eventful: list[Recorded]) -> None:
    kept = fold(with_clean(eventful), clean=True)
    assert kept.truth.holds_clean
    for name, table in make_tables(fold(eventful), "X", 10).items():
        assert make_tables(kept, "X", 10)[name].equals(table), name


def test_without_the_clean_view_a_run_shows_what_was_public(eventful: list[Recorded]) -> None:
    seen = fold(with_clean(eventful))
    assert seen.truth.holds_clean
    assert seen.samples.count == 0
    assert not seen.gaps


def test_the_clean_view_takes_no_public_telemetry(eventful: list[Recorded]) -> None:
    clean = fold(eventful, clean=True)
    assert (clean.samples.count, len(clean.workload.all()), clean.truth.holds_clean) == (0, 0, False)
    assert [life.requested.action_id for life in clean.lives.all()] == ["scale-1", "scale-2"]


def test_clean_telemetry_is_refused_in_the_public_stream(at: Any) -> None:
    gap = CleanGap(time=at(0), source="metrics", start=0, end=1, reason="any")
    with pytest.raises(LogCorrupted, match="public stream"):
        step(initial(), Recorded(seq=1, event=gap))
