"""Coroot's checks: the last hour of an application's series ➜ reports of checks, each ok, firing or without data.

In: the cache, the open incidents, a window. Out: an `Inspection` per application. A check that looks at the last point flaps with it; one
that counts events keeps firing until they have left the window, long after a repair.

Pure: no state, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec
import numpy as np

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot.cache import (
    ACTIVE,
    AVAILABLE,
    CPU,
    CPU_LIMIT,
    DESIRED,
    FAILED_CONNECTS,
    MEMORY,
    MEMORY_LIMIT,
    REQUESTS,
    RESTARTS,
    ROUND_TRIP,
    Cache,
    Link,
    PodName,
)
from otel_control_gym.stands.twin.coroot.checks import CHECKS, CheckRule
from otel_control_gym.stands.twin.coroot.cluster import Cluster
from otel_control_gym.stands.twin.coroot.history import View
from otel_control_gym.stands.twin.coroot.incidents import Incident
from otel_control_gym.stands.twin.time_series import Values

__all__ = ("Check", "Inspection", "Report", "Status", "inspect", "link_states", "worst")

Status = Literal["unknown", "ok", "info", "warning", "critical"]
_ORDER: tuple[Status, ...] = ("unknown", "ok", "info", "warning", "critical")
_HOUR = 3600 * SECOND
_LOST_POINTS = 3  #: without a round trip, after which connectivity is lost
_LEAK_POINTS = 10
_LEAK_LIMIT_SHARE = 0.05  #: of the memory limit, per hour
_LEAK_BYTES = 50 * 2**20  #: per hour, without a limit


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A check's verdict on an application."""

    id: str
    status: Status
    message: str = ""

    @property
    def rule(self) -> CheckRule:
        """Return how it is configured."""
        return CHECKS[self.id]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The checks of one subject."""

    name: str
    checks: tuple[Check, ...]

    @property
    def status(self) -> Status:
        """Return the worst verdict."""
        return worst(check.status for check in self.checks)


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """All reports of an application, and its status on the map: which only the SLOs and the instances can raise."""

    reports: tuple[Report, ...]

    @property
    def status(self) -> Status:
        """Return the status on the map."""
        return worst(report.status for report in self.reports if report.name in ("SLO", "Instances"))

    def check(self, identifier: str) -> Check | None:
        """Return a check, or None where there is no such report."""
        return next((check for report in self.reports for check in report.checks if check.id == identifier), None)


def worst(statuses: Iterable[Status]) -> Status:
    """Return the worst status; unknown if there is none."""
    return max(statuses, key=_ORDER.index, default="unknown")


def inspect(
    cache: Cache, open_incident: Callable[[str], Incident | None], start: int, end: int
) -> dict[str, Inspection]:
    """Return the inspection of every application over start < time <= end [ns]."""
    applications, pods, links = (
        cache.applications.view(start, end),
        cache.pods.view(start, end),
        cache.links.view(start, end),
    )
    findings = _Findings()
    _instances(findings, applications, pods)
    _cpu(findings, pods, cache)
    _memory(findings, pods, cache, start, end)
    _network(findings, links, cache)
    for name, since in cache.rolling_since.items():
        duration = (end - since) // SECOND
        if duration > CHECKS["DeploymentStatus"].threshold:
            findings.add(
                "DeploymentStatus", name, f"the rollout has already been in progress for {_duration(duration)}"
            )
    known = np.any(~np.isnan(applications.values[:, REQUESTS]), axis=1)
    asked = dict(zip(applications.keys, known.tolist(), strict=True))
    return {
        workload.name: Inspection(
            reports=_reports(workload.name, findings, open_incident(workload.name), asked.get(workload.name, False))
        )
        for workload in cache.cluster.workloads
    }


def link_states(view: View[Link], cluster: Cluster) -> list[tuple[Status, str]]:
    """Return each connection's status at the end of the view, and why it is critical.

    Lost round trips tell of lost connectivity only while the callee has running pods, which an agent could probe.
    """
    if not view.values.shape[2]:
        return [("unknown", "")] * len(view.keys)
    running = {pod.workload for pod in cluster.instances if pod.running}
    reachable = np.array([target in running for _, target in view.keys], np.bool_)
    answered = ~np.isnan(view.values[:, ROUND_TRIP])
    lost = reachable & answered.any(axis=1) & ~answered[:, -_LOST_POINTS:].any(axis=1)
    failing = view.values[:, FAILED_CONNECTS, -1] > 0
    alive = failing | (view.values[:, ACTIVE, -1] > 0)
    states: list[tuple[Status, str]] = []
    for is_alive, is_lost, is_failing in zip(alive.tolist(), lost.tolist(), failing.tolist(), strict=True):
        if not is_alive:
            states.append(("unknown", ""))
        elif is_lost:
            states.append(("critical", "connectivity issues"))
        else:
            states.append(("critical", "failed connections") if is_failing else ("ok", ""))
    return states


class _Findings:
    """What fires, and for which applications a check has data."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], None] = {}
        self.messages: dict[tuple[str, str], str] = {}

    def know(self, check: str, application: str) -> None:
        self.known[check, application] = None

    def add(self, check: str, application: str, message: str) -> None:
        self.messages[check, application] = message


