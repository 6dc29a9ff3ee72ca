"""Waiting until Kafka's consumers have caught up: nothing that a run has left in a topic is read in the next one.

In: a connection, a configuration whose topics name their consumer groups. Out: what each group's lag was when it had caught up.

The collector's kafkametrics receiver tells the lag: `kafka_consumer_group_lag_sum_ratio` and, of the same moment,
`kafka_consumer_group_offset_sum_ratio` (`_ratio` because its unit is 1; one that leaves the unit out is understood, too). What it calls lag
is what isn't *committed*, and consumers commit every 5 s: under load it is hardly ever 0 although nobody waits. So a group has caught up
when its lag is 0, or when everything is committed that lay there 15 s before. Only samples from after the restoration count, because a
series that nobody tells any more shows its last value for five minutes. A group without a sample hasn't caught up: that isn't 0.
"""

from __future__ import annotations

import anyio
import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.prometheus_samples import Labels, recent
from otel_control_gym.stands.cluster.stand_time import wait_until

__all__ = ("GroupSample", "backlog", "wait_consumed")

_LAG, _OFFSET = "kafka_consumer_group_lag_sum", "kafka_consumer_group_offset_sum"
_SELECTOR = f'{{__name__=~"({_LAG}|{_OFFSET})(_ratio)?"}}'
_RANGE_SECONDS = 60
_UNDER_WAY_SECONDS = 15  #: a commit's interval of 5 s, the receiver's (5 s or 10 s)

Group = tuple[str, str]  #: consumer group, topic


class GroupSample(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer group of a topic at a moment."""

    time: int  #: ns
    lag: float  #: messages that aren't committed
    committed: float | None = None  #: offset; null: nobody tells it


def backlog(samples: list[GroupSample]) -> str:
    """Return why a group hasn't caught up at the last of its samples, which are in order; empty: it has."""
    if not samples:
        return "no sample since the stand was restored"
    last = samples[-1]
    if last.lag <= 0:
        return ""
    for earlier in reversed(samples):
        if last.time - earlier.time >= _UNDER_WAY_SECONDS * SECOND:
            if last.committed is None or earlier.committed is None:
                return f"a lag of {last.lag:g}, and no offset says since when"
            left = earlier.committed + earlier.lag - last.committed
            return f"a lag of {last.lag:g}, {left:g} of it older than {_UNDER_WAY_SECONDS} s" if left > 0 else ""
    return f"a lag of {last.lag:g}"


async def wait_consumed(connection: Connection, config: RunConfig, since: int, patience: Patience) -> dict[str, int]:
    """Return each group's lag once all have caught up, by `group of topic`; empty: the configuration has no topic.

    Args:
        since: moment of the stand's clock after which samples count [ns].

    Raises: StandError: a group hasn't caught up within the patience, in the stand's time, or nobody tells its lag.
    """
    wanted = [
        (consumer.group, name) for name, topic in config.public.services.topics.items() for consumer in topic.consumers
    ]
    if not wanted:
        return {}
    while True:
        now = await wait_until(connection, look_seconds=patience.look_seconds)
        found = _samples(await recent(connection, _SELECTOR, _RANGE_SECONDS, now), since)
        behind = {group: reason for group in wanted if (reason := backlog(found.get(group, [])))}
        if not behind:
            return {f"{group} of {topic}": round(found[group, topic][-1].lag) for group, topic in wanted}
        if now - since > patience.seconds * SECOND:
            shown = "; ".join(f"{group} of {topic}: {reason}" for (group, topic), reason in behind.items())
            raise StandError(
                f"after {patience.seconds:g} s of the stand's time Kafka's consumers haven't caught up: {shown}\n"
                f"  the lag is {_LAG}_ratio of the collector's kafkametrics (deploy/helm/demo.yaml); is the consumer well?"
            )
        await anyio.sleep(patience.look_seconds)


def _samples(series: list[tuple[Labels, list[tuple[int, float]]]], since: int) -> dict[Group, list[GroupSample]]:
    """Return each group's samples after `since`, in order; of several series of one group the later ones count."""
    lags: dict[Group, dict[int, float]] = {}
    offsets: dict[Group, dict[int, float]] = {}
    for labels, samples in series:
        kept = lags if labels["__name__"].startswith(_LAG) else offsets
        of_group = kept.setdefault((labels.get("group", ""), labels.get("topic", "")), {})
        of_group |= {time: value for time, value in samples if time > since}
    return {
        group: [
            GroupSample(time=time, lag=found[time], committed=offsets.get(group, {}).get(time))
            for time in sorted(found)
        ]
        for group, found in lags.items()
    }
