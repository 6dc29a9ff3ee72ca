"""Networks that misbehave: what is lost is sent again, so loss shows as latency, and a partition as silence."""

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
from otel_control_gym.stands.twin.machine import EgressRule
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import ATTEMPTED, CLIENT, ERROR, IN_FLIGHT, LOST, OK, TIMED_OUT

LOAD, FRONT, BACK = 0, 1, 2
ENTRY, INNER = 0, 1  # edges
MS = 1_000_000
BLOCKED = EgressRule(blocked=True)


def started(rate: float, *, seed: int = 1, **inner: object) -> Simulation:
    """Return load -> front -> back, in which a call of `back` takes 2 ms, after a second; `inner` are settings of the edge to it."""
    do = Operation(tail_ms=0.0)
    ask = Operation(steps=(Step(calls=(Call(target="back:do"),)),))
    config = ServiceConfiguration(
        name="tiers",
        demo_version="",
        chart_version="",
        entry="front",
        services={
            "load": Service(kind="workload"),
            "front": Service(protocol="http", operations={"ask": ask}),
            "back": Service(operations={"do": do}),
        },
        edges=(
            EdgeSettings(source="load", target="front", protocol="http", connection="per_request", latency_ms=0.0),
            EdgeSettings(
                source="front",
                target="back",
                protocol="grpc",
                **{"latency_ms": 1.0, **inner},  # type: ignore[arg-type]
            ),
        ),
        flows={"only": Flow(weight=1.0, requests=("ask",))},
    )
    simulation = Simulation(config, Workload(name="open", arrivals="open", rate_per_s=rate), seed, 0)
    for service in config.services:
        simulation.add_pod(service, ordinal=0, cpu_limit_cores=None, memory_limit_bytes=None)
    for slot in (BACK, FRONT, LOAD):
        simulation.set_ready(slot, True)
    simulation.set_span_probability(1.0)
    simulation.run(SECOND)
    simulation.take_spans()
    return simulation


def client_ms(simulation: Simulation) -> list[float]:
    """Return the durations of the calls of `back`, as `front` saw them, to the microsecond."""
    spans = simulation.take_spans()
    mine = spans[(spans["kind"] == CLIENT) & (spans["edge"] == INNER)]
    return [round(float(value), 3) for value in (mine["end"] - mine["start"]) / MS]


def test_loss_makes_a_tail_of_retransmissions_and_no_errors() -> None:
    simulation = started(100.0)
    simulation.set_egress_rules(FRONT, {BACK: EgressRule(loss=0.1)})
    simulation.run(101 * SECOND)

    durations = np.array(client_ms(simulation))
    assert simulation.edge_counts[INNER, OK] >= simulation.edge_counts[INNER, ATTEMPTED] - 20
    assert set(durations.tolist()) <= {2.0, 202.0, 602.0, 1402.0, 3002.0, 6202.0, 12602.0}
    for lost, duration in ((0.1, 202.0), (0.01, 602.0)):
        share = float((durations >= duration).mean())
        assert share == pytest.approx(lost, abs=4 * (lost / len(durations)) ** 0.5)


def test_a_dial_that_is_lost_takes_a_second_where_an_open_connection_takes_a_fifth() -> None:
    simulation = started(50.0, connection="per_request")
    simulation.set_egress_rules(FRONT, {None: EgressRule(loss=0.2)})
    simulation.run(60 * SECOND)

    assert {1002.0, 3002.0} < set(client_ms(simulation))


def test_each_call_has_the_same_luck_whatever_else_is_done() -> None:
    plain, busy = started(20.0), started(20.0)
    for simulation in (plain, busy):
        simulation.set_egress_rules(FRONT, {BACK: EgressRule(loss=0.3)})
    busy.set_egress_rules(LOAD, {BACK: EgressRule(latency_ns=5)})  # another rule, which nobody feels
    for simulation in (plain, busy):
        simulation.run(30 * SECOND)
    assert client_ms(plain) == client_ms(busy)


@pytest.mark.parametrize(("sender", "peer"), [(FRONT, BACK), (BACK, FRONT)])
def test_a_partition_hangs_a_caller_without_a_time_out_and_heals_at_the_next_retransmission(
    sender: int, peer: int
) -> None:
    simulation = started(20.0)
    simulation.set_egress_rules(sender, {peer: BLOCKED})
    simulation.run(11 * SECOND)
    asked = simulation.edge_counts[INNER, IN_FLIGHT]
    assert asked > 150
    assert simulation.edge_counts[INNER, [ERROR, LOST, TIMED_OUT]].sum() == 0
    assert client_ms(simulation) == []

    simulation.set_egress_rules(sender, {})
    simulation.set_rate(0.0)
    simulation.run(60 * SECOND)
    assert simulation.edge_counts[INNER, OK] == simulation.edge_counts[INNER, ATTEMPTED]
    assert set(client_ms(simulation)) == {202.0, 602.0, 1402.0, 3002.0, 6202.0, 12602.0}


