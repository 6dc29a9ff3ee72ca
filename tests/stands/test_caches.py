"""What a warm process knows by itself it doesn't ask for; after a restart the store behind it is asked for everything again."""

from __future__ import annotations

import math

import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import ConfigurationError
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
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import ATTEMPTED

FRONT = 1
TO_STORE = 1  #: edge


def cached(ratio: float, rate: float = 50.0) -> Simulation:
    """Return load -> front -> store, where front knows this share of the store's answers once it is warm."""
    ask = Call(target="store:get", cache_hit_ratio=ratio)
    config = ServiceConfiguration(
        name="cached",
        demo_version="",
        chart_version="",
        entry="front",
        services={
            "load": Service(kind="workload"),
            "front": Service(operations={"do": Operation(steps=(Step(calls=(ask,)),))}, cold_requests=200.0),
            "store": Service(operations={"get": Operation(tail_ms=1.0)}),
        },
        edges=(
            EdgeSettings(source="load", target="front", protocol="http", connection="per_request"),
            EdgeSettings(source="front", target="store", protocol="grpc"),
        ),
        flows={"only": Flow(weight=1.0, requests=("do",))},
    )
    simulation = Simulation(config, Workload(name="open", arrivals="open", rate_per_s=rate), 1, 0)
    for name in config.services:
        simulation.add_pod(name, ordinal=0, cpu_limit_cores=None, memory_limit_bytes=None)
    for slot in (2, 1, 0):
        simulation.set_ready(slot, True)
        simulation.warm_up(slot)
    return simulation


def asked(simulation: Simulation, seconds: int) -> float:
    """Return the share of requests for which the store was asked in the next seconds."""
    before = simulation.edge_counts[:, ATTEMPTED].copy()
    simulation.run(simulation.now + seconds * SECOND)
    growth = simulation.edge_counts[:, ATTEMPTED] - before
    return float(growth[TO_STORE] / growth[0])


@pytest.mark.parametrize("ratio", [0.0, 0.7, 1.0])
def test_a_warm_process_asks_for_the_rest(ratio: float) -> None:
    assert asked(cached(ratio), 200) == pytest.approx(1 - ratio, abs=0.02)


def test_after_a_restart_the_store_sees_everything_until_the_cache_has_filled() -> None:
    simulation = cached(0.9)
    assert asked(simulation, 60) == pytest.approx(0.1, abs=0.02)
    simulation.stop(FRONT)
    fresh = simulation.add_pod("front", ordinal=1, cpu_limit_cores=None, memory_limit_bytes=None)
    simulation.set_ready(fresh, True)
    shares = [asked(simulation, 2) for _ in range(20)]
    assert shares[0] > 0.7
    assert sum(shares[-5:]) / 5 == pytest.approx(0.1, abs=0.04)
    served = int(simulation.pod_counters().served[fresh])
    missed = sum(1 - 0.9 * (1 - math.exp(-number / 200)) for number in range(served))
    assert sum(shares) / 20 == pytest.approx(missed / served, abs=0.03)


def test_a_share_beyond_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cache_hit_ratio"):
        cached(1.5)
