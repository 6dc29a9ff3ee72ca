"""A caller's connection pool: how many calls of one pod over one edge are under way at once, and the line of those that wait.

In: calls that begin and end. Out: places, given first come first served. A caller that waits too long leaves the line: its call is
counted as timed out, and among these as one that never left its caller.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.compilation import compiled, inlined
from otel_control_gym.stands.twin.event_heap import TIMEOUT, push
from otel_control_gym.stands.twin.hops import LINED
from otel_control_gym.stands.twin.state import Record, State
from otel_control_gym.stands.twin.topology import Topology

__all__ = ("leave_line", "pass_place_on", "wait_in_line")


@compiled
def wait_in_line(topology: Topology, state: State, index: int) -> bool:
    """Give a call a place in its caller's pool; return whether it has to wait for one."""
    hop, now = state.hops[index], state.world[0].now
    edge, connection = topology.edges[topology.calls[hop.call].edge], _connection(topology, state, hop)
    if connection.under_way < edge.pool:
        connection.under_way += 1
        hop.pooled = 1
        return False
    hop.phase, hop.next = LINED, -1
    if connection.waiting == 0:
        connection.line_head = index
    else:
        state.hops[connection.line_tail].next = index
    connection.line_tail = index
    connection.waiting += 1
    if edge.pool_timeout_ns > 0 and (edge.timeout_ns == 0 or edge.pool_timeout_ns < edge.timeout_ns):
        hop.deadline = now + edge.pool_timeout_ns
        push(state, hop.deadline, TIMEOUT, index)
    return True


@compiled
def leave_line(topology: Topology, state: State, index: int) -> None:
    """Take a call out of the line. It is the first one, unless the line's patience differs."""
    hop = state.hops[index]
    connection = _connection(topology, state, hop)
    before, at = -1, connection.line_head
    while at != index:
        before, at = at, state.hops[at].next
    if before < 0:
        connection.line_head = hop.next
    else:
        state.hops[before].next = hop.next
    if hop.next < 0:
        connection.line_tail = before
    connection.waiting -= 1


@compiled
def pass_place_on(topology: Topology, state: State, hop: Record) -> int:
    """Take a call's place back; return the call that has it now and can be sent, or -1."""
    connection = _connection(topology, state, hop)
    hop.pooled = 0
    if connection.waiting == 0:
        connection.under_way -= 1
        return -1
    index: int = connection.line_head
    heir = state.hops[index]
    leave_line(topology, state, index)
    heir.pooled = 1
    timeout = topology.edges[topology.calls[heir.call].edge].timeout_ns
    # The event for this deadline is on its way since the call came into the line.
    heir.deadline = heir.sent + timeout if timeout > 0 else 0
    return index


@inlined
def _connection(topology: Topology, state: State, hop: Record) -> Record:
    return state.connections[state.pods[hop.client].connections + topology.calls[hop.call].connection]
