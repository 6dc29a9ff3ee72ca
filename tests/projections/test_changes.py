"""What happened to an object is told by two of its states, in the words in which people ask for it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from otel_control_gym.engine.events import AutoscalerStatus, PodTransition, RolloutStatus, RouteStatus
from otel_control_gym.projections.changes import autoscaler_change, pod_change, rollout_change, route_change

POD = PodTransition(
    time=0,
    change="modified",
    service="cart",
    pod="cart-1",
    uid="pod",
    owner_uid="",
    phase="Pending",
    ready=False,
    restart_count=0,
    running=False,
)
ROLLOUT = RolloutStatus(
    time=0,
    change="modified",
    kind="Deployment",
    service="cart",
    name="cart",
    uid="deployment",
    owner_uid="",
    generation=1,
    observed_generation=1,
    revision="1",
    replicas_desired=2,
    replicas_updated=2,
    replicas_ready=2,
    replicas_available=2,
)
AUTOSCALER = AutoscalerStatus(
    time=0,
    change="modified",
    name="cart",
    uid="hpa",
    deployment="cart",
    replicas_min=1,
    replicas_max=4,
    cpu_utilization_percent=60,
    replicas_current=1,
    replicas_wanted=1,
    active=True,
)


def states(first: Any, *changes: dict[str, Any]) -> list[Any]:
    """Return successive states, each with some fields changed from the one before."""
    import msgspec

    found = [first]
    for change in changes:
        found.append(msgspec.structs.replace(found[-1], **change))
    return found


RUNNING = {"phase": "Running", "node": "node-0", "running": True, "ready": True}


def test_the_life_of_a_pod_reads_from_its_making_to_its_deletion() -> None:
    life = states(
        POD,
        {"node": "node-0"},
        {"reason": "ContainerCreating"},
        {"phase": "Running", "running": True, "reason": ""},
        {"ready": True},
        {"running": False, "ready": False, "reason": "OOMKilled"},
        {"running": True, "restart_count": 1},
        {"ready": True},
        {"running": False, "ready": False},  # its last end had the same reason: still, it was killed
        {"reason": "CrashLoopBackOff"},
        {"running": True, "reason": "OOMKilled", "restart_count": 2},
        {"ready": True},
        {"running": False, "ready": False, "reason": "Error"},
        {"running": True, "restart_count": 3},
        {"ready": True},
        {"ready": False},
        {"terminating": True},
        {"running": False, "reason": "Completed"},
        {"change": "deleted"},
    )
    made = pod_change(None, states(life[0], {"change": "added"})[-1])
    assert [made.type, *(pod_change(*pair).type for pair in pairwise(life))] == [
        *("created", "scheduled", "waiting", "started", "ready"),
        *("killed", "restarted", "ready", "killed", "backing_off", "restarted", "ready"),
        *("stopped", "restarted", "ready", "unready", "terminating", "stopped", "deleted"),
    ]
    assert pod_change(life[4], life[5]).reason == "OOMKilled"
    assert pod_change(life[6], life[7]).reason == "", "that it was killed once is no news when it gets ready"


def test_what_is_whole_when_it_is_first_seen_was_found_and_not_made() -> None:
    assert pod_change(None, states(POD, {"change": "added", **RUNNING})[-1]).type == "found"
    assert rollout_change(None, states(ROLLOUT, {"change": "added"})[-1]).type == "found"
    assert rollout_change(None, states(ROLLOUT, {"change": "added", "replicas_ready": 0})[-1]).type == "created"


@pytest.mark.parametrize(
    ("changes", "types"),
    [
        (
            [
                {"generation": 2, "revision": "2"},
                {"observed_generation": 2, "replicas_updated": 0},
                {"replicas_updated": 2, "replicas_ready": 1, "replicas_available": 1},
                {"replicas_ready": 2, "replicas_available": 2},
            ],
            ["new_revision", "progressing", "progressing", "complete"],
        ),
        (
            [
                {"generation": 2, "replicas_desired": 3},
                {"observed_generation": 2},
                {"replicas_updated": 3, "replicas_ready": 3, "replicas_available": 3},
            ],
            ["scaled", "progressing", "complete"],
        ),
        (
            [{"replicas_ready": 1, "replicas_available": 1}, {"replicas_ready": 2, "replicas_available": 2}],
            ["degraded", "complete"],
        ),
        ([{"generation": 2}, {"stalled": "ProgressDeadlineExceeded"}], ["respecified", "stalled"]),
    ],
)
def test_a_rollout_reads_from_its_cause_to_its_end(changes: list[dict[str, Any]], types: list[str]) -> None:
    assert [rollout_change(*pair).type for pair in pairwise(states(ROLLOUT, *changes))] == types


def test_a_scaling_tells_from_where_to_where() -> None:
    before, after = states(ROLLOUT, {"replicas_desired": 5, "generation": 2})
    assert rollout_change(before, after).message.startswith("desired=2->5 ")


def test_an_autoscaler_s_decision_is_told_apart_from_a_change_of_its_bounds() -> None:
    course = states(AUTOSCALER, {"replicas_wanted": 3}, {"replicas_current": 3}, {"replicas_max": 6}, {"active": False})
    types = [autoscaler_change(*pair).type for pair in pairwise(course)]
    assert types == ["decided", "followed", "respecified", "inactive"]


def test_a_route_tells_its_shares() -> None:
    route = RouteStatus(time=0, change="added", name="r", uid="r", parent="cart", weights={"b": 0.25, "a": 0.75})
    assert (route_change(None, route).type, route_change(None, route).message) == (
        "created",
        "parent=cart a=0.75 b=0.25",
    )
    assert route_change(route, states(route, {"change": "modified", "weights": {"a": 1.0}})[-1]).type == "shifted"
