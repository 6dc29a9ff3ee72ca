"""How a message gets from pod to pod: at once, late, again and again, or never.

In: a hop whose request or answer is to leave its pod. Out: the event of its arrival, of its next transmission, or of its loss.

Without rules on the sender's way out a message takes the edge's latency. Rules delay it, lose a share of its transmissions, or let nothing
through (a partition). What is lost isn't an error, it is sent again: TCP hides loss as latency, and a partition as silence.

- An open connection sends again after 200 ms, then after twice as long each time, at most 120 s; after 15 retransmissions, about 924 s,
  it is given up. (Linux: TCP_RTO_MIN, TCP_RTO_MAX in include/net/tcp.h; tcp_retries2 in ip-sysctl.rst; the doubling is RFC 6298.)
- A connection that is being dialled sends its SYN again after 1 s, doubling; after 6 retransmissions, about 127 s, it is given up
  (tcp_syn_retries). Its handshake needs both directions, so a called pod that can't answer is never asked.
- A caller that gives up takes back a request that hasn't got through yet. A caller without a time-out hangs.

Each transmission draws its fate by (hop, leg, transmission). Simplifications: messages are one packet each and don't wait for one
another, as streams of one connection would; acknowledgements aren't lost; the round trip adds nothing to the time-outs.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from otel_control_gym.stands.twin.compilation import compiled, inlined
from otel_control_gym.stands.twin.connections import confirm_connection, drop_connection
from otel_control_gym.stands.twin.draws import LEG, LOSS, uniform
from otel_control_gym.stands.twin.event_heap import ARRIVE, REPORT, TRANSMIT, push
from otel_control_gym.stands.twin.hops import DONE, WIRED, end_server
from otel_control_gym.stands.twin.state import LOST, STOPPED, State
from otel_control_gym.stands.twin.topology import Topology

__all__ = ("handle_transmission", "send_answer", "send_request")

# Legs of a hop. The handshake's is that of the called pod's first answer.
REQUEST_LEG: Final = 0
ANSWER_LEG: Final = 1
HANDSHAKE_LEG: Final = 2

LEGS: Final = 256  #: distance of the legs' purposes
DROPPED: Final = -1
FIRST_TIMEOUT: Final = 200_000_000
FIRST_SYN_TIMEOUT: Final = 1_000_000_000
LAST_TIMEOUT: Final = 120_000_000_000
RETRANSMISSIONS: Final = 15
SYN_RETRANSMISSIONS: Final = 6


@inlined
def send_request(topology: Topology, state: State, index: int) -> None:
    """Send a hop's request to its pod."""
    hop, world = state.hops[index], state.world[0]
    hop.phase, hop.transmission = WIRED, 0
    if world.rules == 0:
        push(state, world.now + topology.edges[topology.calls[hop.call].edge].latency_ns, ARRIVE, index)
    else:
        _transmit(topology, state, index)


@inlined
def send_answer(topology: Topology, state: State, index: int, outcome: int) -> None:
    """Send a hop's answer, or the news that there is none, from its pod to the caller."""
    hop, world = state.hops[index], state.world[0]
    if world.rules == 0:
        end_server(state, index, outcome, topology.edges[topology.calls[hop.call].edge].latency_ns)
    else:
        hop.phase, hop.outcome, hop.transmission = DONE, outcome, 0
        _transmit(topology, state, index)


@compiled
def handle_transmission(topology: Topology, state: State, index: int) -> None:
    """Send once more what didn't get through, unless nobody cares any more or TCP gives it up."""
    hop = state.hops[index]
    answers = hop.phase == DONE
    if not hop.client_open:
        end_server(state, index, hop.outcome if answers else LOST, 0)
        return
    if hop.transmission <= (SYN_RETRANSMISSIONS if hop.dials and not answers else RETRANSMISSIONS):
        _transmit(topology, state, index)
        return
    drop_connection(topology, state, hop)
    end_server(state, index, LOST, 0)


@compiled
def _transmit(topology: Topology, state: State, index: int) -> None:
    """Put a message on the wire; if it is dropped there, plan its next transmission."""
    hop, now = state.hops[index], state.world[0].now
    latency = topology.edges[topology.calls[hop.call].edge].latency_ns
    answers = hop.phase == DONE
    dials = hop.dials and not answers
    if answers:
        delay = _egress(state, hop.pod, hop.client, hop.key, ANSWER_LEG, hop.transmission)
    else:
        delay = _egress(state, hop.client, hop.pod, hop.key, REQUEST_LEG, hop.transmission)
        if dials and delay != DROPPED:
            back = _egress(state, hop.pod, hop.client, hop.key, HANDSHAKE_LEG, hop.transmission)
            delay = DROPPED if back == DROPPED else delay
    if delay == DROPPED:
        wait = min((FIRST_SYN_TIMEOUT if dials else FIRST_TIMEOUT) << hop.transmission, LAST_TIMEOUT)
        hop.transmission += 1
        push(state, now + wait, TRANSMIT, index)
    elif answers:
        if hop.transmission > 0 and state.pods[hop.pod].life == STOPPED:
            hop.outcome = LOST  # what gets through is the end of the connection
        push(state, now + latency + delay, REPORT, index)
    else:
        if dials:
            confirm_connection(topology, state, hop)
        push(state, now + latency + delay, ARRIVE, index)


@compiled
def _egress(state: State, source: int, target: int, key: np.uint64, leg: int, transmission: int) -> int:
    """Return what the sender's rules add to a packet's way, or `DROPPED`."""
    if state.pods[source].rules == 0:
        return 0
    delay, kept = 0, 1.0
    for row in range(state.world[0].rules):
        rule = state.rules[row]
        if rule.pod == source and (rule.peer < 0 or rule.peer == target):
            spread = (2.0 * uniform(key, LEG + leg * LEGS, rule.peer >= 0) - 1.0) * rule.jitter_ns
            delay += max(0, rule.latency_ns + int(spread))
            kept *= 0.0 if rule.blocked else 1.0 - rule.loss
    if kept < 1.0 and uniform(key, LOSS + leg * LEGS, transmission) >= kept:
        return DROPPED
    return delay
