"""The life of a hop: one call, from the moment its caller sends it to the moment the answer is back.

In: calls of hops and sessions, events. Out: events, hops on `todo`, ends for `recording`.

A hop has two ends that may die apart. Its *server* end: on the wire, queued for a worker, running (CPU), waiting for its own calls, done.
Its *client* end: open until the answer, or the news that there is none, is reported, or until the caller's pod dies. Every hop gets exactly
one report event, and its row is free once that event took place and all its own calls have reported. Code never recurses: what can
go on at this moment is put on `todo`, and `advance_next` takes it from there.

A caller that has waited as long as its edge allows gives up: that is the end of the client end only. A call that failed in any way is tried
again as often as its edge says, after a pause that doubles each time: each attempt is a hop of its own, with draws of its own.

An operation that fails answers at once, even if parallel calls are still under way (a rejected `Promise.all`): these report to a row
that is done.

Messages are processed as hops of the consumer's pod to itself (`consumers` starts them and hears of their ends). What feature flags do to a
request is done once its first step is over; copies of a call that a flag asks for are hops of which nobody is told.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from otel_control_gym.stands.twin.compilation import compiled, inlined
from otel_control_gym.stands.twin.connections import choose_pod
from otel_control_gym.stands.twin.draws import (
    ATTEMPT,
    BACKOFF,
    COPY,
    FLAG,
    descend,
    uniform,
)
from otel_control_gym.stands.twin.event_heap import RESEND, TIMEOUT, push
from otel_control_gym.stands.twin.failures import DEFAULT, FINE, is_answer, own_failure, status_of_failed_call
from otel_control_gym.stands.twin.flag_effects import COMPUTES, FAILS, PASSES, SLEEPS, act_on
from otel_control_gym.stands.twin.hops import (
    ACTIVE,
    DONE,
    FREE,
    LINED,
    QUEUED,
    RESTING,
    SLEEPING,
    WAITING,
    WIRED,
    end_server,
    free_if_over,
    take_row,
)
from otel_control_gym.stands.twin.memory import check_memory
from otel_control_gym.stands.twin.message_log import append_message
from otel_control_gym.stands.twin.network import send_answer, send_request
from otel_control_gym.stands.twin.pools import leave_line, pass_place_on, wait_in_line
from otel_control_gym.stands.twin.processor import add_work
from otel_control_gym.stands.twin.recording import abandon_call, close_call, close_server, count_line_timeout, open_call
from otel_control_gym.stands.twin.state import ERROR, LOST, NOBODY, OK, REFUSED, STOPPED, TIMED_OUT, Record, State
from otel_control_gym.stands.twin.topology import Topology
from otel_control_gym.stands.twin.warmth import is_cached, slowness
from otel_control_gym.stands.twin.work_times import work_time

__all__ = (
    "abandon_hops",
    "advance_next",
    "handle_arrival",
    "handle_report",
    "handle_resend",
    "handle_timeout",
    "handle_wake",
    "start_call",
)

# Positions within a stage.
WORK_NEXT: Final = 0
CALLS_NEXT: Final = 1
CALLING: Final = 2
GATHERING: Final = 3

FLAG_STAGE: Final = 2**20  #: stage of the work that a flag adds


@inlined
def start_call(
    topology: Topology, state: State, site: int, client: int, parent: int, session: int, key: np.uint64, lines: int
) -> None:
    """Send a request from a pod; `parent` is the calling hop, or -1 and `session` the user's."""
    trace = state.hops[parent].trace if parent >= 0 else state.sessions[session].key
    index = take_row(state, site, client, parent, session, key, lines, trace)
    _send(topology, state, index)


@inlined
def _send(topology: Topology, state: State, index: int) -> None:
    world, hop = state.world[0], state.hops[index]
    call = topology.calls[hop.call]
    edge = topology.edges[call.edge]
    world.hops += 1
    hop.sent, hop.outcome, hop.client_open = world.now, OK, 1
    open_call(state, call.edge, hop.attempt)
    if edge.timeout_ns > 0:
        hop.deadline = world.now + edge.timeout_ns
        push(state, hop.deadline, TIMEOUT, index)
    if edge.pool > 0 and wait_in_line(topology, state, index):
        return
    _dispatch(topology, state, index)


