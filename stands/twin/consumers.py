"""Consumer groups: who reads which partition, one message after the other.

In: pods of a consumer's service that come and go, looks at the log that are due, messages that are processed. Out: hops that process
messages, commits, partitions that change hands.

- A pod joins the groups of its service when it gets ready. It leaves them when it is told to stop (what it has processed is committed, the
  message in progress is finished first); a pod that dies is missed only when its session has timed out, and what it had read since its
  last commit is read again by whoever has the partition next.
- Partitions are shared out in ranges, in the order of the pods' slots (Kafka's range assignor): with more pods than partitions the
  rest idle. Only partitions that change hands pause.
- A pod processes one message at a time for each consumer, its partitions in turn. Processing is a hop on the edge from the broker, at the
  pod itself, in a trace of its own. A message whose processing failed is done too, as the demo's consumers log and go on.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.compilation import compiled
from otel_control_gym.stands.twin.draws import ATTEMPT, MESSAGE, descend
from otel_control_gym.stands.twin.event_heap import ARRIVE, REBALANCE, push
from otel_control_gym.stands.twin.hops import WIRED, take_row
from otel_control_gym.stands.twin.message_log import advance_reader, commit, lose_log, plan_look, rewind
from otel_control_gym.stands.twin.recording import open_call
from otel_control_gym.stands.twin.state import NEVER, NOBODY, OK, RUNNING, State
from otel_control_gym.stands.twin.topology import Topology

__all__ = ("end_message", "handle_fetch", "handle_rebalance", "join", "leave", "open_logs", "vanish")


@compiled
def handle_fetch(topology: Topology, state: State, index: int) -> None:
    """Let a reader look at its partition."""
    reader = state.readers[index]
    if reader.due != state.world[0].now:
        return
    reader.due = NEVER
    edge = topology.edges[topology.calls[topology.consumers[reader.consumer].call].edge]
    _read_next(topology, state, index, reader.pod, edge.latency_ns)


@compiled
def _read_next(topology: Topology, state: State, index: int, pod: int, delay: int) -> None:
    """Hand a pod its next message, of the partitions after this reader's first, unless it is busy."""
    consumer = state.readers[index].consumer
    first = topology.consumers[consumer].first_reader
    count = topology.topics[topology.consumers[consumer].topic].partitions
    found = -1
    for turn in range(count):
        candidate = first + (index - first + 1 + turn) % count
        reader = state.readers[candidate]
        if reader.pod != pod:
            continue
        if reader.busy:
            return
        if found < 0 and reader.cursor >= 0 and reader.next_pod == pod:
            found = candidate
    if found >= 0:
        _hand_over(topology, state, found, delay)
        return
    for candidate in range(first, first + count):
        if state.readers[candidate].pod == pod:
            state.readers[candidate].asked = state.world[0].now


@compiled
def _hand_over(topology: Topology, state: State, index: int, delay: int) -> None:
    reader = state.readers[index]
    settings, message = topology.consumers[reader.consumer], state.messages[reader.cursor]
    key = descend(descend(message.key, MESSAGE), reader.consumer)
    if reader.position < reader.seen:
        key = descend(key, ATTEMPT + reader.rewinds)  # another delivery is another trace
        state.logs[settings.topic].redelivered += 1
    reader.seen = max(reader.seen, reader.position + 1)
    reader.busy, reader.due = 1, NEVER
    broker = state.logs[settings.topic].broker
    if broker >= 0:
        operation = topology.operations[topology.calls[settings.call].operation]
        state.pods[broker].tx_bytes += operation.request_bytes
    site, world = settings.call, state.world[0]
    row = take_row(state, site, reader.pod, -1, -2 - index, key, message.lines, key)
    hop = state.hops[row]
    world.hops += 1
    hop.sent, hop.outcome, hop.client_open = world.now, OK, 1
    hop.pod, hop.phase = reader.pod, WIRED
    open_call(state, topology.calls[site].edge, 0)
    push(state, world.now + delay, ARRIVE, row)


@compiled
def end_message(topology: Topology, state: State, index: int) -> None:
    """Let a pod go on after a message, and hand the partition over if somebody waits for it."""
    reader = state.readers[index]
    pod = reader.pod
    reader.busy = 0
    if reader.stale:
        reader.stale = 0
    else:
        advance_reader(topology, state, index)
    if reader.next_pod != pod:
        commit(topology, state, index)
        _take_over(state, index, reader.next_pod)
    _read_next(topology, state, index, pod, 0)


