"""Rules act on what they are for and on nothing else, leave time for an effect, and know nothing but the observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from otel_control_gym.policies.rules import (
    ClusterAutoscaler,
    RestartOnError,
    RollbackOnBadRollout,
    ThresholdAutoscaler,
)

SERVICES = ("frontend", "cart", "checkout")
NOOP = {"type": "noop"}
Sight = Callable[..., Any]


def test_a_calm_system_is_left_alone(sight: Sight) -> None:
    for policy in (
        ThresholdAutoscaler(SERVICES),
        RestartOnError(SERVICES),
        RollbackOnBadRollout(SERVICES, entry="frontend"),
    ):
        assert all(policy.decide(sight(), step, 30 * step).action == NOOP for step in range(5))


def test_the_busiest_service_gets_as_many_pods_as_bring_it_to_the_aim(sight: Sight) -> None:
    busy = sight({"frontend": {"cpu_saturation": 0.95, "replicas_desired": 3}, "cart": {"cpu_saturation": 0.85}})
    assert ThresholdAutoscaler(SERVICES).decide(busy, 0, 0).action == {
        "type": "scale",
        "target": "frontend",
        "replicas": 5,
    }


def test_between_the_thresholds_nothing_happens_and_after_a_change_it_waits(sight: Sight) -> None:
    policy = ThresholdAutoscaler(("frontend",))
    assert policy.decide(sight({"frontend": {"cpu_saturation": 0.79}}), 0, 0).action == NOOP
    busy = sight({"frontend": {"cpu_saturation": 0.9}})
    assert [policy.decide(busy, step, 30 * step).action["type"] for step in range(1, 5)] == [
        "scale",
        "noop",
        "scale",
        "noop",
    ]


def test_what_was_added_is_taken_back_but_no_more_than_that(sight: Sight) -> None:
    policy = ThresholdAutoscaler(("frontend",))
    policy.decide(sight(), 0, 0)  # one replica when control began
    idle = sight({"frontend": {"cpu_saturation": 0.1, "replicas_desired": 2}})
    assert policy.decide(idle, 10, 300).action == {"type": "scale", "target": "frontend", "replicas": 1}
    assert policy.decide(sight({"frontend": {"cpu_saturation": 0.1}}), 30, 900).action == NOOP


def test_what_is_unknown_is_not_acted_on(sight: Sight) -> None:
    dark = sight({name: {"cpu_saturation": np.nan} for name in SERVICES})
    assert ThresholdAutoscaler(SERVICES).decide(dark, 0, 0).action == NOOP


def test_the_clusters_autoscaler_is_set_once_for_each_target(sight: Sight) -> None:
    policy = ClusterAutoscaler(("frontend", "cart"), cpu_utilization_percent=70)
    deeds = [policy.decide(sight(), step, 30 * step).action for step in range(4)]
    assert [deed.get("target") for deed in deeds] == ["frontend", "cart", None, None]
    assert deeds[0]["cpu_utilization_percent"] == 70


def test_the_service_that_fails_by_itself_is_restarted_not_the_one_that_passes_errors_on(sight: Sight) -> None:
    failing = sight(
        {"frontend": {"error_ratio": 0.3}, "checkout": {"error_ratio": 0.4}},
        {("frontend", "checkout"): 0.4, ("checkout", "cart"): 0.4, ("frontend", "cart"): 0.3},
    )
    policy = RestartOnError(SERVICES)
    assert policy.decide(failing, 4, 120).action == {"type": "restart", "target": "cart"}
    assert policy.decide(failing, 5, 150).action == NOOP
    assert policy.decide(failing, 10, 300).action["type"] == "restart"


@pytest.mark.parametrize("bad", [{"error_ratio": 0.2}, {"latency_mean_ms": 900.0}])
def test_the_newest_rollout_is_taken_back_once_if_users_suffer(sight: Sight, bad: dict[str, float]) -> None:
    policy = RollbackOnBadRollout(SERVICES, entry="frontend")
    rolled = {"cart": 100, "checkout": 200}
    assert policy.decide(sight(rollouts=rolled), 3, 90).action == NOOP
    suffering = sight({"frontend": bad})
    deeds = [policy.decide(suffering, step, 30 * step).action.get("target") for step in range(4, 7)]
    assert deeds == ["checkout", "cart", None]
