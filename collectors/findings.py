"""Coroot's incidents, alerts and map links ➜ `Finding`: one mapping, as pure functions.

Coroot's words are kept; what we add is a symptom class and a confidence. Its incidents carry only `critical`, so their confidence
is how far the burn rate is above its threshold; edges carry no error numbers, only whether a connection is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from otel_control_gym.engine.events import Finding

__all__ = ("Alert", "Application", "Incident", "alert_finding", "edge_findings", "incident_finding")

_MILLISECOND = 1_000_000
_CONFIDENCE = {"critical": 0.8, "warning": 0.5, "info": 0.2}
_SYMPTOMS = (  # by the beginning of the rule or check, first match
    ("memory", "memory"),
    ("cpu", "cpu"),
    ("instance", "availability"),
    ("availability", "availability"),
    ("networkrtt", "network_latency"),
    ("networkconnectivity", "partition"),
    ("networktcpconnections", "connect_failure"),
    ("dns", "dns"),
    ("storage", "disk"),
    ("log", "log_errors"),
    ("deployment", "rollout"),
    ("slolatency", "latency"),
    ("sloavailability", "errors"),
)


class BurnRate(msgspec.Struct):
    """How fast an error budget is used up, against the rule's threshold."""

    threshold: float = 0.0
    long_window_burn_rate: float = 0.0
    short_window_burn_rate: float = 0.0


class Impact(msgspec.Struct):
    """Share of bad requests, in per cent."""

    percentage: float = 0.0


class Details(msgspec.Struct):
    """What an incident is about."""

    availability_burn_rates: list[BurnRate] | None = None
    latency_burn_rates: list[BurnRate] | None = None
    availability_impact: Impact = msgspec.field(default_factory=Impact)
    latency_impact: Impact = msgspec.field(default_factory=Impact)


class RootCause(msgspec.Struct):
    """Coroot's own analysis, where there is one."""

    status: str = ""
    short_summary: str = ""


class Incident(msgspec.Struct):
    """An SLO incident; times in ms."""

    application_id: str
    key: str
    opened_at: int
    resolved_at: int | None = None
    severity: str = "critical"
    short_description: str = ""
    details: Details = msgspec.field(default_factory=Details)
    rca: RootCause | None = None


class Alert(msgspec.Struct):
    """A firing or resolved alert; times in ms."""

    id: str
    application_id: str
    severity: str
    opened_at: int
    rule_id: str = ""
    rule_name: str = ""
    summary: str = ""
    resolved_at: int | None = None


class Link(msgspec.Struct):
    """A connection to an application that is called."""

    id: str
    status: str = "unknown"
    stats: list[str] | None = None


class Application(msgspec.Struct):
    """An application of the service map."""

    id: str
    upstreams: list[Link] | None = None


def _service(application_id: str) -> str:
    """Return the name in `cluster:namespace:Kind:name` (older: without cluster)."""
    parts = application_id.split(":", 3)
    return parts[-1]


def incident_finding(incident: Incident) -> Finding:
    """Return an incident as a finding."""
    details = incident.details
    latency, availability = details.latency_burn_rates or [], details.availability_burn_rates or []
    slow, failing = details.latency_impact.percentage > 0, details.availability_impact.percentage > 0
    symptom = "both" if slow and failing else "latency" if slow else "errors"
    burns = [
        min(rate.long_window_burn_rate, rate.short_window_burn_rate) / rate.threshold
        for rate in (*latency, *availability)
        if rate.threshold > 0
    ]
    worst = max(burns, default=0.0)
    cause = incident.rca.short_summary if incident.rca is not None and incident.rca.status == "OK" else ""
    return Finding(
        time=incident.opened_at * _MILLISECOND,
        key=f"incident:{incident.key}",
        source="incident",
        services=(_service(incident.application_id),),
        symptom=symptom,
        severity=incident.severity,
        confidence=min(1.0, worst / 4.0),
        text=f"{incident.short_description} (burn rate {worst:.1f} x threshold)",
        suggested_cause=cause,
        resolved=None if incident.resolved_at is None else incident.resolved_at * _MILLISECOND,
    )


def alert_finding(alert: Alert) -> Finding:
    """Return an alert as a finding."""
    rule = (alert.rule_id or alert.rule_name).replace("_", "").replace("-", "").replace(" ", "").lower()
    symptom = next((symptom for beginning, symptom in _SYMPTOMS if rule.startswith(beginning)), rule)
    service = _service(alert.application_id)
    return Finding(
        time=alert.opened_at * _MILLISECOND,
        key=f"alert:{alert.id}",
        source="alert",
        services=(service,),
        symptom=symptom,
        severity=alert.severity,
        confidence=_CONFIDENCE.get(alert.severity, 0.0),
        text=alert.summary,
        suggested_cause=service if symptom in ("memory", "cpu") else "",
        resolved=None if alert.resolved_at is None else alert.resolved_at * _MILLISECOND,
    )


def edge_findings(applications: Sequence[Application], now: int) -> list[Finding]:
    """Return the links of the map that Coroot calls critical, as findings of this moment."""
    found = []
    for application in applications:
        for link in application.upstreams or []:
            if link.status != "critical":
                continue
            source, target = _service(application.id), _service(link.id)
            text = "; ".join(link.stats or [])
            found.append(
                Finding(
                    time=now,
                    key=f"edge:{source}->{target}",
                    source="edge",
                    services=(source, target),
                    edges=(f"{source}->{target}",),
                    symptom="connect_failure" if "failed connections" in text else "connectivity",
                    severity="critical",
                    confidence=_CONFIDENCE["critical"],
                    text=text,
                    suggested_cause=target,
                )
            )
    return found