@compiled
def _take_over(state: State, index: int, pod: int) -> None:
    """Give a partition to a pod, which looks at it at once."""
    reader, now = state.readers[index], state.world[0].now
    reader.pod = reader.next_pod = pod
    reader.asked, reader.due = now, NEVER
    if pod >= 0 and reader.cursor >= 0:
        plan_look(state, index, now)


@compiled
def join(topology: Topology, state: State, slot: int) -> None:
    """Let a pod join its service's groups."""
    pod = state.pods[slot]
    if pod.member:
        return
    pod.member = 1
    _call_for_rebalance(topology, state, pod.service, 0)


@compiled
def leave(topology: Topology, state: State, slot: int) -> None:
    """Let a pod leave its groups in good order."""
    pod = state.pods[slot]
    if pod.member:
        pod.member = 0
        _call_for_rebalance(topology, state, pod.service, 0)


@compiled
def vanish(topology: Topology, state: State, slot: int) -> None:
    """Let a pod die: its groups miss it when its session times out; with a broker's last pod its logs are lost."""
    pod, world = state.pods[slot], state.world[0]
    for topic in range(world.topics):
        if state.logs[topic].broker == slot:
            lose_log(topology, state, topic)
    held = False
    for consumer in range(world.consumers):
        settings = topology.consumers[consumer]
        if settings.service != pod.service:
            continue
        for index in range(settings.first_reader, settings.first_reader + topology.topics[settings.topic].partitions):
            reader = state.readers[index]
            if reader.next_pod == slot:
                reader.next_pod = NOBODY
            if reader.pod == slot:
                rewind(reader)
                held = True
                _take_over(state, index, reader.next_pod)
    if pod.member or held:
        died_a_member = bool(pod.member)
        pod.member = 0
        for consumer in range(world.consumers):
            if topology.consumers[consumer].service == pod.service:
                _plan_rebalance(state, consumer, topology.consumers[consumer].session_ns if died_a_member else 0)


@compiled
def open_logs(topology: Topology, state: State, slot: int) -> None:
    """Let a broker's pod that got ready begin empty logs where there are none."""
    service = state.pods[slot].service
    for topic in range(state.world[0].topics):
        if topology.topics[topic].broker == service and state.logs[topic].broker < 0:
            state.logs[topic].broker = slot


@compiled
def _call_for_rebalance(topology: Topology, state: State, service: int, delay: int) -> None:
    for consumer in range(state.world[0].consumers):
        if topology.consumers[consumer].service == service:
            _plan_rebalance(state, consumer, delay)


@compiled
def _plan_rebalance(state: State, consumer: int, delay: int) -> None:
    """Let a group share its partitions out; while it waits for one that died, others wait too."""
    group, now = state.groups[consumer], state.world[0].now
    if group.due == NEVER or now + delay > group.due:
        group.due = now + delay
        push(state, group.due, REBALANCE, consumer)


@compiled
def handle_rebalance(topology: Topology, state: State, consumer: int) -> None:
    """Share a topic's partitions out among the pods that are in the group, in ranges."""
    group, settings = state.groups[consumer], topology.consumers[consumer]
    if group.due != state.world[0].now:
        return
    group.due = NEVER
    members = 0
    for slot in range(len(state.pods)):
        members += 1 if _is_member(state, settings.service, slot) else 0
    group.members = members
    count = topology.topics[settings.topic].partitions
    each, more = (count // members, count % members) if members > 0 else (0, 0)
    number, slot = 0, -1
    for place in range(members):
        slot += 1
        while not _is_member(state, settings.service, slot):
            slot += 1
        for _ in range(each + (1 if place < more else 0)):
            _assign(topology, state, settings.first_reader + number, slot)
            number += 1
    while number < count:
        _assign(topology, state, settings.first_reader + number, NOBODY)
        number += 1


@compiled
def _is_member(state: State, service: int, slot: int) -> bool:
    pod = state.pods[slot]
    return bool(pod.service == service and pod.member and pod.life == RUNNING)


@compiled
def _assign(topology: Topology, state: State, index: int, pod: int) -> None:
    """Give a partition to a pod: at once, or after the message that another one has in progress."""
    reader = state.readers[index]
    if not reader.started and pod >= 0:
        reader.started = 1
        if topology.consumers[reader.consumer].latest:
            partition = state.partitions[reader.partition]
            reader.position = reader.seen = partition.end
            reader.cursor = -1
            commit(topology, state, index)
    reader.next_pod = pod
    if reader.pod != pod and not reader.busy:
        if reader.pod >= 0:
            commit(topology, state, index)
        _take_over(state, index, pod)
