"""How calls end: the status of their protocol, what callers make of it, which span is an error, what is counted."""

from __future__ import annotations

import msgspec
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import (
    Call,
    EdgeSettings,
    Flow,
    Operation,
    Service,
    ServiceConfiguration,
    Step,
    Version,
    Workload,
)
from otel_control_gym.stands.twin.conventions import call_attributes
from otel_control_gym.stands.twin.machine import EgressRule
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import ATTEMPTED, CLIENT, ERROR, OK, SERVER
from otel_control_gym.stands.twin.topology import build_topology

LOAD, PROXY, SHOP, CART = 0, 1, 2, 3
ENTRY, MIDDLE, INNER = 0, 1, 2  # edges


def chain(
    *, shop: dict[str, object] | None = None, cart: dict[str, object] | None = None, **middle: object
) -> ServiceConfiguration:
    """Return load -HTTP-> proxy -HTTP-> shop -gRPC-> cart; the proxy hands statuses on as Envoy does.

    Args:
        shop: settings of the shop's call of the cart.
        cart: settings of the cart's operation.
        middle: settings of the edge between proxy and shop.
    """
    ask = Operation(steps=(Step(calls=(Call(target="shop:GET /", error_status=-1),)),))
    look = Operation(steps=(Step(calls=(Call(target="cart:Get", **(shop or {})),)),))  # type: ignore[arg-type]
    do = Operation(tail_ms=1.0, **(cart or {}))  # type: ignore[arg-type]
    return ServiceConfiguration(
        name="chain",
        demo_version="",
        chart_version="",
        entry="proxy",
        services={
            "load": Service(kind="workload"),
            "proxy": Service(protocol="http", operations={"GET /": ask}),
            "shop": Service(protocol="http", operations={"GET /": look}),
            "cart": Service(operations={"Get": do}, grpc_service="demo.Cart"),
        },
        edges=(
            EdgeSettings(source="load", target="proxy", protocol="http", connection="per_request"),
            EdgeSettings(source="proxy", target="shop", protocol="http", connection="per_request", **middle),  # type: ignore[arg-type]
            EdgeSettings(source="shop", target="cart", protocol="grpc"),
        ),
        flows={"only": Flow(weight=1.0, requests=("GET /",))},
    )


def started(config: ServiceConfiguration, *, unready: tuple[int, ...] = ()) -> Simulation:
    simulation = Simulation(config, Workload(name="open", arrivals="open", rate_per_s=50.0), 1, 0)
    for name in config.services:
        simulation.add_pod(name, ordinal=0, cpu_limit_cores=None, memory_limit_bytes=None)
    for slot in (CART, SHOP, PROXY, LOAD):
        if slot not in unready:
            simulation.set_ready(slot, True)
    simulation.set_span_probability(1.0)
    return simulation


def ended(simulation: Simulation) -> Simulation:
    """Let requests come for ten seconds and end."""
    simulation.run(simulation.now + 10 * SECOND)
    simulation.set_rate(0.0)
    simulation.run(simulation.now + 300 * SECOND)
    return simulation


def statuses(simulation: Simulation, edge: int) -> dict[int, int]:
    counts = zip(simulation.names.statuses, simulation.edge_statuses[edge].tolist(), strict=True)
    return {status: count for status, count in counts if count}


def test_calls_that_succeed_end_with_their_protocols_ok() -> None:
    simulation = ended(started(chain()))
    asked = int(simulation.edge_counts[ENTRY, ATTEMPTED])
    assert [statuses(simulation, edge) for edge in (ENTRY, MIDDLE, INNER)] == [{200: asked}, {200: asked}, {0: asked}]


@pytest.mark.parametrize(
    ("shop", "cart", "seen"),
    [
        ({}, {"failure_ratio": 1.0}, (500, 500, 13)),
        ({}, {"failure_ratio": 1.0, "failure_status": 9}, (500, 500, 9)),
        ({"error_status": 503}, {"failure_ratio": 1.0, "failure_status": 9}, (503, 503, 9)),
        ({"error_status": 404}, {"failure_ratio": 1.0, "failure_status": 5}, (404, 404, 5)),
        ({"on_error": "ignore"}, {"failure_ratio": 1.0}, (200, 200, 13)),
        ({"tolerates": 5}, {"failure_ratio": 1.0, "failure_status": 5}, (200, 200, 5)),
        ({"tolerates": 5}, {"failure_ratio": 1.0, "failure_status": 6}, (500, 500, 6)),
    ],
)
def test_errors_travel_up_with_the_status_that_each_caller_gives_them(
    shop: dict[str, object], cart: dict[str, object], seen: tuple[int, int, int]
) -> None:
    simulation = ended(started(chain(shop=shop, cart=cart)))
    asked = int(simulation.edge_counts[ENTRY, ATTEMPTED])
    assert [statuses(simulation, edge) for edge in (ENTRY, MIDDLE, INNER)] == [{status: asked} for status in seen]
    assert simulation.edge_counts[ENTRY, OK if seen[0] == 200 else ERROR] == asked > 300


