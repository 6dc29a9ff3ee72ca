"""Coroot's checks as they are configured by default: report, title, threshold, unit, condition; by id, in the order of their reports.

Only those are here for which the twin has telemetry: nothing is known of disks, DNS, logs, memory stalls and runtimes, so those reports are
absent, as they are in a Coroot that has no such series.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ("CHECKS", "CheckRule")


class CheckRule(msgspec.Struct, frozen=True, kw_only=True):
    """A check as Coroot configures it."""

    report: str
    title: str
    threshold: float
    unit: str = ""
    condition: str


CHECKS: Mapping[str, CheckRule] = {
    "SLOAvailability": CheckRule(
        report="SLO",
        title="Availability",
        threshold=99,
        unit="percent",
        condition="the successful request percentage < <threshold>",
    ),
    "SLOLatency": CheckRule(
        report="SLO",
        title="Latency",
        threshold=99,
        unit="percent",
        condition="the percentage of requests served faster than <bucket> < <threshold>",
    ),
    "InstanceAvailability": CheckRule(
        report="Instances",
        title="Instance availability",
        threshold=75,
        unit="percent",
        condition="the percentage of available instances < <threshold>",
    ),
    "InstanceRestarts": CheckRule(
        report="Instances", title="Restarts", threshold=1, condition="the number of container restarts > <threshold>"
    ),
    "CPUNode": CheckRule(
        report="CPU",
        title="Node CPU utilization",
        threshold=80,
        unit="percent",
        condition="the CPU utilization of a node > <threshold>",
    ),
    "CPUContainer": CheckRule(
        report="CPU",
        title="Container CPU utilization",
        threshold=80,
        unit="percent",
        condition="the CPU usage of a container > <threshold> of its CPU limit",
    ),
    "MemoryOOM": CheckRule(
        report="Memory",
        title="Out of Memory",
        threshold=0,
        condition="the number of container terminations due to Out of Memory > <threshold>",
    ),
    "MemoryLeakPercent": CheckRule(
        report="Memory",
        title="Memory leak",
        threshold=10,
        unit="percent",
        condition="memory is growing by > <threshold> per hour",
    ),
    "NetworkRTT": CheckRule(
        report="Net",
        title="Network round-trip time (RTT)",
        threshold=0.01,
        unit="second",
        condition="the RTT to an upstream service > <threshold>",
    ),
    "NetworkConnectivity": CheckRule(
        report="Net",
        title="Network connectivity",
        threshold=0,
        condition="the number of unavailable upstream services > <threshold>",
    ),
    "NetworkTCPConnections": CheckRule(
        report="Net",
        title="TCP connections",
        threshold=0,
        condition="the number of upstream services to which the app failed to connect > <threshold>",
    ),
    "DeploymentStatus": CheckRule(
        report="Deployments",
        title="Deployment status",
        threshold=180,
        unit="second",
        condition="a rollout is in progress > <threshold>",
    ),
}
