"""A generated application is one that could be: all is reached, nothing goes round, there is headroom, and as much as was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.engine.synthetic import LARGEST, SMALLEST, synthetic_services

references = st.builds("synthetic:{},{}".format, st.integers(SMALLEST, 120), st.integers(0, 2**63))
TASKS_PER_S = 190 / 5.5  #: of the steady load


def called(found: ServiceConfiguration) -> dict[str, list[str]]:
    """Return operation -> operations that it calls."""
    return {
        f"{name}:{operation}": [call.target for step in settings.steps for call in step.calls]
        for name, service in found.services.items()
        for operation, settings in service.operations.items()
    }


def visits(found: ServiceConfiguration) -> Counter[str]:
    """Return how often a user's task comes by each operation."""
    calls = called(found)
    total = sum(flow.weight for flow in found.flows.values())
    times: Counter[str] = Counter()
    for flow in found.flows.values():
        for request in flow.requests:
            times[f"gateway:{request}"] += flow.weight / total  # type: ignore[assignment]  # a share
    for operation in reversed(tuple(TopologicalSorter(calls).static_order())):
        for target in calls[operation]:
            times[target] += times[operation]
    return times


@given(references)
@settings(max_examples=40, deadline=None)
def test_every_service_is_reached_from_the_entry_and_no_call_comes_back(reference: str) -> None:
    found = resolve(reference).public.services  # checks edges, calls, circles
    times = visits(found)
    reached = {operation.partition(":")[0] for operation, count in times.items() if count > 0}
    assert reached == set(found.services) - {"load-generator"}


@given(references)
@settings(max_examples=40, deadline=None)
def test_every_declared_edge_is_used(reference: str) -> None:
    found = synthetic_services(reference)
    used = {
        (source.partition(":")[0], target.partition(":")[0])
        for source, targets in called(found).items()
        for target in targets
    }
    assert used | {("load-generator", "gateway")} == {(edge.source, edge.target) for edge in found.edges}


@given(references)
@example("synthetic:10,0")  # visits that are too many for one thread, had its work not been made lighter
@example("synthetic:16,98")
@settings(max_examples=40, deadline=None)
def test_the_steady_load_leaves_headroom(reference: str) -> None:
    found = synthetic_services(reference)
    times = visits(found)
    for name, service in found.services.items():
        cores = (
            TASKS_PER_S
            / 1000
            * sum(
                times[f"{name}:{operation}"] * (sum(step.work_ms for step in settings.steps) + settings.tail_ms)
                for operation, settings in service.operations.items()
            )
        )
        assert cores <= 0.4 * (service.cpu_limit_cores or 1.0)
        assert cores <= 0.42 * (service.threads or 1e9)
        assert service.memory_base_bytes <= 0.6 * (service.memory_limit_bytes or 2**60)


@given(references)
@settings(max_examples=20, deadline=None)
def test_only_storage_keeps_data_and_it_calls_nobody(reference: str) -> None:
    found = synthetic_services(reference)
    calls = called(found)
    for name, service in found.services.items():
        storage = name.startswith(("cache-", "database-"))
        assert service.stateful == storage == (service.kind == "dependency")
        assert not storage or not any(calls[f"{name}:{operation}"] for operation in service.operations)


@pytest.mark.parametrize("size", [SMALLEST, 11, 40, 250, LARGEST])
def test_it_has_as_many_services_as_were_asked_for_and_edges_in_proportion(size: int) -> None:
    found = synthetic_services(f"synthetic:{size}")
    assert len(found.services) == size + 1  # the load generator
    assert size <= len(found.edges) <= 2.6 * size


@pytest.mark.parametrize("size", [100, 400, LARGEST])
def test_a_request_touches_as_much_of_a_large_graph_as_of_a_small_one(size: int) -> None:
    per_task = [visits(synthetic_services(f"synthetic:{size},{seed}")).total() for seed in range(5)]
    assert 8 < sum(per_task) / 5 < 60


def test_few_services_are_shared_by_many_callers() -> None:
    found = synthetic_services(f"synthetic:{LARGEST},5")
    callers = Counter(edge.target for edge in found.edges)
    one = sum(count == 1 for count in callers.values()) / len(callers)
    assert one > 0.4
    assert max(callers.values()) > 12
    assert sum(callers.values()) / len(callers) < 3


@pytest.mark.parametrize("size", [20, 200])
def test_it_is_mixed(size: int) -> None:
    found = synthetic_services(f"synthetic:{size},1")
    steps = [step for service in found.services.values() for one in service.operations.values() for step in one.steps]
    several = [step.parallel for step in steps if len(step.calls) > 1]
    assert {edge.protocol for edge in found.edges} == {"http", "grpc", "sql", "resp"}
    assert {edge.connection for edge in found.edges} == {"sticky", "per_request"}
    assert any(edge.timeout_ms and edge.retries for edge in found.edges)
    assert any(edge.pool for edge in found.edges)
    assert any(several)
    assert not all(several)
    assert len({service.runtime for service in found.services.values()}) > 4


def test_a_seed_is_a_graph_in_any_process() -> None:
    reference = "synthetic:60,7"
    code = (
        "import msgspec; from otel_control_gym.engine.synthetic import synthetic_services as made; "
        f"print(msgspec.json.encode(made({reference!r})).decode())"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "5"},
        check=True,
        capture_output=True,
        text=True,
    )
    here = synthetic_services(reference)
    assert elsewhere.stdout.strip() == msgspec.json.encode(here).decode()
    assert synthetic_services("synthetic:60,8").edges != here.edges
