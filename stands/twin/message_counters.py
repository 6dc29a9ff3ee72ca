"""What can be read of topics and consumer groups at the present moment.

In: the rows of `state`. Out: frozen records. Downstream: `kafka_metrics`, tests.

Offsets are those of the log that there is now and fall to 0 when a broker's pod takes a log with it; `appended`, `done` and `lost` count
over all logs. For each group and partition appended = done + lag + lost, whatever happens to pods.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.stands.twin.state import State
from otel_control_gym.stands.twin.topology import Names, Topology

__all__ = ("GroupReading", "PartitionReading", "ReaderReading", "TopicReading", "read_groups", "read_topics")


class PartitionReading(msgspec.Struct, frozen=True, kw_only=True):
    """A partition of a topic."""

    end: int  #: offset of the next message
    appended: int


class TopicReading(msgspec.Struct, frozen=True, kw_only=True):
    """A topic of a broker."""

    topic: str
    broker: int  #: slot of the pod that has the log; -1: there is none
    partitions: tuple[PartitionReading, ...]
    lost: int  #: messages that went with a broker before all groups had committed them
    redelivered: int  #: deliveries of messages that their group had read before

    @property
    def appended(self) -> int:
        """Return how many messages producers have appended."""
        return sum(partition.appended for partition in self.partitions)


class ReaderReading(msgspec.Struct, frozen=True, kw_only=True):
    """A group's place in a partition."""

    partition: int
    slot: int  #: of the pod that has it; -1: none
    started: bool  #: some pod has had it
    end: int
    position: int  #: offset of the message that is processed, or comes next
    committed: int  #: offset up to which the group is done
    done: int  #: messages committed; of a group that began at the end, those before it too
    lost: int  #: messages that went with a broker before they were committed

    @property
    def lag(self) -> int:
        """Return how many messages the group hasn't committed."""
        return self.end - self.committed


class GroupReading(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer group of a topic."""

    group: str
    topic: str
    service: str
    broker: int  #: as in `TopicReading`
    members: int  #: pods that shared the partitions out last, those included that died and aren't missed yet
    readers: tuple[ReaderReading, ...]  #: by partition

    @property
    def lag(self) -> int:
        """Return how many messages the group hasn't committed."""
        return sum(reader.lag for reader in self.readers)


def read_topics(topology: Topology, state: State, names: Names) -> tuple[TopicReading, ...]:
    """Return the state of all topics, in the configuration's order."""
    found = []
    for row, topic in enumerate(names.topics):
        first, log = int(topology.topics["first_partition"][row]), state.logs[row]
        own = state.partitions[first : first + names.partitions[row]]
        found.append(
            TopicReading(
                topic=topic,
                broker=int(log["broker"]),
                partitions=tuple(
                    PartitionReading(end=int(partition["end"]), appended=int(partition["appended"]))
                    for partition in own
                ),
                lost=int(log["lost"]),
                redelivered=int(log["redelivered"]),
            )
        )
    return tuple(found)


def read_groups(topology: Topology, state: State, names: Names) -> tuple[GroupReading, ...]:
    """Return the state of all consumer groups, in the configuration's order."""
    found = []
    for row, (topic, group, service) in enumerate(names.consumers):
        number, first = names.topics.index(topic), int(topology.consumers["first_reader"][row])
        found.append(
            GroupReading(
                group=group,
                topic=topic,
                service=service,
                broker=int(state.logs["broker"][number]),
                members=int(state.groups["members"][row]),
                readers=tuple(_read(state, first + place, place) for place in range(names.partitions[number])),
            )
        )
    return tuple(found)


def _read(state: State, row: int, partition: int) -> ReaderReading:
    reader = state.readers[row]
    return ReaderReading(
        partition=partition,
        slot=int(reader["pod"]),
        started=bool(reader["started"]),
        end=int(state.partitions["end"][int(reader["partition"])]),
        position=int(reader["position"]),
        committed=int(reader["committed"]),
        done=int(reader["done"]),
        lost=int(reader["lost"]),
    )
