"""Windows, rates and bounds hold a proposal as documented, with and without a behavior."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.autoscaler_limits import Past, Verdict, normalize
from otel_control_gym.stands.twin.objects import Object

NOW = 10_000 * SECOND
UP: Object = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
DOWN: Object = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


def held(
    proposed: int,
    current: int,
    *,
    least: int = 1,
    most: int = 100,
    up: Object | None = None,
    down: Object | None = None,
    **past: Any,
) -> Verdict:
    """Return the verdict; with `up` or `down` given there is a behavior. Past moments are seconds before now."""
    spec: Object = {"minReplicas": least, "maxReplicas": most}
    if up is not None or down is not None:
        spec["behavior"] = {"scaleUp": UP | (up or {}), "scaleDown": DOWN | (down or {})}
    moments = {key: [(NOW - ago * SECOND, number) for ago, number in entries] for key, entries in past.items()}
    return normalize(spec, proposed, current=current, now=NOW, past=Past(**moments))


def test_growth_without_a_behavior_is_to_twice_the_size_or_to_four() -> None:
    assert [held(50, size).replicas for size in (1, 2, 3, 10)] == [4, 4, 6, 20]
    assert held(50, 3).limit[0] == "ScaleUpLimit"


def test_growth_with_the_default_behavior_is_by_four_or_to_twice_the_size() -> None:
    assert [held(50, size, up={}).replicas for size in (1, 2, 3, 10)] == [5, 6, 7, 20]


@pytest.mark.parametrize("behavior", [{}, {"up": {}}])
def test_a_size_is_not_lowered_below_what_was_recommended_in_five_minutes(behavior: Any) -> None:
    verdict = held(2, 8, recommendations=[(310, 9), (290, 6), (100, 4)], **behavior)
    assert verdict.replicas == 6
    assert verdict.stabilization[0] == "ScaleDownStabilized"
    assert held(2, 8, recommendations=[(310, 9), (301, 6)], **behavior).replicas == 2


def test_a_window_upwards_waits_for_what_lasts() -> None:
    window = {"stabilizationWindowSeconds": 60}
    verdict = held(8, 3, up=window, recommendations=[(50, 4), (10, 9)])
    assert verdict.replicas == 4
    assert verdict.stabilization[0] == "ScaleUpStabilized"
    assert held(7, 3, up=window, recommendations=[(61, 3), (30, 8)]).replicas == 7


def test_a_policy_counts_what_was_changed_within_its_period() -> None:
    slow = {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}
    assert held(20, 5, up=slow).replicas == 7
    assert held(20, 7, up=slow, ups=[(30, 2)]).replicas == 7
    assert held(20, 7, up=slow, ups=[(61, 2)]).replicas == 9
    assert held(20, 7, up=slow, ups=[(30, 2)], downs=[(20, 1)]).replicas == 8, "net changes count"
    gentle = {"policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}], "stabilizationWindowSeconds": 0}
    verdict = held(1, 50, down=gentle)
    assert (verdict.replicas, verdict.limit[0]) == (45, "ScaleDownLimit")
    assert held(1, 45, down=gentle, downs=[(59, 5)]).replicas == 45


def test_the_select_policy_joins_policies_or_forbids_a_direction() -> None:
    policies = [
        {"type": "Pods", "value": 1, "periodSeconds": 60},
        {"type": "Percent", "value": 50, "periodSeconds": 60},
    ]
    window = {"policies": policies, "stabilizationWindowSeconds": 0}
    assert held(50, 10, up=window).replicas == 15
    assert held(50, 10, up=window | {"selectPolicy": "Min"}).replicas == 11
    assert held(1, 10, down=window).replicas == 5
    assert held(1, 10, down=window | {"selectPolicy": "Min"}).replicas == 9
    assert held(1, 10, down=window | {"selectPolicy": "Disabled"}).replicas == 10
    assert held(50, 10, up=window | {"selectPolicy": "Disabled"}).replicas == 10


def test_bounds_hold_and_say_so() -> None:
    assert (held(9, 3, most=5).replicas, held(9, 3, most=5).limit[0]) == (5, "TooManyReplicas")
    assert (held(0, 3, least=2).replicas, held(0, 3, least=2).limit[0]) == (2, "TooFewReplicas")
    verdict = held(4, 3)
    assert (verdict.replicas, verdict.limited, verdict.limit[0]) == (4, False, "DesiredWithinRange")


@given(
    st.integers(0, 60),
    st.integers(2, 20),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=6),
)
def test_whatever_is_recommended_the_bounds_hold_and_the_size_moves_towards_it(
    proposed: int, current: int, with_behavior: bool, recommendations: list[tuple[int, int]]
) -> None:
    behavior: Any = {"up": {}} if with_behavior else {}
    replicas = held(proposed, current, least=2, most=20, recommendations=recommendations, **behavior).replicas
    assert 2 <= replicas <= 20
    extremes = [current, proposed, *(number for _, number in recommendations)]
    assert min([2, *extremes]) <= replicas <= max(extremes)
    if not recommendations:
        assert (replicas - current) * (proposed - current) >= 0
