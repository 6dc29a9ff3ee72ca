"""The kernel's queues behave as queueing theory says: M/M/1, M/M/c, M/G/1 with processor sharing, Little's law.

Runs are long enough for a sampling error below 1 % (one standard deviation; formulas of the asymptotic variance of the M/M/1 wait),
so 3 % is three of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import ServiceConfiguration, Workload
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import OK

WORK_SECONDS = 0.01
TOLERANCE = 0.03

Single = Callable[..., ServiceConfiguration]
Start = Callable[..., Simulation]


def open_load(rate: float) -> Workload:
    return Workload(name="open", arrivals="open", rate_per_s=rate)


def sojourn_and_work(simulation: Simulation, requests: int, rate: float) -> tuple[float, float]:
    """Return the mean seconds that a request spent at the server, and those in which it computed."""
    simulation.run(simulation.now + round(requests / rate * SECOND))
    served = simulation.edge_counts[0, OK]
    assert served > 0.98 * requests
    return simulation.edge_seconds[0, 0, 1] / served, simulation.pod_counters().cpu_seconds[1] / served


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that an arrival has to wait in an M/M/c queue with `load` = lambda / mu."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("servers", [1, 3])
def test_the_mean_wait_is_that_of_an_m_m_c_queue(
    single: Single, start: Start, servers: int, utilisation: float
) -> None:
    rate = utilisation * servers / WORK_SECONDS
    simulation = start(single(workers=servers), open_load(rate), seed=3)

    sojourn, work = sojourn_and_work(simulation, 2_500_000, rate)

    load = utilisation * servers
    wait = erlang_c(servers, load) * WORK_SECONDS / (servers - load)
    assert work == pytest.approx(WORK_SECONDS, rel=0.005)
    assert sojourn - work == pytest.approx(wait, rel=TOLERANCE)


@pytest.mark.parametrize("distribution", ["exponential", "lognormal"])
def test_processor_sharing_depends_on_the_mean_of_the_work_alone(
    single: Single, start: Start, distribution: str
) -> None:
    utilisation = 0.6
    rate = utilisation / WORK_SECONDS
    simulation = start(single(threads=1, distribution=distribution), open_load(rate))

    sojourn, _ = sojourn_and_work(simulation, 1_000_000, rate)

    assert sojourn == pytest.approx(WORK_SECONDS / (1 - utilisation), rel=TOLERANCE)


def test_constant_work_waits_half_as_long(single: Single, start: Start) -> None:
    utilisation = 0.6  # Pollaczek and Khinchine
    rate = utilisation / WORK_SECONDS
    simulation = start(single(workers=1, distribution="constant"), open_load(rate))

    sojourn, work = sojourn_and_work(simulation, 1_000_000, rate)

    assert sojourn - work == pytest.approx(utilisation * WORK_SECONDS / (1 - utilisation) / 2, rel=TOLERANCE)


def test_requests_in_the_system_are_arrivals_times_sojourn(single: Single, start: Start) -> None:
    rate, samples, gap = 70.0, 40_000, SECOND // 7
    simulation = start(single(workers=1), open_load(rate))
    present = 0

    for number in range(1, samples + 1):
        simulation.run(number * gap)
        present += simulation.in_flight(1)

    arrived = simulation.edge_counts[0, OK]
    little = simulation.edge_seconds[0, 0, 1] / (samples * gap / SECOND)
    assert arrived == pytest.approx(rate * samples * gap / SECOND, rel=TOLERANCE)
    assert present / samples == pytest.approx(little, rel=TOLERANCE)


def test_users_and_their_pauses_bound_the_rate_of_a_closed_loop(single: Single, start: Start) -> None:
    workload = Workload(name="closed", users=50, spawn_rate_per_s=50, think_seconds=(1.0, 3.0))
    simulation = start(single(), workload)
    simulation.run(10 * SECOND)
    before = simulation.load_counters()

    simulation.run(2010 * SECOND)

    after = simulation.load_counters()
    cycle = 2.0 + (after.response_ms - before.response_ms) / (after.served - before.served) / 1000
    assert (after.served - before.served) / 2000 == pytest.approx(50 / cycle, rel=0.01)
