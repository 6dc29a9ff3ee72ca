"""What emerges: the knee, backlogs, bottlenecks that move. Each with its cause, read from the same counters as the effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from otel_control_gym.stands.twin.state import OK

if TYPE_CHECKING:
    from tests.laws.conftest import Single, Start

LOAD, FRONT, BACK = 0, 1, 2
ENTRY, INNER = 0, 1  # edges


def arrivals(rate: float) -> Workload:
    return Workload(name="open", arrivals="open", rate_per_s=rate)


def mean_ms(simulation: Simulation, seconds: int, edge: int = ENTRY) -> float:
    """Return the mean latency of the calls over an edge that succeed in the next seconds."""
    counts, sums = simulation.edge_counts[edge, OK], simulation.edge_seconds[edge, 0, 0]
    simulation.run(simulation.now + seconds * SECOND)
    return float(1000 * (simulation.edge_seconds[edge, 0, 0] - sums) / (simulation.edge_counts[edge, OK] - counts))


def cores(simulation: Simulation, slot: int, seconds: int) -> float:
    """Return how many cores a pod uses over the next seconds."""
    before = simulation.pod_counters().cpu_seconds[slot]
    simulation.run(simulation.now + seconds * SECOND)
    return float(simulation.pod_counters().cpu_seconds[slot] - before) / seconds


def two_tiers(front_ms: float, back_ms: float, *, workers: int = 0) -> ServiceConfiguration:
    """Return load -> front -> back, whose pods compute on one thread each; a front with workers holds one while it waits."""
    ask = Operation(steps=(Step(work_ms=front_ms, calls=(Call(target="back:do"),)),))
    return ServiceConfiguration(
        name="tiers",
        demo_version="",
        chart_version="",
        entry="front",
        services={
            "load": Service(kind="workload"),
            "front": Service(operations={"ask": ask}, threads=1, workers=workers, holds_worker=True),
            "back": Service(operations={"do": Operation(tail_ms=back_ms)}, threads=1),
        },
        edges=tuple(
            EdgeSettings(source=source, target=target, protocol="grpc", connection="per_request", latency_ms=0.0)
            for source, target in (("load", "front"), ("front", "back"))
        ),
        flows={"only": Flow(weight=1.0, requests=("ask",))},
    )


def test_latency_bends_at_the_knee(single: Single, start: Start) -> None:
    """M/M/1-PS: 1 / (1 - utilisation). From 50 to 90 % the load doesn't double, the latency grows fivefold."""
    config = single(work_ms=10.0, threads=1)
    measured = {share: mean_ms(start(config, arrivals(100 * share)), 4000) for share in (0.2, 0.5, 0.9)}
    assert measured[0.5] / measured[0.2] == pytest.approx(0.8 / 0.5, rel=0.05)
    assert measured[0.9] / measured[0.5] == pytest.approx(5.0, rel=0.15)


def test_a_backlog_drains_only_when_capacity_exceeds_arrivals(single: Single, start: Start) -> None:
    simulation = start(single(work_ms=10.0, threads=1), arrivals(150.0))
    simulation.run(60 * SECOND)
    built = simulation.in_flight(FRONT)
    assert built == pytest.approx(60 * 50, rel=0.1)

    simulation.set_rate(100.0)
    simulation.run(120 * SECOND)
    assert simulation.in_flight(FRONT) == pytest.approx(built, rel=0.25), "at capacity it stays"

    simulation.set_rate(50.0)
    left = simulation.in_flight(FRONT)
    simulation.run(150 * SECOND)
    assert simulation.in_flight(FRONT) == pytest.approx(left - 30 * 50, rel=0.15), "what is left over works it off"
    simulation.run(240 * SECOND)
    assert simulation.in_flight(FRONT) < 20


def test_a_scale_up_moves_the_bottleneck_downstream() -> None:
    """Front serves 50 a second, back 80; 95 come. With two fronts back is what is short, and users are no better off for long."""
    simulation = Simulation(two_tiers(20.0, 12.5), arrivals(95.0), 1, 0)
    for ordinal, name in enumerate(("load", "front", "back")):
        simulation.add_pod(name, ordinal=ordinal, cpu_limit_cores=None, memory_limit_bytes=None)
    for slot in (BACK, FRONT, LOAD):
        simulation.set_ready(slot, True)
    simulation.run(20 * SECOND)
    assert cores(simulation, FRONT, 20) == pytest.approx(1.0, abs=0.01)
    assert cores(simulation, BACK, 20) < 0.75
    assert simulation.in_flight(BACK) < 10 < simulation.in_flight(FRONT)
    before = simulation.in_flight(BACK)

    second = simulation.add_pod("front", ordinal=3, cpu_limit_cores=None, memory_limit_bytes=None)
    simulation.set_ready(second, True)
    simulation.run(90 * SECOND)
    assert cores(simulation, BACK, 20) == pytest.approx(1.0, abs=0.01)
    assert simulation.in_flight(BACK) > before + 300
    served = simulation.edge_counts[ENTRY, OK]
    simulation.run(simulation.now + 60 * SECOND)
    assert 60 < (simulation.edge_counts[ENTRY, OK] - served) / 60 < 82, "no more than back can do"


def test_workers_that_wait_for_a_slow_dependency_exhaust_upstream_while_its_cpu_idles() -> None:
    """Four workers, each held for half a second by a dependency that is far away: 8 a second get through, 20 come."""
    config = two_tiers(1.0, 1.0, workers=4)
    simulation = Simulation(config, arrivals(20.0), 1, 0)
    for ordinal, name in enumerate(("load", "front", "back")):
        simulation.add_pod(name, ordinal=ordinal, cpu_limit_cores=None, memory_limit_bytes=None)
    for slot in (BACK, FRONT, LOAD):
        simulation.set_ready(slot, True)
    simulation.run(60 * SECOND)
    assert simulation.pod_counters().queued[FRONT] < 5, "a dependency that is near does no harm"

    simulation.set_egress_rules(BACK, {FRONT: EgressRule(latency_ns=SECOND // 2)})
    simulation.run(120 * SECOND)
    counters = simulation.pod_counters()
    assert counters.queued[FRONT] == pytest.approx(60 * 12, rel=0.15)
    assert counters.in_flight[BACK] <= 4
    assert cores(simulation, BACK, 20) < 0.02
    assert cores(simulation, FRONT, 20) < 0.02


def test_latency_rises_while_usage_is_pinned_at_the_limit(single: Single, start: Start) -> None:
    """A quota of 0.4 cores, demand from 60 to 120 % of it: usage can't say how bad it is, throttled periods and latency do."""
    config = single(work_ms=10.0, distribution="constant", cpu_limit_cores=0.4)
    seen = []
    for rate in (24.0, 48.0):
        simulation = start(config, arrivals(rate))
        simulation.run(60 * SECOND)
        latency = mean_ms(simulation, 60)
        used = cores(simulation, FRONT, 60)
        counters = simulation.pod_counters()
        seen.append((latency, used, counters.cfs_throttled_periods[FRONT] / counters.cfs_periods[FRONT]))
    (calm, used, rarely), (crowded, pinned, often) = seen
    assert used == pytest.approx(0.24, rel=0.1)
    assert pinned == pytest.approx(0.4, rel=0.01)
    assert crowded > 20 * calm
    assert rarely < 0.35 < 0.95 < often
