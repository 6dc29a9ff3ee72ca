"""The discrete-event kernel: per request, compiled, on one `State`.

In: a state, a moment to run to, and one command to carry out first. Out: how far it came and why it stopped.

The loop takes the earliest event, lets it take place (`calls`, `processor`, `users`, `consumers`) and then lets every hop that can go on
do so. It stops at `until`, all events of that moment included, at the moment at which a pod outgrows its memory limit, or before an event
for which an array might be too small: it then asks for room, and goes on later as if nothing had been (`simulation` grows the arrays).
Control loops are Python and act between two runs, by commands, never inside one. Everything that changes physics comes in through `run`,
so there is one function to compile and to load.

What a run yields doesn't depend on how it was cut into runs.
"""

from __future__ import annotations

from typing import Final

from otel_control_gym.stands.twin.calls import (
    abandon_hops,
    advance_next,
    handle_arrival,
    handle_report,
    handle_resend,
    handle_timeout,
    handle_wake,
)
from otel_control_gym.stands.twin.compilation import compiled, entry_point, inlined
from otel_control_gym.stands.twin.consumers import (
    end_message,
    handle_fetch,
    handle_rebalance,
    join,
    leave,
    open_logs,
    vanish,
)
from otel_control_gym.stands.twin.event_heap import (
    ARRIVAL,
    ARRIVE,
    COMMIT,
    FETCH,
    KINDS,
    MEMORY,
    PROCESSOR,
    REBALANCE,
    REPORT,
    RESEND,
    SESSION,
    SPAWN,
    TIMEOUT,
    TRANSMIT,
    WAKE,
    drop_earliest,
)
from otel_control_gym.stands.twin.memory import grow_memory
from otel_control_gym.stands.twin.message_log import handle_commit
from otel_control_gym.stands.twin.network import handle_transmission
from otel_control_gym.stands.twin.processor import change_limit, change_stress, clear_work, handle_processor
from otel_control_gym.stands.twin.state import DRAINING, NOBODY, STOPPED, TIMED_OUT, State
from otel_control_gym.stands.twin.topology import Topology
from otel_control_gym.stands.twin.users import (
    change_rate,
    change_users,
    end_request,
    end_sessions,
    hand_load,
    handle_open_arrival,
    handle_session,
    handle_spawn,
)

__all__ = (
    "DRAIN",
    "GROW_MEMORY",
    "HAND_LOAD",
    "KILL",
    "LIMIT",
    "NEEDS_ROOM",
    "NEEDS_ROOM_FIRST",
    "NOTHING",
    "OUT_OF_MEMORY",
    "RATE",
    "REACHED",
    "READY",
    "STOP",
    "STRESS",
    "USERS",
    "run",
)

# Commands: what `subject` and `amount` are.
NOTHING: Final = 0
READY: Final = 1  #: pod, 1 or 0: put it into the endpoints, or take it out
DRAIN: Final = 2  #: pod
STOP: Final = 3  #: pod
LIMIT: Final = 4  #: pod, cores (0: none)
STRESS: Final = 5  #: pod, busy threads
USERS: Final = 6  #: target, nanoseconds between two comings or goings
RATE: Final = 7  #: -, arrivals per nanosecond
HAND_LOAD: Final = 8  #: pod: the users are in this one from now on
KILL: Final = 9  #: pod: its process is dead, but nobody knows yet: it stays in the endpoints
GROW_MEMORY: Final = 10  #: pod: its ramps or its memory limit have changed

# Why a run stopped.
REACHED: Final = 0
NEEDS_ROOM: Final = 1
NEEDS_ROOM_FIRST: Final = 2  #: before the command was carried out
OUT_OF_MEMORY: Final = 3  #: `world.killed` is over its limit at this moment


