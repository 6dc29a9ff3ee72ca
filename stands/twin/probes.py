"""Probes: what the kubelet asks a container, when, and how the answer is told.

In: a probe of a container's spec, what the process does, what happens to packets on the way. Out: the moment of the next probe, and a
failure in the kubelet's words. Pure.

A probe needs round trips: one to connect, another for an HTTP or gRPC answer; it fails when they take longer than `timeoutSeconds`.
What a rule does to everything that a pod sends meets the answers to its probes as well. gRPC and HTTP ask the program, a TCP socket only
the listener.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.clock import SECOND, seconds
from otel_control_gym.stands.twin.objects import Object
from otel_control_gym.stands.twin.runtime import NetworkRule

__all__ = ("Asked", "failure", "next_probe", "port_of", "timeout_share")

_MS = SECOND // 1000


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The other end of a probe."""

    address: str  #: the pod's IP
    listens_on: int | None  #: None: nobody listens (yet)
    protocol: str  #: of the service
    healthy: bool  #: the program says that it is ready


def next_probe(probe: Object, started: int, now: int) -> int:
    """Return the first moment of a container's probe at or after `now` [ns]: they go by period from the container's start."""
    first = started + int(probe.get("initialDelaySeconds", 0)) * SECOND
    period = seconds(float(probe.get("periodSeconds", 10)))
    return first if now <= first else first - (first - now) // period * period


def port_of(probe: Object, container: Object) -> int:
    """Return which port a probe asks; names are those of the container's ports, 0 is an unknown one."""
    port = next((probe[how].get("port") for how in ("grpc", "tcpSocket", "httpGet") if how in probe), 0)
    if isinstance(port, str) and not port.isdecimal():
        return next((int(item["containerPort"]) for item in container.get("ports", ()) if item.get("name") == port), 0)
    return int(port or 0)


def timeout_share(probe: Object, rules: tuple[NetworkRule, ...]) -> float:
    """Return how likely a probe isn't answered in time, whatever the process does: the share 1 for a wall, that of lost packets else."""
    trips = 1 if "tcpSocket" in probe else 2
    arrives = 1.0
    for rule in rules:
        arrives *= (1 - rule.loss) ** trips
    late = sum(rule.latency_ms for rule in rules) * trips >= float(probe.get("timeoutSeconds", 1)) * SECOND / _MS
    return 1.0 if late or any(rule.blocked for rule in rules) else 1 - arrives


def failure(probe: Object, container: Object, asked: Asked, *, timed_out: bool) -> str:
    """Return why a probe fails, as the Event says it, or nothing if it succeeds.

    A command in the container (`exec`) is taken to succeed as soon as the process serves: the twin runs no programs.
    """
    if "exec" in probe:
        return "" if asked.listens_on is not None else "command failed"
    port = port_of(probe, container)
    where = f"{asked.address}:{port}"
    limit = int(probe.get("timeoutSeconds", 1))
    if timed_out:
        if "grpc" in probe:
            return f'timeout: failed to connect service "{where}" within {limit}s: context deadline exceeded'
        if "httpGet" in probe:
            return f'Get "{_url(probe, where)}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        return f"dial tcp {where}: i/o timeout"
    if asked.listens_on != port:
        return f"dial tcp {where}: connect: connection refused"
    if "grpc" in probe:
        if asked.protocol != "grpc":
            return f'error: failed to connect service at "{where}": error reading server preface'
        return "" if asked.healthy else 'service unhealthy (responded with "NOT_SERVING")'
    if "httpGet" in probe:
        if asked.protocol != "http":
            return f'Get "{_url(probe, where)}": malformed HTTP response'
        return "" if asked.healthy else "HTTP probe failed with statuscode: 503"
    return ""


def _url(probe: Object, where: str) -> str:
    how = probe["httpGet"]
    return f"{how.get('scheme', 'HTTP').lower()}://{where}{how.get('path', '/')}"
