"""What would have happened otherwise: an action changes what it causes, and nothing else.

Coupling (science: same seed, another action): a placebo changes nothing at all, an action without a path to a service leaves it
bit-identical, and differences between two runs of one seed vary far less than between runs of two seeds. And the effect that a model
should learn: more replicas help who is called over HTTP, and who is called over gRPC not until the callers connect again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest
from scipy.stats import t

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.randomness import derive_seed
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
from otel_control_gym.stands.twin.state import ATTEMPTED

SEEDS = range(30)
SETTLED, ACTED, END = 60 * SECOND, 120 * SECOND, 300 * SECOND


def small_core() -> ServiceConfiguration:
    return load_services("small-core")[0]


def with_services(config: ServiceConfiguration, changes: Mapping[str, Mapping[str, object]]) -> ServiceConfiguration:
    """Return a configuration some of whose services have other values."""
    services = {
        name: msgspec.structs.replace(service, **changes.get(name, {})) for name, service in config.services.items()
    }
    return msgspec.structs.replace(config, services=services)


def started(config: ServiceConfiguration, workload: Workload, seed: int) -> Simulation:
    simulation = Simulation(config, workload, seed, 0)
    for name, service in config.services.items():
        for ordinal in range(service.replicas):
            slot = simulation.add_pod(
                name,
                ordinal=ordinal,
                cpu_limit_cores=service.cpu_limit_cores,
                memory_limit_bytes=service.memory_limit_bytes,
            )
            simulation.warm_up(slot)
    load = list(config.services).index(next(n for n, s in config.services.items() if s.kind == "workload"))
    for slot in sorted(
        range(len(simulation.slots)), key=lambda slot: simulation.slots[slot] == list(config.services)[load]
    ):
        simulation.set_ready(slot, True)
    return simulation


def scale_up(simulation: Simulation, service: str, replicas: int) -> None:
    """Add ready pods until there are `replicas`."""
    limit = simulation.config.services[service].cpu_limit_cores
    for ordinal in range(list(simulation.slots).count(service), replicas):
        slot = simulation.add_pod(service, ordinal=ordinal, cpu_limit_cores=limit, memory_limit_bytes=None)
        simulation.set_ready(slot, True)


def replace_pods(simulation: Simulation, service: str) -> None:
    """Restart a service: new pods take over, the old ones are gone."""
    old = [slot for slot, name in enumerate(simulation.slots) if name == service]
    scale_up(simulation, service, 2 * len(old))
    for slot in old:
        simulation.set_ready(slot, False)
        simulation.stop(slot)


def mean_latency_ms(simulation: Simulation, service: str, until: int) -> float:
    """Let time pass and return the mean time that a service took to answer in it, over all its callers."""
    edges = [row for row, (_, target, _) in enumerate(simulation.names.edges) if target == service]

    def totals() -> tuple[float, float]:
        answered = simulation.edge_buckets[edges, :, 1].sum()
        return float(simulation.edge_seconds[edges, :, 1].sum()), float(answered)

    seconds_before, before = totals()
    simulation.run(until)
    seconds_after, after = totals()
    return 1000.0 * (seconds_after - seconds_before) / (after - before)


SATURATED = {
    "frontend": (small_core(), Workload(name="crowd", users=520, spawn_rate_per_s=50.0)),
    "quote": (
        with_services(small_core(), {"quote": {"cpu_limit_cores": 0.0125}, "frontend": {"cpu_limit_cores": 4.0}}),
        Workload(name="buyers", users=150, spawn_rate_per_s=50.0, mix={"checkout": 30.0}),
    ),
    "product-catalog": (
        with_services(small_core(), {"product-catalog": {"cpu_limit_cores": 0.03}, "frontend": {"replicas": 5}}),
        Workload(name="readers", users=250, spawn_rate_per_s=50.0),
    ),
}


@pytest.mark.parametrize("service", ["frontend", "quote"])
def test_more_replicas_of_a_saturated_service_called_over_http_cut_its_latency_in_27_of_30_seeds(service: str) -> None:
    config, workload = SATURATED[service]
    better = 0
    for seed in SEEDS:
        simulation = started(config, workload, seed)
        simulation.run(SETTLED)
        before = mean_latency_ms(simulation, service, ACTED)
        scale_up(simulation, service, 3)
        better += mean_latency_ms(simulation, service, END) < 0.8 * before

    assert better >= 27


def test_more_replicas_of_a_saturated_service_called_over_grpc_help_nobody_until_the_callers_connect_again() -> None:
    config, workload = SATURATED["product-catalog"]
    unhelped = helped = 0
    for seed in SEEDS:
        simulation = started(config, workload, seed)
        simulation.run(SETTLED)
        before = mean_latency_ms(simulation, "product-catalog", ACTED)
        scale_up(simulation, "product-catalog", 4)
        with_more = mean_latency_ms(simulation, "product-catalog", ACTED + 60 * SECOND)
        for caller in ("frontend", "recommendation", "checkout"):
            replace_pods(simulation, caller)
        simulation.run(ACTED + 90 * SECOND)  # the backlog of before is gone
        reconnected = mean_latency_ms(simulation, "product-catalog", END)
        unhelped += with_more > 0.8 * before
        helped += reconnected < 0.8 * before

    assert unhelped >= 27
    assert helped >= 27


def requests_after(seed: int, *, stress: float) -> int:
    """Return how many requests the users made after a moment at which the frontend's pod got busy neighbours."""
    simulation = started(small_core(), Workload(name="users", users=120, spawn_rate_per_s=50.0), seed)
    simulation.run(ACTED)
    before = simulation.load_counters().scheduled
    simulation.set_stress(simulation.slots.index("frontend"), stress)
    simulation.run(END)
    return simulation.load_counters().scheduled - before