def _reports(application: str, findings: _Findings, incident: Incident | None, asked: bool) -> tuple[Report, ...]:
    found: dict[str, list[Check]] = {}
    for identifier, rule in CHECKS.items():
        key = (identifier, application)
        if rule.report == "SLO":
            if asked:
                found.setdefault(rule.report, []).append(_slo_check(identifier, incident))
        elif key in findings.messages:
            check = Check(id=identifier, status="warning", message=findings.messages[key])
            found.setdefault(rule.report, []).append(check)
        elif key in findings.known or identifier == "DeploymentStatus":
            found.setdefault(rule.report, []).append(Check(id=identifier, status="ok"))
        else:
            found.setdefault(rule.report, []).append(Check(id=identifier, status="unknown", message="no data"))
    return tuple(Report(name=name, checks=tuple(checks)) for name, checks in found.items())


def _slo_check(identifier: str, incident: Incident | None) -> Check:
    """Return an SLO's verdict: the open incident's, or ok."""
    rates, text = (
        ((incident.availability if incident else ()), "the app is serving errors")
        if identifier == "SLOAvailability"
        else ((incident.latency if incident else ()), "the app is performing slowly")
    )
    if any(rate.firing for rate in rates):
        return Check(id=identifier, status="critical", message=text)
    return Check(id=identifier, status="ok")


def _instances(findings: _Findings, applications: View[str], pods: View[PodName]) -> None:
    if applications.values.shape[2]:
        desired, available = applications.values[:, DESIRED, -1], applications.values[:, AVAILABLE, -1]
        for name, wanted, there in zip(applications.keys, desired.tolist(), available.tolist(), strict=True):
            if wanted > 0:
                findings.know("InstanceAvailability", name)
                if there < CHECKS["InstanceAvailability"].threshold / 100 * wanted:
                    missing = round(wanted - there)
                    verb = "is" if missing == 1 else "are"
                    findings.add("InstanceAvailability", name, f"{_plural(missing, 'instance')} {verb} unavailable")
    restarts = np.diff(pods.values[:, RESTARTS], axis=1)
    grown = np.nansum(np.maximum(restarts, 0), axis=1)
    for (workload, _), times in zip(pods.keys, grown.tolist(), strict=True):
        findings.know("InstanceRestarts", workload)
        if times > CHECKS["InstanceRestarts"].threshold:
            text = f"app containers have been restarted {_plural(round(times), 'time')}"
            findings.add("InstanceRestarts", workload, text)


