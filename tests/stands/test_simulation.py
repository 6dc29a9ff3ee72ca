"""What the simulated application does that a real one does: connections, endpoints, faults, load, spans."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration_files import load_services
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
from otel_control_gym.stands.twin.state import CLIENT, ERROR, INTERNAL, LOST, OK, REFUSED, SERVER

LOAD, FRONT, BACK = 0, 1, 2  # slots of the first pods
MS = 1_000_000


def two_tiers(
    *,
    connection: str = "sticky",
    calls: tuple[Call, ...] = (Call(target="back:do"),),
    parallel: bool = False,
    **back: object,
) -> ServiceConfiguration:
    """Return load -> front -> back with constant work of 10 ms at `back` and none at `front`."""
    return ServiceConfiguration(
        name="tiers",
        demo_version="",
        chart_version="",
        entry="front",
        services={
            "load": Service(kind="workload"),
            "front": Service(operations={"ask": Operation(steps=(Step(calls=calls, parallel=parallel),))}),
            "back": Service(
                operations={"do": Operation(tail_ms=10.0, distribution="constant")},
                **back,  # type: ignore[arg-type]
            ),
        },
        edges=(
            EdgeSettings(source="load", target="front", protocol="http", connection="per_request", latency_ms=1.0),
            EdgeSettings(
                source="front",
                target="back",
                protocol="grpc",
                connection=connection,  # type: ignore[arg-type]
                latency_ms=1.0,
            ),
        ),
        flows={"only": Flow(weight=1.0, requests=("ask",))},
    )


def started(config: ServiceConfiguration, workload: Workload | None = None, seed: int = 1) -> Simulation:
    simulation = Simulation(config, workload or Workload(name="open", arrivals="open", rate_per_s=50.0), seed, 0)
    for name, service in config.services.items():
        simulation.add_pod(
            name,
            ordinal=0,
            cpu_limit_cores=service.cpu_limit_cores,
            memory_limit_bytes=service.memory_limit_bytes,
        )
    kinds = [service.kind for service in config.services.values()]
    for slot in sorted(range(len(kinds)), key=lambda slot: kinds[slot] == "workload"):  # the load last
        simulation.set_ready(slot, True)
    return simulation


def add(simulation: Simulation, service: str, cpu_limit_cores: float | None = None) -> int:
    slot = simulation.add_pod(
        service,
        ordinal=list(simulation.slots).count(service),
        cpu_limit_cores=cpu_limit_cores,
        memory_limit_bytes=simulation.config.services[service].memory_limit_bytes,
    )
    simulation.set_ready(slot, True)
    return slot


def small_core(users: int = 190, seed: int = 1) -> Simulation:
    return started(load_services("small-core")[0], Workload(name="steady", users=users), seed)


def mean_ms(simulation: Simulation, seconds: int, edge: int = 0) -> float:
    """Return the mean latency of an edge, seen by its caller, over the next seconds."""
    before, count = simulation.edge_seconds[edge, :, 0].sum(), simulation.edge_buckets[edge, :, 0].sum()
    simulation.run(simulation.now + seconds * SECOND)
    finished = simulation.edge_buckets[edge, :, 0].sum() - count
    return float((simulation.edge_seconds[edge, :, 0].sum() - before) / finished * 1000)


# Connections and endpoints.


def test_a_sticky_connection_doesnt_see_a_new_replica_until_its_pod_drains() -> None:
    simulation = started(two_tiers())
    simulation.run(5 * SECOND)
    replica = add(simulation, "back")
    simulation.run(10 * SECOND)
    assert simulation.pod_counters().served[replica] == 0

    simulation.set_ready(BACK, False)
    simulation.run(20 * SECOND)
    assert simulation.pod_counters().served[replica] == 0  # out of the endpoints, but connected

    simulation.drain(BACK)
    simulation.run(30 * SECOND)

    assert simulation.pod_counters().served[replica] > 300
    assert simulation.edge_counts[1, [ERROR, REFUSED, LOST]].sum() == 0


def test_calls_without_a_connection_spread_over_all_ready_pods() -> None:
    simulation = started(two_tiers(connection="per_request"))
    replica = add(simulation, "back")

    simulation.run(100 * SECOND)

    served = simulation.pod_counters().served
    assert served[replica] == pytest.approx(served[BACK], rel=0.1)


def test_without_a_ready_pod_calls_are_refused_and_the_caller_fails() -> None:
    simulation = started(two_tiers(connection="per_request"))
    simulation.set_ready(BACK, False)

    simulation.run(10 * SECOND)

    assert simulation.edge_counts[1, REFUSED] > 400
    assert simulation.edge_counts[0, ERROR] == simulation.load_counters().failed > 400
    assert simulation.edge_counts[0, OK] == 0


def test_a_failure_that_is_ignored_doesnt_reach_the_user() -> None:
    simulation = started(two_tiers(calls=(Call(target="back:do", on_error="ignore"),)))
    simulation.stop(BACK)

    simulation.run(10 * SECOND)

    assert simulation.edge_counts[1, REFUSED] > 400
    assert simulation.load_counters().failed == 0


def test_what_a_stopped_pod_holds_is_lost_and_fails_at_its_caller() -> None:
    simulation = started(two_tiers(workers=1), Workload(name="open", arrivals="open", rate_per_s=200.0))
    simulation.run(5 * SECOND)
    held = simulation.in_flight(BACK)
    assert held > 100

    simulation.stop(BACK)
    assert simulation.in_flight(BACK) == 0
    assert simulation.pod_counters().memory_bytes[BACK] == 0
    simulation.run(6 * SECOND)

    assert held <= simulation.edge_counts[1, LOST] <= held + 3  # and those on their way to it
    assert simulation.edge_counts[0, ERROR] >= held


def test_users_go_with_their_load_generator_and_come_back_in_the_next() -> None:
    simulation = small_core(users=20)
    simulation.run(30 * SECOND)
    first = list(simulation.slots).index("load-generator")
    simulation.stop(first)
    assert simulation.load_counters().users_active == 0
    simulation.run(60 * SECOND)
    scheduled = simulation.load_counters().scheduled

    add(simulation, "load-generator")
    simulation.run(90 * SECOND)

    assert simulation.load_counters().users_active == 20
    assert simulation.load_counters().scheduled > scheduled + 50


# Steps, work, delays.


def test_parallel_calls_take_as_long_as_one_and_sequential_ones_add_up() -> None:
    calls = (Call(target="back:do"),) * 3
    load = Workload(name="open", arrivals="open", rate_per_s=0.5)

    assert mean_ms(started(two_tiers(calls=calls, parallel=True), load), 1000) == pytest.approx(14, abs=0.1)
    assert mean_ms(started(two_tiers(calls=calls), load), 1000) == pytest.approx(38, abs=0.1)


def test_a_delay_rule_holds_for_its_peers_and_both_directions() -> None:
    load = Workload(name="open", arrivals="open", rate_per_s=1.0)
    simulation = started(two_tiers(), load)
    assert mean_ms(simulation, 500, edge=1) == pytest.approx(12, abs=0.5)

    simulation.set_egress_rules(FRONT, {BACK: EgressRule(latency_ns=40 * MS, jitter_ns=10 * MS)})
    assert mean_ms(simulation, 500, edge=1) == pytest.approx(52, abs=1.5)
    simulation.set_egress_rules(BACK, {None: EgressRule(latency_ns=40 * MS)})
    assert mean_ms(simulation, 500, edge=1) == pytest.approx(92, abs=1.5)
    simulation.set_egress_rules(FRONT, {})
    assert mean_ms(simulation, 500, edge=1) == pytest.approx(52, abs=1.5)
    simulation.set_egress_rules(BACK, {LOAD: EgressRule(latency_ns=500 * MS)})  # it never sends there
    simulation.set_egress_rules(BACK, {})
    assert mean_ms(simulation, 500, edge=1) == pytest.approx(12, abs=1.5)


@pytest.mark.parametrize("holds", [True, False])
def test_a_worker_that_waits_for_an_answer_is_held_or_not(holds: bool) -> None:
    config = two_tiers(workers=1)
    front = msgspec.structs.replace(config.services["front"], workers=1, holds_worker=holds)
    config = msgspec.structs.replace(config, services={**config.services, "front": front})
    simulation = started(config, Workload(name="open", arrivals="open", rate_per_s=300.0))

    simulation.run(10 * SECOND)

    # Held: one request at a time, 12 ms each, the others wait here. Released: they wait at `back`, which does 100 a second.
    counters = simulation.pod_counters()
    assert counters.served[FRONT] == pytest.approx(10 / 0.012 if holds else 1000, rel=0.02)
    assert (counters.queued[FRONT] > 1000) == holds
    assert (counters.queued[BACK] > 1000) != holds


# Load.


def test_users_come_and_go_at_the_spawn_rate_and_finish_their_task() -> None:
    workload = Workload(name="closed", users=40, spawn_rate_per_s=4.0)
    simulation = started(two_tiers(), workload)
    simulation.run(5 * SECOND)
    assert simulation.load_counters().users_active == 21  # one at once, then one every 250 ms

    simulation.run(20 * SECOND)
    assert simulation.load_counters().users_active == 40
    simulation.set_users(10, 10.0)
    simulation.run(24 * SECOND)

    load = simulation.load_counters()
    assert load.users_active == load.users_target == 10
    assert load.failed == 0
    assert load.tasks_started.sum() - load.tasks_finished.sum() <= 10


def test_an_open_rate_can_change_and_stop() -> None:
    simulation = started(two_tiers(), Workload(name="open", arrivals="open", rate_per_s=20.0))
    simulation.run(100 * SECOND)
    first = simulation.load_counters().scheduled
    simulation.set_rate(80.0)
    simulation.run(200 * SECOND)
    second = simulation.load_counters().scheduled - first
    simulation.set_rate(0.0)
    simulation.run(300 * SECOND)

    assert first == pytest.approx(2000, rel=0.1)
    assert second == pytest.approx(8000, rel=0.05)
    assert simulation.load_counters().scheduled == first + second


def test_the_mix_decides_which_tasks_are_done() -> None:
    simulation = small_core()
    simulation.run(120 * SECOND)
    tasks = dict(zip(simulation.names.flows, simulation.load_counters().tasks_started, strict=True))
    assert tasks["browse_product"] / sum(tasks.values()) == pytest.approx(10 / 21, rel=0.1)

    before = simulation.load_counters().tasks_started
    simulation.set_mix({name: 0.0 for name in simulation.names.flows if name != "checkout"})
    simulation.run(240 * SECOND)

    grown = simulation.load_counters().tasks_started - before
    assert grown[list(simulation.names.flows).index("checkout")] == grown.sum() > 0


def test_orders_have_as_many_lines_as_distinct_products_were_added() -> None:
    simulation = small_core()
    simulation.run(600 * SECOND)

    counts = {edge[:2]: simulation.edge_counts[row, OK] for row, edge in enumerate(simulation.names.edges)}
    orders = counts["frontend", "checkout"]
    # Half of the orders have one product, the other half 2, 3 or 4 draws from 10.
    distinct = [10 * (1 - 0.9**draws) for draws in (2, 3, 4)]
    lines = (1 + sum(distinct) / 3) / 2
    assert counts["checkout", "product-catalog"] / orders == pytest.approx(lines, rel=0.04)
    assert counts["checkout", "currency"] / orders == pytest.approx(lines + 1, rel=0.04)


def test_wrong_requests_are_refused_with_a_reason() -> None:
    simulation = started(two_tiers())
    with pytest.raises(ValueError, match="open arrivals, not closed"):
        simulation.set_users(3, 1.0)
    with pytest.raises(ValueError, match="unknown flows"):
        simulation.set_mix({"browse": 1.0})
    with pytest.raises(ValueError, match="one above 0"):
        simulation.set_mix({"only": 0.0})
    simulation.run(SECOND)
    with pytest.raises(ValueError, match="can't run back"):
        simulation.run(0)


# Small-core.


def test_small_core_serves_its_steady_load_with_room_to_spare() -> None:
    simulation = small_core()
    simulation.run(60 * SECOND)
    before, load = simulation.pod_counters(), simulation.load_counters()

    simulation.run(360 * SECOND)

    after = simulation.pod_counters()
    used = (after.cpu_seconds - before.cpu_seconds) / 300 / after.cpu_limit_cores
    assert used[list(simulation.slots).index("frontend")] == pytest.approx(0.52, abs=0.04)
    assert used.max() < 0.6
    assert (simulation.load_counters().served - load.served) / 300 == pytest.approx(51, rel=0.05)
    assert simulation.load_counters().failed == 0


@pytest.mark.parametrize("service", ["frontend", "product-catalog", "cart", "recommendation"])
def test_half_a_limit_slows_a_service_visibly(service: str) -> None:
    simulation = small_core()
    slot = list(simulation.slots).index(service)
    edge = next(row for row, names in enumerate(simulation.names.edges) if names[1] == service)
    simulation.run(60 * SECOND)
    calm = mean_ms(simulation, 120, edge)

    limit = simulation.config.services[service].cpu_limit_cores
    assert limit is not None
    simulation.set_limits(slot, cpu_limit_cores=limit / 2, memory_limit_bytes=None)

    assert mean_ms(simulation, 120, edge) > 1.2 * calm


def test_a_second_frontend_relieves_a_saturated_one() -> None:
    simulation = small_core(users=450)
    saturated = mean_ms(simulation, 180)

    add(simulation, "frontend", 1.0)
    simulation.run(simulation.now + 60 * SECOND)

    assert mean_ms(simulation, 120) < 0.5 * saturated


# Spans.


def test_spans_form_one_tree_per_task_with_links_across_services() -> None:
    simulation = small_core(users=30)
    simulation.set_span_probability(1.0)
    simulation.run(60 * SECOND)
    simulation.set_users(0, 1000.0)
    simulation.run(120 * SECOND)

    spans = simulation.take_spans()

    by_id = {int(span["span_id"]): span for span in spans}
    roots = spans[spans["parent_id"] == 0]
    assert (roots["kind"] == INTERNAL).all()
    assert len(roots) == simulation.load_counters().tasks_finished.sum()
    for span in spans[spans["parent_id"] != 0]:
        parent = by_id[int(span["parent_id"])]
        assert (parent["trace_high"], parent["trace_low"]) == (span["trace_high"], span["trace_low"])
        assert parent["start"] <= span["start"] <= span["end"] <= parent["end"]
        assert (int(parent["kind"]), int(span["kind"])) in {(INTERNAL, CLIENT), (SERVER, CLIENT), (CLIENT, SERVER)}
        if span["kind"] == SERVER:
            assert (parent["pod"], parent["peer"]) == (span["peer"], span["pod"])
    uninstrumented = [simulation.slots.index(name) for name in ("postgresql", "valkey-cart")]
    assert not np.isin(spans["pod"], uninstrumented).any()
    assert np.isin(spans["peer"], uninstrumented).any()
    assert (np.diff(spans["end"]) >= 0).all()


def test_sampled_spans_weighted_by_their_probability_count_all() -> None:
    simulation = small_core()
    simulation.set_span_probability(0.1)
    simulation.stop(simulation.slots.index("payment"))
    simulation.run(300 * SECOND)

    spans, seen = simulation.take_spans(), simulation.statistics()
    failed = spans["probability"] == 0.5

    assert sorted(set(spans["probability"].tolist())) == [0.1, 0.5]
    assert (1 / spans["probability"]).sum() == pytest.approx(seen.spans_seen, rel=0.05)
    assert failed.sum() / 0.5 == pytest.approx(seen.error_spans_seen, rel=0.1)
