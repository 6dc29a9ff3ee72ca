"""Control inputs show what was in force just before a bucket's end, of every thing that can be set, and hide what a fault set."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionRequested,
    ActionReverted,
    AutoscalersObserved,
    AutoscalerStatus,
    CollectorGap,
    RolloutsObserved,
    RolloutStatus,
    RoutesObserved,
    RouteStatus,
    RunDeclared,
    WorkloadObserved,
    WorkloadState,
)
from otel_control_gym.engine.settings import Flag
from otel_control_gym.projections import fold
from otel_control_gym.projections.inputs import control_input_rows


def deployment(time: int, name: str = "cart", *, replicas: int = 1, revision: str = "1") -> RolloutStatus:
    return RolloutStatus(
        time=time,
        change="modified",
        kind="Deployment",
        service="cart",
        name=name,
        uid=f"uid-{name}",
        owner_uid="",
        generation=1,
        observed_generation=1,
        revision=revision,
        replicas_desired=replicas,
        replicas_updated=replicas,
        replicas_ready=replicas,
        replicas_available=replicas,
    )


def found(log: Any, name: str, target: str | None = None, bucket: int = 10) -> dict[int, Any]:
    """Return the values of an input by the second at which their bucket begins."""
    state = fold(log.entries)
    rows = control_input_rows(state, state.buckets(bucket))
    return {
        (row["time"] - state.origin) // SECOND: row["value"]
        for row in rows
        if row["name"] == name and target in (None, row["target"])
    }


@pytest.fixture
def log(scribe: Any, at: Any) -> Any:
    log = scribe()
    log.add(RolloutsObserved(time=at(40), rows=(deployment(at(0)), deployment(at(20), replicas=3, revision="2"))))
    return log


def test_what_is_set_at_a_bucket_s_end_belongs_to_the_next(log: Any) -> None:
    log.flush(40)
    assert found(log, "replicas", "cart") == {0: 1, 10: 1, 20: 3, 30: 3}
    assert found(log, "revision", "cart") == {0: 1, 10: 1, 20: 2, 30: 2}
    assert found(log, "replicas", "cart", bucket=20) == {0: 1, 20: 3}


def test_while_the_watches_were_deaf_nothing_is_claimed(log: Any, at: Any) -> None:
    log.add(CollectorGap(time=at(40), source="kubernetes", start=at(12), end=at(18), reason="watch broken"))
    log.flush(40)
    assert sorted(found(log, "replicas", "cart")) == [0, 20, 30]


def test_an_autoscaler_s_bounds_aim_and_decision_are_there_while_it_is(log: Any, at: Any) -> None:
    status = AutoscalerStatus(
        time=at(10),
        change="added",
        name="any",
        uid="hpa",
        deployment="cart",
        replicas_min=2,
        replicas_max=6,
        cpu_utilization_percent=60,
        replicas_current=1,
        replicas_wanted=2,
        active=True,
    )
    gone = msgspec.structs.replace(status, time=at(30), change="deleted")
    log.add(AutoscalersObserved(time=at(40), rows=(status, gone)))
    log.flush(40)
    for name, value in (("min", 2), ("max", 6), ("cpu_target", 0.6), ("wanted", 2)):
        assert found(log, f"autoscaler_{name}", "cart") == {10: value, 20: value}


def test_traffic_is_split_by_pods_and_by_a_route_where_there_is_one(log: Any, at: Any) -> None:
    canary = deployment(at(20), "cart-canary")
    route = RouteStatus(
        time=at(30), change="added", name="r", uid="r", parent="cart", weights={"cart-stable": 0.9, "cart-canary": 0.1}
    )
    log.add(RolloutsObserved(time=at(40), rows=(canary,)))
    log.add(RoutesObserved(time=at(40), rows=(route,)))
    log.flush(40)
    assert found(log, "traffic_share", "cart/cart-canary") == {20: 0.25, 30: 0.1}
    assert found(log, "traffic_share", "cart/cart") == {20: 0.75}
    assert found(log, "traffic_share", "cart/cart-stable") == {30: 0.9}
    assert found(log, "replicas", "cart/cart-canary") == {20: 1, 30: 1}


def test_open_arrivals_have_a_rate_and_closed_ones_have_none(scribe: Any, at: Any) -> None:
    log = scribe()
    log.workload([(10, 50, 50, 0)])
    told = WorkloadState(
        time=at(20),
        users_target=0,
        users_active=0,
        spawn_rate_per_s=0.0,
        scheduled=90,
        served=90,
        failed=0,
        state="running",
        rate_per_s=4.0,
    )
    log.add(WorkloadObserved(time=at(20), rows=(told,)))
    log.flush(20)
    assert found(log, "rate_target") == {10: 4.0}


def test_a_flag_is_told_with_its_values_as_truth(scribe: Any, at: Any) -> None:
    log = scribe()
    declared = log.entries[0].event
    assert isinstance(declared, RunDeclared)
    flags = {"paymentFailure": Flag(variants={"off": 0, "50%": 0.5}), "adFailure": Flag(variants={"off": 0, "on": 1})}
    services = msgspec.structs.replace(declared.settings.services, flags=flags)
    settings = msgspec.structs.replace(declared.settings, services=services)
    log.entries[0] = msgspec.structs.replace(log.entries[0], event=msgspec.structs.replace(declared, settings=settings))
    request = ActionRequested(
        time=at(10),
        action_id="f",
        actor="scripted",
        action_class="intervention",
        action_type="feature_flag",
        target_kind="service",
        target="payment",
        parameters={"flag": "paymentFailure", "variant": "50%"},
    )
    for event in (
        request,
        ActionApplied(time=at(10), action_id="f", objects=()),
        ActionReverted(time=at(30), action_id="f"),
    ):
        log.add(event, truth=True)
    log.flush(40)
    state = fold(log.entries)
    rows = [row for row in control_input_rows(state, state.buckets(10)) if row["name"] == "flag"]
    assert {row["visibility"] for row in rows} == {"truth"}
    assert found(log, "flag", "paymentFailure") == {0: 0, 10: 0.5, 20: 0.5, 30: 0}
    assert found(log, "flag", "adFailure") == {}