def test_a_partition_times_out_at_a_caller_that_has_a_time_out() -> None:
    simulation = started(20.0, timeout_ms=500.0)
    before = simulation.pod_counters().served[BACK]
    simulation.set_egress_rules(FRONT, {BACK: BLOCKED})
    simulation.run(11 * SECOND)
    simulation.set_egress_rules(FRONT, {})
    simulation.set_rate(0.0)
    simulation.run(30 * SECOND)

    counts = simulation.edge_counts[INNER]
    assert counts[TIMED_OUT] > 150
    assert counts[[ERROR, LOST]].sum() == 0
    assert simulation.edge_counts[ENTRY, ERROR] == counts[TIMED_OUT]
    served = simulation.pod_counters().served[BACK] - before
    assert served <= 20, "what the callers had given up was never sent"


def test_tcp_gives_an_open_connection_up_after_a_quarter_of_an_hour_and_dials_anew() -> None:
    simulation = started(5.0)
    simulation.set_egress_rules(FRONT, {BACK: BLOCKED})
    simulation.run(5 * SECOND)
    simulation.set_rate(0.0)
    asked = simulation.edge_counts[INNER, IN_FLIGHT]
    other = simulation.add_pod("back", ordinal=1, cpu_limit_cores=None, memory_limit_bytes=None)
    simulation.set_ready(BACK, False)
    simulation.set_ready(other, True)
    simulation.run(1000 * SECOND)
    assert asked > 0
    assert simulation.edge_counts[INNER, LOST] == asked
    assert set(client_ms(simulation)) == {924_600.0}
    assert simulation.edge_statuses[INNER, simulation.names.statuses.index(14)] == asked

    simulation.set_rate(5.0)
    simulation.run(1010 * SECOND)
    assert simulation.pod_counters().served[other] > 0
    assert simulation.edge_counts[INNER, LOST] == asked


@pytest.mark.parametrize("sender", [FRONT, BACK])
def test_a_dial_into_a_partition_is_given_up_after_two_minutes_and_reaches_nobody(sender: int) -> None:
    simulation = started(5.0, connection="per_request")
    before = simulation.pod_counters().served[BACK]
    simulation.set_egress_rules(sender, {BACK if sender == FRONT else FRONT: BLOCKED})
    simulation.run(5 * SECOND)
    simulation.set_rate(0.0)
    simulation.run(200 * SECOND)
    assert simulation.edge_counts[INNER, LOST] > 0
    assert set(client_ms(simulation)) == {127_000.0}
    assert simulation.pod_counters().served[BACK] == before


def test_a_sticky_connection_stays_on_its_pod_through_a_partition() -> None:
    simulation = started(20.0)
    other = simulation.add_pod("back", ordinal=1, cpu_limit_cores=None, memory_limit_bytes=None)
    simulation.set_ready(other, True)
    simulation.set_egress_rules(FRONT, {BACK: BLOCKED})
    simulation.run(30 * SECOND)
    simulation.set_egress_rules(FRONT, {})
    simulation.run(120 * SECOND)
    assert simulation.pod_counters().served[other] == 0
    assert simulation.edge_counts[INNER, OK] >= simulation.edge_counts[INNER, ATTEMPTED] - 2


def test_a_server_that_dies_behind_a_partition_is_not_heard_of_before_it_ends() -> None:
    simulation = started(5.0)
    simulation.set_egress_rules(BACK, {FRONT: BLOCKED})
    simulation.run(3 * SECOND)
    simulation.set_rate(0.0)
    simulation.run(4 * SECOND)
    asked = simulation.edge_counts[INNER, IN_FLIGHT]
    simulation.stop(BACK)
    simulation.run(10 * SECOND)
    assert simulation.edge_counts[INNER, IN_FLIGHT] == asked > 0
    simulation.set_egress_rules(BACK, {})
    simulation.run(60 * SECOND)
    assert simulation.edge_counts[INNER, LOST] == asked


def test_neither_cuts_nor_copies_change_what_a_lossy_network_does() -> None:
    simulation = started(50.0, timeout_ms=700.0, retries=2)
    simulation.set_egress_rules(FRONT, {BACK: EgressRule(loss=0.5, latency_ns=MS, jitter_ns=MS)})
    simulation.run(5 * SECOND)
    branch = simulation.copy()
    for moment in range(51, 101):
        branch.run(moment * SECOND // 10)
    simulation.run(10 * SECOND)
    assert simulation.edge_counts[INNER, TIMED_OUT] > 10
    assert np.array_equal(simulation.edge_counts, branch.edge_counts)
    assert np.array_equal(simulation.edge_buckets, branch.edge_buckets)