def test_a_tolerated_status_is_not_tried_again() -> None:
    config = chain(shop={"tolerates": 5}, cart={"failure_ratio": 1.0, "failure_status": 5})
    patient = msgspec.structs.replace(config.edges[INNER], retries=3)
    simulation = ended(started(msgspec.structs.replace(config, edges=(*config.edges[:INNER], patient))))
    assert simulation.edge_counts[INNER, ATTEMPTED] == simulation.edge_counts[ENTRY, ATTEMPTED]


def test_a_proxy_answers_503_for_nobody_there_504_for_too_late_and_502_for_a_reset() -> None:
    refused = ended(started(chain(), unready=(SHOP,)))
    late = started(chain(timeout_ms=50.0))
    late.set_egress_rules(SHOP, {None: EgressRule(latency_ns=SECOND)})
    lost = started(chain())
    lost.set_egress_rules(SHOP, {CART: EgressRule(latency_ns=20 * SECOND)})
    lost.run(5 * SECOND)
    lost.stop(SHOP)
    lost.set_rate(0.0)
    for simulation, status in ((refused, 503), (ended(late), 504), (ended(lost), 502)):
        asked = int(simulation.edge_counts[ENTRY, ATTEMPTED])
        assert statuses(simulation, ENTRY) == {status: asked}
        assert statuses(simulation, MIDDLE) == {0: asked}, "over HTTP nobody's answer has no status"


def test_a_grpc_caller_that_finds_nobody_sees_unavailable() -> None:
    simulation = ended(started(chain(), unready=(CART,)))
    assert statuses(simulation, INNER) == {14: simulation.edge_counts[ENTRY, ATTEMPTED]}


def test_failures_take_their_share_and_a_worse_version_fails_the_same_requests_and_more() -> None:
    def failing(ratio: float) -> set[int]:
        config = chain(cart={"failure_ratio": 0.1})
        cart = msgspec.structs.replace(config.services["cart"], versions={"": Version(failure_ratio=ratio)})
        changed = msgspec.structs.replace(config, services=config.services | {"cart": cart})
        simulation = started(changed)
        simulation.run(200 * SECOND)
        spans = simulation.take_spans()
        ends = spans[(spans["kind"] == SERVER) & (spans["pod"] == CART)]
        share = float((ends["outcome"] == ERROR).mean())
        expected = 1 - 0.9 * (1 - ratio)
        assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(ends)) ** 0.5)
        return set(ends["trace_low"][ends["outcome"] == ERROR].tolist())

    assert failing(0.0) < failing(0.2)


@pytest.mark.parametrize(
    ("http", "grpc", "proxy_server", "cart_server"),
    [(404, 5, False, False), (500, 13, True, True), (503, 3, True, False), (429, 4, False, True)],
)
def test_a_clients_span_is_an_error_when_its_call_failed_a_servers_when_it_is_to_blame(
    http: int, grpc: int, proxy_server: bool, cart_server: bool
) -> None:
    simulation = ended(started(chain(shop={"error_status": http}, cart={"failure_ratio": 1.0, "failure_status": grpc})))
    spans = simulation.take_spans()

    def failed(kind: int, pod: int) -> set[bool]:
        return set(spans["failed"][(spans["kind"] == kind) & (spans["pod"] == pod)].astype(bool).tolist())

    assert failed(CLIENT, LOAD) == failed(CLIENT, PROXY) == failed(CLIENT, SHOP) == {True}
    assert failed(SERVER, PROXY) == failed(SERVER, SHOP) == {proxy_server}
    assert failed(SERVER, CART) == {cart_server}
    calls = simulation.span_buckets.sum(axis=-1)
    for number, row in enumerate(simulation.span_rows):
        if row.kind == SERVER:
            assert (
                calls[number, 0 if {PROXY: proxy_server, SHOP: proxy_server, CART: cart_server}[row.slot] else 1] == 0
            )


def test_exported_spans_carry_the_status_of_their_protocol() -> None:
    config = chain(shop={"error_status": 404}, cart={"failure_ratio": 1.0, "failure_status": 5})

    def attributes(status: int, **call: object) -> dict[str, object]:
        return dict(call_attributes(config, status=status, **call))  # type: ignore[arg-type]

    http = {"kind": CLIENT, "owner": "proxy", "target": "shop", "operation": "GET /"}
    assert attributes(404, **http)["http.response.status_code"] == 404
    assert "http.response.status_code" not in attributes(0, **http)
    grpc = {"kind": SERVER, "owner": "cart", "target": "cart", "operation": "Get"}
    assert attributes(5, **grpc)["rpc.grpc.status_code"] == 5


def test_statuses_that_a_protocol_doesnt_have_are_refused() -> None:
    for config, sentence in (
        (chain(shop={"error_status": 14}), r"error_status of cart:Get = 14: no status of an error of http"),
        (chain(shop={"tolerates": 404}), r"tolerates of cart:Get = 404: no status of an error of grpc"),
        (chain(shop={"error_status": -1}), r"error_status of cart:Get = -1: a status of grpc says nothing over http"),
        (chain(cart={"failure_status": 500}), r"operations\.Get\.failure_status = 500"),
        (chain(cart={"failure_ratio": 1.5}), r"operations\.Get\.failure_ratio = 1\.5: not a share"),
        (chain(pool=-1), r"edges\[1\]"),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            build_topology(config)
