"""Who makes the load: a closed loop of users, or open arrivals.

In: targets and rates, ends of requests. Out: calls of the load generator's pod.

A session is one user of the closed loop, or one open arrival. A task is a flow drawn from the mix: its requests one after the other, the
leading ones repeated as often as the flow's additions say, and all of it as often as a feature flag says if one rules the flow. Then a
user thinks; an arrival is gone. Users are numbered, and the highest number leaves first (after its task), so the others keep their draws.
All of them live in the load generator's pod: without it nobody asks.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from otel_control_gym.stands.twin.calls import start_call
from otel_control_gym.stands.twin.compilation import compiled, inlined
from otel_control_gym.stands.twin.draws import (
    ADDITIONS,
    ARRIVAL,
    FLOW,
    PRODUCT,
    REQUEST,
    TASK,
    THINK,
    descend,
    exponential,
    uniform,
)
from otel_control_gym.stands.twin.event_heap import ARRIVAL as ARRIVAL_EVENT
from otel_control_gym.stands.twin.event_heap import SESSION, SPAWN, push
from otel_control_gym.stands.twin.recording import close_task
from otel_control_gym.stands.twin.state import NEVER, OK, State
from otel_control_gym.stands.twin.topology import Topology

__all__ = (
    "change_rate",
    "change_users",
    "end_request",
    "end_sessions",
    "hand_load",
    "handle_open_arrival",
    "handle_session",
    "handle_spawn",
)

LEAST_PAUSE: Final = 1e6  #: nanoseconds after a task without requests
PRODUCTS: Final = 10  #: the demo's catalogue
OPEN: Final = 2**40  #: entities of open arrivals are numbered from here

# Phases of a session.
AWAY: Final = 0
THINKING: Final = 1
BUSY: Final = 2


@compiled
def change_users(state: State, target: int, gap_ns: int) -> None:
    """Aim at another number of users, one coming or going every `gap_ns`."""
    world = state.world[0]
    world.users_target, world.spawn_gap_ns = target, gap_ns
    world.spawn_due = NEVER
    _plan_spawn(state, 0)


@compiled
def _plan_spawn(state: State, delay: int) -> None:
    world = state.world[0]
    if world.load_pod >= 0 and world.users_staying != world.users_target and world.spawn_due == NEVER:
        world.spawn_due = world.now + delay
        push(state, world.spawn_due, SPAWN, 0)


@compiled
def handle_spawn(topology: Topology, state: State) -> None:
    """Let one user come or go."""
    world = state.world[0]
    world.spawn_due = NEVER
    if world.users_staying < world.users_target:
        index = world.users_staying
        world.users_staying += 1
        session = state.sessions[index]
        session.leaving = 0
        if session.phase == AWAY:
            session.entity = index
            world.sessions_used += 1
            _start_task(topology, state, index)
    elif world.users_staying > world.users_target:
        world.users_staying -= 1
        session = state.sessions[world.users_staying]
        session.leaving = 1
        if session.phase == THINKING:
            _leave(state, world.users_staying)
    _plan_spawn(state, world.spawn_gap_ns)


@compiled
def _leave(state: State, index: int) -> None:
    session, world = state.sessions[index], state.world[0]
    session.phase, session.due = AWAY, NEVER
    world.sessions_used -= 1


@inlined
def handle_session(topology: Topology, state: State, index: int) -> None:
    """Let a user's pause end."""
    session = state.sessions[index]
    if session.phase == THINKING and session.due == state.world[0].now:
        _start_task(topology, state, index)


@compiled
def change_rate(state: State, rate_per_ns: float) -> None:
    """Change the rate of open arrivals; the gap in progress is stretched or squeezed, its draw stays."""
    world = state.world[0]
    if world.arrival_due != NEVER:
        world.arrival_units = (world.arrival_due - world.now) * world.rate_per_ns
    world.rate_per_ns = rate_per_ns
    _plan_arrival(state)


@compiled
def _plan_arrival(state: State) -> None:
    world = state.world[0]
    world.arrival_due = NEVER
    if world.rate_per_ns <= 0.0 or world.load_pod < 0:
        return
    if world.arrival_units < 0.0:
        world.arrival_units = exponential(world.root_key, ARRIVAL, world.arrivals)
    world.arrival_due = world.now + round(world.arrival_units / world.rate_per_ns)
    push(state, world.arrival_due, ARRIVAL_EVENT, 0)


@inlined
def handle_open_arrival(topology: Topology, state: State) -> None:
    """Let an open arrival come."""
    world = state.world[0]
    index = world.free_session
    session = state.sessions[index]
    world.free_session = session.next
    world.sessions_used += 1
    session.entity, session.iteration, session.leaving = OPEN + world.arrivals, 0, 0
    _start_task(topology, state, index)
    world.arrivals += 1
    world.arrival_units = -1.0
    _plan_arrival(state)


