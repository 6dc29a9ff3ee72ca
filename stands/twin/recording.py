"""What the kernel counts, and the spans that it keeps.

In: the ends of hops, as the caller and as the server see them, and the ends of tasks. Out: histograms per span row and per edge, and
sampled spans in `State.spans`.

Every end is counted; spans are only examples. All spans of a trace share one uniform u: an ok span is kept if u < `probability_ok`, a
failed one if u < `probability_error`, so what is kept of a trace hangs together, and 1/probability is an unbiased weight.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from otel_control_gym.stands.twin.compilation import compiled, inlined
from otel_control_gym.stands.twin.draws import (
    CLIENT_SPAN,
    ROOT_SPAN,
    SAMPLE,
    SERVER_SPAN,
    TRACE_HIGH,
    TRACE_LOW,
    bits,
    uniform,
)
from otel_control_gym.stands.twin.state import (
    ATTEMPTED,
    ATTEMPTS,
    CLIENT,
    CONSUMER,
    ENDINGS,
    IN_FLIGHT,
    INTERNAL,
    LINE_TIMED_OUT,
    LOST,
    NOBODY,
    OK,
    PRODUCER,
    RETRIED,
    SERVER,
    Record,
    State,
)
from otel_control_gym.stands.twin.statuses import blames_server
from otel_control_gym.stands.twin.topology import Topology

__all__ = (
    "BOUNDS_MS",
    "abandon_call",
    "bucket",
    "close_call",
    "close_server",
    "close_task",
    "count_line_timeout",
    "open_call",
)

#: Upper bounds of the histograms, inclusive: the defaults of the spanmetrics and servicegraph connectors.
BOUNDS_MS: Final = (2, 4, 6, 8, 10, 50, 100, 200, 400, 800, 1000, 1400, 2000, 5000, 10_000, 15_000)
_BOUNDS_NS: Final = np.array(BOUNDS_MS, np.int64) * 1_000_000


@inlined
def bucket(duration: int) -> int:
    """Return the histogram bucket of a duration in nanoseconds."""
    found = 0
    while found < len(_BOUNDS_NS) and duration > _BOUNDS_NS[found]:
        found += 1
    return found


@compiled
def open_call(state: State, edge: int, attempt: int) -> None:
    """Count a call that begins."""
    state.edge_counts[edge, ATTEMPTED] += 1
    if attempt > 0:
        state.edge_counts[edge, RETRIED] += 1
    state.edge_counts[edge, IN_FLIGHT] += 1


@inlined
def abandon_call(state: State, edge: int) -> None:
    """Count a call whose caller died: nobody will see its answer."""
    state.edge_counts[edge, IN_FLIGHT] -= 1
    state.edge_counts[edge, LOST] += 1


@inlined
def count_line_timeout(state: State, edge: int) -> None:
    """Count a call that is given up before it could leave its caller."""
    state.edge_counts[edge, LINE_TIMED_OUT] += 1


@inlined
def close_call(topology: Topology, state: State, index: int) -> None:
    """Count a call whose answer, or the news that there is none, has reached its caller, or that its caller has given up."""
    hop, now = state.hops[index], state.world[0].now
    call = topology.calls[hop.call]
    edge, duration, failed = call.edge, now - hop.sent, 1 if hop.outcome != OK else 0
    slot = bucket(duration)
    state.edge_counts[edge, IN_FLIGHT] -= 1
    state.edge_counts[edge, hop.outcome] += 1
    state.edge_statuses[edge, topology.status_columns[hop.status]] += 1
    if hop.parent < 0 and hop.session == NOBODY:
        return  # a copy: nobody has waited for it, and the demo's SDKs don't see it
    ending = _ending(state, edge, failed, topology.status_columns[hop.status], hop.attempt)
    state.edge_sums_ns[edge, failed, 0] += duration
    state.edge_buckets[edge, failed, 0, slot] += 1
    state.ending_sums_ns[edge, ending, 0] += duration
    state.ending_buckets[edge, ending, 0, slot] += 1
    if hop.server_ns >= 0:
        served = bucket(hop.server_ns)
        state.edge_sums_ns[edge, failed, 1] += hop.server_ns
        state.edge_buckets[edge, failed, 1, served] += 1
        state.ending_sums_ns[edge, ending, 1] += hop.server_ns
        state.ending_buckets[edge, ending, 1, served] += 1
    rows = state.pods[hop.client].client_rows
    if rows >= 0 and hop.session >= NOBODY:
        state.span_sums_ns[rows + call.target, failed] += duration
        state.span_buckets[rows + call.target, failed, slot] += 1
        kept = _keep(state, hop.trace, failed)
        if kept >= 0:
            span, parent_id = state.spans[kept], bits(hop.trace, ROOT_SPAN, 0)
            if hop.parent >= 0:
                parent_id = bits(state.hops[hop.parent].key, SERVER_SPAN, 0)
            _identify(span, hop.trace, bits(hop.key, CLIENT_SPAN, 0), parent_id, hop.sent, now)
            span.pod, span.peer, span.operation, span.edge = hop.client, hop.pod, call.operation, edge
            span.kind = PRODUCER if topology.operations[call.operation].topic >= 0 else CLIENT
            span.attempt = hop.attempt
            span.outcome, span.status, span.failed = hop.outcome, hop.status, failed


@inlined
def close_server(topology: Topology, state: State, index: int) -> None:
    """Count a hop that its server has answered."""
    hop, now = state.hops[index], state.world[0].now
    pod, call = state.pods[hop.pod], topology.calls[hop.call]
    operation = topology.operations[call.operation]
    failed = 0
    if hop.outcome != OK and blames_server(topology.edges[call.edge].protocol, hop.status):
        failed = 1
    hop.server_ns = now - hop.arrived
    pod.served += 1
    pod.tx_bytes += operation.response_bytes
    if pod.server_rows >= 0:
        row = pod.server_rows + operation.rank
        state.span_sums_ns[row, failed] += hop.server_ns
        state.span_buckets[row, failed, bucket(hop.server_ns)] += 1
        kept = _keep(state, hop.trace, failed)
        if kept >= 0:
            span = state.spans[kept]
            span_id = bits(hop.key, SERVER_SPAN, 0)
            # A message is the beginning of a trace.
            parent_id = bits(hop.key, CLIENT_SPAN, 0) if hop.session >= NOBODY else np.uint64(0)
            _identify(span, hop.trace, span_id, parent_id, hop.arrived, now)
            span.pod, span.peer, span.operation, span.edge = hop.pod, hop.client, call.operation, call.edge
            span.kind = CONSUMER if operation.consumed else SERVER
            span.attempt = hop.attempt
            span.outcome, span.status, span.failed = hop.outcome, hop.status, failed


@compiled
def close_task(state: State, session: Record, slot: int) -> None:
    """Count a user's task that is over. Its span is ok, as Locust's is, whatever its requests were."""
    now = state.world[0].now
    duration = now - session.started
    state.flow_tasks[session.flow, 1] += 1
    rows = state.pods[slot].internal_rows
    if rows >= 0:
        state.span_sums_ns[rows + session.flow, 0] += duration
        state.span_buckets[rows + session.flow, 0, bucket(duration)] += 1
        # The root of a trace with a failure is kept as willingly as the failure.
        kept = _keep(state, session.key, session.failed)
        if kept >= 0:
            span = state.spans[kept]
            _identify(span, session.key, bits(session.key, ROOT_SPAN, 0), np.uint64(0), session.started, now)
            span.pod, span.peer, span.operation, span.edge = slot, -1, session.flow, -1
            span.kind, span.attempt = INTERNAL, 0
            span.outcome, span.status, span.failed = OK, 0, 0


@inlined
def _ending(state: State, edge: int, failed: int, column: int, attempt: int) -> int:
    """Return where calls over an edge that end in this way are counted; a way that is new takes the next place."""
    way = 1 + (failed * state.edge_statuses.shape[1] + column) * ATTEMPTS + min(attempt, ATTEMPTS - 1)
    row = 0
    while row < ENDINGS - 1 and state.endings[edge, row] != way and state.endings[edge, row] != 0:
        row += 1
    if state.endings[edge, row] == 0:
        state.endings[edge, row] = way
    return row


@compiled
def _keep(state: State, trace: np.uint64, failed: int) -> int:
    """Return the row for a span if its trace is sampled, else -1."""
    world = state.world[0]
    world.spans_seen += 1
    probability = world.probability_ok
    if failed:
        world.error_spans_seen += 1
        probability = world.probability_error
    if uniform(trace, SAMPLE, 0) >= probability:
        return -1
    row: int = world.spans
    world.spans = row + 1
    state.spans[row].probability = probability
    return row


@compiled
def _identify(span: Record, trace: np.uint64, span_id: np.uint64, parent_id: np.uint64, start: int, end: int) -> None:
    span.start, span.end = start, end
    span.trace_high, span.trace_low = bits(trace, TRACE_HIGH, 0), bits(trace, TRACE_LOW, 0)
    span.span_id, span.parent_id = span_id, parent_id
