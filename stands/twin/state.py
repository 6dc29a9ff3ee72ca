"""The kernel's whole state: one named tuple of arrays, so that copying the arrays copies the world (branches need that).

In: sizes. Out: an empty state, a bigger one, a copy. Compiled code can't make an array bigger: `kernel.run` stops and says what it
needs, the Python face grows it (doubling) and goes on; that changes no result.

Records are rows of structured arrays; -1 means none. Times are integer nanoseconds since the epoch, CPU time is core-nanoseconds.
Rows of pods and of span counters are never used twice within one simulation, so a counter's identity is its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from otel_control_gym.stands.twin.topology import Table

__all__ = (
    "ABSENT",
    "ATTEMPTED",
    "BUCKETS",
    "CLIENT",
    "CONSUMER",
    "COUNTS",
    "DRAINING",
    "ERROR",
    "INTERNAL",
    "IN_FLIGHT",
    "LINE_TIMED_OUT",
    "LOST",
    "NEVER",
    "NOBODY",
    "OK",
    "PRODUCER",
    "REFUSED",
    "RETRIED",
    "RUNNING",
    "SERVER",
    "SPAN",
    "STOPPED",
    "TIMED_OUT",
    "Record",
    "State",
    "copy_state",
    "empty_state",
    "grown",
    "link_free_rows",
    "with_topics",
)

Record = Any  #: a row of a structured array: numba knows its fields, mypy can't

NEVER: Final = 2**62  #: a moment that doesn't come
BUCKETS: Final = 17  #: 16 bounds and what lies above them

# Outcomes of a call, and the columns of `State.edge_counts`.
OK: Final = 0
ERROR: Final = 1  #: the server answered with an error
REFUSED: Final = 2  #: no pod was ready
LOST: Final = 3  #: the connection was reset, or the caller died
TIMED_OUT: Final = 4  #: the caller has given up; the work behind it may go on
IN_FLIGHT: Final = 5
ATTEMPTED: Final = 6
RETRIED: Final = 7  #: of the attempted: those that weren't a call's first
LINE_TIMED_OUT: Final = 8  #: of the timed out: those that never left their caller, whose pool was in use
COUNTS: Final = 9

ENDINGS: Final = (
    12  #: different ways for calls over an edge to end that are told apart; what comes beyond is counted with the last
)
ATTEMPTS: Final = 8  #: attempts that are told apart

# Kinds of spans and of counter rows.
SERVER: Final = 0
CLIENT: Final = 1
INTERNAL: Final = 2
PRODUCER: Final = 3  #: a CLIENT's call that appends a message
CONSUMER: Final = 4  #: a SERVER's processing of a message

# Whose a hop without a calling hop is (`hop.session`): a session's from 0 on, a message's below -1.
NOBODY: Final = -1

# Life of a pod.
ABSENT: Final = 0
RUNNING: Final = 1
DRAINING: Final = 2
STOPPED: Final = 3

HOP = np.dtype(
    [
        ("key", "u8"),
        ("trace", "u8"),  # key of the task
        ("finish", "f8"),  # virtual time of its pod at which its CPU work ends
        ("sent", "i8"),
        ("arrived", "i8"),
        ("server_ns", "i8"),  # arrival to answer; -1: never answered
        ("parent", "i8"),  # calling hop; -1: a session
        ("session", "i8"),  # of a user; -1: nobody's; -2 - n: it processes a message of reader n
        ("call", "i8"),
        ("client", "i8"),  # pod
        ("pod", "i8"),  # -1: refused
        ("next_call", "i8"),
        ("repeat", "i8"),
        ("pending", "i8"),  # children that haven't reported yet
        ("lines", "i8"),
        ("left", "i8"),  # in the pod's heap of work
        ("right", "i8"),
        ("next", "i8"),  # in the pod's queue, or in the list of free rows
        ("stage", "i8"),
        ("position", "i8"),  # within the stage
        ("phase", "i8"),
        ("outcome", "i8"),
        ("status", "i8"),  # of the call's protocol; see `statuses`
        ("dials", "i8"),  # its connection isn't open yet
        ("transmission", "i8"),  # of the message on its way; 0: the first
        ("pooled", "i8"),  # it has a place in its caller's pool
        ("client_open", "i8"),  # the caller still waits
        ("holding", "i8"),  # a worker
        ("reported", "i8"),  # the answer has reached the caller's side
        ("told", "i8"),  # the caller knows what came of it
        ("attempt", "i8"),  # 0: the call's first
        ("deadline", "i8"),  # at which the caller gives up; 0: never
        ("flagged", "i8"),  # how many of the things that flags do to an operation it has behind it
        ("wake", "i8"),  # end of its sleep
    ],
    align=True,
)
POD = np.dtype(
    [
        ("service", "i8"),
        ("ordinal", "i8"),
        ("life", "i8"),
        ("ready", "i8"),
        ("canary", "i8"),
        ("misled", "i8"),  # some of its connections are unreachable
        ("work_factor", "f8"),  # of its version
        ("failure_ratio", "f8"),
        ("failure_status", "i8"),
        ("in_flight", "i8"),
        ("queued", "i8"),
        ("queue_head", "i8"),
        ("queue_tail", "i8"),
        ("busy", "i8"),  # workers
        ("running", "i8"),  # requests that want the CPU
        ("work_root", "i8"),  # heap of them, by `finish`
        ("throttled", "i8"),
        ("rules", "i8"),  # egress rules that start here
        ("connections", "i8"),  # first row of its connections
        ("server_rows", "i8"),  # first row of its counters; -1: sends no spans
        ("client_rows", "i8"),
        ("internal_rows", "i8"),
        ("virtual", "f8"),  # CPU time that each running request has had
        ("rate", "f8"),  # of `virtual`, per nanosecond
        ("demand", "f8"),  # cores in use
        ("stress_demand", "f8"),
        ("stress", "f8"),  # busy threads that aren't requests
        ("cores", "f8"),  # of the node
        ("limit", "f8"),  # cores; 0: none
        ("budget", "f8"),  # core-nanoseconds left in this CFS period
        ("last", "i8"),  # settled up to here
        ("due", "i8"),  # its outstanding processor event
        ("throttle_end", "i8"),
        ("phase", "i8"),  # of its CFS periods
        ("last_period", "i8"),
        ("periods", "i8"),
        ("throttled_periods", "i8"),
        ("throttled_ns", "i8"),
        ("cpu_ns", "f8"),
        ("stress_ns", "f8"),
        ("rx_bytes", "i8"),
        ("tx_bytes", "i8"),
        ("served", "i8"),  # requests that it answered
        ("warm", "i8"),  # it has been running for long
        ("memory_limit", "i8"),  # 0: none
        ("memory_base", "i8"),  # of its process; 0 while a ramp stands for it
        ("memory_ramped", "i8"),  # what its ramps have come to
        ("memory_due", "i8"),  # its outstanding memory event
        ("leaked", "f8"),  # bytes that requests have left behind
        ("busy_threads", "f8"),  # that a flag has started
        ("lock_free", "i8"),  # when the lock that a flag's delay is behind will be free
        ("member", "i8"),  # it has joined the groups of its service's consumers
    ],
    align=True,
)
CONNECTION = np.dtype(
    [
        ("pod", "i8"),
        ("picks", "i8"),
        ("expires", "i8"),  # dialled anew from then on
        ("unreachable", "i8"),  # its address is wrong
        ("open", "i8"),
        ("under_way", "i8"),  # calls that have a place in the pool
        ("waiting", "i8"),  # calls that wait for one
        ("line_head", "i8"),
        ("line_tail", "i8"),
    ],
    align=True,
)
RULE = np.dtype(
    [
        ("pod", "i8"),
        ("peer", "i8"),  # -1: all
        ("latency_ns", "i8"),
        ("jitter_ns", "i8"),
        ("loss", "f8"),
        ("blocked", "i8"),
    ],
    align=True,
)
RAMP = np.dtype([("pod", "i8"), ("start", "i8"), ("duration", "i8"), ("bytes", "i8")], align=True)
SESSION = np.dtype(
    [
        ("entity", "i8"),  # user, or number of the arrival
        ("iteration", "i8"),
        ("key", "u8"),  # of the task
        ("started", "i8"),
        ("due", "i8"),  # its outstanding event
        ("flow", "i8"),
        ("request", "i8"),  # position in the flow
        ("requests", "i8"),  # sent so far in the task
        ("additions", "i8"),  # left
        ("lines", "i8"),
        ("next", "i8"),
        ("phase", "i8"),
        ("leaving", "i8"),
        ("failed", "i8"),  # some request of the task
        ("rounds", "i8"),  # times that its requests are made, this one included
    ],
    align=True,
)
MESSAGE = np.dtype([("key", "u8"), ("lines", "i8"), ("offset", "i8"), ("next", "i8")], align=True)
LOG = np.dtype(
    [("broker", "i8"), ("lost", "i8"), ("redelivered", "i8")], align=True
)  # of a topic: its broker's pod or -1
PARTITION = np.dtype(
    [
        ("end", "i8"),  # offset of the next message
        ("appended", "i8"),  # since the simulation began, whatever became of the logs
        ("first", "i8"),  # oldest message that is kept
        ("last", "i8"),
    ],
    align=True,
)
GROUP = np.dtype([("due", "i8"), ("members", "i8")], align=True)  # of a consumer: its next rebalance
READER = np.dtype(
    [
        ("consumer", "i8"),
        ("partition", "i8"),
        ("pod", "i8"),  # -1: none
        ("next_pod", "i8"),  # the same, or who takes over after the message in progress
        ("started", "i8"),  # the group has had the partition
        ("busy", "i8"),  # 1: its pod processes a message of this partition
        ("stale", "i8"),  # 1: and the log that it is from is lost
        ("position", "i8"),  # offset of the message in progress, or the next
        ("seen", "i8"),  # messages before this offset have been read at least once
        ("committed", "i8"),
        ("cursor", "i8"),  # message at `position`; -1: not there yet
        ("mark", "i8"),  # message at `committed`
        ("asked", "i8"),  # when it last found nothing
        ("due", "i8"),  # its next look
        ("commit_due", "i8"),
        ("rewinds", "i8"),  # times that it went back to what was committed
        ("done", "i8"),  # committed since the simulation began
        ("lost", "i8"),  # gone with a broker before they were committed
    ],
    align=True,
)
#: What the flags in force do to an operation; all zero: nothing.
OPERATION_EFFECT = np.dtype(
    [
        ("acts", "i8"),  # 1: look at the rest
        ("serial", "i8"),
        ("delay_ns", "f8"),
        ("work_ns", "f8"),
        ("failure_ratio", "f8"),
        ("failure_status", "i8"),
        ("rules_threads", "i8"),  # 1: a request sets its pod's busy threads
        ("busy_threads", "f8"),
        ("leak_bytes", "f8"),
    ],
    align=True,
)
CALL_EFFECT = np.dtype([("failure_ratio", "f8"), ("copies", "i8")], align=True)  # what they do to a call
SPAN = np.dtype(
    [
        ("start", "i8"),
        ("end", "i8"),
        ("trace_high", "u8"),
        ("trace_low", "u8"),
        ("span_id", "u8"),
        ("parent_id", "u8"),  # 0: none
        ("probability", "f8"),
        ("pod", "i8"),
        ("peer", "i8"),  # pod; -1: none was reached
        ("operation", "i8"),  # INTERNAL: the flow
        ("edge", "i8"),  # -1: none
        ("kind", "i8"),
        ("outcome", "i8"),
        ("status", "i8"),
        ("failed", "i8"),  # the span is an error
        ("attempt", "i8"),
    ],
    align=True,
)
WORLD = np.dtype(
    [
        ("root_key", "u8"),
        ("now", "i8"),
        ("sequence", "i8"),
        ("events", "i8"),
        ("hops", "i8"),
        ("heap_size", "i8"),
        ("free_hop", "i8"),
        ("hops_used", "i8"),
        ("todo", "i8"),
        ("rules", "i8"),
        ("ramps", "i8"),
        ("killed", "i8"),  # pod that has just outgrown its memory limit; -1: none
        ("load_pod", "i8"),
        ("free_session", "i8"),
        ("sessions_used", "i8"),
        ("users_target", "i8"),
        ("users_staying", "i8"),
        ("margin", "i8"),  # free rows that one event may need
        ("spawn_gap_ns", "i8"),
        ("spawn_due", "i8"),
        ("think_low_ns", "f8"),
        ("think_high_ns", "f8"),
        ("arrivals", "i8"),
        ("arrival_due", "i8"),
        ("arrival_units", "f8"),  # of the gap in progress, left at the last change of the rate
        ("rate_per_ns", "f8"),
        ("spans", "i8"),
        ("spans_seen", "i8"),
        ("error_spans_seen", "i8"),
        ("probability_ok", "f8"),
        ("probability_error", "f8"),
        ("topics", "i8"),
        ("consumers", "i8"),
        ("free_message", "i8"),
        ("messages_used", "i8"),
    ],
    align=True,
)


class State(NamedTuple):
    """Everything that changes. `world` has one row; the others are tables."""

    world: Table
    heap: npt.NDArray[np.int64]  #: [capacity, 3]: time, sequence, payload
    hops: Table
    todo: npt.NDArray[np.int64]  #: hops that can go on at this moment
    pods: Table
    ready: npt.NDArray[np.int64]  #: [services, capacity]: ready pods
    ready_count: npt.NDArray[np.int64]  #: [services]
    splits: npt.NDArray[np.float64]  #: [services]: share of dials that go to canary pods; -1: they are pods like others
    connections: Table
    rules: Table
    ramps: Table  #: memory that grows
    sessions: Table
    weights: npt.NDArray[np.float64]  #: [flows]: cumulative shares of the mix, the last one is 1
    flow_tasks: npt.NDArray[np.int64]  #: [flows, 2]: started, finished
    edge_counts: npt.NDArray[np.int64]  #: [edges, COUNTS]
    edge_statuses: npt.NDArray[
        np.int64
    ]  #: [edges, statuses]: how calls ended for their callers, columns as `names.statuses`
    edge_sums_ns: npt.NDArray[np.int64]  #: [edges, failed, side]: durations; side 0 is the client's, 1 the server's
    edge_buckets: npt.NDArray[np.int64]  #: [edges, failed, side, BUCKETS]: durations, not cumulative
    endings: npt.NDArray[
        np.int64
    ]  #: [edges, ENDINGS]: 0, or 1 + (failed * statuses + column of the status) * ATTEMPTS + attempt
    ending_sums_ns: npt.NDArray[np.int64]  #: [edges, ENDINGS, side]: as `edge_sums_ns`
    ending_buckets: npt.NDArray[np.int64]  #: [edges, ENDINGS, side, BUCKETS]: as `edge_buckets`
    span_sums_ns: npt.NDArray[np.int64]  #: [rows, failed]
    span_buckets: npt.NDArray[np.int64]  #: [rows, failed, BUCKETS], not cumulative
    spans: Table  #: sampled, since they were last taken
    messages: Table  #: kept for some group that hasn't committed them
    logs: Table  #: [topics]
    partitions: Table
    groups: Table  #: [consumers]
    readers: Table
    operation_effects: Table  #: [operations]
    call_effects: Table  #: [calls]
    flow_rounds: npt.NDArray[np.int64]  #: [flows]: times that a task makes its requests


def empty_state(services: int, edges: int, flows: int, *, statuses: int, operations: int, calls: int) -> State:
    """Return a state without pods, users, topics or events, at time 0."""
    state = State(
        world=np.zeros(1, WORLD),
        heap=np.zeros((1024, 3), np.int64),
        hops=np.zeros(512, HOP),
        todo=np.zeros(512, np.int64),
        pods=np.zeros(16, POD),
        ready=np.zeros((services, 4), np.int64),
        ready_count=np.zeros(services, np.int64),
        splits=np.full(services, -1.0),
        connections=np.zeros(32, CONNECTION),
        rules=np.zeros(4, RULE),
        ramps=np.zeros(4, RAMP),
        sessions=np.zeros(64, SESSION),
        weights=np.ones(flows),
        flow_tasks=np.zeros((flows, 2), np.int64),
        edge_counts=np.zeros((edges, COUNTS), np.int64),
        edge_statuses=np.zeros((edges, statuses), np.int64),
        edge_sums_ns=np.zeros((edges, 2, 2), np.int64),
        edge_buckets=np.zeros((edges, 2, 2, BUCKETS), np.int64),
        endings=np.zeros((edges, ENDINGS), np.int64),
        ending_sums_ns=np.zeros((edges, ENDINGS, 2), np.int64),
        ending_buckets=np.zeros((edges, ENDINGS, 2, BUCKETS), np.int64),
        span_sums_ns=np.zeros((32, 2), np.int64),
        span_buckets=np.zeros((32, 2, BUCKETS), np.int64),
        spans=np.zeros(1024, SPAN),
        messages=np.zeros(64, MESSAGE),
        logs=np.zeros(1, LOG),
        partitions=np.zeros(1, PARTITION),
        groups=np.zeros(1, GROUP),
        readers=np.zeros(1, READER),
        operation_effects=np.zeros(operations, OPERATION_EFFECT),
        call_effects=np.zeros(calls, CALL_EFFECT),
        flow_rounds=np.ones(flows, np.int64),
    )
    world = state.world
    world["free_message"] = link_free_rows(state.messages, 0, -1)
    world["free_hop"] = link_free_rows(state.hops, 0, -1)
    world["free_session"] = link_free_rows(state.sessions, 0, -1)
    world["load_pod"] = world["killed"] = -1
    world["spawn_due"] = world["arrival_due"] = NEVER
    world["arrival_units"] = -1.0  # none drawn yet
    return state


def with_topics(state: State, topics: Sequence[int], consumers: Sequence[int]) -> State:
    """Return a state with empty topics and groups that nobody has joined.

    Args:
        topics: partitions of each topic.
        consumers: topic of each consumer; it gets a reader for each partition.
    """
    if not topics:
        return state
    logs, partitions = np.zeros(len(topics), LOG), np.zeros(sum(topics), PARTITION)
    groups = np.zeros(max(1, len(consumers)), GROUP)
    readers = np.zeros(max(1, sum(topics[topic] for topic in consumers)), READER)
    logs["broker"] = partitions["first"] = partitions["last"] = -1
    groups["due"] = readers["due"] = readers["commit_due"] = NEVER
    for field in ("pod", "next_pod", "cursor", "mark"):
        readers[field] = -1
    row = 0
    for consumer, topic in enumerate(consumers):
        first = sum(topics[:topic])
        readers["consumer"][row : row + topics[topic]] = consumer
        readers["partition"][row : row + topics[topic]] = np.arange(first, first + topics[topic])
        row += topics[topic]
    state.world["topics"], state.world["consumers"] = len(topics), len(consumers)
    return state._replace(logs=logs, partitions=partitions, groups=groups, readers=readers)


def grown(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Return a copy with at least `rows` rows, at least twice as many as before; the new ones are zero."""
    larger = np.zeros((max(rows, 2 * len(array)), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def link_free_rows(table: Table, first: int, free: int) -> int:
    """Chain the rows from `first` on in front of the free list that begins at `free`; return its new beginning."""
    table["next"][first:] = np.arange(first + 1, len(table) + 1)
    table["next"][-1] = free
    return first


def copy_state(state: State) -> State:
    """Return an independent copy."""
    return State._make(array.copy() for array in state)
