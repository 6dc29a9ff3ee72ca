"""The collector shows messages as the demo does: lag and offsets by group, producers' and consumers' spans, no edge to consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.stands.twin.run import TwinRun

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig


@pytest.fixture
def run(make_config: MakeConfig) -> TwinRun:
    config = make_config(190)
    public = msgspec.structs.replace(config.public, services=load_services("async-store")[0])
    return TwinRun(msgspec.structs.replace(config, public=public))


def live(run: TwinRun, seconds: int) -> None:
    until = run.now + seconds * SECOND
    while run.advance_once(until):
        pass


def samples(run: TwinRun, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], np.ndarray]:
    """Return the samples of a metric's series with these labels, by the series' labels."""
    series = run.telemetry.series
    wanted = labels | {"__name__": name}
    numbers = [
        number
        for number, own in series.labels.items()
        if all(own.get(label) == value for label, value in wanted.items())
    ]
    window = series.window(np.array(numbers, np.int64), run.start - 1, run.now)
    return {tuple(series.labels[number].items()): window.values[:, place] for place, number in enumerate(numbers)}


def one(run: TwinRun, name: str, **labels: str) -> np.ndarray:
    (found,) = samples(run, name, **labels).values()
    return found


def test_offsets_lag_and_members_are_the_kernel_s(run: TwinRun) -> None:
    live(run, 120)
    (topic,) = run.simulation.topics()
    assert one(run, "kafka_brokers")[-1] == one(run, "kafka_topic_partitions", topic="orders")[-1] == 1
    assert one(run, "kafka_partition_current_offset_ratio", topic="orders", partition="0")[-1] == topic.appended > 50
    for group in run.simulation.groups():
        name = {"group": group.group}
        assert one(run, "kafka_consumer_group_members", **name)[-1] == group.members == 1
        lag = one(run, "kafka_consumer_group_lag_ratio", **name, topic="orders", partition="0")[-1]
        offset = one(run, "kafka_consumer_group_offset_ratio", **name, topic="orders", partition="0")[-1]
        assert lag == group.lag
        assert lag + offset == topic.appended
        assert one(run, "kafka_consumer_group_lag_sum_ratio", **name, topic="orders")[-1] == lag
        assert one(run, "kafka_consumer_group_offset_sum_ratio", **name, topic="orders")[-1] == offset


def test_lag_grows_under_queue_problems_and_accounting_keeps_up_better(run: TwinRun) -> None:
    live(run, 60)
    run.simulation.set_flags({"kafkaQueueProblems": 100.0})
    live(run, 120)
    lag = {
        name: one(run, "kafka_consumer_group_lag_sum_ratio", group=name) for name in ("accounting", "fraud-detection")
    }
    assert lag["fraud-detection"][-1] > 10_000
    assert lag["accounting"][-1] < 0.95 * lag["fraud-detection"][-1]
    assert (np.diff(lag["fraud-detection"][-20:]) >= 0).all()


def test_without_a_broker_nobody_answers_the_receiver(run: TwinRun) -> None:
    live(run, 60)
    broker = next(pod for pod in run.control_plane.pods() if pod.service == "kafka")
    run.world.stop_container(broker.uid)
    live(run, 20)
    for name in ("kafka_brokers", "kafka_partition_current_offset_ratio", "kafka_consumer_group_members"):
        for values in samples(run, name).values():
            assert np.isnan(values[-3:]).all()
            assert not np.isnan(values[8])


def test_request_rates_of_consumers_come_from_their_spans(run: TwinRun) -> None:
    live(run, 120)
    (topic,) = run.simulation.topics()
    calls = "traces_span_metrics_calls_total"
    for service, name in (("accounting", "orders receive"), ("fraud-detection", "orders process")):
        spans = one(run, calls, service_name=service, span_kind="SPAN_KIND_CONSUMER", span_name=name)
        assert topic.appended - 2 <= spans[-1] <= topic.appended
        assert not samples(run, calls, service_name=service, span_kind="SPAN_KIND_SERVER")
    published = one(run, calls, service_name="checkout", span_kind="SPAN_KIND_PRODUCER", span_name="orders publish")
    assert published[-1] == topic.appended


def test_the_graph_has_the_producer_s_edge_and_none_to_consumers(run: TwinRun) -> None:
    live(run, 120)
    edge = one(run, "traces_service_graph_request_total", client="checkout", server="kafka")
    assert edge[-1] == run.simulation.topics()[0].appended
    assert samples(run, "traces_service_graph_request_total", server="kafka", connection_type="virtual_node")
    assert not samples(run, "traces_service_graph_request_total", client="kafka")


def test_copies_of_a_message_leave_no_trace_at_the_producer(run: TwinRun) -> None:
    run.simulation.set_flags({"kafkaQueueProblems": 100.0})
    live(run, 60)
    edge = one(run, "traces_service_graph_request_total", client="checkout", server="kafka")
    assert run.simulation.topics()[0].appended == pytest.approx(101 * edge[-1], abs=202)