@inlined
def _dispatch(topology: Topology, state: State, index: int) -> None:
    """Let a call that has its place leave its caller."""
    hop = state.hops[index]
    call = topology.calls[hop.call]
    effect = state.call_effects[hop.call]
    if effect.failure_ratio > 0.0 and uniform(hop.key, FLAG, 1) < effect.failure_ratio:
        end_server(state, index, REFUSED, topology.edges[call.edge].latency_ns)
        return
    state.pods[hop.client].tx_bytes += topology.operations[call.operation].request_bytes
    hop.pod = choose_pod(topology, state, hop, call)
    if hop.pod < 0:
        end_server(state, index, REFUSED, topology.edges[call.edge].latency_ns)
    else:
        send_request(topology, state, index)


@inlined
def handle_arrival(topology: Topology, state: State, index: int) -> None:
    """Let a request reach its pod."""
    hop = state.hops[index]
    pod, call = state.pods[hop.pod], topology.calls[hop.call]
    if pod.life == STOPPED:
        end_server(state, index, LOST, topology.edges[call.edge].latency_ns)
        return
    hop.arrived = state.world[0].now
    pod.in_flight += 1
    pod.rx_bytes += topology.operations[call.operation].request_bytes
    check_memory(topology, state, hop.pod)
    _admit(topology, state, index)


@inlined
def _admit(topology: Topology, state: State, index: int) -> None:
    """Let a hop go on at its pod, or queue it for a worker."""
    hop, world = state.hops[index], state.world[0]
    pod = state.pods[hop.pod]
    workers = topology.services[pod.service].workers
    if workers > 0 and not hop.holding:
        if pod.busy >= workers:
            hop.phase, hop.next = QUEUED, -1
            if pod.queued == 0:
                pod.queue_head = index
            else:
                state.hops[pod.queue_tail].next = index
            pod.queue_tail = index
            pod.queued += 1
            return
        pod.busy += 1
        hop.holding = 1
    hop.phase = ACTIVE
    state.todo[world.todo] = index
    world.todo += 1


@inlined
def _release(state: State, hop: Record) -> None:
    """Give a hop's worker to the one that waits longest."""
    if not hop.holding:
        return
    world, pod = state.world[0], state.pods[hop.pod]
    hop.holding = 0
    if pod.queued == 0:
        pod.busy -= 1
        return
    index = pod.queue_head
    heir = state.hops[index]
    pod.queue_head = heir.next
    pod.queued -= 1
    heir.holding, heir.phase = 1, ACTIVE
    state.todo[world.todo] = index
    world.todo += 1


@inlined
def advance_next(topology: Topology, state: State) -> None:
    """Let the newest hop on `todo` go on until it computes, waits or is done."""
    world = state.world[0]
    world.todo -= 1
    index = state.todo[world.todo]
    hop = state.hops[index]
    if hop.phase != ACTIVE:
        return  # its pod died, or it failed, at this very moment
    operation = topology.operations[topology.calls[hop.call].operation]
    service = topology.services[operation.service]
    flagged = state.operation_effects[topology.calls[hop.call].operation].acts
    while hop.stage < operation.steps:
        if flagged and hop.stage > 0 and hop.position == WORK_NEXT and _obey_flags(topology, state, index):
            return
        step = topology.steps[operation.first_step + hop.stage]
        if hop.position == WORK_NEXT:
            hop.position = CALLS_NEXT
            if step.work_ns > 0.0:
                work = work_time(operation, hop.key, hop.stage, step.work_ns) * slowness(service, state.pods[hop.pod])
                add_work(state, hop.pod, index, work, service.threads)
                return
        if hop.position == CALLS_NEXT:
            hop.next_call = hop.repeat = 0
            hop.position = CALLING
        if hop.position == CALLING:
            started = True
            while started:
                started = _start_next_call(topology, state, index, step)
                if started and not step.parallel:
                    break
            if step.parallel:
                hop.position = GATHERING
            if hop.pending > 0:
                hop.phase = WAITING
                if not service.holds:
                    _release(state, hop)
                return
        hop.position = WORK_NEXT
        hop.stage += 1
    if hop.stage == operation.steps:
        if flagged and _obey_flags(topology, state, index):
            return
        hop.stage += 1
        if operation.tail_ns > 0.0:
            work = work_time(operation, hop.key, operation.steps, operation.tail_ns) * slowness(
                service, state.pods[hop.pod]
            )
            add_work(state, hop.pod, index, work, service.threads)
            return
    failure = own_failure(operation, state.pods[hop.pod], hop.key)
    if failure == FINE:
        _answer(topology, state, index, OK, topology.edges[topology.calls[hop.call].edge].ok_status)
    else:
        _fail(topology, state, index, failure)


