"""The node agent tells of connections as an eBPF program on the node would: calls, refused connects, round trips of probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.node_agent import NodeAgent
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.runtime import NetworkRule

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig


def living(make_config: MakeConfig) -> TwinRun:
    run = TwinRun(make_config(60))
    live(run, 60)
    return run


def live(run: TwinRun, seconds: int) -> None:
    until = run.now + seconds * SECOND
    while run.advance_once(until):
        pass


def told(agent: NodeAgent, name: str, source: str, target: str, status: str | None = None) -> float:
    """Return the newest value of a series."""
    (number,) = [
        number
        for number, labels in agent.series.labels.items()
        if labels["__name__"] == name
        and labels["app_id"] == f"/k8s/otel-demo/{source}"
        and labels["destination"].startswith(f"{target}:")
        and labels.get("status") == status
    ]
    latest = agent.series.latest
    assert latest is not None
    return float(agent.series.window(np.array([number]), latest - 1, latest).values[0, 0])


def scraped(run: TwinRun) -> NodeAgent:
    agent = NodeAgent(run.world, seed=7)
    agent.scrape(run.now)
    return agent


def test_calls_are_counted_by_protocol_and_status(make_config: MakeConfig) -> None:
    run = living(make_config)
    agent = scraped(run)
    edge = [names[:2] for names in run.simulation.names.edges].index(("frontend", "cart"))
    calls = run.simulation.edge_buckets[edge, 0, 0].sum()
    assert calls > 0
    assert told(agent, "container_http_requests_total", "frontend", "cart", "grpc:OK") == calls
    assert told(agent, "container_http_requests_total", "frontend", "cart", "grpc:Internal") == 0
    assert told(agent, "container_redis_queries_total", "cart", "valkey-cart", "ok") > 0
    assert told(agent, "container_net_tcp_active_connections", "frontend", "cart") == 1


def test_a_callee_without_pods_refuses_connects_and_answers_no_probe(make_config: MakeConfig) -> None:
    run = living(make_config)
    run.world.stop_container(next(item.uid for item in run.world.containers if item.service == "cart"))
    live(run, 15)
    agent = scraped(run)
    assert told(agent, "container_net_tcp_failed_connects_total", "frontend", "cart") > 0
    assert told(agent, "container_http_requests_total", "frontend", "cart", "grpc:Internal") <= 2  # what it held
    assert np.isnan(told(agent, "container_net_latency_seconds", "frontend", "cart"))
    assert np.isnan(told(agent, "container_net_latency_seconds", "cart", "valkey-cart"))


@pytest.mark.parametrize("delayed", ["cart", "frontend"])
def test_a_delay_on_a_pod_s_way_out_is_in_the_round_trips_of_all_its_edges(
    make_config: MakeConfig, delayed: str
) -> None:
    run = living(make_config)
    before = told(scraped(run), "container_net_latency_seconds", "frontend", "cart")
    elsewhere = told(scraped(run), "container_net_latency_seconds", "checkout", "currency")
    assert 0 < before < 0.001
    uid = next(item.uid for item in run.world.containers if item.service == delayed)
    run.world.set_network_rule(uid, "one", peers=None, rule=NetworkRule(latency_ms=20.0))
    agent = scraped(run)
    for source, target in (
        (("frontend", "cart"), ("checkout", "cart")) if delayed == "cart" else (("frontend", "cart"),)
    ):
        assert told(agent, "container_net_latency_seconds", source, target) == pytest.approx(before + 0.02)
    assert told(agent, "container_net_latency_seconds", "checkout", "currency") == elsewhere
    run.world.set_network_rule(uid, "one", peers=None, rule=NetworkRule(latency_ms=1000.0))
    assert np.isnan(told(scraped(run), "container_net_latency_seconds", "frontend", "cart"))


def test_a_partition_answers_no_probe_and_loss_costs_its_share_of_them(make_config: MakeConfig) -> None:
    run = living(make_config)
    uid = next(item.uid for item in run.world.containers if item.service == "cart")
    agent = NodeAgent(run.world, seed=7)
    answered = []
    for rule in (NetworkRule(loss=0.5), NetworkRule(blocked=True)):
        run.world.set_network_rule(uid, "one", peers=None, rule=rule)
        answered.append(0)
        for _ in range(100):
            live(run, 1)
            agent.scrape(run.now)
            answered[-1] += not np.isnan(told(agent, "container_net_latency_seconds", "frontend", "cart"))
    assert 30 < answered[0] < 70
    assert answered[1] == 0
    run.world.set_network_rule(uid, "one", peers=None, rule=None)
    live(run, 1)
    agent.scrape(run.now)
    assert told(agent, "container_net_latency_seconds", "frontend", "cart") < 0.001
