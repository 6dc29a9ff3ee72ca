"""A CFS quota bounds what a pod uses, stops it for the rest of the period, and leaves a pod below it alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import ServiceConfiguration, Workload
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import OK

Single = Callable[..., ServiceConfiguration]
Start = Callable[..., Simulation]

SERVER = 1


def open_load(rate: float) -> Workload:
    return Workload(name="open", arrivals="open", rate_per_s=rate)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("stress", [0.0, 0.7, 4.0])
def test_a_pod_uses_no_more_than_its_limit(single: Single, start: Start, limit: float, stress: float) -> None:
    simulation = start(single(cpu_limit_cores=limit), open_load(150.0))
    simulation.set_stress(SERVER, stress)

    simulation.run(20 * SECOND)

    counters = simulation.pod_counters()
    assert counters.cpu_seconds[SERVER] <= limit * (20 + 0.1) + 1e-6
    assert counters.cfs_throttled_periods[SERVER] <= counters.cfs_periods[SERVER] <= 201
    if limit < stress or limit < 1.5:
        assert counters.cpu_seconds[SERVER] == pytest.approx(limit * 20, rel=0.02)
        assert counters.cfs_throttled_periods[SERVER] > 190
    if limit > stress + 1.5:
        assert counters.cpu_seconds[SERVER] < 0.95 * limit * 20


def test_two_threads_use_up_a_quota_of_one_core_in_half_of_each_period(single: Single, start: Start) -> None:
    simulation = start(single(cpu_limit_cores=1.0), open_load(0.0))
    simulation.set_stress(SERVER, 2.0)

    simulation.run(10 * SECOND)

    counters = simulation.pod_counters()
    assert counters.cpu_seconds[SERVER] == pytest.approx(10.0, abs=0.1)
    assert counters.stress_seconds[SERVER] == counters.cpu_seconds[SERVER]
    assert counters.cfs_throttled_seconds[SERVER] == pytest.approx(5.0, abs=0.1)


def test_a_pod_that_stays_below_its_limit_is_never_throttled(single: Single, start: Start) -> None:
    simulation = start(single(cpu_limit_cores=1.0, threads=1), open_load(50.0))

    simulation.run(100 * SECOND)

    counters = simulation.pod_counters()
    assert counters.cpu_seconds[SERVER] > 40
    assert counters.cfs_throttled_periods[SERVER] == 0


def test_an_idle_pod_has_no_periods(single: Single, start: Start) -> None:
    simulation = start(single(cpu_limit_cores=1.0), open_load(0.0))

    simulation.run(100 * SECOND)

    assert simulation.pod_counters().cfs_periods[SERVER] == 0
    assert simulation.statistics().events == 0


def test_stress_slows_requests_by_what_it_takes_from_the_quota(single: Single, start: Start) -> None:
    def mean(stress: float) -> float:
        simulation = start(single(cpu_limit_cores=0.5, work_ms=5.0), open_load(20.0))
        simulation.set_stress(SERVER, stress)
        simulation.run(100 * SECOND)
        return float(simulation.edge_seconds[0, 0, 1] / simulation.edge_counts[0, OK])

    assert mean(0.0) < 0.02
    assert mean(2.0) > 3 * mean(0.0)


def test_a_limit_that_is_raised_ends_the_throttling_at_once(single: Single, start: Start) -> None:
    simulation = start(single(cpu_limit_cores=0.1), open_load(50.0))
    simulation.run(30 * SECOND)
    backlog = simulation.in_flight(SERVER)
    throttled = simulation.pod_counters().cfs_throttled_periods[SERVER]

    simulation.set_limits(SERVER, cpu_limit_cores=4.0, memory_limit_bytes=None)
    simulation.run(60 * SECOND)

    assert backlog > 300
    assert simulation.in_flight(SERVER) < 10
    assert simulation.pod_counters().cfs_throttled_periods[SERVER] <= throttled + 30 * 10
    assert simulation.pod_counters().cpu_limit_cores[SERVER] == 4.0


def test_a_node_with_too_few_cores_shares_them(single: Single) -> None:
    simulation = Simulation(single(), open_load(100.0), 1, 0, node_cores=2.0)
    for name in ("load", "server"):
        slot = simulation.add_pod(name, ordinal=0, cpu_limit_cores=None, memory_limit_bytes=None)
        simulation.set_ready(slot, True)
    simulation.set_stress(SERVER, 6.0)

    simulation.run(10 * SECOND)

    counters = simulation.pod_counters()
    assert counters.cpu_seconds[SERVER] == pytest.approx(20.0, rel=1e-6)
    assert counters.stress_seconds[SERVER] < 20.0


def test_what_is_read_of_a_busy_pod_is_what_it_is_settled_to(single: Single, start: Start) -> None:
    simulation = start(single(cpu_limit_cores=4.0), open_load(0.0))
    simulation.set_stress(SERVER, 1.0)  # never throttled: nothing happens that would settle it
    simulation.run(10 * SECOND)
    read = simulation.pod_counters()

    simulation.set_stress(SERVER, 0.0)  # settles it

    settled = simulation.pod_counters()
    assert read.cpu_seconds[SERVER] == settled.cpu_seconds[SERVER] == 10.0
    assert read.cfs_periods[SERVER] == settled.cfs_periods[SERVER]
    assert settled.cfs_periods[SERVER] == 101  # a hundred, and one that is cut by the pod's phase
