"""Coroot's incidents, alerts, firing checks and map links ➜ `Finding`: one mapping, as pure functions.

Coroot's words are kept; what we add is a symptom class, a confidence and, where Coroot's edition names no cause, a suggestion of our own
that says so. Its incidents carry only `critical`, so their confidence is how far the burn rate is above its threshold; edges carry no
error numbers, only whether a connection is there. SLO checks repeat the open incident and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from otel_control_gym.engine.events import Finding

__all__ = (
    "Alert",
    "Application",
    "ApplicationView",
    "Incident",
    "alert_finding",
    "callees",
    "check_findings",
    "edge_findings",
    "incident_finding",
    "is_suspect",
    "with_derived_cause",
)

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
_OWN_CAUSE = ("memory", "cpu", "instancerestarts")  #: beginnings of rules and checks that accuse the application itself
_SATURATION = ("cpu", "memory", "availability")  #: symptoms that make a service a suspect
_LINK_REASONS = {"networkconnectivity": "connectivity issues", "networktcpconnections": "failed connections"}


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


class Indicator(msgspec.Struct):
    """A report of an application that isn't ok."""

    status: str = ""
    message: str = ""


class Application(msgspec.Struct):
    """An application of the service map."""

    id: str
    upstreams: list[Link] | None = None
    indicators: list[Indicator] | None = None


class Check(msgspec.Struct):
    """A check of an application's report."""

    id: str
    status: str = "unknown"
    message: str = ""


class Report(msgspec.Struct):
    """The checks of one subject."""

    name: str = ""
    checks: list[Check] | None = None


class Peer(msgspec.Struct):
    """An application beside the one that was asked for."""

    id: str
    link_status: str = "unknown"
    link_status_reason: str = ""


class Surroundings(msgspec.Struct):
    """Whom an application calls."""

    dependencies: list[Peer] | None = None


class ApplicationView(msgspec.Struct):
    """One application's reports and surroundings."""

    app_map: Surroundings = msgspec.field(default_factory=Surroundings)
    reports: list[Report] | None = None


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
    rule = _plain(alert.rule_id or alert.rule_name)
    service = _service(alert.application_id)
    return Finding(
        time=alert.opened_at * _MILLISECOND,
        key=f"alert:{alert.id}",
        source="alert",
        services=(service,),
        symptom=_symptom(rule),
        severity=alert.severity,
        confidence=_CONFIDENCE.get(alert.severity, 0.0),
        text=alert.summary,
        suggested_cause=service if rule.startswith(_OWN_CAUSE) else "",
        resolved=None if alert.resolved_at is None else alert.resolved_at * _MILLISECOND,
    )


def check_findings(application_id: str, view: ApplicationView, now: int) -> list[Finding]:
    """Return the checks of an application that fire, as findings of this moment; those about its SLOs are its incident."""
    service = _service(application_id)
    found = []
    for report in view.reports or []:
        for check in report.checks or []:
            rule = _plain(check.id)
            if check.status not in _CONFIDENCE or rule.startswith("slo"):
                continue
            peers = [
                _service(peer.id)
                for peer in view.app_map.dependencies or []
                if peer.link_status == "critical" and peer.link_status_reason == _LINK_REASONS.get(rule)
            ]
            found.append(
                Finding(
                    time=now,
                    key=f"check:{service}:{check.id}",
                    source="check",
                    services=(service, *peers),
                    edges=tuple(f"{service}->{peer}" for peer in peers),
                    symptom=_symptom(rule),
                    severity=check.status,
                    confidence=_CONFIDENCE[check.status],
                    text=check.message,
                    suggested_cause=service if rule.startswith(_OWN_CAUSE) else "",
                )
            )
    return found


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


def callees(applications: Sequence[Application]) -> dict[str, tuple[str, ...]]:
    """Return whom each service of the map calls."""
    return {
        _service(application.id): tuple(_service(link.id) for link in application.upstreams or [])
        for application in applications
    }


def is_suspect(finding: Finding) -> bool:
    """Return whether a finding speaks of a saturated, missing or unreachable service: of one that may be a cause."""
    return finding.resolved is None and (
        finding.source == "edge" or (finding.source in ("alert", "check") and finding.symptom in _SATURATION)
    )


def with_derived_cause(incident: Finding, calls: Mapping[str, Sequence[str]], suspects: Sequence[str]) -> Finding:
    """Return an incident with a suggested cause where Coroot names none: the suspect farthest down its calls, the first by name.

    The text says that the suggestion isn't Coroot's.
    """
    if incident.suggested_cause or incident.resolved is not None:
        return incident
    depth = {incident.services[0]: 0}
    frontier = [incident.services[0]]
    while frontier:
        reached = sorted({callee for service in frontier for callee in calls.get(service, ()) if callee not in depth})
        depth |= dict.fromkeys(reached, max(depth.values()) + 1)
        frontier = reached
    reachable = sorted({suspect for suspect in suspects if suspect in depth}, key=lambda name: (-depth[name], name))
    if not reachable:
        return incident
    text = f"{incident.text}; cause derived from other findings, not Coroot's"
    return msgspec.structs.replace(incident, suggested_cause=reachable[0], text=text)


def _plain(rule: str) -> str:
    """Return a rule's or check's name without what tells its spellings apart."""
    return rule.replace("_", "").replace("-", "").replace(" ", "").lower()


def _symptom(rule: str) -> str:
    return next((symptom for beginning, symptom in _SYMPTOMS if rule.startswith(beginning)), rule)
