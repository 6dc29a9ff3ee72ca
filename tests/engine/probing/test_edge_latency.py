"""What is measured of an edge is what its series have grown by: nothing is lost or invented between a window's intervals."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_control_gym as ocg
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.probing.delays import check_edge, steadiest
from otel_control_gym.engine.probing.edge_latency import EdgeMeter, Series, growth
from otel_control_gym.engine.probing.effects import Latency
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.connection import Connection

CONFIG = ocg.resolve("small-core", workload="steady").public
NOWHERE = Endpoints(kubernetes="", namespace="", prometheus="", coroot="", load_generator="", flagd="")


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=20), st.integers(1, 7))
def test_what_intervals_have_grown_by_adds_up_to_the_growth_of_the_counter(steps: list[int], cells: int) -> None:
    times, values = np.arange(len(steps), dtype=np.float64), np.cumsum(steps).astype(np.float64)
    found = growth(times, values, np.linspace(0.0, len(steps), cells + 1))
    assert found.sum() == pytest.approx(values[-1] - values[0])


def test_a_restart_counts_from_zero_and_so_does_a_series_that_begins_within_the_window() -> None:
    times = np.array([1.0, 2.0, 3.0])
    assert growth(times, np.array([100.0, 130.0, 7.0]), [1.0, 2.0, 3.0]).tolist() == [30.0, 7.0]
    assert growth(times, np.array([5.0, 5.0, 9.0]), [0.0, 1.0, 3.0]).tolist() == [5.0, 4.0]
    assert growth(np.array([]), np.array([]), [0.0, 1.0]).tolist() == [0.0]


def test_the_series_of_one_edge_are_added_and_those_of_others_are_not() -> None:
    def series(part: str, server: str, status: str, last: float) -> Series:
        labels = {
            "__name__": f"traces_service_graph_request_client_seconds_{part}",
            "client": "frontend",
            "server": server,
            "client_http_response_status_code": status,
        }
        return Series(labels=labels, times=np.array([0.0, 10.0]), values=np.array([0.0, last]))

    found = EdgeMeter(Connection(NOWHERE), CONFIG).latencies(
        [
            *(series("count", "cart", status, 50.0) for status in ("200", "500")),
            series("sum", "cart", "200", 0.1),
            series("sum", "cart", "500", 0.4),
            series("count", "checkout", "200", 7.0),
            series("sum", "checkout", "200", 7.0),
            series("count", "nobody", "200", 9.0),
        ],
        np.array([0.0, 10.0]),
    )
    assert {edge: (one.calls, round(one.mean_ms, 9)) for edge, one in found.items()} == {
        "frontend->cart": (100, 5.0),
        "frontend->checkout": (7, 1000.0),
    }


def test_the_edge_to_delay_holds_its_connections_keeps_no_state_and_is_the_steadiest_of_those() -> None:
    def one(calls: int, error_ms: float) -> Latency:
        return Latency(calls=calls, mean_ms=5.0, error_ms=error_ms, intervals=6)

    found = {
        "load-generator->frontend": one(900, 0.01),  # dials anew
        "cart->valkey-cart": one(900, 0.01),  # keeps state
        "checkout->payment": one(8, 0.01),  # hardly called
        "frontend->cart": one(200, 0.3),
        "frontend->checkout": one(200, 0.2),
    }
    assert steadiest(found, CONFIG.services) == "frontend->checkout"
    assert steadiest({}, CONFIG.services) == ""


def test_an_edge_that_the_application_lacks_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="frontend->cart"):
        check_edge("frontend->carts", CONFIG.services)


def test_a_prometheus_that_is_gone_is_said() -> None:
    async def measure() -> None:
        places = Endpoints(
            kubernetes="", namespace="", prometheus="http://127.0.0.1:1", coroot="", load_generator="", flagd=""
        )
        async with Connection(places) as connection:
            await EdgeMeter(connection, CONFIG).measure(0, 1)

    with pytest.raises(ocg.StandError, match="doesn't tell how long calls take: no answer"):
        anyio.run(measure)
