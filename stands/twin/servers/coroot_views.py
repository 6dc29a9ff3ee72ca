"""The detector's state ➜ the documents of Coroot's API.

In: a `Detector`, as of its last refresh, and ids of its applications. Out: JSON values with the field names that its web interface reads.
Times are milliseconds, zero times null, windows milliseconds, shares per cent; statistics are texts for people, as there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot.alerts import Alert
from otel_control_gym.stands.twin.coroot.cache import CPU, MEMORY
from otel_control_gym.stands.twin.coroot.checks import CHECKS
from otel_control_gym.stands.twin.coroot.detector import WINDOW_SECONDS, Detector, LinkState
from otel_control_gym.stands.twin.coroot.incidents import Incident
from otel_control_gym.stands.twin.coroot.inspections import Check, Inspection, Report, worst
from otel_control_gym.stands.twin.servers.coroot_incidents import (
    CATEGORY,
    NO_CAUSE,
    alert_document,
    incident_details,
    incident_document,
)

__all__ = ("Views",)

Json = dict[str, Any]
_ICONS = {"postgres": "postgres", "valkey": "redis"}


class Views:
    """What is shown of one project.

    Args:
        detector: whose state it is.
        project: its id, the first part of every application's.
    """

    def __init__(self, detector: Detector, project: str) -> None:
        self._detector = detector
        self._project = project

    def identifier(self, application: str) -> str:
        """Return `cluster:namespace:Kind:name`."""
        return f"{self._project}:{self._detector.cache.cluster.namespace}:Deployment:{application}"

    def application_named(self, identifier: str) -> str | None:
        """Return the application with an id of three or four parts, or None."""
        name = identifier.split(":", 3)[-1]
        return name if name in self._detector.inspections and identifier.count(":") >= 2 else None

    def context(self) -> Json:
        """Return the context that comes with most answers."""
        cluster = self._detector.cache.cluster
        open_incidents = [item for item in self._detector.incidents.incidents if item.resolved is None]
        firing = [item for item in self._detector.alerts.alerts if item.resolved is None]
        return {
            "status": {"status": "ok", "error": ""},
            "search": {
                "applications": [{"id": self.identifier(workload.name)} for workload in cluster.workloads],
                "nodes": [{"name": node.name} for node in cluster.nodes],
            },
            "incidents": {CATEGORY: len(open_incidents)},
            "alerts": {"warning": len(firing)} if firing else {},
            "multicluster": False,
        }

    def status(self) -> Json:
        """Return how the project's sources are."""
        cluster = self._detector.cache.cluster
        return {
            "status": "ok",
            "error": "",
            "prometheus": {"status": "ok", "message": "", "error": "", "action": ""},
            "node_agent": {"status": "ok", "nodes": len(cluster.nodes)},
            "kube_state_metrics": {"status": "ok", "applications": len(cluster.workloads)},
        }

    # --- overviews -----------------------------------------------------------------------------------------------------

    def applications(self) -> list[Json]:
        """Return the table of applications: a status and a figure per subject."""
        return [self._application_row(name, inspection) for name, inspection in self._detector.inspections.items()]

    def map(self) -> list[Json]:
        """Return the applications that talk, with those they call and those that call them."""
        links = self._detector.links
        return [
            self._node(name)
            | {
                "upstreams": [self._upstream(link) for link in links if link.source == name],
                "downstreams": [
                    {"id": self.identifier(link.source), "status": "unknown", "stats": None, "weight": 0}
                    for link in links
                    if link.target == name
                ],
            }
            for name in dict.fromkeys(end for link in links for end in (link.source, link.target))
        ]

    def nodes(self) -> list[Json]:
        """Return the nodes and how busy they are."""
        cache = self._detector.cache
        view = cache.pods.view(cache.latest - cache.step, cache.latest)
        cpu, memory = (np.nansum(view.values[:, quantity]) for quantity in (CPU, MEMORY))
        return [
            {
                "name": node.name,
                "status": {"status": "ok", "message": "up"},
                "cpu_percent": float(cpu) / node.cores * 100,
                "memory_percent": float(memory) / node.memory_bytes * 100,
                "network_bandwidth": None,
                "kernel_version": node.kernel,
                "ips": [],
            }
            for node in cache.cluster.nodes
        ]

    def deployments(self) -> list[Json]:
        """Return the versions that run; how they compare with those before is left out."""
        cache = self._detector.cache
        return [
            {
                "application": {"id": self.identifier(workload.name)},
                "version": workload.version,
                "deployed": "",
                "status": "warning" if workload.name in cache.rolling_since else "ok",
                "age": None,
                "summary": None,
            }
            for workload in cache.cluster.workloads
        ]

    # --- incidents and alerts ------------------------------------------------------------------------------------------

    def incidents(self, limit: int) -> list[Json]:
        """Return incidents, open ones first, then the newest."""
        found = sorted(self._detector.incidents.incidents, key=lambda item: (item.resolved is not None, -item.opened))
        return [
            self._incident(item) | {"rca": {"status": NO_CAUSE["status"], "short_summary": ""}}
            for item in found[:limit]
        ]

    def incident(self, key: str) -> Json | None:
        """Return an incident in full."""
        item = next((item for item in self._detector.incidents.incidents if item.key == key), None)
        if item is None:
            return None
        return self._incident(item) | incident_details(item, self._detector.refreshed)

    def alerts(self, *, resolved: bool, search: str, limit: int, offset: int) -> Json:
        """Return alerts, firing ones first, then the newest."""
        every = self._detector.alerts.alerts
        found = [
            item
            for item in sorted(every, key=lambda item: (item.resolved is not None, -item.opened))
            if (resolved or item.resolved is None) and search.lower() in f"{item.application} {item.summary}".lower()
        ]
        firing = sum(item.resolved is None for item in every)
        return {
            "alerts": [self._alert(item) for item in found[offset : offset + limit]],
            "total": len(found),
            "firing": firing,
            "resolved": len(every) - firing,
        }

    def alert(self, identifier: str) -> Json | None:
        """Return one alert."""
        item = next((item for item in self._detector.alerts.alerts if item.id == identifier), None)
        return None if item is None else self._alert(item) | {"widgets": None}

    # --- one application -----------------------------------------------------------------------------------------------

    def application(self, name: str, start: int, end: int) -> Json:
        """Return an application's surroundings, and its reports over start < time <= end [ns]."""
        detector = self._detector
        usual = (detector.refreshed - WINDOW_SECONDS * SECOND, detector.refreshed)
        inspection = (detector.inspections if (start, end) == usual else detector.inspect(start, end))[name]
        callers = dict.fromkeys(link.source for link in detector.links if link.target == name)
        called = dict.fromkeys(link.target for link in detector.links if link.source == name)
        return {
            "app_map": {
                "application": self._node(name),
                "instances": [
                    {"id": pod.name, "labels": {}} for pod in detector.cache.cluster.instances if pod.workload == name
                ],
                "clients": [self._peer(name, peer) for peer in callers if peer not in called],
                "dependencies": [self._peer(name, peer) for peer in called],
            },
            "reports": [self._report(name, report) for report in inspection.reports],
        }

    def cause(self) -> Json:
        """Return the root cause analysis that this edition doesn't make."""
        return NO_CAUSE

    def inspections(self) -> list[Json]:
        """Return all checks and their thresholds, none of them overridden."""
        return [
            {
                "id": identifier,
                "title": rule.title,
                "unit": rule.unit,
                "condition_format_template": rule.condition,
                "global_threshold": rule.threshold,
                "project_threshold": None,
                "application_overrides": [],
            }
            for identifier, rule in CHECKS.items()
        ]

    # --- parts ---------------------------------------------------------------------------------------------------------

    def _incident(self, item: Incident) -> Json:
        return incident_document(item, self.identifier(item.application), self._detector.refreshed)

    def _alert(self, item: Alert) -> Json:
        return alert_document(item, self.identifier(item.application), self._detector.refreshed)

    def _application_row(self, name: str, inspection: Inspection) -> Json:
        cluster = self._detector.cache.cluster
        workload = next(item for item in cluster.workloads if item.name == name)
        inbound = [link for link in self._detector.links if link.target == name]
        requests = sum(link.requests_per_second for link in inbound)
        failed = sum(link.failed_per_second for link in inbound)
        latency = sum(link.latency_ms * link.requests_per_second for link in inbound)
        outbound = [link for link in self._detector.links if link.source == name and link.status != "unknown"]
        # A busy node and a slow network are shown only where they may be why an SLO is violated.
        violated = self._detector.incidents.open(name) is not None
        parameters = {
            "errors": _parameter(inspection, ("SLOAvailability",), f"{failed / requests:.1%}" if failed else ""),
            "latency": _parameter(inspection, ("SLOLatency",), f"{latency / requests:.0f}ms" if requests else ""),
            "upstreams": {
                "status": worst(link.status for link in outbound),
                "value": f"{sum(link.status == 'ok' for link in outbound)}/{len(outbound)}" if outbound else "",
                "chart": None,
            },
            "instances": _parameter(inspection, ("InstanceAvailability",), f"{workload.available}/{workload.desired}"),
            "restarts": _parameter(inspection, ("InstanceRestarts",)),
            "cpu": _parameter(inspection, ("CPUContainer", "CPUNode") if violated else ("CPUContainer",)),
            "memory": _parameter(inspection, ("MemoryOOM", "MemoryLeakPercent")),
            "disk_io_load": _parameter(inspection, ()),
            "disk_usage": _parameter(inspection, ()),
            "network": _parameter(
                inspection,
                ("NetworkConnectivity", "NetworkTCPConnections", *(("NetworkRTT",) if violated else ())),
            ),
            "dns": _parameter(inspection, ()),
            "logs": _parameter(inspection, ()),
        }
        return {
            "id": self.identifier(name),
            "cluster": self._project,
            "category": CATEGORY,
            "status": worst([*(item["status"] for item in parameters.values()), "ok"]),
            "type": {"name": workload.runtime, "icon": self._icon(name), "report": "", "status": "unknown"},
        } | parameters

    def _node(self, name: str) -> Json:
        inspection = self._detector.inspections.get(name, Inspection(reports=()))
        return {
            "id": self.identifier(name),
            "cluster": self._project,
            "custom": False,
            "category": CATEGORY,
            "labels": {"ns": self._detector.cache.cluster.namespace},
            "status": inspection.status,
            "icon": self._icon(name),
            "indicators": [
                {"status": report.status, "message": report.name}
                for report in inspection.reports
                if report.status in ("info", "warning", "critical")
            ],
        }

    def _icon(self, name: str) -> str:
        runtimes = {workload.name: workload.runtime for workload in self._detector.cache.cluster.workloads}
        runtime = runtimes.get(name, "")
        return _ICONS.get(runtime, runtime)

    def _upstream(self, link: LinkState) -> Json:
        return {
            "id": self.identifier(link.target),
            "status": link.status,
            "stats": _statistics(link),
            "weight": link.requests_per_second,
        }

    def _peer(self, name: str, peer: str) -> Json:
        """Return an application beside another, and how they are linked; calls in both directions are one link."""
        links = self._detector.links
        outbound = next((link for link in links if (link.source, link.target) == (name, peer)), None)
        both = outbound is not None and any((link.source, link.target) == (peer, name) for link in links)
        return self._node(peer) | {
            "link_status": outbound.status if outbound else "unknown",
            "link_status_reason": outbound.reason if outbound else "",
            "link_direction": "both" if both else "to",
            "link_stats": _statistics(outbound) if outbound else None,
            "link_weight": outbound.requests_per_second if outbound else 0,
        }

    def _report(self, name: str, report: Report) -> Json:
        widgets = [{"table": self._clients_table(name)}] if report.name == "SLO" else []
        return {
            "name": report.name,
            "status": report.status,
            "widgets": widgets,
            "checks": [_check(check) for check in report.checks],
        }

    def _clients_table(self, name: str) -> Json:
        """Return the table of an application's clients: the one place of this API that tells errors per edge."""
        return {
            "header": ["Client", "", "Requests/second", "Latency", "Errors/second"],
            "rows": [
                {
                    "id": self.identifier(link.source),
                    "cells": [
                        {"value": link.source},
                        {"value": ""},
                        {"value": f"{link.requests_per_second:.3g}"},
                        {"value": f"{link.latency_ms:.3g}", "unit": "ms"},
                        {"value": f"{link.failed_per_second:.3g}"},
                    ],
                }
                for link in self._detector.links
                if link.target == name and link.requests_per_second > 0
            ],
        }


def _check(check: Check) -> Json:
    return {
        "id": check.id,
        "title": check.rule.title,
        "status": check.status,
        "message": check.message,
        "threshold": check.rule.threshold,
        "unit": check.rule.unit,
        "condition_format_template": check.rule.condition,
        "details": None,
    }


def _parameter(inspection: Inspection, checks: Iterable[str], value: str = "") -> Json:
    found = [check for identifier in checks if (check := inspection.check(identifier)) is not None]
    message = next((check.message for check in found if check.status == "warning"), "")
    return {"status": worst(check.status for check in found), "value": value or message, "chart": None}


def _statistics(link: LinkState) -> list[str]:
    if link.status == "critical":
        return [link.reason]
    if link.status == "unknown":
        return []
    return [f"📈 {link.requests_per_second:.3g} rps", f"⏱️ {link.latency_ms:.0f}ms"]
