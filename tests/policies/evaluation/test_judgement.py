"""An episode is judged to its horizon: an emergency can't be escaped, a recovery is one only if it lasts, what wasn't seen is censored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.policies.evaluation.judgement import Judgement, LivedStep, check_judgeable, judge

NOOP: dict[str, Any] = {"type": "noop"}


@pytest.fixture(scope="module")
def rules() -> RunSettings:
    """Steps and reward buckets of 30 s; a goal holds for 120 s; an emergency is 120 s below 0.2."""
    return ocg.resolve("small-core", episode="evaluation", horizon_seconds=480).public


def lived(availability: float = 1.0, *, cost: float = 0.02, action: dict[str, Any] = NOOP) -> LivedStep:
    """A step whose users were served so well, or badly."""
    missed = availability < 0.99
    components = {
        "slo_satisfaction": availability,
        "error_budget_burn": (1 - availability) / 0.01,
        "recovery_time": 30.0 * missed,
        "resource_cost": cost,
        "stability": 0.0,
        "unsafe_action": 0.0,
    }
    reward = availability - 0.005 * components["error_budget_burn"] - 0.01 * components["recovery_time"] - 5 * cost
    return LivedStep(reward=reward, components=components, action=action, status="applied")


def judged(rules: RunSettings, *availability: float) -> Judgement:
    return judge([lived(value) for value in (*availability, *[1.0] * (16 - len(availability)))], rules)


def test_without_a_breach_there_is_nothing_to_recover_from(rules: RunSettings) -> None:
    found = judged(rules)
    assert (found.breached, found.recovered, found.time_to_recovery_s, found.violation_minutes) == (False, True, 0, 0)
    assert found.total_return == found.raw_return == pytest.approx(16 * 0.9)


def test_recovery_counts_from_the_first_miss_to_where_it_began_to_hold(rules: RunSettings) -> None:
    assert judged(rules, 1, 1, 0.5, 0.5, 0.5).time_to_recovery_s == 90
    relapsed = judged(rules, 1, 0.5, 1, 1, 1, 0.5)
    assert (relapsed.recovered, relapsed.time_to_recovery_s) == (True, 150)


def test_what_was_good_too_briefly_is_no_recovery_and_not_known_to_be_none(rules: RunSettings) -> None:
    late = judged(rules, *[0.5] * 13)  # three good steps at the end: a hold takes four
    assert (late.recovered, late.time_to_recovery_s) == (False, 390)
    never = judged(rules, *[0.5] * 16)
    assert (never.recovered, never.time_to_recovery_s) == (False, 480)


def test_from_an_emergency_on_the_worst_is_charged_even_if_all_gets_well(rules: RunSettings) -> None:
    found = judged(rules, 1, 0.1, 0.1, 0.1, 0.1)
    assert found.emergency_s == 150
    worst = 0.0 - 0.005 * 100 - 0.01 * 30 - 5 * 0.02
    before = sum(lived(value).reward for value in (1, 0.1, 0.1, 0.1, 0.1))
    assert found.total_return == pytest.approx(before + 11 * worst)
    assert found.raw_return > found.total_return


def test_a_short_low_is_no_emergency(rules: RunSettings) -> None:
    assert judged(rules, 0.1, 0.1, 0.1, 1, 0.1, 0.1, 0.1).emergency_s is None


def test_steps_that_are_missing_count_as_the_worst(rules: RunSettings) -> None:
    broken = judge([lived()] * 10, rules)
    assert broken.total_return == pytest.approx(10 * 0.9 + 6 * (-0.8))
    assert broken.violation_minutes == 3


def test_deeds_and_costs_are_added_up(rules: RunSettings) -> None:
    steps = [lived(action={"type": "restart", "target": "cart"}), *[lived(cost=0.03)] * 15]
    found = judge(steps, rules)
    assert found.actions == 1
    assert found.cost == pytest.approx(0.02 + 15 * 0.03)


def test_an_episode_that_ends_early_can_not_be_judged() -> None:
    check_judgeable(ocg.resolve("small-core", episode="evaluation").public, "x.yaml")
    with pytest.raises(ConfigurationError, match="runs_on: true"):
        check_judgeable(ocg.resolve("small-core", episode="recovery").public, "x.yaml")
    slow = ocg.resolve("small-core", episode="evaluation").public
    slow = msgspec.structs.replace(slow, granularity=msgspec.structs.replace(slow.granularity, control_step_seconds=60))
    with pytest.raises(ConfigurationError, match="reward_bucket_seconds"):
        check_judgeable(slow, "x.yaml")
