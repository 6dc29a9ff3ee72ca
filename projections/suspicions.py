"""Coroot's findings ➜ `weak_labels.parquet` and `coroot_findings.json`.

In: findings, each with the moment it began and perhaps ended, by Coroot's account. Out: a row per bucket and service that a finding in
force names; and the findings themselves. A finding is a suspicion: it may be late, wrong, or missing, and no label is made of it.

Here a bucket shows what was found about it, also what was found later: that is what a label is for. What was known at its end is in
`node_features` (`projections.polls`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec

from otel_control_gym.engine.clock import rfc3339
from otel_control_gym.engine.events import Finding
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.growth import Buckets

__all__ = ("finding_records", "weak_label_rows")

Row = dict[str, Any]
_SEVERITIES = ("critical", "warning")  #: in falling order; others rank below


def weak_label_rows(state: RunState, buckets: Buckets) -> list[Row]:
    """Return the rows of the weak labels table, sorted by (time, service)."""
    nodes = sorted(node.id for node in state.graph.nodes)
    edges = (state.origin + buckets.edges * state.samples.interval).tolist()
    latest = _latest(state)
    rows = []
    for start, end in pairwise(edges):
        in_force = [row for row in latest if row.time < end and (row.resolved is None or row.resolved > start)]
        for service in nodes:
            named = [row for row in in_force if service in row.services]
            if named:
                rows.append(
                    {
                        "time": start,
                        "service": service,
                        "findings": len(named),
                        "severity": min((row.severity for row in named), key=_rank),
                        "symptoms": sorted({row.symptom for row in named}),
                        "confidence": max(row.confidence for row in named),
                        "sources": sorted({row.source for row in named}),
                        "suggested_causes": sorted({row.suggested_cause for row in named if row.suggested_cause}),
                        "edges": sorted({edge for row in named for edge in row.edges}),
                    }
                )
    return rows


def finding_records(state: RunState) -> list[Row]:
    """Return the findings for `coroot_findings.json`, by time and key, each as it was last seen."""
    return [
        {
            "timestamp": rfc3339(row.time),
            "key": row.key,
            "source": row.source,
            "affected_services": list(row.services),
            "affected_edges": list(row.edges),
            "symptom_class": row.symptom,
            "severity": row.severity,
            "confidence": row.confidence,
            "text": row.text,
            "suggested_cause": row.suggested_cause,
            "resolved": None if row.resolved is None else rfc3339(row.resolved),
        }
        for row in _latest(state)
    ]


def _latest(state: RunState) -> list[Finding]:
    """Return each finding as it was last seen, from when it was first seen; one that changed has the same key again."""
    found: dict[str, Finding] = {}
    for told in state.findings.told():
        row = told.finding
        first = found.get(row.key, row)
        found[row.key] = msgspec.structs.replace(row, time=min(first.time, row.time))
    return sorted(found.values(), key=lambda row: (row.time, row.key))


def _rank(severity: str) -> tuple[int, str]:
    lowered = severity.lower()
    return (_SEVERITIES.index(lowered) if lowered in _SEVERITIES else len(_SEVERITIES), severity)