@compiled
def _obey_flags(topology: Topology, state: State, index: int) -> bool:
    """Let the flags in force act on a hop, once; return whether it is held up, computes or has failed."""
    hop = state.hops[index]
    row = topology.calls[hop.call].operation
    effect = state.operation_effects[row]
    operation = topology.operations[row]
    decision = act_on(topology, state, index, effect)
    if decision == SLEEPS and not topology.services[operation.service].holds:
        _release(state, hop)
    elif decision == COMPUTES:
        work = work_time(operation, hop.key, FLAG_STAGE, effect.work_ns)
        add_work(state, hop.pod, index, work, topology.services[operation.service].threads)
    elif decision == FAILS:
        _fail(topology, state, index, effect.failure_status)
    return bool(decision != PASSES)


@compiled
def handle_wake(topology: Topology, state: State, index: int) -> None:
    """Let a hop that a flag held up go on."""
    hop = state.hops[index]
    if hop.phase == SLEEPING and hop.wake == state.world[0].now:
        _admit(topology, state, index)


@compiled
def _send_copies(topology: Topology, state: State, index: int, site: int, key: np.uint64) -> None:
    """Send a hop's call again, as often as a flag says, without anybody waiting for it."""
    hop = state.hops[index]
    for number in range(state.call_effects[site].copies):
        own = descend(descend(key, COPY), number)
        _send(topology, state, take_row(state, site, hop.pod, NOBODY, NOBODY, own, hop.lines, hop.trace))


@inlined
def _start_next_call(topology: Topology, state: State, index: int, step: Record) -> bool:
    """Start the next call of a step; False if there is none left."""
    hop = state.hops[index]
    while hop.next_call < step.calls:
        site = step.first_call + hop.next_call
        call = topology.calls[site]
        if hop.repeat < (hop.lines if call.per_line else 1):
            key = descend(descend(hop.key, call.site + 1), hop.repeat)
            hop.repeat += 1
            if call.cache_hit_ratio > 0.0 and is_cached(topology, state.pods[hop.pod], call, key):
                continue
            hop.pending += 1
            start_call(topology, state, site, hop.pod, index, -1, key, hop.lines)
            if state.call_effects[site].copies > 0:
                _send_copies(topology, state, index, site, key)
            return True
        hop.next_call += 1
        hop.repeat = 0
    return False


@compiled
def _fail(topology: Topology, state: State, index: int, status: int) -> None:
    """Send an error on its way; its status may be `DEFAULT`."""
    if status == DEFAULT:
        status = topology.edges[topology.calls[state.hops[index].call].edge].error_status
    _answer(topology, state, index, ERROR, status)


@inlined
def _answer(topology: Topology, state: State, index: int, outcome: int, status: int) -> None:
    """Send a hop's answer on its way."""
    hop = state.hops[index]
    hop.outcome, hop.status = outcome, status
    close_server(topology, state, index)
    state.pods[hop.pod].in_flight -= 1
    _release(state, hop)
    topic = topology.operations[topology.calls[hop.call].operation].topic
    if topic >= 0 and outcome == OK:
        append_message(topology, state, topic, hop.pod, hop.key, hop.lines)
    if hop.session < NOBODY:
        end_server(state, index, outcome, 0)  # a message's: nobody waits for an answer
    else:
        send_answer(topology, state, index, outcome)