@compiled
def _start_task(topology: Topology, state: State, index: int) -> None:
    """Draw a task and send its first request."""
    session, world = state.sessions[index], state.world[0]
    key = descend(descend(descend(world.root_key, TASK), session.entity), session.iteration)
    session.key, session.started, session.due = key, world.now, NEVER
    session.phase, session.failed, session.requests, session.lines = BUSY, 0, 0, 0
    share, flow = uniform(key, FLOW, 0), 0
    while flow < len(state.weights) - 1 and share >= state.weights[flow]:
        flow += 1
    session.flow = flow
    state.flow_tasks[flow, 0] += 1
    bounds = topology.flows[flow]
    additions = bounds.additions_low
    additions += int(uniform(key, ADDITIONS, 0) * (bounds.additions_high - bounds.additions_low + 1))
    session.rounds = state.flow_rounds[flow]
    if bounds.additions_high > 0:
        session.lines = _distinct_products(key, additions)
        session.request = 0 if additions > 0 and bounds.calls > 1 else bounds.calls - 1
        session.additions = additions - 1
    else:
        session.request, session.additions = 0, 0
    if session.rounds > 0:
        _send(topology, state, index)
    else:
        _end_task(state, index)


@compiled
def _distinct_products(key: np.uint64, count: int) -> int:
    """Return how many different products `count` draws yield: a product drawn twice is one order line."""
    seen = lines = 0
    for number in range(count):
        flag = 1 << int(uniform(key, PRODUCT, number) * PRODUCTS)
        if not seen & flag:
            lines += 1
        seen |= flag
    return lines


@compiled
def _send(topology: Topology, state: State, index: int) -> None:
    session, world = state.sessions[index], state.world[0]
    key = descend(descend(session.key, REQUEST), session.requests)
    session.requests += 1
    site = topology.flows[session.flow].first_call + session.request
    start_call(topology, state, site, world.load_pod, -1, index, key, session.lines)


@compiled
def end_request(topology: Topology, state: State, index: int, task: np.uint64, outcome: int) -> None:
    """Let a session go on after an answer: next request, or the task is over. A failed request doesn't end a task."""
    session = state.sessions[index]
    if session.phase != BUSY or session.key != task:
        return  # the users have moved to another pod since
    if outcome != OK:
        session.failed = 1
    last = topology.flows[session.flow].calls - 1
    if session.request == last - 1 and session.additions > 0:
        session.additions -= 1
        session.request = 0
        _send(topology, state, index)
        return
    if session.request < last:
        session.request += 1
        _send(topology, state, index)
        return
    session.rounds -= 1
    if session.rounds > 0:
        session.request = 0
        _send(topology, state, index)
        return
    _end_task(state, index)


@compiled
def _end_task(state: State, index: int) -> None:
    """Let an arrival go, and a user think."""
    session, world = state.sessions[index], state.world[0]
    close_task(state, session, world.load_pod)
    if session.entity >= OPEN:
        _leave(state, index)
        session.next = world.free_session
        world.free_session = index
        return
    pause = uniform(session.key, THINK, 0) * (world.think_high_ns - world.think_low_ns) + world.think_low_ns
    if session.requests == 0:
        pause = max(pause, LEAST_PAUSE)  # or a user who does nothing would do so for ever within one moment
    session.iteration += 1
    if session.leaving:
        _leave(state, index)
        return
    session.phase, session.due = THINKING, world.now + int(pause)
    push(state, session.due, SESSION, index)


@compiled
def hand_load(state: State, slot: int) -> None:
    """Let users and arrivals come from this pod from now on."""
    world = state.world[0]
    if world.load_pod >= 0 and world.load_pod != slot:
        end_sessions(state)  # Locust's users live in its process
    world.load_pod = slot
    _plan_spawn(state, 0)
    _plan_arrival(state)


@compiled
def end_sessions(state: State) -> None:
    """Let everybody go: the load generator's pod is gone. A user's unfinished task isn't taken up again."""
    world = state.world[0]
    for index in range(len(state.sessions)):
        session = state.sessions[index]
        if session.phase == AWAY:
            continue
        session.iteration += 1
        _leave(state, index)
        if session.entity >= OPEN:
            session.next = world.free_session
            world.free_session = index
    world.users_staying = 0
    world.load_pod = -1
    world.spawn_due = NEVER
    if world.arrival_due != NEVER:
        world.arrival_units = (world.arrival_due - world.now) * world.rate_per_ns
        world.arrival_due = NEVER
