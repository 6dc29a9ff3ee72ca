"""Rewards pay for demand that is served well, and can't be earned by asking for less, answering fast with errors, or hanging."""

from __future__ import annotations

from typing import Any

import pytest

from otel_control_gym.engine.events import Recorded, RolloutsObserved, RolloutStatus
from otel_control_gym.engine.settings import Emergency, Goal
from otel_control_gym.projections import (
    COMPONENTS,
    fold,
    reached_emergency,
    reached_goal,
    reward_rows,
    step_reward,
)
from otel_control_gym.projections.fold import RunState

Reading = tuple[float, int, int, int]


def after(scribe: Any, readings: list[Reading], *, slow: float = 0.0, seconds: int = 30) -> RunState:
    """A run whose load generator said this, and whose frontend answered a share of its requests slowly."""
    log = scribe()
    log.workload(readings)
    for moment in range(0, seconds + 5, 5):
        labels = {"service_name": "frontend", "span_kind": "SPAN_KIND_SERVER"}
        for bound, share in (("500", 1 - slow), ("+Inf", 1.0)):
            log.sample(
                moment, 10 * moment * share, "traces_span_metrics_duration_milliseconds_bucket", le=bound, **labels
            )
        log.sample(moment, 10 * moment, "traces_span_metrics_duration_milliseconds_count", **labels)
    log.flush(seconds)
    return fold(log.entries)


def satisfaction(state: RunState, bucket: int = 0) -> float:
    return reward_rows(state)[bucket].components["slo_satisfaction"]


def every_five_seconds(scheduled: float, served: float, failed: float, *, until: int = 30) -> list[Reading]:
    return [(t, int(scheduled * t), int(served * t), int(failed * t)) for t in range(5, until + 5, 5)]


def test_all_demand_answered_well_satisfies_wholly(scribe: Any) -> None:
    state = after(scribe, every_five_seconds(10, 10, 0))
    assert satisfaction(state) == 1
    assert reward_rows(state)[0].components["recovery_time"] == 0
    assert reward_rows(state)[0].components["error_budget_burn"] == 0


def test_an_error_is_no_answer_however_fast_it_came(scribe: Any) -> None:
    state = after(scribe, every_five_seconds(10, 10, 4))
    assert satisfaction(state) == pytest.approx(0.6)
    assert reward_rows(state)[0].components["error_budget_burn"] == pytest.approx(40)
    assert reward_rows(state)[0].components["recovery_time"] == 30


def test_a_late_answer_does_not_count(scribe: Any) -> None:
    assert satisfaction(after(scribe, every_five_seconds(10, 10, 0), slow=0.25)) == pytest.approx(0.75)


def test_users_who_wait_and_therefore_ask_for_nothing_are_not_satisfied(scribe: Any) -> None:
    readings = [(float(t), 60, 0, 0) for t in range(5, 65, 5)]
    state = after(scribe, readings, seconds=60)
    assert satisfaction(state, 1) == 0


def test_requests_that_may_still_be_answered_in_time_are_not_held_against_the_system(scribe: Any) -> None:
    readings = [(float(t), 10 * t + 4, 10 * t, 0) for t in range(5, 35, 5)]
    assert satisfaction(after(scribe, readings)) == 1


def test_without_demand_nothing_failed(scribe: Any) -> None:
    assert satisfaction(after(scribe, [(float(t), 0, 0, 0) for t in range(5, 35, 5)])) == 1


def test_a_bucket_without_readings_has_no_value_and_adds_nothing(scribe: Any, at: Any) -> None:
    state = after(scribe, every_five_seconds(10, 10, 0), seconds=60)
    rows = reward_rows(state)
    assert rows[1].value is None
    assert "slo_satisfaction" not in rows[1].components
    assert step_reward(state, at(0), at(60)).value == rows[0].value


def test_a_step_earns_the_buckets_that_end_in_it(eventful: list[Recorded], at: Any) -> None:
    state = fold(eventful)
    rows = reward_rows(state)
    assert [row.time for row in rows] == [at(0), at(30), at(60), at(90)]
    values = [row.value or 0.0 for row in rows]
    assert step_reward(state, at(0), at(30)).value == values[0]
    assert step_reward(state, at(30), at(90)).value == values[1] + values[2]
    assert step_reward(state, at(20), at(40)).value == values[0]
    assert step_reward(state, at(30), at(50)).value == 0
    assert set(step_reward(state, at(0), at(30)).components) == set(COMPONENTS)


