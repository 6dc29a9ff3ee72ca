"""Callers that lose patience and ask again: what that costs the called, and when it never ends."""

from __future__ import annotations

import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import (
    Call,
    EdgeSettings,
    Flow,
    Operation,
    Service,
    ServiceConfiguration,
    Step,
    Workload,
)
from otel_control_gym.stands.twin.conventions import call_attributes
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import (
    ATTEMPTED,
    CLIENT,
    ENDINGS,
    ERROR,
    LOST,
    OK,
    REFUSED,
    RETRIED,
    SERVER,
    TIMED_OUT,
)

LOAD, FRONT, BACK = 0, 1, 2
ENTRY, INNER = 0, 1  # edges
MS = 1_000_000


def configuration(*, work_ms: float = 10.0, latency_ms: float = 1.0, **inner: object) -> ServiceConfiguration:
    """Return load -> front -> back; `back` is one worker with constant work, `inner` are settings of the edge towards it."""
    do = Operation(tail_ms=work_ms, distribution="constant")
    ask = Operation(steps=(Step(calls=(Call(target="back:do"),)),))
    return ServiceConfiguration(
        name="tiers",
        demo_version="",
        chart_version="",
        entry="front",
        services={
            "load": Service(kind="workload"),
            "front": Service(operations={"ask": ask}),
            "back": Service(operations={"do": do}, workers=1, threads=1),
        },
        edges=(
            EdgeSettings(source="load", target="front", protocol="http", connection="per_request"),
            EdgeSettings(
                source="front",
                target="back",
                protocol="grpc",
                latency_ms=latency_ms,
                **inner,  # type: ignore[arg-type]
            ),
        ),
        flows={"only": Flow(weight=1.0, requests=("ask",))},
    )


def started(config: ServiceConfiguration, rate: float, *, ready: bool = True) -> Simulation:
    simulation = Simulation(config, Workload(name="open", arrivals="open", rate_per_s=rate), 1, 0)
    for service in config.services:
        simulation.add_pod(service, ordinal=0, cpu_limit_cores=None, memory_limit_bytes=None)
    for slot in (BACK, FRONT, LOAD) if ready else (FRONT, LOAD):
        simulation.set_ready(slot, True)
    return simulation


def test_a_call_that_times_out_fails_at_its_caller_while_its_work_goes_on() -> None:
    simulation = started(configuration(work_ms=100.0, timeout_ms=50.0), rate=1.0)
    simulation.set_span_probability(1.0)
    simulation.run(60 * SECOND)
    simulation.set_rate(0.0)
    simulation.run(70 * SECOND)
    counts = simulation.edge_counts[INNER]
    assert counts[TIMED_OUT] == counts[ATTEMPTED] > 30
    assert simulation.edge_counts[ENTRY, ERROR] == counts[TIMED_OUT]
    assert simulation.pod_counters().served[BACK] == counts[TIMED_OUT], "all the work was done, for nobody"
    assert simulation.edge_seconds[INNER, 1, 0] / counts[TIMED_OUT] == pytest.approx(0.05)
    spans = simulation.take_spans()
    clients = spans[(spans["kind"] == CLIENT) & (spans["edge"] == INNER)]
    assert set(clients["outcome"]) == {TIMED_OUT}
    assert set((clients["end"] - clients["start"]).tolist()) == {50 * MS}
    servers = spans[(spans["kind"] == SERVER) & (spans["pod"] == BACK)]
    assert set(servers["outcome"]) == {OK}


def test_an_answer_within_the_deadline_is_an_answer() -> None:
    patient, plain = (started(configuration(**edge), rate=20.0) for edge in ({"timeout_ms": 5000.0, "retries": 3}, {}))
    for simulation in (patient, plain):
        simulation.run(60 * SECOND)
    assert np.array_equal(patient.edge_buckets, plain.edge_buckets), "what isn't used changes nothing"
    assert np.array_equal(patient.edge_counts, plain.edge_counts)


def test_a_refused_call_is_tried_again_after_pauses_that_double() -> None:
    simulation = started(configuration(retries=3, backoff_ms=100.0), rate=1.0, ready=False)
    simulation.set_span_probability(1.0)
    simulation.run(60 * SECOND)
    simulation.set_rate(0.0)
    simulation.run(70 * SECOND)
    counts = simulation.edge_counts[INNER]
    asked = simulation.edge_counts[ENTRY, ERROR]
    assert counts[REFUSED] == counts[ATTEMPTED] == 4 * asked > 0
    assert counts[RETRIED] == 3 * asked
    spans = simulation.take_spans()
    clients = spans[(spans["kind"] == CLIENT) & (spans["edge"] == INNER)]
    trace = clients[clients["trace_low"] == clients["trace_low"][0]]
    assert trace["attempt"].tolist() == [0, 1, 2, 3]
    endings = [one for one in simulation.endings(np.zeros((2, ENDINGS), bool)) if one.edge == INNER]
    assert [(one.failed, one.status, one.attempt) for one in endings] == [(True, 14, attempt) for attempt in range(4)]
    rows = [one.row for one in endings]
    assert simulation.ending_buckets[INNER, rows, 0].sum(axis=1).tolist() == [asked] * 4
    assert np.diff(trace["start"]).tolist() == [101 * MS, 201 * MS, 401 * MS]
    assert len(np.unique(clients["span_id"])) == len(clients)
    assert len(np.unique(trace["parent_id"])) == 1


