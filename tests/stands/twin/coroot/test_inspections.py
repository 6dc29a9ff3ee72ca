"""What each check looks at, and what it can't see."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot.cache import Cache
from otel_control_gym.stands.twin.coroot.cluster import Cluster
from otel_control_gym.stands.twin.coroot.incidents import Incident
from otel_control_gym.stands.twin.coroot.inspections import Inspection, inspect
from tests.stands.twin.coroot.conftest import START, Series, cluster

Sample = tuple[dict[str, str], float]
POD = {"k8s_deployment_name": "cart", "k8s_pod_name": "cart-1"}
EDGE = {"app_id": "/k8s/shop/frontend", "destination": "cart:8080"}
MIB = 2**20


def inspected(
    minutes: int,
    *,
    pod: Callable[[int], dict[str, float]] = lambda minute: {},
    link: Callable[[int], dict[str, float]] = lambda minute: {},
    observe: Callable[[int], Cluster] = lambda minute: cluster(),
    incident: Incident | None = None,
) -> dict[str, Inspection]:
    """Return the inspections after some minutes; `pod` and `link` give the values of series in a minute."""
    telemetry, agent, now = Series(), Series(), 0
    cache = Cache(telemetry.stored, agent.stored, lambda: observe(now), start=START, scrape_seconds=15)
    for seconds in range(0, minutes * 60 + 15, 15):
        now = seconds // 60
        telemetry.scrape(seconds, *(({"__name__": name} | POD, value) for name, value in pod(now).items()))
        agent.scrape(seconds, *(({"__name__": name} | EDGE, value) for name, value in link(now).items()))
        cache.update(START + seconds * SECOND)
    return inspect(cache, lambda name: incident, cache.latest - 3600 * SECOND, cache.latest)


def firing(inspection: Inspection) -> dict[str, str]:
    return {
        check.id: check.message
        for report in inspection.reports
        for check in report.checks
        if check.status in ("warning", "critical")
    }


def cpu(used: float, limit: float | None) -> Callable[[int], dict[str, float]]:
    gauges = {"k8s_pod_cpu_usage": used} | ({} if limit is None else {"k8s_container_cpu_limit": limit})
    return lambda minute: gauges


def test_a_container_near_its_limit_is_seen_and_the_map_s_status_isn_t_raised_by_it() -> None:
    found = inspected(2, pod=cpu(0.45, 0.5))["cart"]
    assert firing(found) == {"CPUContainer": "high CPU utilization of 1 container"}
    assert found.status == "ok"  # of its instances; a report on the CPU is an indicator only
    assert firing(inspected(2, pod=cpu(0.39, 0.5))["cart"]) == {}


def test_a_busy_container_without_a_limit_is_a_matter_of_the_node_s_and_everybody_on_it_is_blamed() -> None:
    assert firing(inspected(2, pod=cpu(3.1, None))["cart"]) == {}
    everyone = inspected(2, pod=cpu(3.3, None))
    assert {name: list(firing(found)) for name, found in everyone.items()} == {
        "frontend": ["CPUNode"],
        "cart": ["CPUNode"],
        "store": ["CPUNode"],
    }


def test_a_check_of_the_last_point_forgets_at_once() -> None:
    assert firing(inspected(10, pod=lambda minute: cpu(0.5 if minute < 10 else 0.1, 0.5)(minute))["cart"]) == {}


@pytest.mark.parametrize(("minutes", "seen"), [(40, True), (59, True), (75, False)])
def test_restarts_are_held_against_an_application_until_they_leave_the_window(minutes: int, seen: bool) -> None:
    found = inspected(minutes, pod=lambda minute: {"k8s_container_restarts": float(min(minute, 2))})["cart"]
    assert (firing(found) == {"InstanceRestarts": "app containers have been restarted 2 times"}) == seen


def test_one_restart_is_none() -> None:
    assert firing(inspected(10, pod=lambda minute: {"k8s_container_restarts": float(minute > 3)})["cart"]) == {}


def test_containers_that_were_killed_for_their_memory_are_counted_once_each() -> None:
    kills = ["", "", "2026-01-05T00:02:01Z", "2026-01-05T00:02:01Z", "2026-01-05T00:04:30Z", "2026-01-05T00:04:30Z"]
    found = inspected(
        5, pod=cpu(0.1, 0.5), observe=lambda minute: cluster(oom={"cart": kills[minute]} if kills[minute] else None)
    )
    assert firing(found["cart"]) == {"MemoryOOM": "app containers have been restarted 2 times by the OOM killer"}
    assert firing(found["frontend"]) == {}


@pytest.mark.parametrize(
    ("memory", "leaks"),
    [
        (lambda minute: 100 + 0.5 * minute, True),  # 30 % an hour
        (lambda minute: 100 + 0.1 * minute, False),  # 6 %
        (lambda minute: 100 + min(minute, 40), False),  # has stopped
        (lambda minute: 100 + 5 * (minute % 2), False),  # goes to and fro
        (lambda minute: 10 + 0.05 * minute, False),  # 30 % an hour, but little of the limit
    ],
)
def test_memory_that_grows_on_is_a_leak(memory: Callable[[int], float], leaks: bool) -> None:
    def gauges(minute: int) -> dict[str, float]:
        return {
            "k8s_pod_memory_working_set_bytes": memory(minute) * MIB,
            "k8s_container_memory_limit_bytes": 200.0 * MIB,
        }

    assert ("MemoryLeakPercent" in firing(inspected(60, pod=gauges)["cart"])) == leaks
    assert firing(inspected(30, pod=gauges)["cart"]) == {}  # half an hour is too short to tell


def test_a_long_round_trip_is_the_caller_s_finding() -> None:
    link = {"container_net_latency_seconds": 0.02, "container_net_tcp_active_connections": 1.0}
    found = inspected(2, link=lambda minute: link)
    assert firing(found["frontend"]) == {"NetworkRTT": "high network latency to 1 upstream service"}
    assert firing(found["cart"]) == {}


def test_a_delay_that_the_probe_doesn_t_wait_for_looks_like_a_partition() -> None:
    alive = {"container_net_tcp_active_connections": 1.0}
    found = inspected(4, link=lambda minute: alive | ({"container_net_latency_seconds": 0.001} if minute < 3 else {}))
    assert firing(found["frontend"]) == {"NetworkConnectivity": "no connectivity with 1 upstream service"}


def test_a_callee_without_pods_is_a_matter_of_failed_connections_and_looks_healthy_itself() -> None:
    def link(minute: int) -> dict[str, float]:
        trips = {"container_net_latency_seconds": 0.001} if minute < 2 else {}
        return trips | {"container_net_tcp_failed_connects_total": max(0.0, minute - 2) * 10.0}

    found = inspected(4, link=link, observe=lambda minute: cluster(running=("frontend", "store")))
    assert firing(found["frontend"]) == {"NetworkTCPConnections": "failed to connect to 1 upstream service"}
    assert firing(found["cart"]) == {}


def test_a_rollout_that_lasts_is_told() -> None:
    rolling = inspected(6, pod=cpu(0.1, 0.5), observe=lambda minute: cluster(rolling=("cart",) if minute else ()))
    assert firing(rolling["cart"]) == {"DeploymentStatus": "the rollout has already been in progress for 5m"}
    assert firing(inspected(3, observe=lambda minute: cluster(rolling=("cart",) if minute else ()))["cart"]) == {}