@inlined
def handle_report(topology: Topology, state: State, index: int) -> int:
    """Let an outcome reach its caller; return the session that it belongs to, or -1 if that isn't a user's any more."""
    hop, session = state.hops[index], -1
    if hop.client_open:
        if hop.outcome == OK or hop.outcome == ERROR:
            operation = topology.operations[topology.calls[hop.call].operation]
            state.pods[hop.client].rx_bytes += operation.response_bytes
        session = _end_client(topology, state, index)
    elif not hop.told and hop.parent >= 0:
        _resume(topology, state, hop.parent, hop)
    hop.reported = 1
    free_if_over(state, index)
    return session


@compiled
def handle_timeout(topology: Topology, state: State, index: int) -> int:
    """Let a caller give up, unless it has its answer; return the session whose request failed so, or -1."""
    hop = state.hops[index]
    if not hop.client_open or hop.deadline != state.world[0].now:
        return -1
    hop.outcome = TIMED_OUT
    if hop.phase == LINED:
        leave_line(topology, state, index)
        count_line_timeout(state, topology.calls[hop.call].edge)
        end_server(state, index, TIMED_OUT, 0)
    return _end_client(topology, state, index)


@inlined
def _end_client(topology: Topology, state: State, index: int) -> int:
    """Close the client end: the call is tried again, or its caller is told; return the session that is told (or -1)."""
    hop = state.hops[index]
    hop.client_open, hop.told = 0, 1
    call = topology.calls[hop.call]
    edge = topology.edges[call.edge]
    if hop.outcome == REFUSED or hop.outcome == LOST:
        hop.status = edge.gone_status
    elif hop.outcome == TIMED_OUT:
        hop.status = edge.late_status
    close_call(topology, state, index)
    if hop.pooled:
        heir = pass_place_on(topology, state, hop)
        if heir >= 0:
            _dispatch(topology, state, heir)
    if hop.attempt < edge.retries and not is_answer(call, hop) and hop.session >= NOBODY:
        key = descend(hop.key, ATTEMPT)
        again = take_row(state, hop.call, hop.client, hop.parent, hop.session, key, hop.lines, hop.trace)
        retry = state.hops[again]
        retry.attempt, retry.phase = hop.attempt + 1, RESTING
        pause = edge.backoff_ns * 2.0**hop.attempt * (1.0 - edge.jitter * uniform(key, BACKOFF, 0))
        retry.sent = state.world[0].now + int(pause)
        push(state, retry.sent, RESEND, again)
        return -1
    if hop.parent >= 0:
        _resume(topology, state, hop.parent, hop)
    return int(hop.session)


@compiled
def handle_resend(topology: Topology, state: State, index: int) -> None:
    """Send a call that has rested once more."""
    hop = state.hops[index]
    if hop.phase == RESTING and hop.sent == state.world[0].now:
        _send(topology, state, index)


@inlined
def _resume(topology: Topology, state: State, index: int, child: Record) -> None:
    """Tell a hop that one of its calls is over."""
    hop = state.hops[index]
    hop.pending -= 1
    if hop.phase == DONE:
        free_if_over(state, index)
    elif topology.calls[child.call].fails and not is_answer(topology.calls[child.call], child):
        _fail(topology, state, index, status_of_failed_call(topology.calls[child.call], child))
    elif hop.pending == 0:
        _admit(topology, state, index)


@compiled
def abandon_hops(topology: Topology, state: State, slot: int) -> None:
    """Let a pod die: what it held is lost and fails at its callers, what it asked for nobody waits for any more."""
    pod = state.pods[slot]
    for index in range(len(state.hops)):
        hop = state.hops[index]
        if hop.phase == FREE:
            continue
        edge = topology.calls[hop.call].edge
        if hop.client == slot and hop.client_open:
            hop.client_open = 0
            abandon_call(state, edge)
        if hop.client == slot and (hop.phase == RESTING or hop.phase == LINED):
            end_server(state, index, LOST, 0)
        if hop.pod == slot and hop.phase != WIRED and hop.phase != DONE:
            hop.holding = 0
            send_answer(topology, state, index, LOST)
    pod.in_flight = pod.queued = pod.busy = 0
