"""A fresh process works harder for its first requests, a long running one doesn't."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import EdgeSettings, Flow, Operation, Service, ServiceConfiguration, Workload
from otel_control_gym.stands.twin.api import Api
from otel_control_gym.stands.twin.objects import POD
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.topology import build_topology

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig

SERVER = 1


def server(**settings: object) -> ServiceConfiguration:
    do = Operation(tail_ms=10.0, distribution="constant")
    return ServiceConfiguration(
        name="single",
        demo_version="",
        chart_version="",
        entry="server",
        services={
            "load": Service(kind="workload"),
            "server": Service(operations={"do": do}, **settings),  # type: ignore[arg-type]
        },
        edges=(EdgeSettings(source="load", target="server", protocol="http", connection="per_request"),),
        flows={"only": Flow(weight=1.0, requests=("do",))},
    )


def cpu_ms(config: ServiceConfiguration, *, warm: bool) -> tuple[float, int]:
    """Return the server's CPU milliseconds over ten minutes of two requests a second, and how many it served."""
    simulation = Simulation(config, Workload(name="open", arrivals="open", rate_per_s=2.0), 1, 0)
    for name in config.services:
        slot = simulation.add_pod(name, ordinal=0, cpu_limit_cores=None, memory_limit_bytes=None)
        if warm:
            simulation.warm_up(slot)
        simulation.set_ready(slot, True)
    simulation.run(600 * SECOND)
    counters = simulation.pod_counters()
    return float(counters.cpu_seconds[SERVER] * 1000), int(counters.served[SERVER])


def test_the_extra_work_decays_with_the_requests_served() -> None:
    used, served = cpu_ms(server(cold_work=4.0, cold_requests=50.0), warm=False)
    extra = 10.0 * 4.0 * sum(math.exp(-number / 50.0) for number in range(served))
    assert used == pytest.approx(10.0 * served + extra, rel=0.02)  # a few requests overlap, and find it a little colder


def test_a_long_running_process_does_no_extra_work() -> None:
    used, served = cpu_ms(server(cold_work=4.0, cold_requests=50.0), warm=True)
    assert used == pytest.approx(10.0 * served, rel=0.002)  # one may be under way


def test_a_restarted_service_is_slow_until_it_has_served_for_a_while(make_config: MakeConfig) -> None:
    config = make_config(190)
    services = config.public.services.services
    cold = services | {"cart": msgspec.structs.replace(services["cart"], cold_work=9.0, cold_requests=200.0)}
    application = msgspec.structs.replace(config.public.services, services=cold)
    changed = msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, services=application))
    plain, run = TwinRun(config), TwinRun(changed)
    for twin in (plain, run):
        live(twin, 60)
    assert np.array_equal(plain.simulation.edge_buckets, run.simulation.edge_buckets), "at rest nothing is cold"
    store, namespace = run.control_plane.store, run.control_plane.namespace
    (pod,) = (item for item in store.objects(POD, namespace) if item["metadata"]["name"].startswith("cart-"))
    warm = work_per_request(run, 60)
    Api(run.control_plane.context).delete(POD, namespace, pod["metadata"]["name"], {})
    live(run, 10)
    fresh = work_per_request(run, 20)
    live(run, 200)
    settled = work_per_request(run, 60)
    assert fresh > 3 * warm
    assert settled == pytest.approx(warm, rel=0.25)


def live(run: TwinRun, seconds: int) -> None:
    until = run.now + seconds * SECOND
    while run.advance_once(until):
        pass


def work_per_request(run: TwinRun, seconds: int) -> float:
    """Return the CPU seconds that cart takes for a request, over the next seconds."""

    def read() -> tuple[float, int]:
        counters = run.simulation.pod_counters()
        slots = [slot for slot, name in enumerate(run.simulation.slots) if name == "cart"]
        return float(counters.cpu_seconds[slots].sum()), int(counters.served[slots].sum())

    used, served = read()
    live(run, seconds)
    later, more = read()
    return (later - used) / (more - served)


@pytest.mark.parametrize("change", [{"cold_work": -1.0}, {"cold_work": 1.0, "cold_requests": 0.0}])
def test_impossible_coldness_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="cold"):
        build_topology(server(**change))


@pytest.mark.parametrize("change", [{"timeout_ms": -1.0}, {"retries": -1}, {"backoff_ms": -1.0}, {"jitter": 1.5}])
def test_impossible_patience_is_refused(change: dict[str, float]) -> None:
    config = server()
    edges = tuple(msgspec.structs.replace(edge, **change) for edge in config.edges)
    with pytest.raises(ConfigurationError, match="patient"):
        build_topology(msgspec.structs.replace(config, edges=edges))