def test_the_value_is_the_weighted_sum_of_the_components(eventful: list[Recorded]) -> None:
    state = fold(eventful)
    weights = state.settings.reward.weights
    for row in reward_rows(state):
        if row.value is not None:
            assert row.value == sum(weights[name] * row.components[name] for name in COMPONENTS)


def test_rewards_ignore_the_truth(eventful: list[Recorded]) -> None:
    public = [entry for entry in eventful if not entry.truth]
    assert reward_rows(fold(public)) == reward_rows(fold(eventful))


def test_cost_charges_what_is_requested_or_used_and_a_share_of_the_limits(eventful: list[Recorded]) -> None:
    second = reward_rows(fold(eventful))[1].components["resource_cost"]
    # Cart asks for two replicas of 0.5 cores and 1 GiB; frontend and cache ask for nothing, and use 0.3 cores each.
    cores = 2 * 0.5 + 0.1 * 2 * (1.0 - 0.5) + 0.3 + 0.3
    gib = 2 + 2 * (5e7 + 60) / 2**30
    assert second == pytest.approx((cores + 0.125 * gib) * 30 / 3600)


def test_churn_and_rejected_actions_are_counted_where_they_happened(eventful: list[Recorded]) -> None:
    rows = reward_rows(fold(eventful))
    assert [row.components["unsafe_action"] for row in rows] == [0, 0, 1, 0]
    assert [row.components["stability"] for row in rows] == [0, 1, 0, 0]


def bad_then_good(scribe: Any, bad: int, good: int) -> RunState:
    readings, failed = [], 0
    for t in range(5, bad + good + 5, 5):
        failed += 50 if t <= bad else 0
        readings.append((float(t), 10 * t, 10 * t, failed))
    return after(scribe, readings, seconds=bad + good)


def test_an_emergency_is_a_low_availability_that_lasts(scribe: Any, at: Any) -> None:
    rule = Emergency(availability_below=0.2, for_seconds=60)
    assert reached_emergency(bad_then_good(scribe, 60, 0), rule, start=at(0), now=at(60))
    assert not reached_emergency(bad_then_good(scribe, 30, 0), rule, start=at(0), now=at(30))
    assert not reached_emergency(bad_then_good(scribe, 60, 30), rule, start=at(0), now=at(90))
    assert not reached_emergency(bad_then_good(scribe, 60, 0), rule, start=at(30), now=at(60))


def test_a_goal_needs_a_breach_before_and_a_hold_after(scribe: Any, at: Any) -> None:
    rule = Goal(hold_seconds=60)
    assert reached_goal(bad_then_good(scribe, 30, 60), rule, start=at(0), now=at(90))
    assert not reached_goal(bad_then_good(scribe, 30, 30), rule, start=at(0), now=at(60))
    assert not reached_goal(bad_then_good(scribe, 0, 90), rule, start=at(0), now=at(90))
    assert not reached_goal(bad_then_good(scribe, 30, 60), rule, start=at(30), now=at(90))


def rollout(at: Any, name: str, replicas: int) -> RolloutStatus:
    return RolloutStatus(
        time=at(0),
        change="modified",
        kind="Deployment",
        service="cart",
        name=name,
        uid=name,
        owner_uid="",
        generation=1,
        observed_generation=1,
        revision="1",
        replicas_desired=replicas,
        replicas_updated=replicas,
        replicas_ready=replicas,
        replicas_available=replicas,
        cpu_request_cores=0.5,
        cpu_limit_cores=0.5,
    )


def cost_of(scribe: Any, at: Any, *rows: RolloutStatus) -> float:
    log = scribe()
    log.workload(every_five_seconds(10, 10, 0, until=60))
    log.flush(5)
    log.add(RolloutsObserved(time=at(5), rows=rows))
    log.flush(60)
    return reward_rows(fold(log.entries))[1].components["resource_cost"]


def test_a_service_that_is_switched_off_costs_what_one_replica_costs(scribe: Any, at: Any) -> None:
    one = cost_of(scribe, at, rollout(at, "cart", 1))
    assert one == pytest.approx(0.5 * 30 / 3600)
    assert cost_of(scribe, at, rollout(at, "cart", 0)) == one
    assert cost_of(scribe, at, rollout(at, "cart", 2)) == pytest.approx(2 * one)


def test_pods_of_the_other_version_cost_what_they_cost(scribe: Any, at: Any) -> None:
    one = cost_of(scribe, at, rollout(at, "cart", 1))
    assert cost_of(scribe, at, rollout(at, "cart", 1), rollout(at, "cart-canary", 1)) == pytest.approx(2 * one)
    assert cost_of(scribe, at, rollout(at, "cart", 0), rollout(at, "cart-canary", 1)) == pytest.approx(one)