def _cpu(findings: _Findings, pods: View[PodName], cache: Cache) -> None:
    if not pods.values.shape[2]:
        return
    usage, limit = pods.values[:, CPU, -1], pods.values[:, CPU_LIMIT, -1]
    hot: dict[str, int] = {}
    for (workload, _), used, allowed in zip(pods.keys, usage.tolist(), limit.tolist(), strict=True):
        if used >= 0:
            findings.know("CPUContainer", workload)
            findings.know("CPUNode", workload)
        if used > CHECKS["CPUContainer"].threshold / 100 * allowed:
            hot[workload] = hot.get(workload, 0) + 1
    for workload, containers in hot.items():
        findings.add("CPUContainer", workload, f"high CPU utilization of {_plural(containers, 'container')}")
    used_on: dict[str, float] = {}
    placed = {(pod.workload, pod.name): pod.node for pod in cache.cluster.instances}
    for key, used in zip(pods.keys, usage.tolist(), strict=True):
        if used >= 0 and key in placed:
            used_on[placed[key]] = used_on.get(placed[key], 0.0) + used
    busy = [node.name for node in cache.cluster.nodes if used_on.get(node.name, 0.0) > 0.8 * node.cores]
    for (workload, _), node in placed.items():
        if node in busy:
            findings.add("CPUNode", workload, f"high CPU utilization of {_plural(1, 'node')}")


def _memory(findings: _Findings, pods: View[PodName], cache: Cache, start: int, end: int) -> None:
    kills: dict[str, int] = {}
    for seen, workload, _ in cache.oom_kills:
        if start < seen <= end:
            kills[workload] = kills.get(workload, 0) + 1
    for workload, times in kills.items():
        text = f"app containers have been restarted {_plural(times, 'time')} by the OOM killer"
        findings.add("MemoryOOM", workload, text)
    growing = _leaks(pods, expected=(end - start) // cache.step)
    for row, (workload, _) in enumerate(pods.keys):
        findings.know("MemoryOOM", workload)
        findings.know("MemoryLeakPercent", workload)
        if growing[row] > CHECKS["MemoryLeakPercent"].threshold:
            findings.add("MemoryLeakPercent", workload, f"memory usage is growing by {growing[row]:.0f}% per hour")


def _leaks(pods: View[PodName], expected: int) -> Values:
    """Return how fast each pod's memory grows [% per hour]; 0 where it doesn't, or not for long or steadily enough.

    Args:
        expected: points in the window; four of five must be known.
    """
    memory = pods.values[:, MEMORY]
    found = np.zeros(len(pods.keys))
    known = (~np.isnan(memory)).sum(axis=1)
    for row in np.flatnonzero(known >= max(_LEAK_POINTS, 0.8 * expected)).tolist():
        there = ~np.isnan(memory[row])
        hours, values = (pods.times[there] - pods.times[0]) / _HOUR, memory[row, there]
        slope = _slope(hours, values)
        limit = pods.values[row, MEMORY_LIMIT, -1]
        floor = _LEAK_LIMIT_SHARE * limit if limit > 0 else _LEAK_BYTES
        quarter = len(values) // 4
        begin = values.mean() + slope * (hours[-1] - 1 - hours.mean())
        if slope > floor and begin > 0 and _slope(hours[-quarter:], values[-quarter:]) > 0:
            found[row] = slope / begin * 100
    return found


def _slope(x: Values, y: Values) -> float:
    centred = x - x.mean()
    spread = float((centred**2).sum())
    return float((centred * y).sum()) / spread if spread > 0 else 0.0


def _network(findings: _Findings, links: View[Link], cache: Cache) -> None:
    items: dict[tuple[str, str], int] = {}
    checks = {"connectivity issues": "NetworkConnectivity", "failed connections": "NetworkTCPConnections"}
    far = np.any(links.values[:, ROUND_TRIP, -1:] > CHECKS["NetworkRTT"].threshold, axis=1)
    states = link_states(links, cache.cluster)
    for (source, _), is_far, (_, reason) in zip(links.keys, far.tolist(), states, strict=True):
        for check in ("NetworkRTT", "NetworkConnectivity", "NetworkTCPConnections"):
            findings.know(check, source)
        if is_far:
            items["NetworkRTT", source] = items.get(("NetworkRTT", source), 0) + 1
        if reason:
            items[checks[reason], source] = items.get((checks[reason], source), 0) + 1
    texts = {
        "NetworkRTT": "high network latency to",
        "NetworkConnectivity": "no connectivity with",
        "NetworkTCPConnections": "failed to connect to",
    }
    for (check, source), count in items.items():
        findings.add(check, source, f"{texts[check]} {_plural(count, 'upstream service')}")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _duration(seconds: int) -> str:
    return f"{seconds // 60}m{seconds % 60}s" if seconds % 60 else f"{seconds // 60}m"