def test_differences_within_a_seed_vary_at_most_a_quarter_as_much_as_between_seeds_and_mean_the_same() -> None:
    plain = [requests_after(seed, stress=0.0) for seed in SEEDS]
    stressed = [requests_after(seed, stress=2.0) for seed in SEEDS]
    same = [after - before for before, after in zip(plain, stressed, strict=True)]
    fresh = [after - before for before, after in zip(plain, stressed[1:] + stressed[:1], strict=True)]

    assert statistics.variance(same) <= statistics.variance(fresh) / 4
    # The two means are of the same numbers, so they are compared with runs of seeds that the first estimate hasn't seen.
    others = [requests_after(seed + 1000, stress=2.0) - requests_after(seed + 2000, stress=0.0) for seed in SEEDS]
    error = math.sqrt((statistics.variance(same) + statistics.variance(others)) / len(SEEDS))
    assert abs(statistics.mean(same) - statistics.mean(others)) <= 1.96 * error
    assert statistics.mean(same) < -5 * math.sqrt(statistics.variance(same) / len(SEEDS)), "stress costs requests"


FUTURES = range(20)


def requests_in_a_future(number: int, *, stress: float) -> int:
    """Return how many requests users make in one of the futures of seed 7's present, in which the frontend's pod gets busy neighbours."""
    simulation = started(small_core(), Workload(name="users", users=120, spawn_rate_per_s=50.0), 7)
    simulation.run(ACTED)
    simulation.renew_randomness(derive_seed(7, f"branch/{number}"))
    before = simulation.load_counters().scheduled
    simulation.set_stress(simulation.slots.index("frontend"), stress)
    simulation.run(END)
    return simulation.load_counters().scheduled - before


