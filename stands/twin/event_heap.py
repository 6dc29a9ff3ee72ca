"""The event heap: what happens next.

In: (time, kind, index). Out: the earliest, and of those at one moment the one that was put in first. A binary heap in one array of
int64 rows; what an event means is decided in `kernel`.
"""

from __future__ import annotations

from typing import Final

from otel_control_gym.stands.twin.compilation import compiled
from otel_control_gym.stands.twin.state import State

__all__ = (
    "ARRIVAL",
    "ARRIVE",
    "COMMIT",
    "FETCH",
    "KINDS",
    "MEMORY",
    "PROCESSOR",
    "REBALANCE",
    "REPORT",
    "RESEND",
    "SESSION",
    "SPAWN",
    "TIMEOUT",
    "TRANSMIT",
    "WAKE",
    "drop_earliest",
    "push",
)

ARRIVE: Final = 0  #: a request reaches its pod (index: hop)
REPORT: Final = 1  #: an answer, or the news that there is none, reaches the caller (hop)
PROCESSOR: Final = 2  #: work ends, or a CFS quota does, or its period (pod)
SESSION: Final = 3  #: a user stops thinking (session)
SPAWN: Final = 4  #: a user comes or goes
ARRIVAL: Final = 5  #: an open arrival
MEMORY: Final = 6  #: a stressor has grown (pod)
TIMEOUT: Final = 7  #: a caller has waited long enough (hop)
RESEND: Final = 8  #: a call is tried again (hop)
WAKE: Final = 9  #: a flag's delay is over (hop)
FETCH: Final = 10  #: a consumer asks for messages (reader)
COMMIT: Final = 11  #: a consumer commits what it has processed (reader)
REBALANCE: Final = 12  #: a group shares its partitions out (consumer)
TRANSMIT: Final = 15  #: what the network has dropped is sent again (hop)
KINDS: Final = 16  #: payload = index * KINDS + kind


@compiled
def push(state: State, time: int, kind: int, index: int) -> None:
    """Put an event in; the caller has seen to it that there is room."""
    heap, world = state.heap, state.world[0]
    world.sequence += 1
    at = world.heap_size
    world.heap_size = at + 1
    while at > 0:
        parent = (at - 1) >> 1
        # The new event has the highest sequence number, so at the same time it stays below.
        if heap[parent, 0] <= time:
            break
        heap[at, 0], heap[at, 1], heap[at, 2] = heap[parent, 0], heap[parent, 1], heap[parent, 2]
        at = parent
    heap[at, 0], heap[at, 1], heap[at, 2] = time, world.sequence, index * KINDS + kind


@compiled
def drop_earliest(state: State) -> None:
    """Take the first row out."""
    heap, world = state.heap, state.world[0]
    size = world.heap_size - 1
    world.heap_size = size
    if size == 0:
        return
    time, sequence, payload = heap[size, 0], heap[size, 1], heap[size, 2]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (
            heap[other, 0] < heap[child, 0] or (heap[other, 0] == heap[child, 0] and heap[other, 1] < heap[child, 1])
        ):
            child = other
        if time < heap[child, 0] or (time == heap[child, 0] and sequence < heap[child, 1]):
            break
        heap[at, 0], heap[at, 1], heap[at, 2] = heap[child, 0], heap[child, 1], heap[child, 2]
        at = child
    heap[at, 0], heap[at, 1], heap[at, 2] = time, sequence, payload
