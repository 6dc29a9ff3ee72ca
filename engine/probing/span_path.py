"""One span sent round the whole path: to the stand's collector, as a program there would, and back to where the gym reads spans from.

In: a connection, where spans are received (if they are). Out: a finding, with the time that the span took. Sent is OTLP over HTTP,
through the API server's proxy or to a URL. Read is where the gym reads: at its own receiver, or else in Jaeger, of which the same
question is asked; and also if nothing is received, to tell how far the span came.

The span is of a service of its own, which no application has, so no table holds anything of it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.engine.clock import SECOND, rfc3339, wall_now, wall_timer
from otel_control_gym.engine.events import SpansCollected
from otel_control_gym.engine.probing.stand_clock import StandClock
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.randomness import draw_bits
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.findings import Finding, fine, unknown, warning
from otel_control_gym.stands.cluster.services import JAEGER

__all__ = ("SERVICE_NAME", "Trace", "probe_span")

SERVICE_NAME = "otel-control-gym-doctor"
PATIENCE_SECONDS = 30.0  #: of our time; a collector's batch takes some seconds at most
_TRACES = "jaeger/ui/api/v3/traces"
_AROUND = 60 * SECOND  #: the span's begin, within which Jaeger looks
_CHECK = "span path"
_NOT_FOUND = 404


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace of one span."""

    trace_id: bytes
    span_id: bytes
    began: int  #: [ns]

    @classmethod
    def drawn(cls, now: int) -> Trace:
        """Return one that begins now, with ids that nobody else has."""
        first, second, third = (draw_bits(now, number).to_bytes(8, "big") for number in range(3))
        return cls(trace_id=first + second, span_id=third, began=now)

    def export(self) -> bytes:
        """Return the request that exports it."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = SERVICE_NAME
        resource.scope_spans.add().spans.add(
            trace_id=self.trace_id,
            span_id=self.span_id,
            name="doctor",
            kind="SPAN_KIND_INTERNAL",
            start_time_unix_nano=self.began,
            end_time_unix_nano=self.began + SECOND // 1000,
        )
        return bytes(request.SerializeToString())


async def probe_span(
    connection: Connection,
    collector: str,
    receiver: OtlpReceiver | None,
    clock: StandClock,
    tell: Callable[[str], None],
) -> Finding:
    """Send a span to the collector at a URL, and wait until it is where the gym reads spans from.

    `receiver` is open already; None: spans aren't received, but read from Jaeger.
    """
    trace = Trace.drawn(wall_now())
    tell("one span is sent round the whole path")
    answer = await connection.post(f"{collector}/v1/traces", body=trace.export())
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
        if not in_jaeger and await _is_stored(connection, trace):
            in_jaeger = f"in Jaeger {took:.1f} s after it was sent to the collector"
            if receiver is None:
                return fine(_CHECK, f"a span was {in_jaeger}, from which spans are read without --receive")
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
    now, wanted = wall_now(), trace.trace_id.hex()
    await receiver.drain(Barrier(time=now, resource_version="", exact=False))
    return any(
        row.trace_id == wanted
        for event, _ in receiver.flush(now)
        if isinstance(event, SpansCollected)
        for row in event.rows
    )


async def _is_stored(connection: Connection, trace: Trace) -> bool:
    """Return whether Jaeger has the trace."""
    query = {
        "query.service_name": SERVICE_NAME,
        "query.start_time_min": rfc3339(trace.began - _AROUND),
        "query.start_time_max": rfc3339(trace.began + _AROUND),
        "query.num_traces": "20",
    }
    answer = await connection.service(connection.endpoints.jaeger, JAEGER, _TRACES, query=query)
    return answer.ok and trace.trace_id.hex().encode() in msgspec.json.encode(answer.body)
