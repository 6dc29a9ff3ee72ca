"""Messages are read at least once, by one pod per partition; what a group hasn't committed is its lag, or lost with the broker."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import Consumer, ServiceConfiguration, Workload
from otel_control_gym.stands.twin.message_counters import GroupReading
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import (
    ATTEMPTED,
    CONSUMER,
    ERROR,
    IN_FLIGHT,
    LOST,
    OK,
    PRODUCER,
    REFUSED,
    TIMED_OUT,
)
from tests.stands.queues import BOOKS, BROKER, add, queues, start

PUBLISH, DELIVER = 1, 2  #: edges


def only(simulation: Simulation) -> GroupReading:
    (group,) = simulation.groups()
    return group


def assert_conserved(simulation: Simulation) -> None:
    """Hold the law: what was appended is committed, still to be committed, or lost; for every group and partition."""
    topics = {topic.topic: topic for topic in simulation.topics()}
    for group in simulation.groups():
        for reader in group.readers:
            appended = topics[group.topic].partitions[reader.partition].appended
            assert appended == reader.done + reader.lag + reader.lost
            assert 0 <= reader.committed <= reader.position <= reader.end
    counts = simulation.edge_counts
    assert (counts >= 0).all()
    assert (counts[:, [OK, ERROR, REFUSED, LOST, TIMED_OUT, IN_FLIGHT]].sum(axis=1) == counts[:, ATTEMPTED]).all()


def test_every_publish_is_appended_and_every_message_is_processed_once() -> None:
    simulation = start(queues(), rate=20.0)
    simulation.run(60 * SECOND)
    simulation.set_rate(0.0)
    simulation.run(80 * SECOND)

    (topic,) = simulation.topics()
    assert topic.appended == simulation.edge_counts[PUBLISH, OK] > 1000
    assert simulation.edge_counts[DELIVER, OK] == simulation.pod_counters().served[BOOKS] == topic.appended
    assert topic.redelivered == topic.lost == only(simulation).lag == 0
    assert simulation.statistics().hops_in_flight == 0


def test_lag_grows_while_producers_are_faster_and_drains_after() -> None:
    simulation = start(queues(work_ms=100.0), rate=30.0)  # one message at a time: ten a second
    lags = []
    for minute in (1, 2, 3):
        simulation.run(minute * 60 * SECOND)
        lags.append(only(simulation).lag)
    assert lags[0] > 1000
    assert lags[1] > lags[0] + 1000
    assert lags[2] > lags[1] + 1000
    served = simulation.pod_counters().served[BOOKS]
    assert served == pytest.approx(1800, abs=5)

    simulation.set_rate(2.0)
    simulation.run(240 * SECOND)
    drained = lags[2] - only(simulation).lag
    assert drained == pytest.approx(8 * 60, rel=0.1), "ten are read a second, two are written"
    simulation.run(900 * SECOND)
    assert only(simulation).lag < 20


def test_a_second_pod_helps_only_if_there_is_a_second_partition() -> None:
    served = {}
    for partitions in (1, 2):
        simulation = start(queues(partitions=partitions, work_ms=100.0), rate=40.0)
        second = add(simulation, "books")
        simulation.run(60 * SECOND)
        served[partitions] = simulation.pod_counters().served[[BOOKS, second]].tolist()
    assert served[1] == [pytest.approx(600, abs=5), 0]
    assert served[2] == [pytest.approx(600, abs=5), pytest.approx(600, abs=5)]


def test_a_pod_processes_one_message_at_a_time_whatever_it_has_partitions() -> None:
    simulation = start(queues(partitions=4, work_ms=100.0), rate=40.0)
    simulation.run(60 * SECOND)
    assert simulation.pod_counters().served[BOOKS] == pytest.approx(600, abs=5)
    progress = [reader.position for reader in only(simulation).readers]
    assert max(progress) - min(progress) <= 4, "partitions take turns"


def test_what_a_dead_pod_had_read_since_its_last_commit_is_read_again() -> None:
    simulation = start(queues(work_ms=50.0, commit_seconds=5.0, session_seconds=10.0), rate=10.0)
    simulation.set_span_probability(1.0)
    simulation.run(round(33.3 * SECOND))
    before = only(simulation)
    unread = sum(reader.position - reader.committed for reader in before.readers)
    simulation.stop(BOOKS)
    successor = add(simulation, "books")
    simulation.run(40 * SECOND)
    assert simulation.pod_counters().served[successor] == 0, (
        "the group holds on to the dead one until its session times out"
    )
    assert only(simulation).lag > before.lag
    simulation.run(120 * SECOND)
    simulation.set_rate(0.0)
    simulation.run(140 * SECOND)

    (topic,) = simulation.topics()
    assert unread <= topic.redelivered <= unread + 1
    assert 0 < topic.redelivered <= 5 * 10 * 1.6
    assert only(simulation).lag == topic.lost == 0
    served = simulation.pod_counters().served
    assert topic.appended <= served[BOOKS] + served[successor] <= topic.appended + topic.redelivered
    spans = simulation.take_spans()
    processed = spans["span_id"][spans["kind"] == CONSUMER].tolist()
    assert len(processed) == len(set(processed)) == served[[BOOKS, successor]].sum(), "each delivery is a trace"
    assert_conserved(simulation)


def test_a_pod_that_leaves_in_good_order_leaves_nothing_to_read_again() -> None:
    simulation = start(queues(work_ms=50.0, session_seconds=45.0), rate=10.0)
    simulation.run(round(33.3 * SECOND))
    successor = add(simulation, "books")
    simulation.run(34 * SECOND)
    simulation.drain(BOOKS)
    simulation.run(35 * SECOND)
    simulation.stop(BOOKS)
    simulation.run(36 * SECOND)
    assert simulation.pod_counters().served[successor] > 5, "the partition changed hands at once"
    simulation.set_rate(0.0)
    simulation.run(60 * SECOND)

    (topic,) = simulation.topics()
    assert topic.redelivered == 0
    assert simulation.pod_counters().served.sum() - 2 * topic.appended == topic.appended, "shop, broker, books"


def test_a_broker_s_death_refuses_producers_and_loses_what_wasn_t_committed() -> None:
    simulation = start(queues(work_ms=100.0), rate=30.0)
    simulation.run(60 * SECOND)
    lag = only(simulation).lag
    simulation.stop(BROKER)
    assert_conserved(simulation)
    (topic,) = simulation.topics()
    assert topic.lost == only(simulation).readers[0].lost == lag > 1000
    assert (topic.broker, only(simulation).lag) == (-1, 0)

    simulation.run(70 * SECOND)
    assert simulation.edge_counts[PUBLISH, REFUSED] > 200
    assert simulation.edge_counts[0, ERROR] == 0, "shop doesn't mind"
    served = simulation.pod_counters().served[BOOKS]
    successor = add(simulation, "broker")
    simulation.run(80 * SECOND)
    (topic,) = simulation.topics()
    assert topic.broker == successor
    assert 200 < topic.partitions[0].end < 400 < topic.appended, "offsets begin anew"
    assert simulation.pod_counters().served[BOOKS] > served + 90, "consumers go on by themselves"
    assert_conserved(simulation)


def test_a_group_that_starts_at_the_end_reads_only_what_comes_after_it_began() -> None:
    groups = tuple(
        Consumer(group=name, service="books", operation="enter", start=name) for name in ("earliest", "latest")
    )
    config = queues(consumers=groups)
    fresh = start_without_books(config)
    fresh.run(30 * SECOND)
    assert [group.lag for group in fresh.groups()] == [fresh.topics()[0].appended] * 2
    fresh.set_ready(BOOKS, True)
    fresh.run(60 * SECOND)
    fresh.set_rate(0.0)
    fresh.run(90 * SECOND)
    earliest, latest = fresh.topics()[0].appended, fresh.topics()[0].appended - 300
    served = int(fresh.pod_counters().served[BOOKS])
    assert served == pytest.approx(earliest + latest, rel=0.1)
    assert [group.lag for group in fresh.groups()] == [0, 0]


def start_without_books(config: ServiceConfiguration) -> Simulation:
    simulation = Simulation(config, Workload(name="open", arrivals="open", rate_per_s=10.0), 1, 0)
    for name in config.services:
        simulation.add_pod(name, ordinal=0, cpu_limit_cores=None, memory_limit_bytes=None)
    for slot in (BROKER, 1, 0):
        simulation.set_ready(slot, True)
    return simulation


def test_spans_are_a_producer_s_and_a_consumer_s_in_traces_of_their_own() -> None:
    simulation = start(queues(), rate=20.0)
    simulation.set_span_probability(1.0)
    simulation.run(30 * SECOND)

    spans = simulation.take_spans()
    published, processed = spans[spans["kind"] == PRODUCER], spans[spans["kind"] == CONSUMER]
    assert len(published) == simulation.edge_counts[PUBLISH, OK] > 0
    assert len(processed) == simulation.edge_counts[DELIVER, OK] > 0
    assert (processed["parent_id"] == 0).all()
    assert not set(processed["trace_low"].tolist()) & set(published["trace_low"].tolist())
    assert len(set(spans["span_id"].tolist())) == len(spans)


disturbances = st.lists(
    st.tuples(
        st.sampled_from(range(1, 40)),
        st.sampled_from(["kill", "drain", "add"]),
        st.sampled_from(["broker", "books", "books", "audit"]),
    ),
    max_size=10,
)


@settings(max_examples=40, deadline=None)
@given(disturbances, st.integers(1, 5), st.sampled_from([1.0, 30.0, 90.0]), st.integers(0, 2**63))
def test_messages_are_conserved_whatever_happens_to_pods(
    events: list[tuple[int, str, str]], partitions: int, work_ms: float, seed: int
) -> None:
    groups = tuple(
        Consumer(group=name, service="books", operation="enter", commit_seconds=seconds, session_seconds=3.0)
        for name, seconds in (("books", 1.0), ("audit", 4.0))
    )
    simulation = start(queues(partitions=partitions, work_ms=work_ms, consumers=groups), rate=20.0, seed=seed)
    for moment, kind, name in sorted(events):
        simulation.run(moment * SECOND)
        assert_conserved(simulation)
        service = "broker" if name == "broker" else "books"
        if kind == "add":
            add(simulation, service)
        else:
            newest = max(slot for slot, own in enumerate(simulation.slots) if own == service)
            simulation.drain(newest) if kind == "drain" else simulation.stop(newest)
        assert_conserved(simulation)
    simulation.run(41 * SECOND)
    for service in ("broker", "books"):
        add(simulation, service)
    simulation.set_rate(0.0)
    simulation.run(400 * SECOND)

    assert_conserved(simulation)
    assert [group.lag for group in simulation.groups()] == [0, 0]
    assert simulation.statistics().hops_in_flight == 0
    for group in simulation.groups():
        assert sorted({reader.slot for reader in group.readers}) == sorted(
            {reader.slot for reader in group.readers if reader.slot >= 0}
        )


def test_messages_are_forgotten_once_all_groups_have_committed_them() -> None:
    simulation = start(queues(), rate=50.0)
    simulation.run(60 * SECOND)
    size = simulation.statistics().bytes
    simulation.run(1200 * SECOND)
    assert simulation.topics()[0].appended > 50_000
    assert simulation.statistics().bytes <= 1.5 * size


def test_an_operation_that_two_topics_claim_is_refused() -> None:
    config = queues()
    again = msgspec.structs.replace(config, topics={**config.topics, "bills": config.topics["orders"]})
    with pytest.raises(ConfigurationError, match="has this operation of the broker too"):
        start(again, rate=1.0)
