"""A family of applications: each seed is one of them, all within the bounds, and the bounds aren't part of what runs."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.randomization import randomized
from otel_control_gym.engine.settings import Operation, Randomization, RunConfig, Scenario

FACTORS = ("work", "cpu_limit", "cpu_request", "memory_limit", "memory_request", "start", "latency", "load")
factors = st.tuples(st.floats(0.9, 1.5), st.floats(1.0, 3.0)).map(lambda two: (two[0], two[0] * two[1]))
shares = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda two: (min(two), max(two)))
counts = st.none() | st.tuples(st.integers(1, 4), st.integers(0, 3)).map(lambda two: (two[0], two[0] + two[1]))
families = st.builds(Randomization, **dict.fromkeys(FACTORS, factors), replicas=counts, optional_calls_dropped=shares)
seeds = st.integers(0, 2**63 - 1)
STORE = resolve("medium-store")


def family(bounds: Randomization, seed: int) -> RunConfig:
    """Return medium-store with something to randomise."""
    scenario = Scenario(name="family", services="medium-store", randomize=bounds)
    return resolve(msgspec.structs.replace(STORE, scenario=scenario), seed=seed)


def work(operation: Operation) -> list[float]:
    return [*(step.work_ms for step in operation.steps), operation.tail_ms]


def optional(config: RunConfig) -> int:
    return sum(
        call.on_error == "ignore"
        for service in config.public.services.services.values()
        for operation in service.operations.values()
        for step in operation.steps
        for call in step.calls
    )


def assert_within(value: float, base: float, bounds: tuple[float, float], rounding: float = 0.0) -> None:
    low, high = base * bounds[0] - rounding, base * bounds[1] + rounding
    assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)


@given(families, seeds)
@settings(max_examples=60, deadline=None)
def test_nothing_is_drawn_outside_of_the_bounds(bounds: Randomization, seed: int) -> None:
    base = family(bounds, seed)
    drawn = randomized(base)
    for name, before in base.public.services.services.items():
        after = drawn.public.services.services[name]
        assert before.cpu_limit_cores
        assert after.cpu_limit_cores
        assert_within(after.cpu_limit_cores, before.cpu_limit_cores, bounds.cpu_limit, 0.0005)
        wanted = (bounds.cpu_request[0] * before.cpu_request_cores, bounds.cpu_request[1] * before.cpu_request_cores)
        assert min(wanted[0], after.cpu_limit_cores) - 0.0005 <= after.cpu_request_cores <= wanted[1] + 0.0005
        assert after.cpu_request_cores <= after.cpu_limit_cores
        assert before.memory_limit_bytes
        assert after.memory_limit_bytes
        assert_within(after.memory_limit_bytes, before.memory_limit_bytes, bounds.memory_limit, 0.5)
        assert after.memory_base_bytes <= after.memory_limit_bytes
        assert after.memory_request_bytes <= after.memory_limit_bytes
        assert_within(after.start_seconds, before.start_seconds, bounds.start)
        for operation, settings_before in before.operations.items():
            pairs = zip(work(settings_before), work(after.operations[operation]), strict=True)
            for was, now in pairs:
                assert_within(now, was, bounds.work)
        if bounds.replicas is None or before.stateful or before.kind != "service":
            assert after.replicas == before.replicas
        else:
            assert bounds.replicas[0] <= after.replicas <= bounds.replicas[1]
    for edge, drawn_edge in zip(base.public.services.edges, drawn.public.services.edges, strict=True):
        assert (drawn_edge.source, drawn_edge.target) == (edge.source, edge.target)
        assert_within(drawn_edge.latency_ms, edge.latency_ms, bounds.latency)
    assert_within(drawn.workload.users, base.workload.users, bounds.load, 0.5)
    low, high = bounds.optional_calls_dropped
    dropped = optional(base) - optional(drawn)
    assert math.floor(low * optional(base)) <= dropped <= high * optional(base)


@given(families, seeds)
@settings(max_examples=20, deadline=None)
def test_what_is_drawn_can_be_run_and_is_not_drawn_again(bounds: Randomization, seed: int) -> None:
    drawn = randomized(family(bounds, seed))
    assert resolve(drawn) == drawn
    assert randomized(drawn) is drawn
    assert drawn.public.services.randomize is None
    assert drawn.scenario.randomize is None


def test_a_seed_is_an_application_and_another_seed_another() -> None:
    bounds = Randomization(work=(0.5, 2.0), latency=(0.5, 2.0))
    first = randomized(family(bounds, 1))
    assert randomized(family(bounds, 1)) == first
    assert randomized(family(bounds, 2)).public.services != first.public.services


def test_the_draws_fill_the_bounds() -> None:
    bounds = Randomization(load=(0.5, 2.0), replicas=(1, 4))
    drawn = [randomized(family(bounds, seed)) for seed in range(300)]
    users = sorted(config.workload.users / 190 for config in drawn)
    assert users[0] < 0.55
    assert users[-1] > 1.85
    assert 0.9 < users[150] < 1.1  # half and double are equally likely
    carts = [config.public.services.services["cart"].replicas for config in drawn]
    assert all(55 < carts.count(replicas) < 95 for replicas in (1, 2, 3, 4))


def test_a_further_bound_shifts_no_other_draw() -> None:
    few = randomized(family(Randomization(work=(0.5, 2.0)), 5)).public.services.services
    more = randomized(family(Randomization(work=(0.5, 2.0), cpu_limit=(1.0, 2.0), replicas=(1, 3)), 5))
    assert all(more.public.services.services[name].operations == few[name].operations for name in few)


def test_factors_tell_little_of_the_seed() -> None:
    config = resolve("small-core")
    one_edge = msgspec.structs.replace(
        config.public.services,
        services={},
        edges=config.public.services.edges[:1],
        randomize=Randomization(latency=(1.0, math.e)),
    )
    config = msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, services=one_edge))
    drawn = [randomized(msgspec.structs.replace(config, seed=seed)) for seed in range(4000)]
    assert 900 < len({one.public.services.edges[0].latency_ms for one in drawn}) <= 1001


def test_a_scenarios_bounds_take_the_place_of_the_applications() -> None:
    config = resolve("small-core", seed=3)
    services = msgspec.structs.replace(config.public.services, randomize=Randomization(load=(2.0, 2.0)))
    config = msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, services=services))
    drawn = randomized(config)
    assert drawn.workload.users == 380
    assert drawn.public.services.randomize is None
    scenario = msgspec.structs.replace(config.scenario, randomize=Randomization(load=(0.5, 0.5)))
    assert randomized(msgspec.structs.replace(config, scenario=scenario)).workload.users == 95


@pytest.mark.parametrize(
    ("bounds", "key"),
    [
        ({"work": (2.0, 1.0)}, "randomize.work"),
        ({"latency": (0.0, 1.0)}, "randomize.latency"),
        ({"replicas": (0, 2)}, "randomize.replicas"),
        ({"optional_calls_dropped": (0.5, 1.5)}, "randomize.optional_calls_dropped"),
        ({"memory_limit": (0.5, 1.0)}, "randomize.memory_limit"),
    ],
)
def test_bounds_that_are_none_are_refused(bounds: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        family(Randomization(**bounds), 0)
    assert caught.value.key == key