def test_differences_between_branches_that_share_fresh_draws_vary_at_most_a_quarter_as_much_as_between_those_that_dont() -> (
    None
):
    plain = [requests_in_a_future(number, stress=0.0) for number in FUTURES]
    stressed = [requests_in_a_future(number, stress=2.0) for number in FUTURES]
    shared = [after - before for before, after in zip(plain, stressed, strict=True)]
    # Every future with every other one: more pairs than futures, so that the variance is known as well as they allow.
    apart = [after - before for i, before in enumerate(plain) for j, after in enumerate(stressed) if i != j]

    assert statistics.variance(shared) <= statistics.variance(apart) / 4
    # Means over the same futures are the same by arithmetic; these are futures that the first estimate hasn't seen.
    others = [
        requests_in_a_future(1000 + number, stress=2.0) - requests_in_a_future(2000 + number, stress=0.0)
        for number in FUTURES
    ]
    error = math.sqrt((statistics.variance(shared) + statistics.variance(others)) / len(FUTURES))
    assert abs(statistics.mean(shared) - statistics.mean(others)) <= t.ppf(0.975, len(FUTURES) - 1) * error


def islands() -> ServiceConfiguration:
    """Return an application in which `left` and `right` share nothing but the users, who don't wait for one another."""
    work = {"do": Operation(tail_ms=5.0)}
    return ServiceConfiguration(
        name="islands",
        demo_version="",
        chart_version="",
        entry="door",
        services={
            "load": Service(kind="workload"),
            "door": Service(
                operations={
                    side: Operation(steps=(Step(calls=(Call(target=f"{side}:do", on_error="ignore"),)),))
                    for side in ("left", "right")
                }
            ),
            "left": Service(operations=work, cpu_limit_cores=0.2),
            "right": Service(operations=work, cpu_limit_cores=0.2),
        },
        edges=(
            EdgeSettings(source="load", target="door", protocol="http", connection="per_request"),
            EdgeSettings(source="door", target="left", protocol="grpc"),
            EdgeSettings(source="door", target="right", protocol="grpc"),
        ),
        flows={"left": Flow(weight=1.0, requests=("left",)), "right": Flow(weight=1.0, requests=("right",))},
    )


def features_of(simulation: Simulation, service: str) -> list[bytes]:
    """Return all that telemetry can tell of a service, exactly."""
    rows = [row for row, (_, target, _) in enumerate(simulation.names.edges) if target == service]
    pods = simulation.pod_counters()
    slots = [slot for slot, name in enumerate(simulation.slots) if name == service]
    spans = [row for row, span in enumerate(simulation.span_rows) if span.slot in slots]
    arrays = [
        simulation.edge_counts[rows],
        simulation.edge_buckets[rows],
        simulation.edge_seconds[rows],
        simulation.span_buckets[spans],
        simulation.span_ms[spans],
        *(array[slots] for array in msgspec.structs.astuple(pods)),
    ]
    return [np.ascontiguousarray(array).tobytes() for array in arrays]


@pytest.mark.parametrize("fault", ["stress", "limit", "stop", "replica", "delay"])
def test_what_is_done_to_a_service_leaves_one_without_a_path_to_it_bit_identical(fault: str) -> None:
    workload = Workload(name="open", arrivals="open", rate_per_s=40.0)
    plain, changed = started(islands(), workload, 3), started(islands(), workload, 3)
    for simulation in (plain, changed):
        simulation.run(SETTLED)
    left = changed.slots.index("left")
    match fault:
        case "stress":
            changed.set_stress(left, 3.0)
        case "limit":
            changed.set_limits(left, cpu_limit_cores=0.05, memory_limit_bytes=None)
        case "stop":
            changed.stop(left)
        case "replica":
            scale_up(changed, "left", 2)
            replace_pods(changed, "left")
        case "delay":
            changed.set_egress_rules(left, {None: EgressRule(latency_ns=50_000_000, jitter_ns=5_000_000)})
    for simulation in (plain, changed):
        simulation.run(END)

    assert features_of(plain, "right") == features_of(changed, "right")
    assert features_of(plain, "left") != features_of(changed, "left")
    assert plain.load_counters().scheduled == changed.load_counters().scheduled
    right = [row for row, (_, target, _) in enumerate(plain.names.edges) if target == "right"]
    assert plain.edge_counts[right, ATTEMPTED].sum() > 1000
