"""Distortion is a function of the key and of what was shown: not of flushes, not of other series; and it breaks no counter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.collectors.distortion_draws import BurstLosses, Stretches, normals, text_key, uniforms
from otel_control_gym.engine.clean_telemetry import public_form
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.codec import encode
from otel_control_gym.engine.events import (
    ActionRequested,
    CleanSamples,
    CleanSpans,
    CollectorGap,
    Event,
    Finding,
    FindingsObserved,
    KubernetesEvent,
    KubernetesEventsObserved,
    LogRow,
    LogsCollected,
    PodsTransitioned,
    PodTransition,
    SamplesCollected,
    SeriesDeclared,
    Span,
    SpansCollected,
    WorkloadObserved,
    WorkloadState,
)
from otel_control_gym.engine.randomness import draw_uniform
from otel_control_gym.engine.settings import Delay, Distortion, Hidden, Losses, Noise, Silence

from .distortions import (
    KEY,
    SCRAPE,
    START,
    Playback,
    Scraped,
    at,
    calls,
    cpu,
    distort,
    edge_calls,
    latency,
    memory,
    played,
    samples,
)

SERVICES = ("frontend", "cart", "checkout", "currency")
NOISE = Noise(
    factors={
        "node.request_count": 0.3,
        "node.error_count": 0.3,
        "node.latency": 0.3,
        "node.cpu_seconds": 0.3,
        "node.memory_bytes": 0.3,
        "edge.request_count": 0.3,
        "edge.error_count": 0.3,
    },
    offsets={"node.memory_bytes": 100.0},
)
ALL = Distortion(
    noise=NOISE,
    jitter_seconds=1.0,
    clock_skew_seconds=2.0,
    scrapes=Losses(share=0.1, burst=2.0),
    targets=Losses(share=0.1, burst=2.0),
    silences={"metrics": Silence(share=0.1, seconds=20.0)},
    hidden=Hidden(services=("currency",)),
    delays={"metrics": Delay(seconds=7.0, random_seconds=9.0)},
)
growths = st.lists(st.sampled_from([0.0, 0.25, 1.0, 7.0, 1000.0]), min_size=24, max_size=24)
cut_lists = st.lists(st.integers(0, 120), max_size=8).map(lambda cuts: sorted({0, *cuts, 300}))


def shop(growth: Sequence[float], *, ad: bool = False) -> Scraped:
    """Four services whose counters grow as given; cart restarts in the middle."""
    total = np.cumsum(growth)
    restarted = np.where(np.arange(total.size) < 12, total, total - total[11])
    series: dict[tuple[tuple[str, str], ...], npt.NDArray[np.float64]] = {}
    for service in SERVICES:
        values = restarted if service == "cart" else total
        series[calls(service)] = np.floor(values)
        series[calls(service, "STATUS_CODE_ERROR")] = np.floor(values / 4)
        series[cpu(service)] = values * 0.01
        series[memory(service)] = 1000.0 + values
        for le, share in (("10", 0.5), ("100", 0.8), ("+Inf", 1.0)):
            series[latency(service, "bucket", le)] = np.floor(values * share)
        series[latency(service, "count")] = np.floor(values)
        series[latency(service, "sum")] = values * 12.5
    series[edge_calls("request_failed_total", "frontend", "cart")] = np.floor(total / 3)
    series[edge_calls("request_total", "frontend", "cart")] = np.floor(total)
    if ad:
        series[calls("ad")] = total
        series[memory("ad")] = total
    return Scraped(series)


def bodies(events: Sequence[tuple[Event, bool]]) -> list[tuple[bytes, bool]]:
    return [(encode(event), truth) for event, truth in events]


# --- keyed draws -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5), st.integers(0, 9))
def test_draws_for_arrays_are_those_of_the_engine(key: int, moments: list[int], purpose: int) -> None:
    expected = [draw_uniform(key, purpose, moment) for moment in moments]
    assert uniforms(key, purpose, np.array(moments, np.int64)).tolist() == expected


def test_normal_draws_have_mean_0_and_variance_1() -> None:
    n = 40_000
    drawn = normals(KEY, np.arange(n), 7)
    assert abs(drawn.mean()) < 5 / math.sqrt(n)
    assert abs(drawn.var() - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize(("share", "burst"), [(0.05, 1.0), (0.05, 4.0), (0.3, 2.0), (0.6, 3.0)])
def test_the_share_and_the_bursts_of_losses_are_those_asked_for(share: float, burst: float) -> None:
    n = 20_000
    lost = BurstLosses(Losses(share=share, burst=burst), KEY, 1).lost(np.arange(n))
    correlation = 1 - 1 / burst - share / (burst * (1 - share))
    deviation = math.sqrt(share * (1 - share) / n * (1 + correlation) / (1 - correlation))
    assert abs(lost.mean() - share) < 5 * deviation
    lengths = [len(list(run)) for value, run in itertools.groupby(lost.tolist()) if value]
    spread = math.sqrt(burst * (burst - 1) / len(lengths))  # geometric
    assert abs(np.mean(lengths) - burst) <= 5 * spread


def test_the_share_of_silence_is_the_one_asked_for() -> None:
    share, mean = 0.2, 30.0
    end = at(400_000)
    silent = Stretches(Silence(share=share, seconds=mean), KEY, "spans", START).between(START, end)
    found = sum(last - first for first, last in silent) / (end - START)
    cycles = 400_000 / (mean / share)
    deviation = share * (1 - share) * math.sqrt(2 / cycles)  # of an alternating process of exponential times
    assert abs(found - share) < 5 * deviation


# --- laws of the whole way -------------------------------------------------------------------------------------------------


@given(growths, cut_lists)
@settings(max_examples=40, deadline=None)
def test_a_distortion_of_nothing_is_the_identity_bit_for_bit(growth: list[float], cuts: list[int]) -> None:
    assert bodies(played(distort(shop(growth), Distortion()), cuts)) == bodies(played(shop(growth), cuts))


@given(growths, cut_lists, cut_lists)
@settings(max_examples=40, deadline=None)
def test_how_a_run_is_cut_into_flushes_changes_nothing(growth: list[float], one: list[int], other: list[int]) -> None:
    assert samples(played(distort(shop(growth), ALL), one)) == samples(played(distort(shop(growth), ALL), other))


@given(growths)
@settings(max_examples=20, deadline=None)
def test_another_key_is_another_distortion(growth: list[float]) -> None:
    one = samples(played(distort(shop(growth), ALL), (300,)))
    assert one != samples(played(distort(shop(growth), ALL, key=KEY + 1), (300,)))


@given(growths, cut_lists)
@settings(max_examples=40, deadline=None)
def test_what_happens_to_one_service_changes_no_draw_of_another(growth: list[float], cuts: list[int]) -> None:
    alone = samples(played(distort(shop(growth), ALL), cuts))
    beside = samples(played(distort(shop(growth, ad=True), ALL), cuts))
    assert {labels: beside[labels] for labels in beside if "ad" not in dict(labels).values()} == alone
    assert len(beside) > len(alone)


@given(growths, cut_lists)
@settings(max_examples=40, deadline=None)
def test_noisy_counters_fall_only_where_the_true_ones_do(growth: list[float], cuts: list[int]) -> None:
    noisy = samples(played(distort(shop(growth), Distortion(noise=NOISE)), cuts))
    true = samples(played(shop(growth), cuts))
    counters = [labels for labels in noisy if "memory" not in dict(labels)["__name__"]]
    assert counters
    for labels in counters:
        for (time, before), (later, after) in itertools.pairwise(noisy[labels].items()):
            if true[labels][later] >= true[labels][time]:
                assert after >= before
            else:
                assert after < before or before == 0


@given(growths, cut_lists)
@settings(max_examples=40, deadline=None)
def test_noisy_buckets_stay_cumulative_and_no_part_exceeds_its_whole(growth: list[float], cuts: list[int]) -> None:
    noisy = samples(played(distort(shop(growth), Distortion(noise=NOISE)), cuts))
    for service in SERVICES:
        parts = [noisy[latency(service, "bucket", le)] for le in ("10", "100", "+Inf")]
        assert parts[2] == noisy[latency(service, "count")]
        for low, high in itertools.pairwise(parts):
            assert all(low[time] <= high[time] for time in low)
    failed, total = (noisy[edge_calls(name, "frontend", "cart")] for name in ("request_failed_total", "request_total"))
    assert all(failed[time] <= total[time] for time in failed)


def test_the_noise_of_growth_has_mean_1_and_the_deviation_asked_for() -> None:
    n, deviation = 4_000, 0.2
    exact = Scraped({cpu("cart"): np.arange(n + 1, dtype=np.float64) * 100.0})
    noise = Noise(factors={"node.cpu_seconds": deviation})
    (values,) = samples(played(distort(exact, Distortion(noise=noise)), (n * SCRAPE,))).values()
    factors = np.diff(list(values.values())) / 100
    spread = math.sqrt(math.exp(deviation**2) - 1)
    assert abs(factors.mean() - 1) < 5 * spread / math.sqrt(n)
    assert abs(np.log(factors).std() - deviation) < 5 * deviation / math.sqrt(2 * n)


# --- losses ----------------------------------------------------------------------------------------------------------------


def test_a_lost_scrape_is_a_gap_from_the_scrape_before_it_and_takes_all_of_it() -> None:
    lossy = Distortion(scrapes=Losses(share=0.3, burst=2.0))
    cuts = range(0, 121, 10)
    events = played(distort(shop([1.0] * 24), lossy), cuts)
    kept = {time for times in samples(events).values() for time in times}
    assert all(set(times) == kept for times in samples(events).values())
    gaps = [event for event, _ in events if isinstance(event, CollectorGap)]
    lost = {at(5 * number) for number in range(24)} - kept
    assert lost
    assert {time for gap in gaps for time in range(gap.start + 5 * SECOND, gap.end + 1, 5 * SECOND)} == lost
    assert {(gap.source, gap.services) for gap in gaps} == {("metrics", ())}


def test_a_target_that_isn_t_scraped_is_a_gap_of_that_service_alone() -> None:
    lossy = Distortion(targets=Losses(share=0.3, burst=2.0))
    events = played(distort(shop([1.0] * 24), lossy), (60, 120))
    gaps = [event for event, _ in events if isinstance(event, CollectorGap)]
    found = samples(events)
    for service in SERVICES:
        lost = {at(5 * number) for number in range(24)} - set(found[calls(service)])
        told = {
            time
            for gap in gaps
            if service in gap.services
            for time in range(gap.start + 5 * SECOND, gap.end + 1, 5 * SECOND)
        }
        assert told == lost
        assert set(found[memory(service)]) == set(found[calls(service)])
    assert len({tuple(found[calls(service)]) for service in SERVICES}) > 1


def test_a_silent_source_is_a_gap_and_gives_nothing_in_it() -> None:
    readings = [(WorkloadObserved(time=at(5 * number), rows=(reading(5 * number),)), False) for number in range(400)]
    silent = Distortion(silences={"workload": Silence(share=0.3, seconds=40.0)})
    events = played(distort(Playback("workload", readings), silent), range(0, 2000, 50))
    gaps = [(event.start, event.end) for event, _ in events if isinstance(event, CollectorGap)]
    times = [row.time for event, _ in events if isinstance(event, WorkloadObserved) for row in event.rows]
    assert gaps
    assert times
    for number in range(390):
        inside = any(start <= at(5 * number) < end for start, end in gaps)
        assert (at(5 * number) in times) != inside


def test_single_spans_and_log_records_are_lost_without_a_gap_in_the_share_asked_for() -> None:
    n, share = 2_000, 0.2
    spans = tuple(span(0.01 * number, number) for number in range(n))
    logs = tuple(
        LogRow(time=at(0.01 * number), service="cart", severity="INFO", body=str(number)) for number in range(n)
    )
    shown = [(SpansCollected(time=at(20), rows=spans), False), (LogsCollected(time=at(20), rows=logs), False)]
    events = played(distort(Playback("spans", shown), Distortion(row_losses={"spans": share, "logs": share})), (20,))
    assert [type(event) for event, _ in events] == [SpansCollected, LogsCollected]
    for event, _ in events:
        assert isinstance(event, SpansCollected | LogsCollected)
        assert abs(len(event.rows) / n - (1 - share)) < 5 * math.sqrt(share * (1 - share) / n)


def test_after_a_silence_kubernetes_is_listed_anew_and_each_object_shows_its_last_state() -> None:
    start, end = next(
        iter(Stretches(Silence(share=0.3, seconds=60.0), KEY, "kubernetes", START).between(START, at(9_000)))
    )
    begun = (start - START) / SECOND
    rows = (
        pod(begun + 0.1, "a", "modified", ready=False),
        pod(begun + 0.2, "b", "added"),
        pod(begun + 0.3, "a", "modified", ready=True),
        pod(begun + 0.4, "b", "deleted"),
    )
    shown = [(PodsTransitioned(time=rows[-1].time, rows=rows), False)]
    silent = Distortion(silences={"kubernetes": Silence(share=0.3, seconds=60.0)})
    collector = distort(Playback("kubernetes", shown), silent)
    assert not any(isinstance(event, PodsTransitioned) for event, _ in collector.flush(end - 1))
    (event,) = (event for event, _ in collector.flush(end + SECOND) if isinstance(event, PodsTransitioned))
    assert [(row.uid, row.ready, row.time) for row in event.rows] == [("a", True, end)]


def test_findings_of_a_poll_that_was_missed_are_told_by_the_next_one() -> None:
    stretches = Stretches(Silence(share=0.3, seconds=60.0), KEY, "findings", START)
    start, end = stretches.between(START, at(9_000))[0]
    shown: list[tuple[Event, bool]] = [
        (FindingsObserved(time=start + 1, rows=(finding("x", "cart"),)), False),
        (FindingsObserved(time=end + 1, rows=(finding("y", "cart"),)), False),
    ]
    collector = distort(
        Playback("findings", shown), Distortion(silences={"findings": Silence(share=0.3, seconds=60.0)})
    )
    assert not any(isinstance(event, FindingsObserved) for event, _ in collector.flush(start + 1))
    (event,) = (event for event, _ in collector.flush(end + 1) if isinstance(event, FindingsObserved))
    assert [row.key for row in event.rows] == ["x", "y"]


# --- what is hidden --------------------------------------------------------------------------------------------------------


def test_nothing_that_tells_of_a_hidden_service_enters_the_public_stream() -> None:
    hidden = Distortion(hidden=Hidden(services=("cart",)))
    rows: list[tuple[Event, bool]] = [
        (PodsTransitioned(time=at(1), rows=(pod(1, "a", "added"), pod(1, "b", "added", service="frontend"))), False),
        (KubernetesEventsObserved(time=at(1), rows=(scaled("cart"), scaled("cart-5f-x"), scaled("frontend"))), False),
    ]
    found = played(distort(Playback("kubernetes", rows), hidden), (1,))
    traces: list[tuple[Event, bool]] = [
        (SpansCollected(time=at(1), rows=(span(1, 1), span(1, 2, service="frontend", peer="cart"))), False),
        (LogsCollected(time=at(1), rows=(LogRow(time=at(1), service="cart", severity="INFO", body="b"),)), False),
    ]
    found += played(distort(Playback("spans", traces), hidden), (1,))
    polls = [(FindingsObserved(time=at(1), rows=(finding("x", "cart"), finding("y", "frontend"))), False)]
    found += played(distort(Playback("findings", polls), hidden), (1,))
    found += played(distort(shop([1.0] * 24), hidden), (60, 120))
    assert {service for labels in samples(found) for service in SERVICES if service in dict(labels).values()} == {
        "frontend",
        "checkout",
        "currency",
    }
    told = b"".join(msgspec.json.encode(event.rows) for event, _ in found if hasattr(event, "rows"))
    assert b"frontend" in told
    assert b"cart" not in told


def test_hidden_edges_and_features_are_gone_and_everything_else_is_as_it_was() -> None:
    hidden = Hidden(edges=("frontend->cart",), features=("node.memory_bytes",))
    found = samples(played(distort(shop([1.0] * 24), Distortion(hidden=hidden)), (60, 120)))
    full = samples(played(shop([1.0] * 24), (60, 120)))
    gone = {labels for labels in full if "client" in dict(labels) or "memory" in dict(labels)["__name__"]}
    assert gone
    assert found == {labels: values for labels, values in full.items() if labels not in gone}


# --- delay -----------------------------------------------------------------------------------------------------------------


def test_samples_arrive_late_by_at_least_the_constant_and_at_most_the_random_part_more() -> None:
    late = Distortion(delays={"metrics": Delay(seconds=7.0, random_seconds=6.0)})
    collector = distort(shop([1.0] * 24), late)
    arrived: dict[int, int] = {}
    for seconds in range(150):
        for event, _ in collector.flush(at(seconds)):
            if isinstance(event, SamplesCollected):
                arrived |= dict.fromkeys(event.times.tolist(), seconds)
    lags = [seconds - (time - START) / SECOND for time, seconds in arrived.items()]
    assert len(lags) == 24
    assert min(lags) >= 7
    assert max(lags) <= 14
    assert len(set(lags)) > 1


def test_late_samples_arrive_in_the_order_of_their_times() -> None:
    late = Distortion(delays={"metrics": Delay(random_seconds=40.0)})
    events = [event for event, _ in played(distort(shop([1.0] * 24), late), range(0, 200))]
    times = [
        time for event in events if isinstance(event, SamplesCollected) for time in np.unique(event.times).tolist()
    ]
    assert len(times) == 24
    assert times == sorted(times)


def test_a_series_is_declared_with_its_first_sample_and_not_before() -> None:
    collector = distort(shop([1.0] * 24), Distortion(delays={"metrics": Delay(seconds=20.0)}))
    assert collector.flush(at(10)) == []
    assert [type(event) for event, _ in collector.flush(at(20))] == [SeriesDeclared, SamplesCollected]


# --- clocks ----------------------------------------------------------------------------------------------------------------


@given(growths, cut_lists)
@settings(max_examples=30, deadline=None)
def test_time_stamps_are_off_by_no_more_than_the_bounds_and_stay_in_order(growth: list[float], cuts: list[int]) -> None:
    skewed = Distortion(jitter_seconds=1.0, clock_skew_seconds=2.0)
    found = samples(played(distort(shop(growth), skewed), cuts))
    for values in found.values():
        times = list(values)
        assert times == sorted(times)
        assert all(abs(time - at(5 * number)) <= 3 * SECOND for number, time in enumerate(times))


def test_no_sample_is_there_before_the_time_it_claims() -> None:
    skewed = Distortion(jitter_seconds=1.0, clock_skew_seconds=2.0)
    events = [event for event, _ in played(distort(shop([1.0] * 24), skewed), range(0, 131, 5))]
    collected = [event for event in events if isinstance(event, SamplesCollected)]
    ahead = [
        time for event in collected for time in event.times.tolist() if 0 < (time - START) % (5 * SECOND) < 2 * SECOND
    ]
    assert ahead
    assert all(event.times.max() <= event.time for event in collected)


# --- beside the telemetry --------------------------------------------------------------------------------------------------


def test_actions_and_the_truth_stream_pass_as_they_are() -> None:
    request = ActionRequested(
        time=at(1),
        action_id="a",
        actor="external",
        action_class="action",
        action_type="scale",
        target_kind="service",
        target="cart",
        parameters={},
    )
    truth = KubernetesEventsObserved(time=at(1), rows=(scaled("cart"),))
    hidden = Distortion(hidden=Hidden(services=("cart",)), silences={"kubernetes": Silence(share=0.9, seconds=1e6)})
    shown: list[tuple[Event, bool]] = [(request, False), (truth, True)]
    assert played(distort(Playback("kubernetes", shown), hidden), (1,))[:2] == shown


@given(growths, cut_lists)
@settings(max_examples=20, deadline=None)
def test_the_clean_telemetry_is_what_the_collector_showed(growth: list[float], cuts: list[int]) -> None:
    kept = played(distort(shop(growth), msgspec.structs.replace(ALL, keep_clean=True)), cuts)
    clean = [(public_form(event), False) for event, truth in kept if truth]
    assert bodies(clean) == bodies(played(shop(growth), cuts))
    assert any(isinstance(event, CleanSamples) for event, _ in kept)


def test_without_being_asked_for_no_clean_telemetry_is_kept() -> None:
    shown = [(SpansCollected(time=at(1), rows=(span(1, 1),)), False)]
    silent = Distortion(hidden=Hidden(services=("frontend",)))
    events = played(distort(Playback("spans", shown), silent), (1,))
    assert not any(isinstance(event, CleanSpans) for event, _ in events)


# --- rows ------------------------------------------------------------------------------------------------------------------


def reading(seconds: float) -> WorkloadState:
    return WorkloadState(
        time=at(seconds),
        users_target=1,
        users_active=1,
        spawn_rate_per_s=1.0,
        scheduled=1,
        served=1,
        failed=0,
        state="running",
    )


def span(seconds: float, number: int, *, service: str = "cart", peer: str = "") -> Span:
    return Span(
        time=at(seconds),
        duration_ns=1,
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_span_id="",
        service=service,
        peer=peer,
        operation="any",
        kind="client" if peer else "server",
        protocol="grpc",
        status="ok",
    )


def pod(seconds: float, uid: str, change: str, *, ready: bool = False, service: str = "cart") -> PodTransition:
    return msgspec.convert(
        {
            "time": at(seconds),
            "change": change,
            "service": service,
            "pod": f"{service}-1-{uid}",
            "uid": uid,
            "owner_uid": "",
            "phase": "Running",
            "ready": ready,
            "restart_count": 0,
        },
        PodTransition,
    )


def scaled(name: str) -> KubernetesEvent:
    return KubernetesEvent(
        time=at(1),
        type="Normal",
        reason="Scaled",
        message="to 2",
        object_kind="Deployment",
        object_name=name,
        object_uid="uid",
        component="controller",
        count=1,
    )


def finding(key: str, service: str) -> Finding:
    return Finding(
        time=at(1),
        key=key,
        source="check",
        services=(service,),
        symptom="cpu",
        severity="warning",
        confidence=0.5,
        text="busy",
    )


def test_text_keys_are_those_of_their_texts() -> None:
    assert text_key("cart") == text_key("cart")
    assert text_key("cart") != text_key("chart")
