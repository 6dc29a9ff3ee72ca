"""Rows of hops: how one is taken, what phases its server end goes through, when it is free again.

In: who calls whom. Out: a row that `calls` fills with life; a report event at its end. Next: `network`, `calls`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from otel_control_gym.stands.twin.compilation import inlined
from otel_control_gym.stands.twin.event_heap import REPORT, push
from otel_control_gym.stands.twin.state import State

__all__ = (
    "ACTIVE",
    "DONE",
    "FREE",
    "LINED",
    "QUEUED",
    "RESTING",
    "SLEEPING",
    "WAITING",
    "WIRED",
    "end_server",
    "free_if_over",
    "take_row",
)

# Phases of a hop's server end.
FREE: Final = 0
WIRED: Final = 1
QUEUED: Final = 2
ACTIVE: Final = 3
WAITING: Final = 4
DONE: Final = 5
RESTING: Final = 6  #: not sent yet: the pause before a retry
SLEEPING: Final = 7  #: held up by a flag, without the CPU
LINED: Final = 8  #: not sent yet: all of the caller's connections are in use


@inlined
def take_row(
    state: State, site: int, client: int, parent: int, session: int, key: np.uint64, lines: int, trace: np.uint64
) -> int:
    """Return the row of a new hop that isn't sent yet."""
    world = state.world[0]
    index: int = world.free_hop
    hop = state.hops[index]
    world.free_hop = hop.next
    world.hops_used += 1
    hop.key, hop.parent, hop.session, hop.call, hop.client, hop.lines = key, parent, session, site, client, lines
    hop.trace, hop.pod = trace, -1
    hop.arrived, hop.server_ns = 0, -1
    hop.next_call = hop.repeat = hop.pending = hop.stage = hop.position = 0
    hop.left = hop.right = hop.next = -1
    hop.client_open = hop.holding = hop.reported = hop.told = hop.attempt = hop.deadline = hop.pooled = hop.flagged = 0
    return index


@inlined
def end_server(state: State, index: int, outcome: int, delay: int) -> None:
    """Close the server end; the caller learns of it after `delay`."""
    hop = state.hops[index]
    hop.phase, hop.outcome = DONE, outcome
    push(state, state.world[0].now + delay, REPORT, index)


@inlined
def free_if_over(state: State, index: int) -> None:
    """Give a row back once its report and those of its own calls have come."""
    hop, world = state.hops[index], state.world[0]
    if hop.reported and hop.pending == 0 and hop.phase == DONE:
        hop.phase = FREE
        hop.next = world.free_hop
        world.free_hop = index
        world.hops_used -= 1
