"""Messages and flags are as determined as all the rest: whatever the cuts and the copy, and an action shifts no message's draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.settings import Workload
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import CONSUMER

FLAGS = {
    "kafkaQueueProblems": 100.0,
    "paymentFailure": 0.25,
    "adHighCpu": 1.0,
    "cartFailure": 1.0,
    "emailMemoryLeak": 1.0,
}
CUT = 77 * SECOND // 100


def shop(seed: int = 5, users: int = 100) -> Simulation:
    config, _ = load_services("async-store")
    simulation = Simulation(config, Workload(name="test", users=users), seed, 0)
    for name, service in config.services.items():
        simulation.add_pod(
            name,
            ordinal=0,
            cpu_limit_cores=service.cpu_limit_cores,
            memory_limit_bytes=service.memory_limit_bytes,
        )
    for slot in range(len(config.services)):
        simulation.set_ready(slot, True)
        simulation.warm_up(slot)
    simulation.set_span_probability(0.5)
    return simulation


def live(simulation: Simulation, *, cut: int) -> None:
    """Live two minutes, in which flags go on and off, the broker is replaced, and a consumer dies; time is cut every `cut`."""
    books = list(simulation.slots).index("accounting")
    acts: tuple[tuple[int, Callable[[], None]], ...] = (
        (20, lambda: simulation.set_flags(FLAGS)),
        (50, lambda: simulation.stop(books)),
        (51, lambda: replace(simulation, "accounting")),
        (70, lambda: simulation.set_flags({})),
        (90, lambda: simulation.stop(list(simulation.slots).index("kafka"))),
        (95, lambda: replace(simulation, "kafka")),
        (120, lambda: None),
    )
    for second, act in acts:
        until = second * SECOND
        while simulation.now < until:
            simulation.run(min(until, simulation.now + cut))
            simulation.groups()
            simulation.topics()
        act()


def replace(simulation: Simulation, service: str) -> None:
    slot = simulation.add_pod(service, ordinal=1, cpu_limit_cores=0.2, memory_limit_bytes=None)
    simulation.set_ready(slot, True)


def digest(simulation: Simulation) -> str:
    found = hashlib.sha256(simulation.take_spans().tobytes())
    for array in (
        simulation.edge_counts,
        simulation.edge_buckets,
        simulation.span_ms,
        simulation.pod_counters().cpu_seconds,
    ):
        found.update(array.tobytes())
    found.update(repr((simulation.groups(), simulation.topics())).encode())
    return found.hexdigest()


def test_a_run_doesnt_depend_on_how_it_is_cut() -> None:
    whole, cut, other = shop(), shop(), shop(seed=6)
    live(whole, cut=1000 * SECOND)
    live(cut, cut=CUT)
    live(other, cut=CUT)
    assert digest(cut) == digest(whole) != digest(other)


def test_a_copy_has_the_same_future_and_is_independent() -> None:
    original = shop()
    original.set_flags(FLAGS)
    original.run(30 * SECOND)
    branch, changed = original.copy(), original.copy()
    changed.set_flags({})
    for simulation in (branch, changed, original):
        simulation.run(60 * SECOND)
    assert digest(branch) == digest(original) != digest(changed)


@pytest.mark.parametrize("action", ["slow", "second pod", "flag"])
def test_what_is_done_to_a_consumer_shifts_no_draw_of_its_messages(action: str) -> None:
    plain, changed = shop(users=40), shop(users=40)
    for simulation in (plain, changed):
        simulation.set_span_probability(1.0, 1.0)
    books = list(changed.slots).index("accounting")
    if action == "slow":
        changed.set_stress(books, 3.0)
    elif action == "second pod":
        replace(changed, "accounting")
    else:
        changed.set_flags({"adFailure": 1.0})
    for simulation in (plain, changed):
        simulation.run(120 * SECOND)
    ids = []
    for simulation in (plain, changed):
        spans = simulation.take_spans()
        ids.append({*spans["span_id"][spans["kind"] == CONSUMER].tolist()})
    assert len(ids[0] & ids[1]) > 0.9 * len(ids[0]) > 50
