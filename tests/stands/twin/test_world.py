"""Containers by UID on a simulation: versions, kills, and network rules of several chaos objects on one pod."""

from __future__ import annotations

import math

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
    Version,
    Workload,
)
from otel_control_gym.stands.twin.runtime import ContainerExit, NetworkRule, PodProcess, PodResources, PodRuntime
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import IN_FLIGHT, LOST, OK, REFUSED
from otel_control_gym.stands.twin.world import World

RESOURCES = PodResources(
    cpu_request_cores=0.1, cpu_limit_cores=None, memory_request_bytes=2**20, memory_limit_bytes=None
)
INNER = 1  # edge


@pytest.fixture
def world() -> World:
    """Return load -> front -> back with a pod of each, known by their services' names."""
    ask = Operation(steps=(Step(calls=(Call(target="back:do"),)),))
    do = Operation(tail_ms=2.0, distribution="constant")
    config = ServiceConfiguration(
        name="tiers",
        demo_version="",
        chart_version="",
        entry="front",
        services={
            "load": Service(kind="workload"),
            "front": Service(operations={"ask": ask}),
            "back": Service(
                operations={"do": do},
                start_seconds=3.0,
                versions={"jvm": Version(start_factor=4.0), "broken": Version(gets_ready=False)},
            ),
        },
        edges=(
            EdgeSettings(source="load", target="front", protocol="grpc", connection="per_request", latency_ms=0.0),
            EdgeSettings(source="front", target="back", protocol="grpc", latency_ms=0.0),
        ),
        flows={"only": Flow(weight=1.0, requests=("ask",))},
    )
    found = World(Simulation(config, Workload(name="open", arrivals="open", rate_per_s=50.0), 1, 0))
    for uid in ("back", "front", "load"):
        found.start_container(uid, uid, f"{uid}-0", RESOURCES)
        found.set_endpoint(uid, ready=True)
    return found


def latency_ms(world: World, seconds: int) -> float:
    """Return the mean latency of the calls of `back` that succeed in the next seconds."""

    def read() -> tuple[float, int]:
        simulation = world.simulation
        return float(simulation.edge_seconds[INNER, 0, 0]), int(simulation.edge_counts[INNER, OK])

    before = read()
    world.simulation.run(world.simulation.now + seconds * SECOND)
    after = read()
    return 1000 * (after[0] - before[0]) / (after[1] - before[1])


def test_a_world_is_all_that_the_control_plane_asks_of_machines(world: World) -> None:
    runtime: PodRuntime = world
    assert runtime.answers_probe("back")


def test_rules_of_several_chaos_objects_merge_to_the_longest_delay(world: World) -> None:
    assert latency_ms(world, 20) == pytest.approx(2.0, abs=0.2)
    world.set_network_rule("front", "one", peers=("back",), rule=NetworkRule(latency_ms=30.0))
    world.set_network_rule("front", "two", peers=("back",), rule=NetworkRule(latency_ms=50.0))
    assert latency_ms(world, 20) == pytest.approx(52.0, abs=2.0)
    world.set_network_rule("front", "two", peers=("back",), rule=None)
    assert latency_ms(world, 20) == pytest.approx(32.0, abs=2.0)
    world.set_network_rule("front", "one", peers=("back",), rule=None)
    assert latency_ms(world, 20) == pytest.approx(2.0, abs=0.6)


def test_losses_of_several_chaos_objects_combine_as_independent(world: World) -> None:
    world.simulation.set_span_probability(1.0)
    world.simulation.run(SECOND)
    for chaos in ("one", "two"):
        world.set_network_rule("front", chaos, peers=("back",), rule=NetworkRule(loss=0.2))
    world.simulation.take_spans()
    world.simulation.run(101 * SECOND)
    spans = world.simulation.take_spans()
    mine = spans[spans["edge"] == INNER]
    late = (mine["end"] - mine["start"] > 0.15 * SECOND)[mine["pod"] == world.container("front").slot]
    assert late.mean() == pytest.approx(0.36, abs=4 * (0.36 * 0.64 / len(late)) ** 0.5)


def test_one_object_that_blocks_is_enough(world: World) -> None:
    world.set_network_rule("front", "one", peers=("back",), rule=NetworkRule(latency_ms=1.0))
    world.set_network_rule("front", "two", peers=("back", "a pod that is gone"), rule=NetworkRule(blocked=True))
    world.simulation.run(10 * SECOND)
    assert world.simulation.edge_counts[INNER, OK] == 0
    assert world.simulation.edge_counts[INNER, IN_FLIGHT] > 400
    world.set_network_rule("front", "two", peers=None, rule=None)
    world.simulation.run(60 * SECOND)
    assert world.simulation.edge_counts[INNER, IN_FLIGHT] < 5


def test_a_kill_loses_what_the_pod_holds_and_is_heard_of_as_an_error(world: World) -> None:
    world.simulation.run(10 * SECOND)
    world.set_cpu_stress("back", "chaos", workers=1, load=1.0)
    world.kill_container("back", 143)
    world.kill_container("back")  # it is dead
    assert not world.simulation.run(20 * SECOND) or world.simulation.edge_counts[INNER, LOST] > 300
    assert world.take_exits() == (ContainerExit(uid="back", at=10 * SECOND, exit_code=143, reason="Error"),)
    assert world.take_exits() == ()
    assert not world.answers_probe("back")
    assert world.simulation.edge_counts[INNER, REFUSED] == 0, "it is in the endpoints until somebody takes it out"

    used = world.cpu_seconds("back")
    world.start_container("back", "back", "back-0", RESOURCES)
    assert world.answers_probe("back")
    world.simulation.run(30 * SECOND)
    assert world.cpu_seconds("back") == pytest.approx(used + 10 * 50 * 0.002, rel=0.1)
    assert world.simulation.edge_counts[INNER, OK] > 900


def test_versions_take_their_time_to_start_or_never_serve(world: World) -> None:
    assert world.start_seconds("back") == world.start_seconds("back", PodProcess(version="unlisted")) == 3.0
    assert world.start_seconds("back", PodProcess(version="jvm")) == 12.0
    assert world.start_seconds("back", PodProcess(version="broken")) == math.inf


def test_a_canary_gets_the_share_of_dials_that_the_split_gives_it(world: World) -> None:
    world.start_container("canary", "back", "canary-0", RESOURCES, PodProcess(canary=True))
    world.set_endpoint("canary", ready=True)
    world.set_split("back", 1.0)
    world.simulation.run(10 * SECOND)
    assert world.cpu_seconds("canary") > 0.5
    assert world.cpu_seconds("back") == 0.0
