"""Incidents and alerts ➜ their documents in Coroot's API.

In: an `Incident` or `Alert` of the detector. Out: JSON values; times in milliseconds, zero times null, shares per cent. The cause of an
incident is always that of the community edition without a cloud account: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot.alerts import Alert
from otel_control_gym.stands.twin.coroot.incidents import OBJECTIVE, BurnRate, Incident

__all__ = ("CATEGORY", "NO_CAUSE", "alert_document", "incident_details", "incident_document", "incident_window")

Json = dict[str, Any]
CATEGORY = "application"  #: of all applications of the demo
NO_CAUSE: Json = {  # the community edition without a cloud account
    "status": "AI disabled",
    "error": "",
    "short_summary": "",
    "root_cause": "",
    "immediate_fixes": "",
    "detailed_root_cause_analysis": "",
    "propagation_map": None,
    "widgets": None,
}
_LATENCY_SECONDS = 0.5


def incident_document(item: Incident, identifier: str, now: int) -> Json:
    """Return an incident as the list of incidents has it, but for its cause.

    Args:
        identifier: its application's.
        now: until when an open one has lasted [ns].
    """
    availability, latency = item.availability_impact * 100, item.latency_impact * 100
    text = {
        (True, True): "High latency and errors",
        (False, True): "High latency",
        (True, False): "Elevated error rate",
    }.get((availability > 0, latency > 0), "SLO violation")
    return {
        "application_id": identifier,
        "key": item.key,
        "opened_at": _milliseconds(item.opened),
        "resolved_at": _milliseconds(item.resolved),
        "severity": "critical",
        "impact": max(availability, latency),
        "short_description": text,
        "application_category": CATEGORY,
        "duration": _milliseconds((item.resolved or now) - item.opened),
        "cluster": identifier.partition(":")[0],
        "details": {
            "availability_burn_rates": _burn_rates(item.availability),
            "latency_burn_rates": _burn_rates(item.latency),
            "availability_impact": {"percentage": availability},
            "latency_impact": {"percentage": latency},
        },
    }


def incident_details(item: Incident, now: int) -> Json:
    """Return what only the document of a single incident has."""
    start, end = incident_window(item, now)
    slo = {"objective": f"{OBJECTIVE:.0%}", "threshold": None}
    return {
        "rca": NO_CAUSE,
        "availability_slo": slo
        | {
            "compliance": f"{1 - item.availability_impact:.2%}",
            "violated": any(rate.firing for rate in item.availability),
        },
        "latency_slo": slo
        | {
            "compliance": f"{1 - item.latency_impact:.2%}",
            "violated": any(rate.firing for rate in item.latency),
            "threshold": f"{_LATENCY_SECONDS * 1000:.0f}ms",
        },
        "actual_from": _milliseconds(start),
        "actual_to": _milliseconds(end),
        "widgets": None,
    }


def alert_document(item: Alert, identifier: str, now: int) -> Json:
    """Return an alert; see `incident_document`."""
    return {
        "id": item.id,
        "rule_id": item.rule.id,
        "rule_name": item.rule.name,
        "application_id": identifier,
        "application_category": CATEGORY,
        "severity": "warning",
        "summary": item.summary,
        "details": [{"name": "Description", "value": item.rule.description}],
        "opened_at": _milliseconds(item.opened),
        "resolved_at": _milliseconds(item.resolved),
        "updated_at": _milliseconds(item.updated),
        "suppressed": False,
        "resolved_by": "",
        "report": item.report,
        "duration": _milliseconds((item.resolved or now) - item.opened),
        "log_pattern_hash": "",
    }


def incident_window(item: Incident, now: int) -> tuple[int, int]:
    """Return the window in which an incident is looked at [ns]: 65 minutes more on both sides, a day at most."""
    end = min(now, (item.resolved or now) + 65 * 60 * SECOND)
    return max(item.opened - 65 * 60 * SECOND, end - 86_400 * SECOND), end


def _milliseconds(time: int | None) -> int | None:
    return None if time is None else time // 1_000_000


def _burn_rates(rates: Sequence[BurnRate]) -> list[Json]:
    return [
        {
            "long_window": rate.rule.long_seconds * 1000,
            "short_window": rate.rule.short_seconds * 1000,
            "long_window_percentage": rate.long_share * 100,
            "short_window_percentage": rate.short_share * 100,
            "long_window_burn_rate": rate.long_share / (1 - OBJECTIVE),
            "short_window_burn_rate": rate.short_share / (1 - OBJECTIVE),
            "threshold": rate.rule.threshold,
            "severity": "critical" if rate.firing else "ok",
        }
        for rate in rates
    ]
