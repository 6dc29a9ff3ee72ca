"""Alerts: checks that have fired for long enough ➜ what fires, lasts and resolves.

In: the inspections of each refresh. Out: alerts, at most one firing per rule and application. A rule waits `for_seconds` from the first
refresh at which its check fired without a pause, and keeps firing `keep_seconds` after the last one.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.randomness import derive_seed, draw_identifier
from otel_control_gym.stands.twin.coroot.checks import CHECKS
from otel_control_gym.stands.twin.coroot.inspections import Inspection

__all__ = ("ALERT_RULES", "Alert", "AlertBook", "AlertRule")

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class AlertRule(msgspec.Struct, frozen=True, kw_only=True):
    """A built-in rule."""

    id: str
    name: str
    check: str
    for_seconds: int = 0
    keep_seconds: int = 0
    description: str


ALERT_RULES = (
    AlertRule(
        id="memory-oom",
        name="Out of memory kills",
        check="MemoryOOM",
        description="The kernel ends containers that reach their memory limit; what they were serving is lost.",
    ),
    AlertRule(
        id="memory-leak",
        name="Memory leak",
        check="MemoryLeakPercent",
        for_seconds=900,
        keep_seconds=900,
        description="Memory grows steadily; the container will reach its limit.",
    ),
    AlertRule(
        id="cpu-limit",
        name="Container CPU utilization",
        check="CPUContainer",
        for_seconds=300,
        keep_seconds=300,
        description="A container is close to its CPU limit, where it is throttled.",
    ),
    AlertRule(
        id="instance-availability",
        name="Instance availability",
        check="InstanceAvailability",
        for_seconds=120,
        keep_seconds=300,
        description="Instances are missing, and capacity with them.",
    ),
    AlertRule(
        id="instance-restarts",
        name="Instance restarts",
        check="InstanceRestarts",
        description="Containers restart again and again.",
    ),
    AlertRule(
        id="network-connectivity",
        name="Network connectivity",
        check="NetworkConnectivity",
        for_seconds=120,
        keep_seconds=300,
        description="An upstream service doesn't answer probes.",
    ),
    AlertRule(
        id="network-rtt",
        name="Network RTT (in-cluster)",
        check="NetworkRTT",
        for_seconds=300,
        keep_seconds=300,
        description="Round trips to a service in the cluster take long.",
    ),
    AlertRule(
        id="network-tcp-connections",
        name="Network TCP connections",
        check="NetworkTCPConnections",
        for_seconds=300,
        keep_seconds=300,
        description="TCP connections to an upstream service fail.",
    ),
)


class Alert(msgspec.Struct, kw_only=True):
    """A rule that fires for an application, or did; times in ns."""

    id: str
    rule: AlertRule
    application: str
    summary: str
    opened: int
    updated: int  #: when its check last fired
    resolved: int | None = None

    @property
    def report(self) -> str:
        """Return the report whose check it is about."""
        return CHECKS[self.rule.check].report


class AlertBook:
    """All alerts of a run, by the order of their opening."""

    def __init__(self, seed: int) -> None:
        self.alerts: list[Alert] = []
        self._firing: dict[tuple[str, str], Alert] = {}
        self._pending: dict[tuple[str, str], int] = {}  # (rule, application) -> first seen
        self._seed = derive_seed(seed, "coroot alerts")

    def update(self, now: int, inspections: Mapping[str, Inspection]) -> None:
        """Take the verdicts of a refresh; alerts of applications that are gone resolve at once."""
        for rule in ALERT_RULES:
            for application, inspection in inspections.items():
                check = inspection.check(rule.check)
                firing = check is not None and check.status in ("info", "warning", "critical")
                if check is not None and firing:
                    self._fire(now, rule, application, check.message)
                else:
                    self._rest(now, rule, application)
        for key in [key for key in self._firing if key[1] not in inspections]:
            self._firing.pop(key).resolved = now
        self._pending = {key: since for key, since in self._pending.items() if key[1] in inspections}

    def _fire(self, now: int, rule: AlertRule, application: str, summary: str) -> None:
        key = (rule.id, application)
        alert = self._firing.get(key)
        if alert is not None:
            alert.summary, alert.updated = summary, now
            return
        if now - self._pending.setdefault(key, now) < rule.for_seconds * SECOND:
            return
        del self._pending[key]
        identifier = draw_identifier(self._seed, len(self.alerts), alphabet=_LETTERS, length=12)
        alert = Alert(id=identifier, rule=rule, application=application, summary=summary, opened=now, updated=now)
        self._firing[key] = alert
        self.alerts.append(alert)

    def _rest(self, now: int, rule: AlertRule, application: str) -> None:
        key = (rule.id, application)
        self._pending.pop(key, None)
        alert = self._firing.get(key)
        if alert is not None and now - alert.updated >= rule.keep_seconds * SECOND:
            self._firing.pop(key).resolved = now