def test_jitter_shortens_pauses_each_by_a_draw_of_its_own() -> None:
    simulation = started(configuration(retries=1, backoff_ms=100.0, jitter=0.5), rate=20.0, ready=False)
    simulation.set_span_probability(1.0)
    simulation.run(60 * SECOND)
    spans = simulation.take_spans()
    clients = spans[(spans["kind"] == CLIENT) & (spans["edge"] == INNER)]
    ends = dict(zip(*(clients[clients["attempt"] == 0][name].tolist() for name in ("trace_low", "end")), strict=True))
    again = clients[clients["attempt"] == 1]
    pauses = again["start"] - np.array([ends[trace] for trace in again["trace_low"].tolist()])
    assert pauses.min() >= 50 * MS
    assert pauses.max() <= 100 * MS
    assert pauses.mean() == pytest.approx(75 * MS, rel=0.03)


def test_a_retry_rides_out_what_is_over_in_a_moment() -> None:
    failed = []
    for retries in (0, 3):
        simulation = started(configuration(retries=retries, backoff_ms=100.0), rate=50.0)
        simulation.run(10 * SECOND)
        simulation.set_ready(BACK, False)
        simulation.stop(BACK)
        simulation.run(10 * SECOND + SECOND // 5)
        fresh = simulation.add_pod("back", ordinal=1, cpu_limit_cores=None, memory_limit_bytes=None)
        simulation.set_ready(fresh, True)
        simulation.run(20 * SECOND)
        failed.append(int(simulation.edge_counts[ENTRY, ERROR]))
        assert simulation.edge_counts[INNER, [REFUSED, LOST]].sum() > 0
    assert failed[0] >= 5
    assert failed[1] == 0


def storm(retries: int) -> tuple[float, float]:
    """Return the share of requests that fail before and long after a stall of one second, at 60 % load."""
    simulation = started(configuration(timeout_ms=200.0, retries=retries), rate=60.0)
    simulation.run(20 * SECOND)
    before = simulation.edge_counts[ENTRY].copy()
    simulation.set_stress(BACK, 200.0)  # 16 cores of the node are shared by 201 threads
    simulation.run(22 * SECOND)
    simulation.set_stress(BACK, 0.0)
    simulation.run(60 * SECOND)
    late = simulation.edge_counts[ENTRY].copy()
    simulation.run(120 * SECOND)
    after = simulation.edge_counts[ENTRY] - late
    return before[ERROR] / before[ATTEMPTED], after[ERROR] / after[ATTEMPTED]


def test_retries_turn_a_stall_into_a_storm_that_outlives_its_cause() -> None:
    calm_before, calm_after = storm(retries=0)
    before, after = storm(retries=3)
    assert calm_before == before == 0.0
    assert calm_after == 0.0, "at 60 % load the backlog of two seconds is gone soon"
    assert after > 0.9, "four attempts a request are 240 % load: each works for callers that have left"


def test_what_is_tried_again_draws_anew_and_shifts_nobody_elses_draws() -> None:
    plain, retrying = (started(configuration(retries=count), rate=30.0) for count in (0, 2))
    for simulation in (plain, retrying):
        simulation.run(5 * SECOND)
        simulation.set_ready(BACK, False)
        simulation.stop(BACK)
        simulation.run(10 * SECOND)
    assert plain.edge_counts[ENTRY, ATTEMPTED] == retrying.edge_counts[ENTRY, ATTEMPTED]
    assert retrying.edge_counts[INNER, RETRIED] > 200


def test_a_branch_in_the_middle_of_pauses_goes_on_as_its_origin_does() -> None:
    simulation = started(configuration(timeout_ms=15.0, retries=2, backoff_ms=30.0, jitter=0.3), rate=70.0)
    simulation.run(5 * SECOND)
    branch = simulation.copy()
    for moment in range(51, 101):
        branch.run(moment * SECOND // 10)
    simulation.run(10 * SECOND)
    assert simulation.edge_counts[INNER, RETRIED] > 100
    assert np.array_equal(simulation.edge_counts, branch.edge_counts)
    assert np.array_equal(simulation.edge_buckets, branch.edge_buckets)


def test_spans_of_retries_tell_which_attempt_they_are() -> None:
    config = configuration()
    first, third = (
        call_attributes(config, kind=CLIENT, owner="front", target="back", operation="do", status=4, attempt=count)
        for count in (0, 2)
    )
    assert first["rpc.grpc.status_code"] == 4
    assert third == first | {"rpc.previous_attempts": 2}
    http = call_attributes(config, kind=CLIENT, owner="load", target="front", operation="ask", status=14, attempt=1)
    assert http["rpc.previous_attempts"] == 1  # `front` speaks gRPC here, whatever the edge says
