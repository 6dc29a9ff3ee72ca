"""A probe asks what its kind asks, when its period says, and fails in the kubelet's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.objects import Object
from otel_control_gym.stands.twin.probes import Asked, failure, next_probe, port_of, timeout_share
from otel_control_gym.stands.twin.runtime import NetworkRule

CONTAINER: Object = {"name": "cart", "ports": [{"name": "service", "containerPort": 8080}]}
HEALTHY = Asked(address="10.244.0.2", listens_on=8080, protocol="grpc", healthy=True)


def asked(**changes: object) -> Asked:
    facts: Object = {"address": "10.244.0.2", "listens_on": 8080, "protocol": "grpc", "healthy": True}
    return Asked(**facts | changes)


@pytest.mark.parametrize(
    ("probe", "other_end", "message"),
    [
        ({"grpc": {"port": 8080}}, asked(), ""),
        ({"tcpSocket": {"port": "service"}}, asked(), ""),
        ({"httpGet": {"port": 8080, "path": "/health"}}, asked(protocol="http"), ""),
        ({"tcpSocket": {"port": 9}}, asked(), "dial tcp 10.244.0.2:9: connect: connection refused"),
        ({"tcpSocket": {"port": "none"}}, asked(), "dial tcp 10.244.0.2:0: connect: connection refused"),
        ({"grpc": {"port": 8080}}, asked(listens_on=None), "dial tcp 10.244.0.2:8080: connect: connection refused"),
        ({"grpc": {"port": 8080}}, asked(healthy=False), 'service unhealthy (responded with "NOT_SERVING")'),
        ({"tcpSocket": {"port": 8080}}, asked(healthy=False), ""),
        ({"httpGet": {"port": 8080}}, asked(protocol="http", healthy=False), "HTTP probe failed with statuscode: 503"),
        ({"httpGet": {"port": 8080}}, asked(), 'Get "http://10.244.0.2:8080/": malformed HTTP response'),
        ({"exec": {"command": ["true"]}}, asked(), ""),
        ({"exec": {"command": ["true"]}}, asked(listens_on=None), "command failed"),
    ],
)
def test_each_kind_of_probe_fails_for_its_own_reason(probe: Object, other_end: Asked, message: str) -> None:
    assert failure(probe, CONTAINER, other_end, timed_out=False) == message


def test_a_probe_that_times_out_fails_whatever_is_at_the_other_end() -> None:
    for how in ("grpc", "tcpSocket", "httpGet"):
        assert failure({how: {"port": 8080}}, CONTAINER, HEALTHY, timed_out=True)


def test_a_port_is_a_number_or_a_name_of_the_container_s() -> None:
    assert (
        port_of({"tcpSocket": {"port": "service"}}, CONTAINER) == port_of({"grpc": {"port": 8080}}, CONTAINER) == 8080
    )


@pytest.mark.parametrize(
    ("rules", "tcp", "grpc"),
    [
        ((), 0.0, 0.0),
        ((NetworkRule(blocked=True),), 1.0, 1.0),
        ((NetworkRule(latency_ms=600),), 0.0, 1.0),
        ((NetworkRule(latency_ms=500), NetworkRule(latency_ms=500)), 1.0, 1.0),
        ((NetworkRule(loss=0.5),), 0.5, 0.75),
    ],
)
def test_what_happens_to_packets_happens_to_those_of_a_probe(
    rules: tuple[NetworkRule, ...], tcp: float, grpc: float
) -> None:
    assert timeout_share({"tcpSocket": {"port": 1}}, rules) == tcp
    assert timeout_share({"grpc": {"port": 1}}, rules) == grpc


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 10**11), st.integers(0, 10**12))
def test_probes_go_by_period_from_the_start(delay: int, period: int, started: int, after: int) -> None:
    probe = {"initialDelaySeconds": delay, "periodSeconds": period}
    now = started + after
    due = next_probe(probe, started, now)
    assert due >= now
    assert (due - started - delay * SECOND) % (period * SECOND) == 0
    assert due == started + delay * SECOND or due - now < period * SECOND
