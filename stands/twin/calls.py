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

import math
from typing import Final

import numpy as np

from otel_control_gym.stands.twin.compilation import compiled
from otel_control_gym.stands.twin.draws import (
    BACKOFF,
    CACHE,
    CONNECTION,
    COPY,
    ENDPOINT,
    FLAG,
    LEG,
    WORK,
    descend,
    exponential,
    normal,
    uniform,
)
from otel_control_gym.stands.twin.event_heap import ARRIVE, REPORT, RESEND, TIMEOUT, WAKE, push
from otel_control_gym.stands.twin.flag_effects import lock_delay, mark_process
from otel_control_gym.stands.twin.memory import check_memory
from otel_control_gym.stands.twin.message_log import append_message
from otel_control_gym.stands.twin.processor import add_work
from otel_control_gym.stands.twin.recording import abandon_call, close_call, close_server, open_call
from otel_control_gym.stands.twin.state import ERROR, LOST, OK, REFUSED, RUNNING, STOPPED, TIMED_OUT, Record, State
from otel_control_gym.stands.twin.topology import EXPONENTIAL, LOGNORMAL, Topology

__all__ = (
    "ATTEMPT",
    "abandon_hops",
    "advance_next",
    "handle_arrival",
    "handle_report",
    "handle_resend",
    "handle_timeout",
    "handle_wake",
    "send_message",
    "start_call",
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

ATTEMPT: Final = 2**40  #: part of an attempt's key, under that of the attempt before; call sites are smaller

# Positions within a stage.
WORK_NEXT: Final = 0
CALLS_NEXT: Final = 1
CALLING: Final = 2
GATHERING: Final = 3

# What flags do to an operation, in this order (`hop.flagged`).
FLAGS_DELAY: Final = 0
FLAGS_WORK: Final = 1
FLAGS_FAIL: Final = 2
FLAGS_DONE: Final = 3
FLAG_STAGE: Final = 2**20  #: stage whose work a flag adds: part of the key of its draw

# Legs of a hop.
REQUEST_LEG: Final = 0
ANSWER_LEG: Final = 1


@compiled
def start_call(
    topology: Topology, state: State, site: int, client: int, parent: int, session: int, key: np.uint64, lines: int
) -> None:
    """Send a request from a pod; `parent` is the calling hop, or -1 and `session` the user's."""
    trace = state.hops[parent].trace if parent >= 0 else state.sessions[session].key
    index = _take_row(state, site, client, parent, session, key, lines, trace)
    _send(topology, state, index)


@compiled
def _take_row(
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
    hop.client_open = hop.holding = hop.reported = hop.told = hop.attempt = hop.deadline = 0
    hop.flagged = FLAGS_DELAY
    return index


@compiled
def send_message(
    topology: Topology, state: State, site: int, slot: int, reader: int, key: np.uint64, lines: int, delay: int
) -> None:
    """Let a pod process a message of a reader, `delay` from now."""
    index = _take_row(state, site, slot, -1, -2 - reader, key, lines, key)
    world, hop = state.world[0], state.hops[index]
    world.hops += 1
    hop.sent, hop.outcome, hop.client_open = world.now, OK, 1
    hop.pod, hop.phase = slot, WIRED
    open_call(state, topology.calls[site].edge, 0)
    push(state, world.now + delay, ARRIVE, index)


@compiled
def _send(topology: Topology, state: State, index: int) -> None:
    world, hop = state.world[0], state.hops[index]
    call = topology.calls[hop.call]
    operation, edge = topology.operations[call.operation], topology.edges[call.edge]
    world.hops += 1
    hop.sent, hop.outcome, hop.client_open = world.now, OK, 1
    open_call(state, call.edge, hop.attempt)
    state.pods[hop.client].tx_bytes += operation.request_bytes
    if edge.timeout_ns > 0:
        hop.deadline = world.now + edge.timeout_ns
        push(state, hop.deadline, TIMEOUT, index)
    effect = state.call_effects[hop.call]
    if effect.failure_ratio > 0.0 and uniform(hop.key, FLAG, 1) < effect.failure_ratio:
        _end_server(state, index, REFUSED, edge.latency_ns)
        return
    hop.pod = _pick_pod(topology, state, hop.client, call, hop.key)
    if hop.pod < 0:
        _end_server(state, index, REFUSED, edge.latency_ns)
        return
    hop.phase = WIRED
    delay = edge.latency_ns + _egress_delay(state, hop.client, hop.pod, hop.key, REQUEST_LEG)
    push(state, world.now + delay, ARRIVE, index)


@compiled
def _pick_pod(topology: Topology, state: State, client: int, call: Record, key: np.uint64) -> int:
    """Return the pod that a call goes to: the connection's, or a ready one at random; -1 if none is ready."""
    edge = topology.edges[call.edge]
    count = state.ready_count[edge.target]
    if not edge.sticky:
        if count == 0:
            return -1
        return int(state.ready[edge.target, int(uniform(key, ENDPOINT, 0) * count)])
    connection = state.connections[state.pods[client].connections + call.connection]
    if connection.pod < 0 or state.pods[connection.pod].life != RUNNING:
        if count == 0:
            return -1
        pod = state.pods[client]
        owner = descend(descend(state.world[0].root_key, CONNECTION), pod.service * 2**32 + pod.ordinal)
        connection.pod = state.ready[edge.target, int(uniform(owner, call.edge, connection.picks) * count)]
        connection.picks += 1
    return int(connection.pod)


@compiled
def _egress_delay(state: State, source: int, target: int, key: np.uint64, leg: int) -> int:
    """Return what the sender's egress rules add to a packet's way."""
    if state.pods[source].rules == 0:
        return 0
    delay = 0
    for index in range(state.world[0].rules):
        rule = state.rules[index]
        if rule.pod == source and (rule.peer < 0 or rule.peer == target):
            spread = (2.0 * uniform(key, LEG + leg * 256, index) - 1.0) * rule.jitter_ns
            delay += max(0, rule.latency_ns + int(spread))
    return delay


@compiled
def handle_arrival(topology: Topology, state: State, index: int) -> None:
    """Let a request reach its pod."""
    hop = state.hops[index]
    pod, call = state.pods[hop.pod], topology.calls[hop.call]
    if pod.life == STOPPED:
        _end_server(state, index, LOST, topology.edges[call.edge].latency_ns)
        return
    hop.arrived = state.world[0].now
    pod.in_flight += 1
    pod.rx_bytes += topology.operations[call.operation].request_bytes
    check_memory(topology, state, hop.pod)
    _admit(topology, state, index)


@compiled
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


@compiled
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


@compiled
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
    while hop.stage < operation.steps:
        if hop.stage > 0 and hop.position == WORK_NEXT and _obey_flags(topology, state, index):
            return
        step = topology.steps[operation.first_step + hop.stage]
        if hop.position == WORK_NEXT:
            hop.position = CALLS_NEXT
            if step.work_ns > 0.0:
                work = _work(operation, hop.key, hop.stage, step.work_ns) * _coldness(service, state.pods[hop.pod])
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
        if _obey_flags(topology, state, index):
            return
        hop.stage += 1
        if operation.tail_ns > 0.0:
            work = _work(operation, hop.key, operation.steps, operation.tail_ns) * _coldness(
                service, state.pods[hop.pod]
            )
            add_work(state, hop.pod, index, work, service.threads)
            return
    _answer(topology, state, index, OK)


@compiled
def _obey_flags(topology: Topology, state: State, index: int) -> bool:
    """Let the flags in force act on a hop, once; return whether it is held up, computes or has failed."""
    hop = state.hops[index]
    row = topology.calls[hop.call].operation
    effect = state.operation_effects[row]
    if not effect.acts:
        return False
    operation, pod = topology.operations[row], state.pods[hop.pod]
    service, world = topology.services[operation.service], state.world[0]
    if hop.flagged == FLAGS_DELAY:
        hop.flagged = FLAGS_WORK
        mark_process(topology, state, hop.pod, effect)
        delay = lock_delay(pod, effect, world.now)
        if delay > 0:
            hop.phase, hop.wake = SLEEPING, world.now + delay
            push(state, hop.wake, WAKE, index)
            if not service.holds:
                _release(state, hop)
            return True
    if hop.flagged == FLAGS_WORK:
        hop.flagged = FLAGS_FAIL
        if effect.work_ns > 0.0:
            add_work(state, hop.pod, index, _work(operation, hop.key, FLAG_STAGE, effect.work_ns), service.threads)
            return True
    if hop.flagged == FLAGS_FAIL:
        hop.flagged = FLAGS_DONE
        if effect.failure_ratio > 0.0 and uniform(hop.key, FLAG, 0) < effect.failure_ratio:
            _answer(topology, state, index, ERROR)
            return True
    return False


@compiled
def handle_wake(topology: Topology, state: State, index: int) -> None:
    """Let a hop that a flag held up go on."""
    hop = state.hops[index]
    if hop.phase == SLEEPING and hop.wake == state.world[0].now:
        _admit(topology, state, index)


@compiled
def _start_next_call(topology: Topology, state: State, index: int, step: Record) -> bool:
    """Start the next call of a step; False if there is none left."""
    hop = state.hops[index]
    while hop.next_call < step.calls:
        site = step.first_call + hop.next_call
        call = topology.calls[site]
        if hop.repeat < (hop.lines if call.per_line else 1):
            key = descend(descend(hop.key, call.site + 1), hop.repeat)
            hop.repeat += 1
            if call.cache_hit_ratio > 0.0 and _is_cached(topology, state.pods[hop.pod], call, key):
                continue
            hop.pending += 1
            start_call(topology, state, site, hop.pod, index, -1, key, hop.lines)
            for number in range(state.call_effects[site].copies):
                own = descend(descend(key, COPY), number)
                _send(topology, state, _take_row(state, site, hop.pod, -1, -1, own, hop.lines, hop.trace))
            return True
        hop.next_call += 1
        hop.repeat = 0
    return False


@compiled
def _is_cached(topology: Topology, pod: Record, call: Record, key: np.uint64) -> bool:
    """Return whether a pod knows the answer of a call already: the more it has served, the likelier."""
    ratio = call.cache_hit_ratio
    if not pod.warm:
        ratio *= 1.0 - math.exp(-pod.served / topology.services[pod.service].cold_requests)
    return bool(uniform(key, CACHE, 0) < ratio)


@compiled
def _work(operation: Record, key: np.uint64, stage: int, mean: float) -> float:
    """Return the CPU nanoseconds of one stage of one hop."""
    if operation.distribution == EXPONENTIAL:
        return mean * exponential(key, WORK, stage)
    if operation.distribution == LOGNORMAL:
        return mean * math.exp(operation.mu + operation.sigma * normal(key, WORK, stage))
    return mean


@compiled
def _coldness(service: Record, pod: Record) -> float:
    """Return how much longer work takes at a pod that has served little: its code isn't compiled, its caches are empty."""
    if service.cold_work == 0.0 or pod.warm:
        return 1.0
    extra: float = service.cold_work * math.exp(-pod.served / service.cold_requests)
    return 1.0 + extra


@compiled
def _answer(topology: Topology, state: State, index: int, outcome: int) -> None:
    """Send a hop's answer on its way."""
    hop = state.hops[index]
    hop.outcome = outcome
    close_server(topology, state, index)
    state.pods[hop.pod].in_flight -= 1
    _release(state, hop)
    call = topology.calls[hop.call]
    topic = topology.operations[call.operation].topic
    if topic >= 0 and outcome == OK:
        append_message(topology, state, topic, hop.pod, hop.key, hop.lines)
    if hop.session < -1:
        _end_server(state, index, outcome, 0)  # a message's: nobody waits for an answer
        return
    latency = topology.edges[call.edge].latency_ns
    _end_server(state, index, outcome, latency + _egress_delay(state, hop.pod, hop.client, hop.key, ANSWER_LEG))


@compiled
def _end_server(state: State, index: int, outcome: int, delay: int) -> None:
    """Close the server end; the caller learns of it after `delay`."""
    hop = state.hops[index]
    hop.phase, hop.outcome = DONE, outcome
    push(state, state.world[0].now + delay, REPORT, index)


@compiled
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
    _free_if_over(state, index)
    return session


@compiled
def handle_timeout(topology: Topology, state: State, index: int) -> int:
    """Let a caller give up, unless it has its answer; return the session whose request failed so, or -1."""
    hop = state.hops[index]
    if not hop.client_open or hop.deadline != state.world[0].now:
        return -1
    hop.outcome = TIMED_OUT
    return _end_client(topology, state, index)


@compiled
def _end_client(topology: Topology, state: State, index: int) -> int:
    """Close the client end: the call is tried again, or its caller is told; return the session that is told (or -1)."""
    hop = state.hops[index]
    hop.client_open, hop.told = 0, 1
    close_call(topology, state, index)
    edge = topology.edges[topology.calls[hop.call].edge]
    if hop.outcome != OK and hop.attempt < edge.retries and hop.session >= -1:
        key = descend(hop.key, ATTEMPT)
        again = _take_row(state, hop.call, hop.client, hop.parent, hop.session, key, hop.lines, hop.trace)
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


@compiled
def _resume(topology: Topology, state: State, index: int, child: Record) -> None:
    """Tell a hop that one of its calls is over."""
    hop = state.hops[index]
    hop.pending -= 1
    if hop.phase == DONE:
        _free_if_over(state, index)
    elif child.outcome != OK and topology.calls[child.call].fails:
        _answer(topology, state, index, ERROR)
    elif hop.pending == 0:
        _admit(topology, state, index)


@compiled
def _free_if_over(state: State, index: int) -> None:
    hop, world = state.hops[index], state.world[0]
    if hop.reported and hop.pending == 0 and hop.phase == DONE:
        hop.phase = FREE
        hop.next = world.free_hop
        world.free_hop = index
        world.hops_used -= 1


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
        if hop.client == slot and hop.phase == RESTING:
            _end_server(state, index, LOST, 0)
        if hop.pod == slot and hop.phase != WIRED and hop.phase != DONE:
            hop.holding = 0
            _end_server(state, index, LOST, topology.edges[edge].latency_ns)
    pod.in_flight = pod.queued = pod.busy = 0
