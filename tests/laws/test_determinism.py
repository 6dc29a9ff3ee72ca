"""One seed, one future: whatever the cuts, the process, the copy; and an action shifts no draw but those it causes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.settings import ServiceConfiguration, Workload
from otel_control_gym.stands.twin.machine import EgressRule
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import CLIENT

ROOT = Path(__file__).parents[2]
START = 1_767_571_200 * SECOND


def small_core() -> ServiceConfiguration:
    return load_services("small-core")[0]


def shop(seed: int = 5, users: int = 60) -> Simulation:
    config = small_core()
    simulation = Simulation(config, Workload(name="test", users=users), seed, START)
    for name, service in config.services.items():
        simulation.add_pod(
            name,
            ordinal=0,
            cpu_limit_cores=service.cpu_limit_cores,
            memory_limit_bytes=service.memory_limit_bytes,
        )
    for slot in range(len(config.services)):
        simulation.set_ready(slot, True)
    simulation.set_span_probability(0.5)
    return simulation


def digest(simulation: Simulation) -> str:
    """Return a digest of everything that can be read."""
    pods, load = simulation.pod_counters(), simulation.load_counters()
    found = hashlib.sha256(simulation.take_spans().tobytes())
    for array in (
        simulation.span_buckets,
        simulation.span_ms,
        simulation.edge_counts,
        simulation.edge_buckets,
        simulation.edge_seconds,
        pods.cpu_seconds,
        pods.cfs_periods,
        pods.cfs_throttled_seconds,
        pods.rx_bytes,
        load.response_buckets,
    ):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def digest_of_a_run(seed: int) -> str:
    simulation = shop(seed)
    simulation.run(START + 60 * SECOND)
    return digest(simulation)


def test_one_seed_gives_one_run_and_another_seed_another() -> None:
    assert digest_of_a_run(5) == digest_of_a_run(5) != digest_of_a_run(6)


def digest_in_a_process(python: str) -> str:
    """Return the digest of the run of seed 5 in a process of its own, with another hash seed."""
    script = (
        f"import importlib.util as u; s = u.spec_from_file_location('t', {__file__!r}); m = u.module_from_spec(s);"
        "s.loader.exec_module(m); print(m.digest_of_a_run(5))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [python, "-c", script], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()


def test_another_process_with_another_hash_seed_gives_the_same_run() -> None:
    assert digest_in_a_process(sys.executable) == digest_of_a_run(5)


def other_pythons() -> list[str]:
    """Return the interpreters of the checkout's other environments, at most one per Python version."""
    found = {str(path.parents[1].name): str(path) for path in sorted(ROOT.glob(".venv*/bin/python"))}
    versions = {f"{sys.version_info.major}.{sys.version_info.minor}"}
    others = []
    for python in found.values():
        version = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        if version not in versions:
            versions.add(version)
            others.append(python)
    return others


def test_every_other_python_gives_the_same_run() -> None:
    others = other_pythons()
    if not others:
        pytest.skip(
            "no environment of another Python version here: `make environments` makes one for each that is installed"
        )
    assert {python: digest_in_a_process(python) for python in others} == dict.fromkeys(others, digest_of_a_run(5))


def test_a_run_doesnt_depend_on_how_it_is_cut() -> None:
    whole, cut = shop(), shop()
    for simulation in (whole, cut):
        simulation.set_stress(simulation.slots.index("cart"), 1.0)

    whole.run(START + 60 * SECOND)
    for moment in range(START, START + 60 * SECOND + 1, 77 * SECOND // 100):
        cut.run(moment)
        cut.pod_counters()
    cut.run(START + 60 * SECOND)

    assert digest(cut) == digest(whole)


def test_a_copy_has_the_same_future_and_is_independent() -> None:
    original = shop()
    original.run(START + 30 * SECOND)
    branch, other = original.copy(), original.copy()

    branch.run(START + 60 * SECOND)
    other.stop(other.slots.index("payment"))
    other.run(START + 60 * SECOND)
    original.run(START + 60 * SECOND)

    assert digest(branch) == digest(original) != digest(other)


@pytest.mark.parametrize("action", ["stress", "delay", "replica"])
def test_an_action_leaves_exogenous_draws_alone(action: str) -> None:
    plain, changed = shop(users=20), shop(users=20)
    for simulation in (plain, changed):
        simulation.set_span_probability(1.0, 1.0)
        simulation.run(START + 30 * SECOND)
    cart = changed.slots.index("cart")
    if action == "stress":
        changed.set_stress(cart, 3.0)
    elif action == "delay":
        changed.set_egress_rules(cart, {None: EgressRule(latency_ns=80_000_000, jitter_ns=10_000_000)})
    else:
        changed.set_ready(changed.add_pod("frontend", ordinal=1, cpu_limit_cores=1.0, memory_limit_bytes=None), True)
    for simulation in (plain, changed):
        simulation.run(START + 300 * SECOND)

    assert digest(plain.copy()) != digest(changed.copy())
    before, after = finished_tasks(plain), finished_tasks(changed)
    common = sorted(before.keys() & after.keys())
    assert len(common) > 0.9 * len(before)
    # The same tasks, made of the same calls with the same identities.
    assert all(before[trace] == after[trace] for trace in common)


def finished_tasks(simulation: Simulation) -> dict[int, list[tuple[int, int, int]]]:
    """Return per trace whose root has ended: (span id, parent, operation) of its client spans."""
    spans = simulation.take_spans()
    roots = sorted(set(spans["trace_low"][spans["parent_id"] == 0].tolist()))
    tasks: dict[int, list[tuple[int, int, int]]] = {trace: [] for trace in roots}
    for span in spans[spans["kind"] == CLIENT]:
        if int(span["trace_low"]) in tasks:
            tasks[int(span["trace_low"])].append((int(span["span_id"]), int(span["parent_id"]), int(span["operation"])))
    return {trace: sorted(calls) for trace, calls in tasks.items()}
