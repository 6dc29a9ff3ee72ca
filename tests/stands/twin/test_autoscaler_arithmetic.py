"""An autoscaler's proposal follows the documented arithmetic, and what isn't known never speeds it up or turns it round."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.stands.twin.autoscaler_arithmetic import Pods, Tolerance, propose_average, propose_utilization


def propose(
    usage: list[int], target: int, *, missing: int = 0, unready: int = 0, current: int | None = None, request: int = 100
) -> int:
    names = [f"pod-{index}" for index in range(len(usage) + missing + unready)]
    pods = Pods(
        usage=dict(zip(names, usage, strict=False)),
        missing=names[len(usage) : len(usage) + missing],
        unready=names[len(usage) + missing :],
    )
    size = len(names) if current is None else current
    requests = dict.fromkeys(names, request)
    return propose_utilization(pods, requests, target=target, current=size, tolerance=Tolerance()).replicas


@pytest.mark.parametrize(
    ("usage", "target", "expected"),
    [
        ([90, 90, 90], 60, 5),  # ceil(3 × 1.5)
        ([30, 30, 30, 30], 60, 2),
        ([61, 61, 61], 60, 3),  # within 10 %
        ([66, 66, 66], 60, 3),  # on its edge
        ([67, 67, 67], 60, 4),
        ([54, 54, 54], 60, 3),
        ([53, 53, 53], 60, 3),  # ceil(3 × 0.883)
        ([0, 0, 0], 60, 0),
    ],
)
def test_a_size_is_the_ratio_times_the_pods_rounded_up(usage: list[int], target: int, expected: int) -> None:
    assert propose(usage, target) == expected


def test_utilisation_is_whole_per_cent_of_the_requests() -> None:
    pods = Pods(usage={"a": 333, "b": 333})
    proposal = propose_utilization(pods, {"a": 1000, "b": 500}, target=40, current=2, tolerance=Tolerance())
    assert proposal.utilization == 44
    assert proposal.average == 333
    assert proposal.replicas == 2


def test_unready_pods_count_nothing_on_the_way_up() -> None:
    assert propose([90, 90], 60, unready=2) == 4, (
        "180 of 400 is below the target: the direction would turn, so nothing changes"
    )
    assert propose([300, 300], 60, unready=1) == 10  # 600/300 = 200 %, × 3
    assert propose([30, 30], 60, unready=2) == 1, "on the way down they don't count at all"


def test_missing_pods_count_as_idle_upwards_and_as_full_downwards() -> None:
    assert propose([200, 200], 100, missing=2) == 4, "400 of 400 is the target"
    assert propose([10, 10, 10], 50, missing=1) == 3  # (30 + 100) / 400 = 32 %, of 50: × 4 = 2.6
    assert propose([10, 10, 10], 150, missing=1) == 2  # a target above 100 counts as such: (30 + 150) / 400 = 45 %


def test_an_average_value_is_compared_as_such() -> None:
    pods = Pods(usage={"a": 300, "b": 100}, missing=["c"])
    assert propose_average(Pods(usage=pods.usage), target=100, current=2, tolerance=Tolerance()).replicas == 4
    assert propose_average(pods, target=400, current=3, tolerance=Tolerance()).replicas == 2  # (300 + 100 + 400) / 3


def test_a_direction_can_have_a_tolerance_of_its_own() -> None:
    pods = Pods(usage={"a": 105})
    requests = {"a": 100}
    assert propose_utilization(pods, requests, target=100, current=1, tolerance=Tolerance(up=0.01)).replicas == 2
    assert propose_utilization(pods, requests, target=100, current=1, tolerance=Tolerance(down=0.01)).replicas == 1


@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=8),
    st.integers(1, 200),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_what_is_not_known_dampens_and_never_turns_the_direction(
    usage: list[int], target: int, missing: int, unready: int
) -> None:
    current = len(usage) + missing + unready
    damped = propose(usage, target, missing=missing, unready=unready)
    ratio = sum(usage) * 100 // (100 * len(usage)) / target
    if ratio > 1.1:
        assert current <= damped <= max(current, math.ceil(ratio * current))
    elif ratio < 0.9 and (missing or not unready):
        assert damped <= current
