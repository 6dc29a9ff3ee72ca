"""Which pod a call goes to: the one that its connection leads to, or one of those that are ready.

In: the calling pod, the edge, the call's key. Out: a pod, or -1: refused.

Kube-proxy spreads connections, not requests. A sticky edge dials once per calling pod, as gRPC does, and stays with what it got until that
pod stops or drains, TCP gives the connection up, or the connection is as old as the edge lets it become. A per-request edge dials for
each call. A dial draws from the ready pods; where a traffic split is in force it first draws between the canary pods and the others.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from otel_control_gym.stands.twin.compilation import compiled, inlined
from otel_control_gym.stands.twin.draws import CONNECTION, ENDPOINT, SPLIT, descend, uniform
from otel_control_gym.stands.twin.state import NEVER, RUNNING, Record, State
from otel_control_gym.stands.twin.topology import Topology

__all__ = ("choose_pod", "confirm_connection", "drop_connection")

AGE_SPREAD: Final = 0.1  #: share by which a connection's greatest age is longer or shorter (gRPC's MAX_CONNECTION_AGE)

# Purposes of the draws of a pod that dials: an edge's row, counted from here.
SPLITS: Final = 2**32
AGES: Final = 2**33


@inlined
def choose_pod(topology: Topology, state: State, hop: Record, call: Record) -> int:
    """Return the pod that a call goes to, -1 if it is refused; `hop.dials` tells whether its connection isn't open yet."""
    hop.dials = 1
    edge, pod = topology.edges[call.edge], state.pods[hop.client]
    if pod.misled and state.connections[pod.connections + call.connection].unreachable:
        return -1
    if not edge.sticky:
        return _draw(state, edge.target, hop.key, ENDPOINT, SPLIT, 0)
    connection, now = state.connections[pod.connections + call.connection], state.world[0].now
    if connection.pod >= 0 and state.pods[connection.pod].life == RUNNING and now < connection.expires:
        hop.dials = 1 - connection.open
        return int(connection.pod)
    owner = descend(descend(state.world[0].root_key, CONNECTION), pod.service * 2**32 + pod.ordinal)
    chosen = _draw(state, edge.target, owner, call.edge, SPLITS + call.edge, connection.picks)
    if chosen >= 0:
        connection.pod, connection.expires = chosen, NEVER
        connection.open = 1 if state.world[0].rules == 0 else 0  # a network without rules always lets it through
        if edge.max_age_ns > 0.0:
            spread = AGE_SPREAD * (2.0 * uniform(owner, AGES + call.edge, connection.picks) - 1.0)
            connection.expires = now + int(edge.max_age_ns * (1.0 + spread))
        connection.picks += 1
    return chosen


@compiled
def confirm_connection(topology: Topology, state: State, hop: Record) -> None:
    """Note that the connection that a call dials is open."""
    call = topology.calls[hop.call]
    connection = state.connections[state.pods[hop.client].connections + call.connection]
    if connection.pod == hop.pod:
        connection.open = 1


@compiled
def drop_connection(topology: Topology, state: State, hop: Record) -> None:
    """Let the caller dial anew next time: TCP has given up the connection that a call went over."""
    call = topology.calls[hop.call]
    connection = state.connections[state.pods[hop.client].connections + call.connection]
    if connection.pod == hop.pod:
        connection.pod = -1


@inlined
def _draw(state: State, service: int, key: np.uint64, purpose: int, split_purpose: int, index: int) -> int:
    """Return one of a service's ready pods; -1 if there is none, or none of the group that the split has drawn."""
    ready, count, share = state.ready[service], state.ready_count[service], state.splits[service]
    if share < 0.0:
        return -1 if count == 0 else int(ready[int(uniform(key, purpose, index) * count)])
    canary, members = 1 if uniform(key, split_purpose, index) < share else 0, 0
    for at in range(count):
        members += state.pods[ready[at]].canary == canary
    left = int(uniform(key, purpose, index) * members)
    for at in range(count):
        if state.pods[ready[at]].canary == canary:
            if left == 0:
                return int(ready[at])
            left -= 1
    return -1
