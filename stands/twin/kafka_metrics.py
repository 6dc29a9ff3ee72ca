"""What the collector's kafkametrics receiver tells of brokers, topics and consumer groups.

In: the kernel's topics and groups. Out: gauges under the receiver's names, read anew at every scrape (our overlay collects every 5 s).

The receiver asks the broker: while that has no pod there are no samples, and series are found again, not new, when it is back. A group's
series begin when one of its pods has had a partition; offsets fall to 0 with a new log. The names end in `_ratio` because the receiver's
unit is 1. Offsets of the oldest message are 0: the log keeps for a week what all have read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from otel_control_gym.stands.twin.message_counters import GroupReading, TopicReading
from otel_control_gym.stands.twin.time_series import Numbers, TimeSeries, Values
from otel_control_gym.stands.twin.world import World

__all__ = ("KafkaMetrics",)

_Labels = tuple[tuple[str, str], ...]


class KafkaMetrics:
    """`kafka_*` of all topics whose broker has a pod."""

    def __init__(self, world: World, series: TimeSeries) -> None:
        self.numbers: Numbers = np.empty(0, np.int64)
        self._simulation = world.simulation
        self._series = series
        self._known: dict[_Labels, int] = {}
        self._shown: list[_Labels] = []

    def read(self, now: int) -> Values:  # noqa: ARG002 - series don't end
        """Return the values of `numbers`; series that appeared or pause make it another object."""
        topics, groups = self._simulation.topics(), self._simulation.groups()
        if not topics:
            return np.empty(0)
        found = dict(_brokers(topics))
        for topic in topics:
            if topic.broker >= 0:
                found |= _topic(topic)
        for group in groups:
            if group.broker >= 0 and any(reader.started for reader in group.readers):
                found |= _group(group)
        shown = list(found)
        if shown != self._shown:
            self._shown = shown
            for labels in shown:
                if labels not in self._known:
                    self._known[labels] = self._series.declare(dict(labels))
            self.numbers = np.array([self._known[labels] for labels in shown], np.int64)
        return np.array(list(found.values()), np.float64)


def _brokers(topics: tuple[TopicReading, ...]) -> Iterator[tuple[_Labels, float]]:
    running = dict.fromkeys(topic.broker for topic in topics if topic.broker >= 0)
    if running:
        yield _name("kafka_brokers"), len(running)


def _topic(topic: TopicReading) -> dict[_Labels, float]:
    found: dict[_Labels, float] = {_name("kafka_topic_partitions", topic=topic.topic): len(topic.partitions)}
    for number, partition in enumerate(topic.partitions):
        labels = {"topic": topic.topic, "partition": str(number)}
        found[_name("kafka_partition_current_offset_ratio", **labels)] = partition.end
        found[_name("kafka_partition_oldest_offset_ratio", **labels)] = 0
        found[_name("kafka_partition_replicas", **labels)] = 1
        found[_name("kafka_partition_replicas_in_sync", **labels)] = 1
    return found


def _group(group: GroupReading) -> dict[_Labels, float]:
    found: dict[_Labels, float] = {_name("kafka_consumer_group_members", group=group.group): group.members}
    both = {"group": group.group, "topic": group.topic}
    found[_name("kafka_consumer_group_lag_sum_ratio", **both)] = group.lag
    found[_name("kafka_consumer_group_offset_sum_ratio", **both)] = sum(reader.committed for reader in group.readers)
    for reader in group.readers:
        labels = both | {"partition": str(reader.partition)}
        found[_name("kafka_consumer_group_lag_ratio", **labels)] = reader.lag
        found[_name("kafka_consumer_group_offset_ratio", **labels)] = reader.committed
    return found


def _name(metric: str, **labels: str) -> _Labels:
    return (("__name__", metric), *labels.items())
