"""One span sent round the whole path: to the stand's collector, as a program there would, and back to where the gym reads spans from.

In: a connection, where spans are received (if they are). Out: a finding, with the time that the span took. Sent is OTLP over HTTP,
through the API server's proxy or to a URL. Read is where the gym reads: at its own receiver, or else (and, to tell how far it came) in
Jaeger.

The span is of a service of its own, which no application has, so no table holds anything of it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.engine.clock import SECOND, wall_now, wall_timer
from otel_control_gym.engine.cluster_access import Way
from otel_control_gym.engine.events import SpansCollected
from otel_control_gym.engine.probing.stand_clock import StandClock
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.randomness import draw_bits
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.findings import Finding, fine, unknown, warning
from otel_control_gym.stands.cluster.services import COLLECTOR, JAEGER, service_url

__all__ = ("SERVICE_NAME", "Path", "Trace", "probe_span")

SERVICE_NAME = "otel-control-gym-doctor"
PATIENCE_SECONDS = 30.0  #: of our time; a collector's batch takes some seconds at most
_JAEGER_PATHS = ("jaeger/ui/api/traces", "api/traces")  #: as the demo's chart has it, and as it is by itself
_CHECK = "span path"
_NOT_FOUND = 404
_INTERNAL = 1  #: kind of a span that is nobody's call


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """Where the collector and Jaeger are; a URL that is empty is filled in by `way`."""

    way: Way = "proxy"
    collector: str = ""
    jaeger: str = ""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of a trace of one span, in hexadecimal."""

    trace_id: str
    span_id: str

    @classmethod
    def drawn(cls, seed: int) -> Trace:
        """Return ids that nobody else has."""
        first, second, third = (draw_bits(seed, number) or 1 for number in range(3))
        return cls(trace_id=f"{first:016x}{second:016x}", span_id=f"{third:016x}")

    def export(self, now: int) -> object:
        """Return the request that exports it, as OTLP's JSON."""
        span = {
            "traceId": self.trace_id,
            "spanId": self.span_id,
            "name": "doctor",
            "kind": _INTERNAL,
            "startTimeUnixNano": str(now),
            "endTimeUnixNano": str(now + SECOND // 1000),
        }
        name = {"key": "service.name", "value": {"stringValue": SERVICE_NAME}}
        scope = {"scope": {"name": "otel_control_gym"}, "spans": [span]}
        return {"resourceSpans": [{"resource": {"attributes": [name]}, "scopeSpans": [scope]}]}


async def probe_span(
    connection: Connection, path: Path, receiver: OtlpReceiver | None, clock: StandClock, tell: Callable[[str], None]
) -> Finding:
    """Send a span, and wait until it is where the gym reads spans from; `receiver` is open already (None: spans aren't received)."""
    trace = Trace.drawn(wall_now())
    tell("one span is sent round the whole path")
    collector = path.collector or service_url(connection.endpoints, COLLECTOR, path.way)
    answer = await connection.post(f"{collector}/v1/traces", body=trace.export(wall_now()))
    if answer.status == _NOT_FOUND:
        return unknown(_CHECK, f"there is no collector: {answer.problem}", "--collector URL names another")
    if not answer.ok:
        return warning(
            _CHECK,
            f"the collector takes no span: {answer.problem}",
            "kubectl logs deployment/otel-collector says why; --collector URL names another",
        )
    began, in_jaeger = wall_timer(), ""
    while (took := wall_timer() - began) < PATIENCE_SECONDS:
        if receiver is not None and await _received(receiver, trace):
            return fine(_CHECK, f"a span was received {took:.1f} s after it was sent to the collector")
        if not in_jaeger and await _stored(connection, path, trace):
            in_jaeger = f"in Jaeger {took:.1f} s after it was sent to the collector"
            if receiver is None:
                return fine(_CHECK, f"a span was {in_jaeger}; none is received here (--receive)")
        await clock.pause()
    if receiver is None:
        return warning(
            _CHECK,
            f"a span that the collector took wasn't in Jaeger within {PATIENCE_SECONDS:g} s",
            "is Jaeger up? kubectl logs deployment/otel-collector tells what can't be exported; --jaeger URL names another",
        )
    known = f"it was {in_jaeger}" if in_jaeger else "nor was it in Jaeger"
    return warning(
        _CHECK,
        f"a span that the collector took wasn't received within {PATIENCE_SECONDS:g} s ({known})",
        "its exporter otlphttp/gym has to lead here (deploy/helm/receiver.yaml), and nothing in between may hold it up",
    )


async def _received(receiver: OtlpReceiver, trace: Trace) -> bool:
    """Return whether the span is among what was received since the last look."""
    now = wall_now()
    await receiver.drain(Barrier(time=now, resource_version="", exact=False))
    return any(
        row.trace_id == trace.trace_id
        for event, _ in receiver.flush(now)
        if isinstance(event, SpansCollected)
        for row in event.rows
    )


async def _stored(connection: Connection, path: Path, trace: Trace) -> bool:
    """Return whether Jaeger has the trace; its page answers any path, so an answer counts that holds a trace."""
    url = path.jaeger or service_url(connection.endpoints, JAEGER, path.way)
    for place in _JAEGER_PATHS:
        answer = await connection.service(url, JAEGER, f"{place}/{trace.trace_id}")
        if answer.ok and answer.find("data"):
            return True
    return False
