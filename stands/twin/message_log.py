"""A broker's partitions: what producers append, what consumer groups have read and committed.

In: calls that succeed at a broker, commits, the end of a broker's pod. Out: messages in `State.messages`, kept until every group of their
topic has committed them; looks at the log that become due.

Offsets are of the log that there is now: with its broker's pod a log is gone (the demo gives it no volume), and the next one begins at 0.
A reader is one group's place in one partition. An empty partition is asked every `poll_ms`; only looks that will find something are
events, the others follow from `asked`. Next: `consumers`.
"""

from __future__ import annotations

import numpy as np

from otel_control_gym.stands.twin.compilation import compiled
from otel_control_gym.stands.twin.draws import PARTITION, bits
from otel_control_gym.stands.twin.event_heap import COMMIT, FETCH, push
from otel_control_gym.stands.twin.state import NEVER, Record, State
from otel_control_gym.stands.twin.topology import Topology

__all__ = ("advance_reader", "append_message", "commit", "handle_commit", "lose_log", "plan_look", "rewind")


@compiled
def append_message(topology: Topology, state: State, topic: int, slot: int, key: np.uint64, lines: int) -> None:
    """Put a message at the end of a partition; `slot` is the broker's pod."""
    settings, world, log = topology.topics[topic], state.world[0], state.logs[topic]
    log.broker = slot if log.broker < 0 else log.broker
    number = int(bits(key, PARTITION, 0) % np.uint64(settings.partitions))
    partition = state.partitions[settings.first_partition + number]
    offset = partition.end
    partition.end += 1
    partition.appended += 1
    if settings.consumers == 0:
        return
    row = world.free_message
    message = state.messages[row]
    world.free_message = message.next
    world.messages_used += 1
    message.key, message.lines, message.offset, message.next = key, lines, offset, -1
    if partition.last >= 0:
        state.messages[partition.last].next = row
    else:
        partition.first = row
    partition.last = row
    for consumer in range(settings.first_consumer, settings.first_consumer + settings.consumers):
        index = topology.consumers[consumer].first_reader + number
        reader = state.readers[index]
        if reader.mark < 0:
            reader.mark = row
        if reader.cursor < 0:
            reader.cursor = row
            _plan_next_poll(state, index, topology.consumers[consumer].poll_ns)


@compiled
def _plan_next_poll(state: State, index: int, poll_ns: int) -> None:
    """Let a reader that finds nothing look again at its next poll."""
    reader, now = state.readers[index], state.world[0].now
    if reader.pod >= 0 and not reader.busy and reader.due == NEVER:
        plan_look(state, index, now + poll_ns - (now - reader.asked) % poll_ns)


@compiled
def plan_look(state: State, index: int, time: int) -> None:
    """Let a reader look at its partition at a moment."""
    state.readers[index].due = time
    push(state, time, FETCH, index)


@compiled
def advance_reader(topology: Topology, state: State, index: int) -> None:
    """Count the message that a reader has processed; it is committed in time."""
    reader = state.readers[index]
    reader.cursor = state.messages[reader.cursor].next
    reader.position += 1
    if reader.commit_due == NEVER:
        reader.commit_due = state.world[0].now + topology.consumers[reader.consumer].commit_ns
        push(state, reader.commit_due, COMMIT, index)


@compiled
def handle_commit(topology: Topology, state: State, index: int) -> None:
    """Let an automatic commit take place."""
    reader = state.readers[index]
    if reader.commit_due == state.world[0].now:
        commit(topology, state, index)


@compiled
def commit(topology: Topology, state: State, index: int) -> None:
    """Commit a reader's position, and forget the messages that no group needs any more."""
    reader = state.readers[index]
    reader.commit_due = NEVER
    reader.done += reader.position - reader.committed
    reader.committed, reader.mark = reader.position, reader.cursor
    _forget(topology, state, topology.consumers[reader.consumer].topic, reader.partition)


@compiled
def _forget(topology: Topology, state: State, topic: int, row: int) -> None:
    world, partition = state.world[0], state.partitions[row]
    needed = _first_needed(topology, state, topic, row)
    while partition.first >= 0 and state.messages[partition.first].offset < needed:
        message = state.messages[partition.first]
        following = message.next
        message.next, world.free_message = world.free_message, partition.first
        world.messages_used -= 1
        partition.first = following
    if partition.first < 0:
        partition.last = -1


@compiled
def _first_needed(topology: Topology, state: State, topic: int, row: int) -> int:
    """Return the offset from which on some group hasn't committed a partition."""
    settings, needed = topology.topics[topic], state.partitions[row].end
    for consumer in range(settings.first_consumer, settings.first_consumer + settings.consumers):
        reader = state.readers[topology.consumers[consumer].first_reader + row - settings.first_partition]
        needed = min(needed, reader.committed)
    return int(needed)


@compiled
def rewind(reader: Record) -> None:
    """Let a reader go back to what its group has committed: what was read since is read again."""
    if reader.position != reader.committed or reader.busy:
        reader.rewinds += 1
    reader.position, reader.cursor = reader.committed, reader.mark
    reader.busy = reader.stale = 0
    reader.commit_due = NEVER


@compiled
def lose_log(topology: Topology, state: State, topic: int) -> None:
    """Let a topic's log go with its broker's pod, and the groups' offsets with it; the next log begins at 0."""
    settings, log = topology.topics[topic], state.logs[topic]
    log.broker = -1
    for number in range(settings.partitions):
        row = settings.first_partition + number
        partition = state.partitions[row]
        log.lost += partition.end - _first_needed(topology, state, topic, row)
        for consumer in range(settings.first_consumer, settings.first_consumer + settings.consumers):
            reader = state.readers[topology.consumers[consumer].first_reader + number]
            reader.lost += partition.end - reader.committed
            reader.position = reader.committed = partition.end
            reader.stale = reader.busy
        _forget(topology, state, topic, row)
        partition.end = 0
        for consumer in range(settings.first_consumer, settings.first_consumer + settings.consumers):
            reader = state.readers[topology.consumers[consumer].first_reader + number]
            reader.position = reader.committed = reader.seen = 0
            reader.cursor = reader.mark = -1
            reader.due = reader.commit_due = NEVER