@entry_point
def run(topology: Topology, state: State, until: int, command: int, subject: int, amount: float) -> int:
    """Carry out a command at the present moment, then let everything up to `until` happen; return why it stopped."""
    world = state.world[0]
    if command != NOTHING:
        if not _has_room(state, world.hops_used if command in (STOP, KILL) else 0):
            return NEEDS_ROOM_FIRST
        _carry_out(topology, state, command, subject, amount)
    while True:
        if world.killed >= 0:
            return OUT_OF_MEMORY
        if not _has_room(state, 0):
            return NEEDS_ROOM
        if world.todo > 0:
            advance_next(topology, state)
        elif world.heap_size > 0 and state.heap[0, 0] <= until:
            world.now = state.heap[0, 0]
            payload = state.heap[0, 2]
            drop_earliest(state)
            world.events += 1
            _take_place(topology, state, payload % KINDS, payload // KINDS)
        else:
            world.now = until
            return REACHED


@inlined
def _has_room(state: State, extra: int) -> bool:
    """Return whether the arrays can take what one event, or one hop that goes on, may bring, and `extra` events."""
    world = state.world[0]
    return bool(
        world.heap_size + world.margin + extra <= len(state.heap)
        and world.hops_used + world.margin <= len(state.hops)
        and world.spans + world.margin <= len(state.spans)
        and world.messages_used + world.margin <= len(state.messages)
        and world.sessions_used < len(state.sessions)
    )


@inlined
def _take_place(topology: Topology, state: State, kind: int, index: int) -> None:
    """Let one event take place; events that were planned anew since are recognised by their time."""
    world = state.world[0]
    if kind == ARRIVE:
        handle_arrival(topology, state, index)
    elif kind == REPORT:
        outcome, task = state.hops[index].outcome, state.hops[index].trace
        session = handle_report(topology, state, index)
        if session >= 0:
            end_request(topology, state, session, task, outcome)
        elif session < NOBODY:
            end_message(topology, state, -2 - session)
    elif kind == PROCESSOR:
        pod = state.pods[index]
        if pod.due == world.now:
            handle_processor(state, index, topology.services[pod.service].threads)
    elif kind == TIMEOUT:
        task = state.hops[index].trace
        session = handle_timeout(topology, state, index)
        if session >= 0:
            end_request(topology, state, session, task, TIMED_OUT)
    elif kind == RESEND:
        handle_resend(topology, state, index)
    elif kind == TRANSMIT:
        handle_transmission(topology, state, index)
    elif kind == MEMORY:
        if state.pods[index].memory_due == world.now:
            grow_memory(topology, state, index)
    elif kind == WAKE:
        handle_wake(topology, state, index)
    elif kind == FETCH:
        handle_fetch(topology, state, index)
    elif kind == COMMIT:
        handle_commit(topology, state, index)
    elif kind == REBALANCE:
        handle_rebalance(topology, state, index)
    elif kind == SESSION:
        handle_session(topology, state, index)
    elif kind == SPAWN:
        if world.spawn_due == world.now:
            handle_spawn(topology, state)
    elif kind == ARRIVAL and world.arrival_due == world.now:
        handle_open_arrival(topology, state)


@compiled
def _carry_out(topology: Topology, state: State, command: int, subject: int, amount: float) -> None:
    pods = state.pods
    if command == USERS:
        change_users(state, subject, int(amount))
    elif command == RATE:
        change_rate(state, amount)
    elif command == HAND_LOAD:
        hand_load(state, subject)
    elif command == READY:
        _set_ready(state, subject, amount > 0.0)
        if amount > 0.0:
            open_logs(topology, state, subject)
            join(topology, state, subject)
    elif command == DRAIN:
        pods[subject].life = DRAINING
        leave(topology, state, subject)
    elif command in (STOP, KILL):
        if subject == state.world[0].load_pod:
            end_sessions(state)
        if command == STOP:
            _set_ready(state, subject, False)
        state.world[0].killed = -1
        pods[subject].life = STOPPED
        abandon_hops(topology, state, subject)
        vanish(topology, state, subject)
        clear_work(state, subject)
    elif command == GROW_MEMORY:
        grow_memory(topology, state, subject)
    elif command == LIMIT:
        change_limit(state, subject, amount, topology.services[pods[subject].service].threads)
    elif command == STRESS:
        change_stress(state, subject, amount, topology.services[pods[subject].service].threads)


@compiled
def _set_ready(state: State, slot: int, ready: bool) -> None:
    """Put a pod at the end of its service's endpoints, or take it out of them."""
    pod = state.pods[slot]
    if bool(pod.ready) == ready:
        return
    row, count = state.ready[pod.service], state.ready_count[pod.service]
    pod.ready = 1 if ready else 0
    if ready:
        row[count] = slot
        state.ready_count[pod.service] = count + 1
        return
    kept = 0
    for index in range(count):
        if row[index] != slot:
            row[kept] = row[index]
            kept += 1
    state.ready_count[pod.service] = kept
