"""A run is void for what the stand did before anything was done to it, and never for what came after."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from otel_control_gym.engine.events import (
    ActionRequested,
    CollectorGap,
    PhaseEntered,
    PodsTransitioned,
    PodTransition,
    Recorded,
    RunDeclared,
    WorkloadObserved,
    WorkloadState,
)
from otel_control_gym.engine.settings import Distortion, Losses
from otel_control_gym.projections import fold
from otel_control_gym.projections.voids import VOID_RULES, find_void, missing_share, onset


def killed(time: int) -> PodsTransitioned:
    row = PodTransition(
        time=time,
        change="modified",
        service="cart",
        pod="cart-1",
        uid="pod",
        owner_uid="",
        phase="Running",
        ready=False,
        restart_count=1,
        reason="OOMKilled",
        running=False,
    )
    return PodsTransitioned(time=time, rows=(row,))


def request(time: int, action_id: str, kind: str = "cpu_pressure") -> ActionRequested:
    return ActionRequested(
        time=time,
        action_id=action_id,
        actor="scripted",
        action_class="intervention",
        action_type=kind,
        target_kind="service",
        target="cart",
        parameters={},
    )


def users(time: int, target: int, active: int, *, rate: float | None = None, scheduled: int = 0) -> WorkloadObserved:
    row = WorkloadState(
        time=time,
        users_target=target,
        users_active=active,
        spawn_rate_per_s=1.0,
        scheduled=scheduled,
        served=scheduled,
        failed=0,
        state="running",
        rate_per_s=rate,
    )
    return WorkloadObserved(time=time, rows=(row,))


def rule(log: Any) -> str | None:
    log.flush(100)
    void = find_void(fold(log.entries))
    assert void is None or void.rule_id in VOID_RULES
    return None if void is None else void.rule_id


@pytest.mark.parametrize(("seconds", "expected"), [(20, "oom-before-onset"), (60, None)])
def test_a_pod_that_was_killed_for_memory_voids_a_run_if_it_was_before_the_onset(
    scribe: Any, at: Any, seconds: int, expected: str | None
) -> None:
    log = scribe()
    log.add(request(at(50), "fault"), truth=True)
    log.add(killed(at(seconds)))
    assert rule(log) == expected


def test_an_action_is_an_onset_too_and_doing_nothing_is_none(scribe: Any, at: Any) -> None:
    log = scribe()
    log.add(request(at(10), "nothing", "noop"))
    log.add(request(at(30), "scaling", "scale"))
    log.add(PhaseEntered(time=at(90), phase="cooldown"))
    log.flush(100)
    assert onset(fold(log.entries)) == at(30)
    log.entries = [entry for entry in log.entries if not isinstance(entry.event, ActionRequested)]
    assert onset(fold(log.entries)) == at(90)


def test_users_that_never_came_void_a_run_and_users_that_came_late_dont(scribe: Any, at: Any) -> None:
    for last, expected in ((80, "load-not-offered"), (95, None)):
        log = scribe()
        for seconds, active in ((60, 10), (80, 50), (100, last)):
            log.add(users(at(seconds), 100, active))
        assert rule(log) == expected


def test_open_arrivals_are_judged_by_their_rate(scribe: Any, at: Any) -> None:
    for scheduled, expected in ((120, "load-not-offered"), (195, None)):
        log = scribe()
        log.add(users(at(60), 0, 0, rate=5.0, scheduled=0))
        log.add(users(at(100), 0, 0, rate=5.0, scheduled=scheduled))
        assert rule(log) == expected


def test_metrics_that_are_missing_void_a_run_unless_they_were_to_be_lost(scribe: Any, at: Any) -> None:
    log = scribe()
    log.add(CollectorGap(time=at(100), source="metrics", start=at(10), end=at(20), reason="no answer"))
    assert rule(log) == "coverage-before-onset"
    entry = log.entries[0]
    assert isinstance(entry.event, RunDeclared)
    telemetry = msgspec.structs.replace(
        entry.event.settings.telemetry, distortion=Distortion(scrapes=Losses(share=0.1))
    )
    settings = msgspec.structs.replace(entry.event.settings, telemetry=telemetry)
    log.entries[0] = msgspec.structs.replace(entry, event=msgspec.structs.replace(entry.event, settings=settings))
    assert rule(log) is None


def test_a_fault_with_its_consequences_is_no_void(eventful: list[Recorded]) -> None:
    assert find_void(fold(eventful)) is None


def test_what_some_services_miss_counts_for_their_share_of_the_services_and_each_moment_once(
    scribe: Any, at: Any
) -> None:
    log = scribe()
    log.add(CollectorGap(time=at(100), source="metrics", start=at(20), end=at(60), reason="x", services=("cart",)))
    log.add(CollectorGap(time=at(100), source="metrics", start=at(40), end=at(70), reason="x", services=("cart", "?")))
    log.add(CollectorGap(time=at(100), source="metrics", start=at(60), end=at(80), reason="x"))
    log.flush(100)
    state = fold(log.entries)
    services = len(state.graph.nodes)
    assert missing_share(state, "metrics", at(0), at(100)) == pytest.approx(
        (60 + 20 * (services - 1)) / (100 * services)
    )
    assert missing_share(state, "metrics", at(50), at(50)) == 0.0
    assert missing_share(state, "spans", at(0), at(100)) == 0.0
