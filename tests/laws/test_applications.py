"""The packaged applications and generated ones at rest and under any load: no errors, no loss, the work that theory expects."""

from __future__ import annotations

import math
from graphlib import TopologicalSorter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.configuration_files import packaged_names
from otel_control_gym.engine.settings import ServiceConfiguration, Workload
from otel_control_gym.engine.synthetic import synthetic_services
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import ATTEMPTED, ERROR, IN_FLIGHT, INTERNAL, LOST, OK, REFUSED, TIMED_OUT

FAILED = [ERROR, REFUSED, LOST, TIMED_OUT]


def assert_conserved(simulation: Simulation) -> None:
    counts = simulation.edge_counts
    assert (counts[:, [OK, *FAILED, IN_FLIGHT]].sum(axis=1) == counts[:, ATTEMPTED]).all()


@pytest.mark.parametrize("target", [*packaged_names("services"), "synthetic:10", "synthetic:60,3"])
def test_an_application_at_rest_makes_no_errors_loses_no_pod_and_no_call(target: str) -> None:
    config = resolve(target, seed=4)
    run = TwinRun(config)
    simulation, start = run.simulation, run.now
    while run.advance_once(start + 60 * SECOND):
        pass

    assert_conserved(simulation)
    load = simulation.load_counters()
    assert load.served > 1000
    assert load.failed == 0
    assert simulation.edge_counts[:, FAILED].sum() == 0
    pods = list(run.control_plane.pods())
    assert len(pods) == sum(service.replicas for service in config.public.services.services.values())
    assert all(pod.ready and pod.restarts == 0 for pod in pods)
    counters = simulation.pod_counters()
    for slot, name in enumerate(simulation.slots):
        limit = config.public.services.services[name].memory_limit_bytes
        assert limit is None or counters.memory_bytes[slot] < limit
        assert counters.cpu_seconds[slot] <= 0.65 * 60 * counters.cpu_limit_cores[slot]


@pytest.mark.parametrize("target", packaged_names("services"))
def test_a_closed_loop_keeps_its_law_in_every_application(target: str) -> None:
    """Users = tasks per second x (pause + time of a task), Little's law for the whole loop (Denning and Buzen, 1978)."""
    config = resolve(target, seed=4)
    run = TwinRun(config)
    simulation, start, users = run.simulation, run.now, config.workload.users
    internal = [row for row, span in enumerate(simulation.span_rows) if span.kind == INTERNAL]

    def tasks() -> tuple[float, float]:
        return float(simulation.span_buckets[internal].sum()), float(simulation.span_ms[internal].sum()) / 1000

    while run.advance_once(start + 60 * SECOND):  # all users have come
        pass
    count_before, seconds_before = tasks()
    while run.advance_once(start + 660 * SECOND):
        pass
    count, seconds = tasks()
    finished, mean_task = count - count_before, (seconds - seconds_before) / (count - count_before)
    low, high = config.workload.think_seconds
    pause = (low + high) / 2

    # The pauses of the window are uniform draws: their mean is known to within (high - low) / sqrt(12 n). The tasks that are
    # under way at the window's edges make another `users` tasks at most.
    tolerance = 5 * (high - low) / math.sqrt(12 * finished) / pause + users / finished
    assert finished / 600 * (pause + mean_task) == pytest.approx(users, rel=tolerance)
    assert tolerance < 0.06


def expected_cores(found: ServiceConfiguration, tasks_per_s: float) -> dict[str, float]:
    """Return the cores that each service computes with on average, from the calls alone."""
    operations = {
        f"{name}:{operation}": settings
        for name, service in found.services.items()
        for operation, settings in service.operations.items()
    }
    calls = {name: [call.target for step in one.steps for call in step.calls] for name, one in operations.items()}
    rates = dict.fromkeys(operations, 0.0)
    total = sum(flow.weight for flow in found.flows.values())
    for flow in found.flows.values():
        for request in flow.requests:
            rates[f"{found.entry}:{request}"] += tasks_per_s * flow.weight / total
    for name in reversed(tuple(TopologicalSorter(calls).static_order())):
        for target in calls[name]:
            rates[target] += rates[name]
    cores = dict.fromkeys(found.services, 0.0)
    for name, one in operations.items():
        cores[name.partition(":")[0]] += rates[name] * (sum(step.work_ms for step in one.steps) + one.tail_ms) / 1000
    return cores


graphs = st.builds("synthetic:{},{}".format, st.integers(10, 40), st.integers(0, 2**40))


@settings(max_examples=8, deadline=None)
@given(graphs, st.floats(10.0, 40.0), st.integers(0, 2**63))
def test_services_of_a_random_graph_compute_what_their_calls_add_up_to(reference: str, rate: float, seed: int) -> None:
    found = synthetic_services(reference)
    simulation = started(found, Workload(name="open", arrivals="open", rate_per_s=rate), seed)
    for slot in range(len(simulation.slots)):
        simulation.warm_up(slot)
    seconds = 300

    simulation.run(seconds * SECOND)

    assert_conserved(simulation)
    assert simulation.edge_counts[:, FAILED].sum() == 0
    cores = expected_cores(found, rate)
    used = simulation.pod_counters().cpu_seconds / seconds
    heavy = [slot for slot, name in enumerate(simulation.slots) if cores[name] > 0.005]
    ratio = used[heavy] / np.array([cores[simulation.slots[slot]] for slot in heavy])
    # 5 millicores for 300 s are at least 300 visits of 5 ms: their number and their work vary, one standard deviation is at most 8 %.
    assert (abs(ratio - 1) < 0.35).all()
    assert abs(used[heavy].sum() / sum(cores[simulation.slots[slot]] for slot in heavy) - 1) < 0.15


@settings(max_examples=15, deadline=None)
@given(graphs, st.integers(1, 1500), st.integers(0, 2**63), st.lists(st.integers(1, 39), max_size=4))
def test_a_random_graph_conserves_calls_under_any_load_and_ends_empty(
    reference: str, users: int, seed: int, victims: list[int]
) -> None:
    found = synthetic_services(reference)
    workload = Workload(name="closed", users=users, spawn_rate_per_s=500.0, think_seconds=(0.2, 2.0))
    simulation = started(found, workload, seed)
    for number, victim in enumerate(victims):
        simulation.run((number + 1) * SECOND)
        slot = victim % (len(simulation.slots) - 1)
        simulation.stop(slot)
        assert_conserved(simulation)
    simulation.run(6 * SECOND)
    assert_conserved(simulation)

    simulation.set_users(0, 10_000.0)
    simulation.run(20_000 * SECOND)

    assert_conserved(simulation)
    assert simulation.edge_counts[:, IN_FLIGHT].sum() == 0
    assert simulation.statistics().hops_in_flight == 0


def started(found: ServiceConfiguration, workload: Workload, seed: int) -> Simulation:
    """Return a simulation with a ready pod per service, in the order of the services; memory isn't what is looked at."""
    simulation = Simulation(found, workload, seed, 0)
    for name, service in found.services.items():
        slot = simulation.add_pod(name, ordinal=0, cpu_limit_cores=service.cpu_limit_cores, memory_limit_bytes=None)
        simulation.set_ready(slot, True)
    return simulation
